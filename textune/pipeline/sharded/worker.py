"""What is done with one shard, in whatever process: its rows in, its part of the output out.

A part is text as it stands in the output, without a header, or the rows for parquet as an Arrow stream: what
`output.py` puts one after the other is then written exactly as one process would have written it.
"""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, MutableSequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from textune.crew import At, Crew, ending
from textune.data import Rows, RowWriter, Window, given_fields
from textune.errors import RunError, TextuneError
from textune.exitcodes import code_of_error, is_out_of_memory
from textune.partfiles import PartFiles, write_part
from textune.pipeline.sharded.inputs import IN_WORKER, WORKER
from textune.pipeline.sharded.plan import Plan
from textune.pipeline.sharded.reading import ShardRows
from textune.pipeline.sharded.settings import Settings
from textune.prediction import encode_rows, named_scores, prediction_fields, without_room
from textune.wording import count

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TRIES = 3
"""How often a shard may end the process that predicts it: something else may have ended it the first times."""
_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Part:
    """A shard that was predicted."""

    content: bytes
    facts: dict[str, Any]
    """`rows`: how many were written; `skipped`: place and reason of those that were left out; `without`: how many of
    those lacked the field of each column of the prefix; `content`: that of the shard, by which a part that a process
    without a parent left behind is known."""


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: the facts of its part, or the error that ends the command."""

    facts: dict[str, Any] | None
    error: Exception | None = None
    notices: tuple[str, ...] = ()
    """What the model had to say meanwhile."""


class ShardPredictor:
    """Predicts shards with one model."""

    def __init__(self, settings: Settings, schema: pa.Schema) -> None:
        """`schema`: the columns of the input as they are written. Errors as `textune.prediction.load`."""
        self._settings = settings
        self.notices: list[str] = []
        """What the model had to say since the last shard."""
        self._predictor = settings.opening.open(self.notices.append)
        self._budget = self._predictor.scorer.budget(self.notices.append)
        added = prediction_fields(self._predictor.card, all_scores=settings.all_scores)
        # It only formats rows: nothing is opened, and the header belongs to no part.
        self._writer = RowWriter("part", settings.writing, schema=schema, added=added)
        self._writer.settle()
        if settings.writing.format != "parquet":
            self._writer.format([])

    def predict(self, rows: ShardRows) -> Part:
        """One shard; DataError for a row that cannot be used or written, ModelError for scores that are no numbers."""
        predictor, settings = self._predictor, self._settings
        window, texts = rows.window, rows.texts
        facts = dict[str, Any](rows=0, skipped=[], without=[], content=rows.content)
        if settings.skips and (reasons := without_room(predictor, texts, settings.columns)):
            window, texts = self._leave_out(window, texts, reasons, facts)
        if not window.numbers:
            return Part(self._content([]), facts)
        place = partial(_place, rows.path, settings.reading.unit, window)
        store = encode_rows(predictor, texts, settings.columns)
        scores = predictor.scorer.score_store(store, place=place, budget=self._budget)
        columns = named_scores(scores, predictor.card, all_scores=settings.all_scores).to_pydict()
        facts["rows"] = len(window.numbers)
        return Part(self._content([self._writer.format(window.rows, columns, place)]), facts)

    def _leave_out(
        self, window: Window, texts: Rows, reasons: dict[int, str], facts: dict[str, Any]
    ) -> tuple[Window, Rows]:
        """The rows without those whose fields leave no room for their text."""
        kept_N = np.ones(len(texts), bool)
        kept_N[list(reasons)] = False
        out = texts.take(np.flatnonzero(~kept_N))
        facts["skipped"] = [[texts.place(row), reason] for row, reason in reasons.items()]
        facts["without"] = [field.null_count for field in given_fields(out, self._predictor.card.metadata)]
        return window.keep(kept_N), texts.take(np.flatnonzero(kept_N))

    def _content(self, formatted: list[str | pa.Table]) -> bytes:
        if self._settings.writing.format != "parquet":
            return "".join(map(str, formatted)).encode("utf-8")
        sink = pa.BufferOutputStream()
        schema = self._writer.schema
        with pa.ipc.new_stream(sink, schema) as stream:
            for table in formatted:
                stream.write_table(table)
        return bytes(sink.getvalue())


def _place(path: str, unit: str, window: Window, index: int) -> str:
    return f"{path}, {unit} {window.numbers[index]}"


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


# --- in processes of this machine ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seat:
    """What one of several processes may use of the machine."""

    threads: int
    device: str = ""
    """The GPU, as `CUDA_VISIBLE_DEVICES` names it; empty where there is none."""

    def take(self) -> None:
        """Keep to it, before anything is computed."""
        if self.device:
            os.environ[_DEVICES] = self.device
        os.environ["RAYON_NUM_THREADS"] = str(self.threads)  # of the tokenizer
        torch.set_num_threads(self.threads)


def seats(num_workers: int, *, cpu: bool) -> list[Seat]:
    """One for each worker: its share of the threads of this process, and the GPUs in turn unless `cpu`."""
    threads = max(1, torch.get_num_threads() // num_workers)
    num_devices = 0 if cpu else torch.cuda.device_count()
    named = [name for name in os.environ.get(_DEVICES, "").split(",") if name]
    devices = named or [str(number) for number in range(num_devices)]
    return [Seat(threads, devices[slot % len(devices)] if num_devices else "") for slot in range(num_workers)]


def work(
    connection: Connection,
    at: MutableSequence[int],
    seat: Seat,
    settings: Settings,
    schema: pa.Schema,
    parts: PartFiles,
) -> None:
    """Predict the shards that come, until none does."""
    seat.take()
    predictor = opened(settings, schema)
    while True:
        rows: ShardRows = connection.recv()
        at[0] = rows.number
        try:
            outcome = answer(predictor, rows, partial(keep_part, parts, rows.number))
        except MemoryError:  # which the parent puts into words
            raise SystemExit(1) from None
        connection.send(outcome)


def opened(settings: Settings, schema: pa.Schema) -> ShardPredictor | Exception:
    """What predicts, or the error that the first shard is answered with."""
    try:
        return ShardPredictor(settings, schema)
    except Exception as error:
        return error


def answer(predictor: ShardPredictor | Exception, rows: ShardRows, keep: Callable[[Part], None]) -> Outcome:
    """Predict a shard and keep its part; an error on the way is the outcome. MemoryError where there is too little
    memory, which another try may not find."""
    try:
        if isinstance(predictor, Exception):
            raise predictor
        part = predictor.predict(rows)
        keep(part)
    except TextuneError as error:
        return Outcome(None, error)
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        # A fault of textune's own, or of code of the user's. Where it was raised is shown by --debug.
        error.add_note("".join(traceback.format_exception(error)))
        return Outcome(None, error)
    notices = tuple(predictor.notices)
    predictor.notices.clear()
    return Outcome(part.facts, notices=notices)


def keep_part(parts: PartFiles, number: int, part: Part) -> None:
    """Write the part of a shard; RunError where the system refuses, as a full disk does."""
    try:
        write_part(parts.path(number), partial(_write, part.content), part.facts)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(
            f"{parts.path(number)} cannot be written: {reason}.",
            hint="Make room, and start the same command again: what is done is kept.",
            place=str(parts.path(number)),
            reason=reason,
            exit_code=code_of_error(error),  # what it came from stays in this process
        ) from error


def by_processes(
    rows: Iterator[ShardRows],
    settings: Settings,
    plan: Plan,
    parts: PartFiles,
    *,
    places: list[Seat],
    on_notice: Callable[[str], None],
) -> Generator[tuple[int, Outcome]]:
    """Predict shards in one process for each seat: the number of each with what became of it, as they end. RunError
    for a shard that ends its process again and again."""
    losses = Counter[int]()

    def after_loss(lost: ShardRows, at: At, code: int) -> ShardRows:
        losses[lost.number] += 1
        name = name_of(settings, plan, lost.number)
        if code == IN_WORKER:
            raise RunError(
                "each worker starts the script anew, which calls predict_files where it stands.",
                hint='Call it below `if __name__ == "__main__":`, so that only the first process does.',
                key="workers",
                reason="the script is not guarded",
            )
        said = f"the process that predicted {name} was ended by {ending(code)}"
        if losses[lost.number] < TRIES:
            on_notice(f"{said}: the shard is predicted again")
            return lost
        raise RunError(
            f"{said}, {count(TRIES, 'time')}.",
            hint=("Read what it printed above. " if code > 0 else "")
            + "There may be too little memory: try fewer --workers or a lower --max-tokens. What is done is kept, and"
            " the same command continues.",
            key="workers",
            value=len(places),
            place=name,
            reason=said,
        )

    with Crew[ShardRows, Outcome](
        len(places),
        work,
        lambda slot: (places[slot], settings, plan.schema, parts),
        after_loss=after_loss,
        name=WORKER,
    ) as crew:
        for one, outcome in crew.run(rows):
            yield one.number, outcome


def name_of(settings: Settings, plan: Plan, number: int) -> str:
    """A shard in words."""
    shard = plan.shards[number]
    unit = settings.reading.unit
    return (
        f"shard {number + 1:,} of {len(plan.shards):,} ({settings.paths[shard.source]}, {unit}s {shard.first:,} to"
        f" {shard.last:,})"
    )
