"""The verb: files in, one file or a folder of predictions out, whatever stops it on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from textune.ahead import ahead
from textune.config import Columns, DeviceName, FilesSource, OnBadRow, PredictionPrecision, Switch, user_path
from textune.data import (
    RowWriter,
    going_without,
    select_texts,
    stream_options,
)
from textune.errors import RunError
from textune.partfiles import PartFiles, alone, job_key, no_output
from textune.pipeline.heard import heard
from textune.pipeline.sharded import (
    LISTING,
    MANIFEST,
    MAX_SKIPPED,
    Opening,
    Outcome,
    Plan,
    Settings,
    Shard,
    ShardRows,
    assemble,
    assemble_folder,
    by_processes,
    changed,
    full,
    input_files,
    open_pass,
    read_listing,
    read_plan,
    require_alone,
    require_one_format,
    require_same_columns,
    rows_to_do,
    seats,
    shards_of,
    states_of,
)
from textune.pipeline.targets import require_folder, require_target
from textune.prediction import ModelCard, find_model, no_classifier, prediction_fields, read_as_run, read_card
from textune.run import SilentTracker, Tracker
from textune.wording import count, listing

Engine = Literal["processes", "ray"]
Reading: TypeAlias = Callable[[tuple[str, ...]], tuple[FilesSource, str]]
"""Files as a source, and a sentence that says how they are read, if that is not the usual way."""


@dataclass(frozen=True)
class FilesPredicted:
    """What was written."""

    outputs: list[Path]
    """In the order of the rows."""
    rows: int
    """Rows written."""
    skipped: int
    """Rows left out."""
    shards: int
    kept: int
    """Shards that were done before this start."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"outputs": [str(path) for path in self.outputs]}


@heard
def predict_files(
    model: str | Path,
    sources: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    ray_address: str | None = None,
    columns: Columns | None = None,
    read: Reading | None = None,
    output_format: str | None = None,
    all_scores: bool = False,
    on_bad_row: OnBadRow = "error",
    force: bool = False,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: Sequence[str] = (),
    decision: bool = True,
    tracker: Tracker | None = None,
) -> FilesPredicted:
    """Predict every row of `sources` (files of one format, patterns, folders of files) by several processes.

    `target` is one file, byte for byte what `textune predict` writes of one input with as many threads, or a folder
    (its name ends with a slash, or it is there) that gets a file for each shard and `shards.json`, which says the
    order. What is done lies in `TARGET.parts/` until the output is complete, so the same call continues where one was
    stopped, and no row is predicted into the output twice. Other options as of `predict_file` and
    `textune.prediction.load`. `read`: how files are read, by default as the model's run read its own; `output_format`:
    csv, tsv, jsonl or parquet, by default that of the target's name, else the input's. `ray_address`: of a running Ray
    cluster, by default one on this machine for the time of the call.

    DataError for a file, a row or a target that cannot be used, before anything is computed; RunError for shards or
    options that are not those of the parts that are done, for a shard that ends its process three times, and where
    another process writes the same output.
    """
    require_alone(target)
    tracker = tracker or SilentTracker()
    folder = find_model(model)
    card = read_card(folder)
    if card.is_language_model:
        raise no_classifier()
    paths = input_files([sources] if isinstance(sources, str | Path) else sources)
    output = str(user_path(str(target)))
    is_folder = output.endswith(("/", os.sep)) or str(target).endswith("/") or os.path.isdir(output)
    files, said = read(tuple(paths)) if read is not None else read_as_run(card.sources, paths, {})
    if said:
        tracker.notice(said)
    # The name of a folder says no format: that of the input is taken.
    reading, writing = stream_options(paths[0], "shard" if is_folder else output, files, output_format)
    require_one_format(paths, reading, named=files.format != "auto")
    opening = Opening(str(folder), device, precision, max_tokens, compile, tuple(code), decision)
    settings = Settings(
        opening,
        tuple(paths),
        reading,
        writing,
        columns or card.columns,
        files.rename,
        all_scores,
        on_bad_row == "skip",
    )
    run = _Prediction(settings, card, Path(os.path.realpath(output)), is_folder, force, tracker)
    return run.carry_out(_Engine(engine, workers, ray_address))


@dataclass(frozen=True)
class _Engine:
    """Who predicts the shards."""

    kind: Engine
    workers: int
    address: str | None

    def run(
        self,
        rows: Iterator[ShardRows],
        settings: Settings,
        plan: Plan,
        parts: PartFiles,
        left: list[int],
        tracker: Tracker,
    ) -> Generator[tuple[int, Outcome]]:
        """The number of each shard with what became of it."""
        num = max(1, min(self.workers, len(left)))
        done = len(plan.shards) - len(left)
        before = f"{done:,} of them done already, {len(left):,} left" if done else "none of them done"
        tracker.notice(f"{count(len(plan.shards), 'shard')} of {count(plan.num_rows, 'row')}, {before}")
        if self.kind == "ray":
            from textune.pipeline.sharded import by_ray

            return by_ray(settings, plan, parts, left, num_workers=num, address=self.address, on_notice=tracker.notice)
        places = seats(num, cpu=settings.opening.device == "cpu" or settings.opening.precision == "int8")
        devices = listing(dict.fromkeys(f"GPU {seat.device}" for seat in places if seat.device))
        fewer = f" (no more shards for {self.workers:,})" if num < self.workers else ""
        tracker.notice(
            f"{count(num, 'worker')}{fewer} with {count(places[0].threads, 'thread')} each"
            + (f" on {devices}" if devices else "")
        )
        return by_processes(rows, settings, plan, parts, places=places, on_notice=tracker.notice)


class _Prediction:
    """One call of `predict_files`."""

    def __init__(
        self, settings: Settings, card: ModelCard, target: Path, is_folder: bool, force: bool, tracker: Tracker
    ) -> None:
        self._settings = settings
        self._card = card
        self._is_folder = is_folder
        self._force = force
        self._tracker = tracker
        facts = settings.facts(Path(settings.opening.model), card)
        self._facts = facts | {"the kind of the output": is_folder}
        self._parts = PartFiles(target, job_key(self._facts), ".part")
        self._manifest = self._parts.folder / MANIFEST
        self._finished = self._parts.folder / "finished"
        self._added = prediction_fields(card, all_scores=settings.all_scores)

    def carry_out(self, engine: _Engine) -> FilesPredicted:
        """All of it."""
        if not self._parts.folder.exists():  # else somebody may be at work, which the lock shows
            if (found := self._complete()) is not None:
                return found
            self._require_target()
        require_folder(str(self._parts.target))
        with alone(self._parts.target, self._parts.lock):
            try:
                # It may have been written meanwhile, or by a process that was killed as it removed the parts.
                if (found := self._complete()) is not None:
                    self._remove_parts()
                    return found
                self._require_target()
                plan = self._planned()
                done = self._done(plan)
                kept = len(done)
                self._predict_missing(engine, plan, done)
                write = assemble_folder if self._is_folder else assemble
                outputs = write(self._parts, plan, self._settings, self._added)
            except BaseException:
                if self._parts.is_empty() or not self._manifest.is_file():
                    self._parts.remove()
                raise
            self._remove_parts()
        return self._said(plan, done, outputs, kept)

    def _remove_parts(self) -> None:
        self._finished.write_text(self._parts.job)  # for the next start, should this one be killed meanwhile
        shutil.rmtree(self._parts.folder / self._parts.job, ignore_errors=True)
        self._manifest.unlink(missing_ok=True)
        self._parts.remove()

    def _done(self, plan: Plan) -> dict[int, dict[str, Any]]:
        """The facts of the parts that are done, by the number of the shard."""
        facts = {number: self._parts.facts(number) for number in range(len(plan.shards))}
        return {
            number: found
            for number, found in facts.items()
            if found is not None and found["content"] == plan.shards[number].content
        }

    # --- what is there already ---------------------------------------------------------------------------------------

    def _require_target(self) -> None:
        """DataError where the output is there and not to be replaced, or is an input."""
        target = self._parts.target
        if self._was_killed_at_the_end():
            return
        if not self._is_folder:
            for path in self._settings.paths:
                require_target(path, str(target), force=self._force)
            return
        if inside := [path for path in self._settings.paths if Path(os.path.realpath(path)).is_relative_to(target)]:
            hint = "Choose another folder; the input is never overwritten."
            raise no_output(target, f"it holds the input {inside[0]}", hint)
        hint = "Choose another folder; --force replaces one that an earlier `predict` has written."
        if os.path.lexists(target) and not target.is_dir():
            raise no_output(target, "it is a file", hint)
        held = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
        found = read_listing(target)
        if held and (found is None or not self._force):
            raise no_output(target, "it exists and holds files", hint)
        if found is not None and (others := sorted({*held} - {*found.names, LISTING})):
            raise no_output(target, f"it holds {others[0]}, which `predict` has not written", "Choose another folder.")

    def _was_killed_at_the_end(self) -> bool:
        """Whether all parts of this very command are done: so an output that is there is its own."""
        if self._finished.is_file() and self._finished.read_text() == self._parts.job:
            return True
        if not self._parts.started():
            return False
        try:
            found = read_plan(self._manifest)
        except RunError:
            return False
        return found is not None and found[1] == self._facts and len(self._done(found[0])) == len(found[0].shards)

    def _complete(self) -> FilesPredicted | None:
        """The folder of an earlier start of the same command, which had come to its end. DataError where it is that of
        rows which have changed since."""
        target = self._parts.target
        found = read_listing(target) if self._is_folder and not self._force else None
        if found is None or found.job != self._parts.job or self._manifest.exists():
            return None
        outputs = [target / name for name in found.names]
        if not all(path.is_file() for path in outputs):
            return None
        if found.inputs != states_of(self._settings) and found.contents != self._survey().contents:
            reason = "it is complete, but the rows of the input have changed since"
            raise no_output(target, reason, "Add --force to predict them again, or choose another folder.")
        self._tracker.notice(f"{target} is complete already: nothing is left to do")
        return FilesPredicted(outputs, found.rows, found.skipped, len(outputs), len(outputs))

    def _planned(self) -> Plan:
        """The shards, as an earlier start has noted them or as reading all rows shows them. RunError where what is
        done does not belong to them."""
        try:
            found = self._earlier()
            states = states_of(self._settings)
            if found is not None and found.files == states:
                self._parts.begin()
                return found
            plan = self._survey()
            if found is not None:
                self._require_same(found, plan)
            self._parts.begin()
            plan.save(self._manifest, self._facts)
        except OSError as error:
            raise full(self._parts.target, error) from error
        return plan

    def _earlier(self) -> Plan | None:
        """The plan of an earlier start of the same command; RunError where that was another command."""
        try:
            found = read_plan(self._manifest)
        except RunError:
            if not self._force:
                raise
            found = None
        if found is None:
            self._parts.clear()
            return None
        plan, facts = found
        if facts == self._facts:
            return plan
        if not (self._force or self._parts.is_empty()):
            differing = [name for name in self._facts if facts.get(name) != self._facts[name]]
            raise RunError(
                f"{self._parts.folder} holds what another command has done of {self._parts.target.name}: it differs"
                f" in {listing(differing)}.",
                hint="Give the same options and the same model to continue, or add --force to start again.",
                key="force",
                place=str(self._parts.folder),
                reason=listing(differing),
            )
        self._parts.clear()
        return None

    def _require_same(self, found: Plan, plan: Plan) -> None:
        """RunError for the first shard that is another one now; with `force`, what is done is dropped instead."""
        pairs = zip(chain(found.shards, [None]), chain(plan.shards, [None]), strict=False)
        before, now = next(((before, now) for before, now in pairs if before != now), (None, None))
        if before is None and now is None:
            return
        if not self._force:
            shard: Shard = before or now  # type: ignore[assignment]
            raise changed(self._settings, found, shard, len(self._done(found)))
        self._parts.clear()

    # --- work --------------------------------------------------------------------------------------------------------

    def _survey(self) -> Plan:
        """Read all rows: the shards, the columns that hold them, and the first row that cannot be used."""
        settings, shards = self._settings, list[Shard]()
        skipped, notes, without = list[tuple[str, str]](), list[str](), list[int]()
        states = states_of(settings)
        writer: RowWriter | None = None
        first: pa.Schema | None = None
        num_skipped = num_rows = 0
        for index, path in enumerate(settings.paths):
            rows = open_pass(settings, self._card, index)
            if writer is None:
                first = rows.schema
                writer = RowWriter(str(self._parts.target), settings.writing, schema=first, added=self._added)
            elif first is not None and rows.schema is not None:
                require_same_columns(settings.paths[0], first, path, rows.schema)
            for shard, window, texts in shards_of(rows, index):
                select_texts(texts, settings.columns)
                writer.survey(window.rows, partial(rows.source.place, window))
                shards.append(shard)
                num_rows += shard.num_rows
                self._tracker.progress("checking the rows", num_rows, 0)
            num_skipped += len(rows.skipped)
            skipped += [(one.place, one.reason) for one in rows.skipped[: MAX_SKIPPED - len(skipped)]]
            notes += rows.notes()
            without = (
                [sum(pair) for pair in zip(without, rows.num_without, strict=True)] if without else rows.num_without
            )
        assert writer is not None
        writer.settle()
        return Plan(
            states, tuple(shards), writer.input_schema, num_skipped, tuple(skipped), tuple(without), tuple(notes)
        )

    def _predict_missing(self, engine: _Engine, plan: Plan, done: dict[int, dict[str, Any]]) -> None:
        """Predict the shards that are not done; the error of the first one that cannot be."""
        left = [number for number in range(len(plan.shards)) if number not in done]
        if not left:
            return
        total = sum(facts["rows"] for facts in done.values())
        refused: dict[int, Exception] = {}
        said = set[str]()
        waiting = ahead(rows_to_do(self._settings, self._card, plan, set(done)), 1, name="textune-reader")
        outcomes = engine.run(_until(waiting, refused), self._settings, plan, self._parts, left, self._tracker)
        with closing(waiting), closing(outcomes):  # no worker is left when this ends, however it does
            for number, outcome in outcomes:
                for notice in outcome.notices:
                    if notice not in said:
                        self._tracker.notice(notice)
                    said.add(notice)
                if outcome.error is not None:
                    refused[number] = outcome.error
                else:
                    assert outcome.facts is not None
                    done[number] = outcome.facts
                    total += outcome.facts["rows"]
                    self._tracker.progress("predicting", total, plan.num_rows)
        if refused:
            raise refused[min(refused)]

    def _said(self, plan: Plan, done: dict[int, dict[str, Any]], outputs: list[Path], kept: int) -> FilesPredicted:
        """Report what reading and predicting showed."""
        facts = [done[number] for number in range(len(plan.shards))]
        skipped = [*plan.skipped, *((place, reason) for one in facts for place, reason in one["skipped"])]
        num_skipped = plan.num_skipped + sum(len(one["skipped"]) for one in facts)
        for note in dict.fromkeys(plan.notes):
            self._tracker.notice(note)
        rows = sum(one["rows"] for one in facts)
        if self._card.metadata is not None:
            out = [sum(column) for column in zip(*(one["without"] for one in facts if one["without"]), strict=True)]
            without = [num - less for num, less in zip(plan.without, out or [0] * len(plan.without), strict=True)]
            if text := going_without(self._card.metadata, without, rows):
                self._tracker.notice(text)
        if skipped:
            place, reason = skipped[0]
            self._tracker.notice(f"{count(num_skipped, 'row')} left out; the first: {place}: {reason}")
        return FilesPredicted(outputs, rows, num_skipped, len(plan.shards), kept)


def _until(rows: Iterator[ShardRows], refused: dict[int, Exception]) -> Iterator[ShardRows]:
    """The rows, until a shard is refused."""
    for one in rows:
        yield one
        if refused:
            return
