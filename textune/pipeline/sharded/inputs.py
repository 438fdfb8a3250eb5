"""Files, patterns and folders as the files whose rows become shards; before `plan.py`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from textune.config import user_path
from textune.data import STANDARD, StreamOptions, find_files, stream_format
from textune.errors import DataError, RunError
from textune.pipeline.sharded.output import LISTING
from textune.ranks import launched_world
from textune.wording import listing

WORKER = "textune-predict"
"""Name of the processes that predict shards."""
IN_WORKER = 64
"""Exit code of one that was asked to predict files itself."""


def require_alone(target: str | Path) -> None:
    """DataError for standard output, RunError below a launcher. SystemExit in a worker that has just started: it
    imports the script that started it, and that calls `predict_files` where it stands."""
    if multiprocessing.current_process().name == WORKER:
        raise SystemExit(IN_WORKER)
    if str(target) == STANDARD:
        raise DataError(
            "shards are put together in a file, not on standard output.",
            hint="Name one with --output.",
            key="output",
            value=STANDARD,
        )
    if launched_world() > 1:
        raise RunError(
            "shards are predicted by processes of their own, and this one was started with others by a launcher.",
            hint="Start the command without a launcher; --workers says how many processes there are.",
            key="workers",
            reason="a launcher",
        )


def input_files(sources: Sequence[str | Path]) -> list[str]:
    """Files, patterns and folders as files, in order; those of a folder sorted by name. DataError where there are
    none."""
    if STANDARD in map(str, sources):
        raise DataError(
            "standard input can be read only once, and shards that are done again are read again.",
            hint="Name files, or leave --workers and --engine out.",
            key="data",
            value=STANDARD,
        )
    found = list[Path]()
    for source in sources:
        path = user_path(str(source))
        if not path.is_dir():
            found += find_files([str(path)], key="--data")
            continue
        inside = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith((".", "_")))
        if not inside:
            raise DataError(
                f"--data {path} is a folder without files.", hint="Name another.", key="data", place=str(path)
            )
        found += [one for one in inside if one.name != LISTING]
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise DataError(f"--data names {twice} twice.", hint="Leave one out.", key="data", value=str(twice))
    return [str(path) for path in found]


def require_one_format(paths: Sequence[str], reading: StreamOptions, *, named: bool) -> None:
    """DataError for a pipe, and for a file of another format than the first unless the format was `named`."""
    for path in paths:
        if Path(path).is_fifo():
            raise DataError(f"--data {path} is a pipe, which can be read only once.", hint="Name a file.", key="data")
        if not named and (found := stream_format(path, None, default=reading.format)) != reading.format:
            raise DataError(
                f"--data {path} is {found}, but {paths[0]} is {reading.format}.",
                hint="Predict files of one format at a time.",
                key="data",
                value=path,
                place=path,
            )


def require_same_columns(first: str, columns: pa.Schema, path: str, found: pa.Schema) -> None:
    if found.equals(columns):
        return
    differing = [
        name
        for name in {**dict.fromkeys(columns.names), **dict.fromkeys(found.names)}
        if name not in columns.names or name not in found.names or columns.field(name) != found.field(name)
    ]
    what = f"they differ in {listing(map(repr, differing))}" if differing else "they come in another order"
    raise DataError(
        f"{path} has other columns than {first}: {what}.",
        hint="Files that are predicted together have the same columns, of the same types. Predict them apart.",
        key="data",
        value=path,
        place=path,
        reason=what,
    )
