"""`textune compare RUN RUN...`: runs on the same rows, each beside the first one.

run folders --read_rows--> sets that all have --align--> the same rows --contrast--> RunComparison, which is data
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.config import user_path
from textune.errors import ConfigError, RunError
from textune.evaluation import (
    EvaluatedSet,
    MainMetric,
    SetComparison,
    adjusted_by_holm,
    align,
    contrast,
    read_rows,
    resolve_metric,
)
from textune.run import RunFolder
from textune.studies.differing import write_differing
from textune.wording import listing, repeated_names


@dataclass(frozen=True)
class RunComparison:
    """Several runs on the same rows."""

    runs: tuple[str, ...]
    """The first one is what the others are compared with."""
    sets: Mapping[str, SetComparison]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "version": 1,
            "runs": list(self.runs),
            "sets": {name: found.to_dict() for name, found in self.sets.items()},
        }


def compare(
    runs: Sequence[str | Path],
    *,
    sets: str | Sequence[str] = (),
    metric: str | Sequence[str] | None = None,
    common: bool = False,
    out: str | Path | None = None,
    samples: int = 1000,
) -> RunComparison:
    """Compare runs on the rows that they keep of their evaluations, each with the first one.

    `sets`: which sets; by default all that every run has rows of. `metric`: the main one, by default that of the first
    run (one of its own code cannot be computed here: then the usual one). `common`: leave out rows that not all have,
    instead of refusing them. `out`: a new file (.parquet, .csv, .tsv or .jsonl) for the rows that are answered
    differently. `samples`: resamples for the intervals, 0 for none. Raises RunError where a run has no rows of a set,
    and where rows or labels are others.
    """
    folders, names = _folders(runs)
    target = None if out is None else _free(user_path(out))
    wanted = (sets,) if isinstance(sets, str) else tuple(sets)
    found, aligned = {}, {}
    for name in wanted or _shared_sets(folders, names):
        kept = [_read(folder, name, run) for folder, run in zip(folders, names, strict=True)]
        aligned[name] = align(kept, names, common=common)
        found[name] = _compared(aligned[name], names, _metric(metric, aligned[name], names), samples=samples)
    if target is not None:
        write_differing(aligned, names, target)
    return RunComparison(names, found)


def _compared(sets: Sequence[EvaluatedSet], names: Sequence[str], main: MainMetric, *, samples: int) -> SetComparison:
    first, *others = sets
    against = adjusted_by_holm([contrast(first, other, main, samples=samples) for other in others])
    notes = [
        f"{name} was judged by {other.main.name}."
        for name, other in zip(names, sets, strict=True)
        if other.main.name != main.name
    ]
    return SetComparison(
        name=first.name,
        num_rows=len(first),
        metric=main.name,
        higher_is_better=main.higher_is_better,
        runs=tuple(names),
        against=against,
        notes=tuple(notes),
    )


def _folders(runs: Sequence[str | Path]) -> tuple[list[Path], tuple[str, ...]]:
    """The folders, and what they are called: by their last part, where that tells them apart."""
    if isinstance(runs, str | Path) or len(runs) < 2:
        raise ConfigError(
            f"compare takes two runs or more, not {runs!r:.60}.",
            hint="Name the run to compare with, then the others.",
            key="runs",
            value=runs,
        )
    folders = [user_path(run) for run in runs]
    for folder in folders:
        if not folder.is_dir():
            raise RunError(
                f"{folder} is not a run folder.",
                hint="Name a folder that `textune train` wrote.",
                key="runs",
                value=str(folder),
                reason="there is no such folder",
            )
    ends = [folder.resolve().name for folder in folders]
    names = [str(folder) for folder in folders] if repeated_names(ends) else ends
    if twice := repeated_names(str(folder.resolve()) for folder in folders):
        raise ConfigError(
            f"{twice[0]} is named twice.", hint="Name each run once.", key="runs", value=twice[0], reason="named twice"
        )
    return folders, tuple(names)


def _shared_sets(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The sets that every run keeps rows of; RunError where there is none."""
    having = [RunFolder(folder).evaluated_sets() for folder in folders]
    shared = [name for name in having[0] if all(name in some for some in having)]
    if shared:
        return shared
    each = "; ".join(f"{name} has {listing(some) or 'none'}" for name, some in zip(names, having, strict=True))
    raise RunError(
        f"no set has rows in every run: {each}.",
        hint="`textune evaluate RUN --set SET` writes the rows of a set, `--data FILE` those of a file.",
        key="runs",
        value=tuple(names),
        reason="no set is common",
    )


def _read(folder: Path, name: str, run: str) -> EvaluatedSet:
    path = RunFolder(folder).rows_of(name)
    if path.is_file():
        return read_rows(path)
    known = RunFolder(folder).evaluated_sets()
    raise RunError(
        f"{run} keeps no rows of {name}; it has those of {listing(known) or 'no set'}.",
        hint=f"Write them with `textune evaluate {folder} --set {name}`, or name another set with --set.",
        key="sets",
        value=name,
        place=str(folder),
        reason="there are no rows of it",
    )


def _metric(wanted: str | Sequence[str] | None, sets: Sequence[EvaluatedSet], names: Sequence[str]) -> MainMetric:
    """The metric of the comparison: where none is wanted, that of the first run, unless this is of a user's own code,
    which no rows have. RunError where rows do not keep what it needs."""
    first = sets[0]
    usual = wanted is not None or first.main.is_own
    main = resolve_metric(wanted or "auto", first.scored.heads) if usual else first.main
    if main.needs_losses:
        for name, one in zip(names, sets, strict=True):
            if any(rows.row_losses is None for rows in one.scored.by_head.values()):
                raise RunError(
                    f"{name} does not keep the loss of its rows: its main metric is {one.main.name}.",
                    hint=f"Write them with `textune evaluate {name} --metric {main.name}`, or choose another metric.",
                    key="metric",
                    value=main.name,
                    place=name,
                    reason="the loss of the rows is not kept",
                )
    return main


def _free(path: Path) -> Path:
    """ConfigError where a file cannot be made there."""
    reason = "it is there already" if os.path.lexists(path) else ""
    if not path.absolute().parent.is_dir():
        reason = f"there is no folder {path.absolute().parent}"
    if path.suffix not in _ENDINGS:
        reason = f"it does not end in {listing(_ENDINGS)}"
    if reason:
        raise ConfigError(
            f"--out {path} cannot be written: {reason}.",
            hint="Choose another.",
            key="out",
            value=str(path),
            reason=reason,
        )
    return path


_ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl")
