"""Rows to examples: the text (one column or a template of several), the second text, the label as written, the weight.

After `reading`, before `labels`. A missing text becomes empty text; the audit counts these. A row whose weight is not
a finite number of at least zero is a bad row.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.config import Columns, MetadataPrefix, OnBadRow
from textune.data.cells import TEXT, find_column, is_json, refuse_objects, text_cells
from textune.data.fields import select_fields
from textune.data.labels import columns_as_lists, json_lists, side_by_side
from textune.data.reading import Fault, Rows, SkippedRow, refuse
from textune.data.rowweights import row_weights
from textune.data.tokenids import TokenIds, read_token_ids
from textune.errors import DataError, Setting, Words


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts with their labels and weights; N examples."""

    rows: Rows
    text: pa.ChunkedArray
    """large_string [N], never null."""
    text_pair: pa.ChunkedArray | None
    """large_string [N], never null."""
    label: pa.ChunkedArray | None
    """[N] as the file has it, of any type."""
    weight: np.ndarray | None
    """float32 [N], or [N, H] with a weight for each of several tasks."""
    indices: np.ndarray
    """int64 [N] row of `rows.table` behind each example."""
    skipped: tuple[SkippedRow, ...] = ()
    """Every row left out so far, those that could not be read (`rows.skipped`) first."""
    label_names: tuple[str, ...] = ()
    """Names that the source itself gives to integer labels."""
    label_column: str = "label"
    fields: tuple[pa.ChunkedArray, ...] = ()
    """Of each column of `data.metadata`, large_string [N] the field before the text, such as `source: imdb`; null
    where a row has no value."""
    tokens: TokenIds | None = None
    """Token ids of each example, where the rows come as such (`data.columns.tokens`)."""
    has_text: bool = True
    """Whether the source has the texts; otherwise `text` is the token ids, written as numbers."""
    unclear: str = ""
    """Why the meaning of integer labels is unknown: only some of the files name theirs. Empty if it is known."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: np.ndarray) -> Examples:
        """The examples chosen, in that order; int64 [M]."""
        chosen = pa.array(np.asarray(indices, np.int64))
        return replace(
            self,
            text=self.text.take(chosen),
            text_pair=None if self.text_pair is None else self.text_pair.take(chosen),
            label=None if self.label is None else self.label.take(chosen),
            weight=None if self.weight is None else self.weight[indices],
            indices=self.indices[indices],
            fields=tuple(field.take(chosen) for field in self.fields),
            tokens=None if self.tokens is None else self.tokens.take(indices),
        )

    @property
    def row_ids(self) -> np.ndarray:
        """uint64 [N] what tells the rows of a run apart, whenever they are read: the number in the source; of a
        stream, shard and number."""
        if not self.rows.partial:
            return self.indices.astype(np.uint64)
        return self.rows.places.take(self.indices).ids

    def place(self, index: int) -> str:
        """Where an example comes from, such as `train.tsv, line 17`."""
        return self.rows.place(int(self.indices[index]))


def leave_out(examples: Examples, bad: Mapping[int, Fault], *, on_bad_row: OnBadRow) -> Examples:
    """The examples without those in `bad` (by index), which are noted in `skipped`; DataError with "error"."""
    if not bad:
        return examples
    skipped = tuple(
        SkippedRow(examples.place(index), fault.reason, fault.hint, fault.value)
        for index, fault in sorted(bad.items())
    )
    if on_bad_row == "error":
        raise refuse(skipped, examples.rows.source)
    keep_N = np.ones(len(examples), bool)
    keep_N[list(bad)] = False
    if not keep_N.any() and not examples.rows.partial:
        raise DataError(
            f"{examples.rows.source}: no row can be used. {skipped[0].place}: {skipped[0].reason}.",
            hint=skipped[0].hint,
            value=skipped[0].value,
            place=skipped[0].place,
            reason=skipped[0].reason,
        )
    return replace(examples.take(np.flatnonzero(keep_N)), skipped=examples.skipped + skipped)


def select_columns(
    rows: Rows,
    columns: Columns,
    *,
    with_labels: bool,
    tasks: tuple[str, ...] = (),
    prefix: MetadataPrefix | None = None,
    on_bad_row: OnBadRow = "error",
) -> Examples:
    """The columns that the sections name. Without `with_labels`, label and weight are neither needed nor read.
    `tasks`: the names of several tasks, which have a label, and may have a weight, each.

    DataError for a missing or unusable column, and for a bad weight if `on_bad_row` is "error".
    """
    bad: dict[int, Fault] = {}
    tokens = None if columns.tokens is None else read_token_ids(rows, columns.tokens, bad)
    has_text = tokens is None or set(text_columns(columns)) <= set(rows.table.column_names)
    text, pair = select_texts(rows, columns) if tokens is None or has_text else (tokens.written(), None)
    label: pa.ChunkedArray | None = None
    weight: np.ndarray | None = None
    if with_labels:
        label = _labels(rows, columns, tasks, bad)
        if columns.weight is not None:
            weights = find_column(rows, columns.weight, key="data.columns.weight")
            lists = _json_lists(rows, columns.weight) if tasks else None
            weight = row_weights(weights if lists is None else lists, columns.weight, tasks, bad)
    examples = Examples(
        rows=rows,
        text=text,
        text_pair=pair,
        label=label,
        weight=weight,
        indices=np.arange(len(rows), dtype=np.int64),
        skipped=rows.skipped,
        label_names=(() if tasks else columns.labels)
        if columns.labels
        else tuple(rows.class_names.get(columns.label, ())),
        label_column=", ".join(columns.labels) or columns.label,
        fields=select_fields(rows, prefix),
        tokens=tokens,
        has_text=has_text,
        unclear="" if columns.labels else rows.unclear.get(columns.label, ""),
    )
    examples = leave_out(examples, bad, on_bad_row=on_bad_row)
    if examples.weight is not None and not rows.partial:
        _require_some_weight(examples.weight, f"{rows.source}: all weights in column {columns.weight!r}", tasks)
    return examples


def _require_some_weight(weight: np.ndarray, what: str, tasks: tuple[str, ...]) -> None:
    if not weight.any():
        raise DataError(f"{what} are zero, so nothing would be learned.")
    if weight.ndim > 1 and not (some_H := weight.any(axis=0)).all():
        raise DataError(
            f"{what} are zero for the task {tasks[int(some_H.argmin())]!r}, which would not be learned.",
            hint="Give it a weight above 0, or leave it out of task.groups.",
        )


def label_columns(columns: Columns) -> tuple[str, ...]:
    """The columns that labels are made of."""
    return columns.labels or (columns.label,)


def _labels(rows: Rows, columns: Columns, tasks: tuple[str, ...], bad: dict[int, Fault]) -> pa.ChunkedArray:
    """The labels as written; those of several columns as one list per row, with rows that cannot be used in `bad`."""
    key = "data.columns.labels" if columns.labels else "data.columns.label"
    if columns.labels and columns.label != Columns().label:
        raise DataError(
            "data.columns.label and data.columns.labels are both set.",
            hint="Remove one of them.",
            key="data.columns.labels",
            value=columns.labels,
        )
    for name in label_columns(columns):
        if columns.template is None and name in {columns.text, columns.text_pair}:
            raise DataError(
                f"Column {name!r} is both the text and the label.",
                hint=Words(Setting(key, verb="Set"), " to another."),
                key=key,
                value=name,
            )
        column = find_column(rows, name, key=key)
        if tasks and not columns.labels and (lists := _json_lists(rows, name)) is not None:
            return lists
        refuse_objects(rows, name, "labels")
    if not columns.labels:
        return column
    return columns_as_lists(rows, columns.labels, tasks) if tasks else side_by_side(rows, columns.labels, bad)


def select_texts(rows: Rows, columns: Columns) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """Text and second text of every row, large_string [N] without nulls: the only way from cells to text.

    DataError for a column that is missing or cannot be text.
    """
    if columns.template is not None:
        template = Template(columns.template)
        cells = {name: _text_column(rows, name, key="data.columns.template") for name in template.names}
        text = template.fill_columns(cells)
    else:
        text = _text_column(rows, columns.text, key="data.columns.text")
    pair = None if columns.text_pair is None else _text_column(rows, columns.text_pair, key="data.columns.text_pair")
    return text, pair


def text_columns(columns: Columns) -> tuple[str, ...]:
    """Names of the columns that make up the texts, each once."""
    names = [columns.text] if columns.template is None else [*Template(columns.template).names]
    return tuple(dict.fromkeys([*names, *([columns.text_pair] if columns.text_pair else [])]))


def _json_lists(rows: Rows, name: str) -> pa.ChunkedArray | None:
    """A column of lists whose entries are of several kinds, or null, as lists of texts; None for any other column."""
    return json_lists(rows.table.column(name)) if is_json(rows, name) else None


def _text_column(rows: Rows, name: str, *, key: str) -> pa.ChunkedArray:
    """A column as text without nulls."""
    return pc.fill_null(text_cells(rows, name, key=key), pa.scalar("", TEXT))


class Template:
    """Text made of several columns, such as `"{title}\\n{body}"`.

    `{{` and `}}` are plain braces; a written-out `\\n`, `\\t` or `\\\\`, as on a command line, means a line feed, a
    tab or a backslash.
    """

    def __init__(self, template: str) -> None:
        """DataError for a template without columns or with anything but a column's name in braces."""
        where = f"data.columns.template = {template!r}"
        self._parts: list[tuple[str, str | None]] = []
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise DataError(f"{where}: {error}.", hint="Double a plain brace: {{ or }}.") from error
        for literal, name, spec, conversion in parsed:
            if name == "" or spec or conversion:
                wrong = (
                    "{" + (name or "") + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
                )
                raise DataError(f"{where} holds {wrong}.", hint="Braces hold only the name of a column.")
            self._parts.append((re.sub(r"\\[nt\\]", lambda match: _ESCAPES[match[0]], literal), name))
        if not self.names:
            raise DataError(f"{where} names no column.", hint='Write columns in braces: "{title}: {body}".')

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it uses, each once."""
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    def fill_columns(self, columns: Mapping[str, pa.ChunkedArray]) -> pa.ChunkedArray:
        """The texts of all rows, large_string [N]; the columns hold no nulls."""
        pieces: list[pa.Scalar | pa.ChunkedArray] = []
        for literal, name in self._parts:
            pieces.append(pa.scalar(literal, TEXT))
            if name is not None:
                pieces.append(columns[name])
        return pc.binary_join_element_wise(*pieces, pa.scalar("", TEXT))


_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
