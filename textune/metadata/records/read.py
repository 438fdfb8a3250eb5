"""Rows of records to `Documents`: both versions of the schema, every entry checked.

    Rows -> rawentries.py -> the type of each entry (types.py) -> validation.py -> Documents

Version 1 has one column `metadata`, a list of entries of all types; version 2 a column `metadata_<type>` for each of
them. A row that has `metadata` is of version 1, whatever its other columns hold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.config import Columns, MetadataSection, OnBadRow, Source
from textune.data import GivenRows, Rows, flat, is_list, is_text, read_source, select_texts
from textune.errors import ConfigError
from textune.metadata.documents import NO_POSITION, Documents, Entries
from textune.metadata.records.problems import BadEntries, BadEntry
from textune.metadata.records.rawentries import (
    END,
    END_ORDER,
    KEY,
    SCOPE,
    START,
    START_ORDER,
    Misshapen,
    RawEntries,
    raw_entries,
)
from textune.metadata.records.validation import Checked, check_entries
from textune.metadata.types import COLUMN_PREFIX, TYPES, name_of
from textune.wording import listing, nearest

COLUMN = "metadata"
"""Of version 1."""
_NOT_NAMED, _NO_KEY = -1, -2


@dataclass(frozen=True, eq=False)
class ReadDocuments:
    """Documents, and what of their rows is not in them."""

    documents: Documents
    bad: BadEntries
    """Entries left out because they cannot be rendered as they say."""
    not_named: dict[str, int] = field(default_factory=dict)
    """Types that `metadata.types` does not name, and how many documents have each."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Columns of version 2 that are not empty in rows of version 1, and in how many of these."""
    found: frozenset[str] = frozenset()
    """Types that `metadata.types` names and the rows know: they have the column, or an entry of that type."""


def metadata_columns(section: MetadataSection) -> frozenset[str]:
    """The columns that rows may have metadata in; none of them has to be there."""
    if not section.types:
        return frozenset()
    return frozenset({COLUMN, *(COLUMN_PREFIX + name for name in section.types)})


def is_of_metadata(column: str) -> bool:
    """Whether a column of this name holds metadata."""
    return column == COLUMN or (column.startswith(COLUMN_PREFIX) and column != COLUMN_PREFIX)


def read_document_rows(source: Source, on_bad_row: OnBadRow, given: GivenRows, *, key: str = "") -> Rows:
    """All rows of a source as `read_source`; not all of its files need to have the same columns of metadata."""
    return read_source(source, on_bad_row=on_bad_row, given=given, may_lack=is_of_metadata, key=key)


def read_documents(rows: Rows, columns: Columns, section: MetadataSection) -> ReadDocuments:
    """The rows as documents with the metadata that `metadata.types` names.

    DataError for an entry that cannot be used (`on_bad_metadata = "error"`) and for a missing or unusable text column.
    """
    text = select_texts(rows, columns)[0]
    chosen, not_named, passed_over = _cells(rows.table, section.types, text_column=columns.text)
    raw, misshapen = raw_entries(rows.table, chosen)
    bad = BadEntries()
    _add_misshapen(bad, misshapen, rows)
    type_E = _types_of(raw, section.types, not_named)
    _add_without_key(bad, raw, type_E == _NO_KEY, rows)
    raw, type_E = raw.take(type_E >= 0), type_E[type_E >= 0]
    length_D = np.asarray(pc.utf8_length(text)).astype(np.int64)
    checked = Checked(rows, raw, section, type_E, length_D, bad)
    check_entries(checked)
    if section.on_bad_metadata == "error":
        bad.refuse()
    documents = Documents(
        section.types, text.to_pylist(), rows.places.number_N - 1, _shards_of(rows), _entries(checked)
    )
    found = {name.removeprefix(COLUMN_PREFIX) for name in chosen} & set(section.types)
    found |= {section.types[index] for index in np.unique(type_E).tolist()}
    return ReadDocuments(documents, bad, dict(not_named), passed_over, frozenset(found))


def require_known_types(types: Sequence[str], found: Collection[str], others: Collection[str]) -> None:
    """ConfigError for a type that neither textune nor the data knows: a misspelt one. `others`: types that the data
    has and `types` does not name."""
    for name in types:
        if name in TYPES or name in found:
            continue
        close = nearest(name.removeprefix(COLUMN_PREFIX), [*TYPES, *others])
        likely = [known for known in TYPES if TYPES[known].key == name] or ([close] if close else [])
        hint = f"Did you mean {' or '.join(likely)}?" if likely else ""
        raise ConfigError(
            f"metadata.types names {name}, but no row has a column {COLUMN_PREFIX}{name} or an entry with this key.",
            hint=hint or f"Types that textune knows: {listing(TYPES)}.",
            key="metadata.types",
            value=name,
            reason="no row has it",
        )


def require_inline_types(section: MetadataSection) -> None:
    """ConfigError for a key about tags that names a type without any. With `compat`, every type may have tags."""
    for key, named in (("wraps", section.wraps), ("type_tokens", section.type_tokens)):
        for name in named:
            if section.as_original or name not in TYPES or TYPES[name].scope == "local":
                continue
            raise ConfigError(
                f"metadata.{key} names {name}, which is about the whole text and has no tags.",
                hint="Leave it out: its field stands in the prefix.",
                key=f"metadata.{key}",
                value=name,
                reason="it has no tags",
            )


def shard_id(fingerprint: str, file: int = 0) -> int:
    """The identity of a shard, 64 bits of its fingerprint; of several files read as one, each has its own."""
    digest = hashlib.sha256(f"{fingerprint} {file}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _shards_of(rows: Rows) -> np.ndarray:
    """uint64 [N] identity of the shard of each row."""
    ids = np.array([shard_id(rows.fingerprint, file) for file in range(len(rows.places.origins))], np.uint64)
    shard_N: np.ndarray = ids[rows.places.origin_N]
    return shard_N


def _cells(
    table: pa.Table, types: tuple[str, ...], *, text_column: str
) -> tuple[dict[str, np.ndarray], Counter[str], dict[str, int]]:
    """The columns to read, each with the rows to read it in, bool [N]; in how many rows the columns of other types are
    not empty; and in how many rows of version 1 those of version 2 are not, whatever their type."""
    chosen: dict[str, np.ndarray] = {}
    not_named: Counter[str] = Counter()
    passed_over: dict[str, int] = {}
    is_first_N = np.zeros(table.num_rows, bool)
    if COLUMN in table.column_names and text_column != COLUMN:
        is_first_N = np.asarray(flat(table.column(COLUMN)).is_valid())
        chosen[COLUMN] = is_first_N
    for name in table.column_names:
        suffix = name.removeprefix(COLUMN_PREFIX)
        if name in (COLUMN, text_column) or not is_of_metadata(name):
            continue
        if is_first_N.any() or suffix not in types:
            filled_N = _is_filled(flat(table.column(name)))
            if num := int((filled_N & is_first_N).sum()):
                passed_over[name] = num
        if suffix in types:
            chosen[name] = ~is_first_N
        elif num := int((filled_N & ~is_first_N).sum()):
            not_named[suffix] = num
    return chosen, not_named, passed_over


def _is_filled(array: pa.Array) -> np.ndarray:
    """bool [N]: cells that are neither missing nor an empty list."""
    filled_N = np.asarray(array.is_valid())
    if is_list(array.type):
        filled_N = filled_N & np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype(bool)
    elif is_text(array.type):
        filled_N = filled_N & ~np.asarray(pc.fill_null(pc.equal(array, pa.scalar("[]", array.type)), True))
    return filled_N


def _types_of(raw: RawEntries, types: tuple[str, ...], not_named: Counter[str]) -> np.ndarray:
    """int64 [E] index of each entry's type, _NOT_NAMED (counted once for a document) or _NO_KEY.

    In version 2 the column decides, in version 1 the key together with the scope.
    """
    index_of = {name: index for index, name in enumerate(types)}
    by_column = [index_of.get(name.removeprefix(COLUMN_PREFIX), _NOT_NAMED) for name in raw.columns]
    type_E: np.ndarray = np.array([*by_column, _NOT_NAMED], np.int64)[raw.column]
    if COLUMN not in raw.columns:
        return type_E
    known: dict[tuple[str, str], int] = {}
    others: dict[str, set[int]] = {}
    for entry in np.flatnonzero(raw.column == raw.columns.index(COLUMN)).tolist():
        key, scope = raw.objects[KEY][entry], raw.objects[SCOPE][entry]
        if not isinstance(key, str):
            type_E[entry] = _NO_KEY
            continue
        scope = scope if isinstance(scope, str) else ""
        found = known.get((key, scope))
        if found is None:
            name = name_of(key, scope)
            found = known[key, scope] = index_of.get(name, _NOT_NAMED)
        type_E[entry] = found
        if found == _NOT_NAMED:
            others.setdefault(name_of(key, scope), set()).add(int(raw.document[entry]))
    not_named.update({name: len(documents) for name, documents in others.items()})
    return type_E


def _add_misshapen(bad: BadEntries, misshapen: list[Misshapen], rows: Rows) -> None:
    def describe(number: int) -> BadEntry:
        one = misshapen[number]
        return BadEntry("shape", rows.place(one.document), one.field, one.value, one.reason)

    document = np.array([one.document for one in misshapen], np.int64)
    bad.add("shape", np.ones(len(misshapen), bool), document, describe)


def _add_without_key(bad: BadEntries, raw: RawEntries, without_E: np.ndarray, rows: Rows) -> None:
    def describe(entry: int) -> BadEntry:
        value = raw.objects[KEY][entry]
        reason = "it is not text" if value is not None else "there is none"
        place = rows.place(int(raw.document[entry]))
        return BadEntry("key", place, f"{COLUMN}[{raw.index[entry]}].{KEY}", value, reason)

    bad.add("key", without_E, raw.document, describe)


def _entries(checked: Checked) -> Entries:
    """The entries that all checks have left."""
    good_E = checked.good_E
    raw = checked.raw.take(good_E)
    is_local_E = checked.is_local_E[good_E]
    start_E, end_E, start_order_E, end_order_E = (
        np.where(is_local_E & (raw.numbers[key] >= 0), raw.numbers[key], NO_POSITION)
        for key in (START, END, START_ORDER, END_ORDER)
    )
    return Entries(
        document=raw.document,
        type=checked.type_E[good_E].astype(np.int16),
        value=checked.values_E[good_E].tolist(),
        start=start_E,
        end=end_E,
        start_order=start_order_E,
        end_order=end_order_E,
        attributes=checked.attributes_E[good_E].tolist(),
    )
