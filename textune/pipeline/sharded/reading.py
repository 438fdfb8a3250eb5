"""The rows of several files in shards, the same ones every time; before `worker.py`.

A shard is one window of rows, cut exactly as `predict_file` cuts it: so its rows are scored in the same company, and
the output of several processes is that of one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from textune.data import Rows, Window, inside_archive
from textune.errors import RunError
from textune.metadata import file_state
from textune.pipeline.predict_file import most_rows
from textune.pipeline.sharded.plan import FileState, Plan, Shard
from textune.pipeline.sharded.settings import Settings
from textune.prediction import InputPass, ModelCard


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard, as a worker gets them."""

    number: int
    """Of the shard, from 0."""
    path: str
    """The file that they are in."""
    content: str
    """That of the shard."""
    window: Window
    texts: Rows
    """The columns of their texts, under the model's names."""


def open_pass(settings: Settings, card: ModelCard, index: int) -> InputPass:
    """One of the files, read once; errors as `InputPass`."""
    return InputPass(settings.input(index, card, most_rows(card, all_scores=settings.all_scores)))


def shards_of(rows: InputPass, index: int) -> Iterator[tuple[Shard, Window, Rows]]:
    """The shards of one file with their rows."""
    for window, texts in rows.windows():
        yield Shard(index, window.numbers[0], window.numbers[-1], len(window.numbers), _hash(window)), window, texts


def rows_to_do(settings: Settings, card: ModelCard, plan: Plan, done: Collection[int]) -> Generator[ShardRows]:
    """The rows of the shards that are not done, in order; RunError where they are not those of the plan."""
    for index, path in enumerate(settings.paths):
        numbers = [number for number, shard in enumerate(plan.shards) if shard.source == index]
        if done and set(numbers) <= set(done):
            continue
        planned = iter(numbers)
        for shard, window, texts in shards_of(open_pass(settings, card, index), index):
            number = next(planned, None)
            if number is None or shard != plan.shards[number]:
                raise changed(settings, plan, shard if number is None else plan.shards[number], len(done))
            if number not in done:
                yield ShardRows(number, path, shard.content, window, texts)
        if (left := next(planned, None)) is not None:
            raise changed(settings, plan, plan.shards[left], len(done))


def changed(settings: Settings, plan: Plan, shard: Shard, num_done: int) -> RunError:
    """The error for rows that are no longer those that were there at the first start."""
    path, unit = settings.paths[shard.source], settings.reading.unit
    place = f"{path}, {unit}s {shard.first:,} to {shard.last:,}"
    reason = "these rows have changed since the first start"
    return RunError(
        f"{place}: {reason}, so they do not belong to the {num_done:,} of {len(plan.shards):,} shards that are done.",
        hint="Put the file back as it was, or add --force to predict all of it again.",
        key="force",
        place=place,
        reason=reason,
    )


def states_of(settings: Settings) -> tuple[FileState, ...]:
    """The files as they are now."""
    return tuple(
        FileState(os.path.abspath(path), *file_state(Path(path)), _noted(Path(path))) for path in settings.paths
    )


def _noted(path: Path) -> int:
    archive = inside_archive(path)
    return (archive[0] if archive else path).stat().st_ctime_ns


def _hash(window: Window) -> str:
    """Of the rows with all of their columns."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(window.rows, list):
        digest.update(repr(window.rows).encode())
    else:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, window.rows.schema) as stream:
            stream.write_table(window.rows)
        digest.update(sink.getvalue())
    return digest.hexdigest()
