"""Which columns of a user's own file are texts and label, as the scripts guess them; only its first row is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.errors import ConfigError
from textune.jsontext import parse_json

_NUMBERS = ("id", "idx", "index", "guid", "uid")
"""Columns that count rows: the scripts take them for texts."""


@dataclass(frozen=True)
class FirstRow:
    """The columns of a file, and the value that its first row has in each."""

    values: dict[str, object]
    file: Path

    def texts(self, label: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The columns of one text or two, and those that were passed over since they count rows."""
        others = [name for name in self.values if name != label]
        if {"sentence1", "sentence2"} <= set(others):
            return ("sentence1", "sentence2"), ()
        kept = [name for name in others if name.lower() not in _NUMBERS] or others
        return tuple(kept[:2]), tuple(name for name in others[:2] if name not in kept)


def first_row(flag: str, path: str) -> FirstRow:
    """ConfigError for a file that cannot be read or has no row."""
    file = Path(path).expanduser()
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            if file.suffix.lower() in (".json", ".jsonl"):
                values = _of_json(stream.read(1).strip() == "[", file)
            else:
                rows = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
                values = dict(zip(next(rows, []), next(rows, []), strict=False))
    except OSError as error:
        raise _refused(flag, path, f"it cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError, csv.Error) as error:
        raise _refused(flag, path, f"its first row cannot be read: {error}") from error
    if not values:
        raise _refused(flag, path, "it has no row")
    return FirstRow(values, file)


def _of_json(is_list: bool, file: Path) -> dict[str, object]:
    """The first object of a list, of `{"data": [...]}`, or of a file with one object on each line."""
    text = file.read_text(encoding="utf-8-sig")
    found = parse_json(text if is_list else text.lstrip().splitlines()[0])
    if isinstance(found, Sequence) and not isinstance(found, str):
        found = found[0] if found else {}
    if not isinstance(found, dict):
        raise ValueError("an object with a value for each column was expected")
    return found


def _refused(flag: str, path: str, reason: str) -> ConfigError:
    hint = "Give a csv, tsv, json, jsonl or parquet file."
    return ConfigError(f"--{flag} {path}: {reason}.", hint=hint, key=flag, value=path, place=path, reason=reason)
