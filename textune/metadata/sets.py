"""Held-out documents as sets: all of them; for each type, those that have it and nothing else; some without
metadata; after `records.py`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from textune.config import SetsByType, set_by_type
from textune.data import Rows
from textune.errors import DataError
from textune.metadata.documents import Documents
from textune.wording import count, listing


@dataclass(frozen=True, eq=False)
class DocumentSet:
    """Documents to evaluate on, which nothing is drawn for: they are rendered with all the metadata they have."""

    name: str
    documents: Documents
    places: Sequence[str]
    """[D] where each document stands, for messages."""
    numbers: np.ndarray
    """int64 [D] which row of its source each document is."""

    def __len__(self) -> int:
        return len(self.documents)

    def only(self, name: str, chosen: np.ndarray, types: Collection[str]) -> DocumentSet:
        """The set of some of its documents, int64 ascending, with the metadata of these types alone."""
        places = [self.places[number] for number in chosen.tolist()]
        return DocumentSet(name, with_types(self.documents, chosen, types), places, self.numbers[chosen])


def sets_of(name: str, source: SetsByType, rows: Rows, documents: Documents, *, key: str) -> list[DocumentSet]:
    """The set of all rows, and those that `by_type` asks for; `documents`: the rows, read.

    DataError for a type that no row has; `key` names the source in the configuration, such as `data.validation`.
    """
    places = [rows.place(number) for number in range(len(documents))]
    sets = [DocumentSet(name, documents, places, np.arange(len(documents)))]
    if not source.by_type:
        return sets
    has_DT, most = documents.has_type, source.by_type_rows
    for type_ in source.by_type:
        chosen = np.flatnonzero(has_DT[:, documents.types.index(type_)])[:most]
        if not len(chosen):
            raise _without_rows(type_, rows, len(documents), key)
        kept = with_types(documents, chosen, {type_})
        sets.append(DocumentSet(set_by_type(name, type_), kept, [places[row] for row in chosen.tolist()], chosen))
    first = np.arange(min(most, len(documents)))
    return [*sets, DocumentSet(set_by_type(name), with_types(documents, first, ()), places[:most], first)]


def with_types(documents: Documents, chosen: np.ndarray, types: Collection[str]) -> Documents:
    """Some of the documents, int64 ascending, with the metadata of these types alone."""
    entries = documents.entries
    number_D = np.full(len(documents), -1)
    number_D[chosen] = np.arange(len(chosen))
    of_type_T = np.array([name in types for name in documents.types], bool)
    kept = np.flatnonzero((number_D[entries.document] >= 0) & of_type_T[entries.type])
    columns: dict[str, Any] = {}
    for field in fields(entries):
        column = getattr(entries, field.name)
        columns[field.name] = column[kept] if isinstance(column, np.ndarray) else [column[n] for n in kept.tolist()]
    columns["document"] = number_D[columns["document"]]
    return replace(
        documents,
        texts=[documents.texts[number] for number in chosen.tolist()],
        row=documents.row[chosen],
        shard=documents.shard[chosen],
        entries=replace(entries, **columns),
    )


def _without_rows(type_: str, rows: Rows, num_documents: int, key: str) -> DataError:
    having = listing(
        sorted({name.removeprefix("metadata_") for name in rows.table.column_names if "metadata_" in name})
    )
    return DataError(
        f"{key}.by_type names {type_}, but none of {count(num_documents, 'document')} of {rows.source} has it.",
        hint=f"Leave it out of {key}.by_type" + (f"; the rows have columns for {having}." if having else "."),
        key=f"{key}.by_type",
        value=type_,
        place=rows.source,
        reason=f"none of {count(num_documents, 'document')} has it",
    )
