"""`load_dataset_kwargs` of a data source as keys of ours: those of pandas' reader of csv, of JSON and of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textune.adapters.foreign import LeftOut
from textune.adapters.trainingwizard.given import Given
from textune.config import Problem

_OF_THE_LIBRARY = "it says how the datasets library reads and keeps files; textune reads them itself"
UNUSED = {
    **dict.fromkeys(
        (
            *("cache_dir", "keep_in_memory", "num_proc", "download_mode", "verification_mode", "save_infos", "token"),
            *("download_config", "chunksize", "low_memory", "memory_map", "engine", "newlines_in_values"),
        ),
        _OF_THE_LIBRARY,
    ),
    **dict.fromkeys(
        ("dtype", "na_values", "keep_default_na", "na_filter"),
        "cells of a csv file stay text, just as they are written",
    ),
    "keep_linebreaks": "a line never holds its line break",
}
"""Why an option changes nothing here."""
_FORBIDDEN = ("path", "data_files", "split", "name", "data_dir")
_OWN = 'Write a data source of your own (spec_class = "your.module.YourDataSource").'
_QUOTING = {0: "standard", 1: "standard", 2: "standard", 3: "none"}


def option_keys(
    loader: str, given: Mapping[str, Given], left_out: list[LeftOut], problems: list[Problem]
) -> Iterator[tuple[str, object, str]]:
    """(key of ours, value, origin) for each option; what means nothing, and what cannot be done, is noted."""
    if loader == "csv" and not {"sep", "delimiter"} & set(given):
        yield "delimiter", ",", "default of pandas"
    if loader == "csv" and "quoting" not in given:
        yield "quoting", "standard", "default of pandas"
    renames = "header" in given and given["header"].value == 0 and bool({"names", "column_names"} & set(given))
    for name, one in given.items():
        if name == "header" and renames:
            before = _lines(given["skiprows"].value)[1] if "skiprows" in given else 0
            if isinstance(before, int):  # otherwise skiprows is a problem
                yield "skip_lines", before + 1, one.origin  # the names stand for those of the header
        elif name in UNUSED:
            left_out.append(LeftOut(one.key, UNUSED[name]))
        elif name in _FORBIDDEN:
            problems.append(one.problem("the table itself says what is read.", "Leave it out."))
        elif (found := _OPTIONS.get((loader, name)) or _OPTIONS.get(("", name))) is None:
            problems.append(one.problem(f"the loader {loader} has no such option here.", _OWN))
        else:
            key, value = found(one.value)
            if key == "?":
                problems.append(one.problem(f"{value}.", _OWN))
            elif key and not (renames and key == "skip_lines"):
                yield key, value, one.origin


def _delimiter(value: Any) -> tuple[str, Any]:
    fits = isinstance(value, str) and len(value) == 1
    return ("delimiter", value) if fits else ("?", "a delimiter is one character")


def _names(value: Any) -> tuple[str, Any]:
    fits = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    return ("column_names", tuple(value)) if fits else ("?", "it is a list of names")


def _lines(value: Any) -> tuple[str, Any]:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return ("skip_lines", value) if fits else ("?", "it is a number of lines")


def _rows(value: Any) -> tuple[str, Any]:
    fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return ("take", value) if fits else ("?", "it is a number of rows")


def _columns(value: Any) -> tuple[str, Any]:
    fits = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    return ("select", tuple(value)) if fits else ("?", "it is a list of names")


def _only(*allowed: object) -> Any:
    return lambda value: ("", None) if value in allowed else ("?", f"only {allowed[0]!r} can be done")


def _quoting(value: Any) -> tuple[str, Any]:
    return ("quoting", _QUOTING[value]) if value in _QUOTING else ("?", "it is a number from 0 to 3")


_OPTIONS: dict[tuple[str, str], Any] = {
    ("csv", "sep"): _delimiter,
    ("csv", "delimiter"): _delimiter,
    ("csv", "names"): _names,
    ("csv", "column_names"): _names,
    ("csv", "skiprows"): _lines,
    ("csv", "nrows"): _rows,
    ("csv", "usecols"): _columns,
    ("csv", "quoting"): _quoting,
    ("csv", "quotechar"): _only('"'),
    ("csv", "doublequote"): _only(True),
    ("csv", "header"): _only(0, "infer"),
    ("csv", "index_col"): _only(False),
    ("csv", "on_bad_lines"): _only("error"),
    ("csv", "error_bad_lines"): _only(True),
    ("csv", "skip_blank_lines"): _only(True),
    ("json", "field"): lambda value: ("split", value),
    ("text", "sample_by"): _only("line"),
    ("", "encoding"): lambda value: ("encoding", value),
    ("", "streaming"): _only(False),
}
"""By loader ("" for all) and option: the key of ours and its value, "" where it is as ours, "?" and why not."""
