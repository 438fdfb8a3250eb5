"""`data` of a run of training-wizard: training and validation rows, and what their columns hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textune.adapters.foreign import Line
from textune.adapters.trainingwizard.given import Given, Table
from textune.adapters.trainingwizard.sources import Remarks, Source, by_code, read_source
from textune.config import format_key, refuse
from textune.errors import DataError

RENAME = 'preprocessing.rename_columns = { label = "labels" }'


def data_lines(top: Table, weight: str, seed: tuple[int, str], remarks: Remarks) -> Iterator[Line]:
    """The section `data`. `weight`: the column of weights that the module reads, if any; `seed`: of the split, and its
    origin. DataError for rows that lack a column that is needed."""
    train = read_source(top.file, ("dataset_spec",), top["dataset_spec"], remarks)
    own = top["validation"] if isinstance(top["validation"], Mapping) else None
    held_out = None if own is None else read_source(top.file, ("validation",), own, remarks)
    refuse(remarks.problems)
    sources = [one for one in (train, held_out) if one is not None]
    if len({(one.template, one.label) for one in sources}) > 1:
        # Columns are named once for all rows: rows of different forms are brought into one by code.
        sources = [by_code(top.file, one.place, one.spec, f"[{format_key(*one.place)}]") for one in sources]
        train, held_out = sources[0], sources[1]
    for one in sources:
        _require_columns(one)
    for source, key in zip(sources, ("data.train", "data.validation"), strict=False):
        yield from (Line(f"{key}.{name}", value, origin) for name, value, origin in source.keys)
    if held_out is None:
        yield from _split_lines(top.given("validation"), seed, remarks)
    yield from _column_lines(train, sources, weight)
    if any(one.row is None for one in sources):
        remarks.notes.append(_not_seen(weight))


def _require_columns(source: Source) -> None:
    """Rows have texts and labels by the names that training-wizard reads."""
    if source.row is None:
        return
    where = format_key(*source.place)
    names = ", ".join(source.row)
    if "labels" not in source.row and "label" in source.row:
        raise DataError(
            f"[{where}]: the rows have a column 'label' instead of 'labels'. Please rename it: {RENAME}.",
            key=where,
            value="label",
            place=where,
            reason="label instead of labels",
        )
    missing = [name for name in ("text", "labels") if name not in source.row]
    if missing:
        raise DataError(
            f"[{where}]: the rows have no column {missing[0]!r}, but {names or 'none'}.",
            hint="Rename one in preprocessing.rename_columns, or make it with SequenceClassificationDatasourceSpec.",
            key=where,
            value=missing[0],
            place=where,
            reason=f"no column {missing[0]}",
        )


def _split_lines(validation: Given, seed: tuple[int, str], remarks: Remarks) -> Iterator[Line]:
    value: Any = validation.value
    if value is None:
        yield Line("data.validation.kind", "none", validation.origin)
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value <= 0 or (isinstance(value, float) and value >= 1):
        hint = "Write a share such as 0.1, a number of rows such as 6, or a table as in [dataset_spec]."
        refuse([validation.problem("this is no share of the rows, number of rows, or table.", hint)])
    yield Line("data.validation.kind", "split", validation.origin)
    yield Line(f"data.validation.{'count' if isinstance(value, int) else 'ratio'}", value, validation.origin)
    yield Line("data.validation.stratify", False, "as in the original's code")
    yield Line("data.validation.seed", *seed)
    remarks.notes.append("The rows of validation are drawn at random as there, but they are other rows.")


def _not_seen(weight: str) -> str:
    """What to do where rows cannot be looked at, since columns that may be missing are read where they are there."""
    columns = 'a column text_pair (data.columns.text_pair = "text_pair")'
    if weight:
        columns += f' or {weight} (data.columns.weight = "{weight}")'
    return f"The rows could not be looked at: if they have {columns}, convert the file and add that line."


def _column_lines(train: Source, sources: list[Source], weight: str) -> Iterator[Line]:
    label = "labels" if train.needs_code else train.label
    if train.template and not train.needs_code:
        yield Line("data.columns.template", train.template, "text_template")
    yield Line("data.columns.label", label, "as in the original's code" if label == "labels" else "label_column")
    if all(one.has("text_pair") for one in sources):
        yield Line("data.columns.text_pair", "text_pair", "as the rows have such a column")
    if weight and train.has(weight):
        yield Line("data.columns.weight", weight, "as the rows have such a column")
