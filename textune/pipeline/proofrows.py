"""The labelled rows that prove a threshold, and those that propose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from textune.config import Columns, FilesSource
from textune.errors import ConfigError, RunError
from textune.evaluation import EvaluatedSet, read_rows
from textune.pipeline.evaluate import answer_files, evaluate
from textune.run import RunFolder, Tracker, read_manifest


def rows_of_proof(
    run: Path,
    part: str | None,
    data: str | Path | Sequence[str | Path] | FilesSource | None,
    columns: Columns | Mapping[str, object] | None,
    code: str | Sequence[str],
    tracker: Tracker,
) -> tuple[EvaluatedSet, EvaluatedSet | None]:
    """The rows that prove and, where there are others, those that propose."""
    if data is not None and part is not None:
        raise ConfigError(
            "part chooses among the run's own rows, but data names other rows.",
            hint="Give only one of them.",
            key="part",
            value=part,
        )
    own = (run / "manifest.json").is_file()
    if data is not None:
        proving = answer_files(run, data, columns=columns, code=code, tracker=tracker)
        return proving, _proposing(run, proving, code, tracker) if own else None
    if not own:
        raise RunError(
            f"{run} is a model folder without a run: its data is unknown.",
            hint="Name a file of labelled rows with --data FILE.",
            place=str(run),
        )
    if part == "train":
        raise ConfigError(
            "the model was trained on these rows: they prove nothing about others.",
            hint="Choose another set, or give other labelled rows with --data FILE.",
            key="part",
            value=part,
        )
    name = part or ("test" if _has(run, "test") else "validation")
    if name == "validation":
        tracker.notice(
            "the validation rows prove it, on which the best model was chosen: rows that it has never seen"
            " (--data FILE, or data.test) prove more"
        )
        return _own_rows(run, name, code, tracker), None
    proving = _own_rows(run, name, code, tracker)
    return proving, _proposing(run, proving, code, tracker)


def _proposing(run: Path, proving: EvaluatedSet, code: str | Sequence[str], tracker: Tracker) -> EvaluatedSet | None:
    """The validation rows but those that prove, too: what proves must have no part in what is proposed. None where
    none is left."""
    if not _has(run, "validation"):
        return None
    proposing = _own_rows(run, "validation", code, tracker)
    others = np.flatnonzero(~np.isin(proposing.facts.content, proving.facts.content))
    return proposing.take(others) if len(others) else None


def _has(run: Path, name: str) -> bool:
    """Whether the run has rows of this name."""
    return bool(read_manifest(run).rows.get(name))


def _own_rows(run: Path, name: str, code: str | Sequence[str], tracker: Tracker) -> EvaluatedSet:
    """A set of the run with its answers; it is evaluated where the file of its rows is not there, or may be older than
    the best model: a run writes it when it is complete."""
    path = RunFolder(run).rows_of(name)
    if not path.is_file() or read_manifest(run).status != "complete":
        evaluate(run, part=name, code=code, tracker=tracker)
    return read_rows(path)
