"""Looks at a file of labelled text and writes a commented config for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textune.config import StarterFacts, starter_config
from textune.config.schema import Columns, FilesSource, Labels
from textune.data.columns import select_columns
from textune.data.guess import guess_layout
from textune.data.labels import infer_labels
from textune.data.sources import read_source
from textune.errors import ConfigError, DataError
from textune.rundir import write_text

SHOWN_LABELS = 12


def init(files: Sequence[str], out: str | Path, *, pretrained: str | None = None) -> list[str]:
    """Write a config for `files` to `out`; returns what a person should look at, in sentences.

    Paths are written relative to the config's folder. Raises ConfigError where `out` exists, DataError where a file cannot be
    read.
    """
    out = Path(out)
    if out.exists():
        raise ConfigError(f"--out {out} exists; nothing is ever overwritten.", hint="Choose another name, or remove it first.")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist.", hint="Make it first.")
    guess = guess_layout(list(files))
    notes = list(guess.notes)
    facts = StarterFacts(
        files=tuple(_relative(path, out) for path in guess.source.files),
        text=guess.columns.text,
        text_pair=guess.columns.text_pair,
        label=guess.columns.label,
        options={
            key: value for key, value in guess.source.model_dump(exclude_defaults=True).items() if key not in {"kind", "files"}
        },
        label_delimiter=guess.labels.delimiter,
        pretrained=_relative(pretrained, out) if pretrained and Path(pretrained).is_dir() else pretrained or "",
        config_name=str(out),
    )
    write_text(out, starter_config(_add_labels(facts, guess.source, guess.columns, guess.labels, notes)))
    if not pretrained:
        notes.append("model.pretrained is empty: name the folder or the hub name of a backbone.")
    return notes


def _add_labels(facts: StarterFacts, source: FilesSource, columns: Columns, labels: Labels, notes: list[str]) -> StarterFacts:
    """The facts with what the rows themselves show; where they cannot be read as guessed, a note says why."""
    try:
        rows = read_source(source)
        examples = select_columns(rows, columns, with_labels=True)
        label_map, warnings = infer_labels(examples, [], labels, kind="auto")
    except DataError as error:
        notes.append(str(error))
        return facts
    notes.extend(warnings)
    names = () if label_map.problem == "regression" else label_map.names
    return replace(
        facts,
        columns=tuple(rows.table.column_names),
        task=label_map.problem,
        labels=names[:SHOWN_LABELS],
        num_labels=len(names) or None,
        num_rows=len(examples),
    )


def _relative(path: str, out: Path) -> str:
    """As the config's folder sees it: what the loader resolves paths against."""
    return os.path.relpath(os.path.abspath(path), out.absolute().parent)
