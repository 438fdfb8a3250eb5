"""Prefixes and suffixes of documents that are too long, in the sample of training documents and in every held-out set;
for `documents.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from textune.config import Absent, DataSection, MetadataSection, SetAside, SetsByType
from textune.data import Finding, GivenRows, Rows, key_of
from textune.metadata import (
    Bare,
    ChunkCounts,
    ChunkEncoder,
    DocumentEstimate,
    DocumentSet,
    read_document_rows,
    read_documents,
    render,
    sets_of,
    with_types,
)
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True)
class HeldOutPrefixes:
    """What the prefixes of a held-out set lose; nothing is drawn for it, so they have all their fields."""

    name: str
    documents: int
    counts: ChunkCounts
    """Of the documents whose prefix is too long."""
    bare: tuple[Bare, ...]
    """The first of those that go without a prefix."""

    @property
    def words(self) -> str:
        """In words, where any is too long."""
        return self.counts.trimmed_of(self.documents)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        counts = self.counts
        left_out: dict[str, JsonValue] = {name: number for name, number in counts.left_out.items()}
        return {"documents": self.documents, "trimmed": counts.trimmed, "bare": counts.bare, "left_out": left_out}


def check_prefixes(
    encoder: ChunkEncoder, data: DataSection, section: MetadataSection, shares: Mapping[str, Rows], given: GivenRows
) -> tuple[HeldOutPrefixes, ...]:
    """Every held-out set, also those by type; `encoder` and `section` refuse nothing, `shares`: the sets that are
    shares of the training rows. DataError for rows that cannot be read."""
    found = []
    for name, source in data.held_out.items():
        if isinstance(source, Absent):
            continue
        assert isinstance(source, SetsByType)
        if isinstance(source, SetAside):
            rows = shares[name]
        else:
            rows = read_document_rows(source, data.on_bad_row, given, key=key_of(name))
        documents = read_documents(rows, data.columns, section).documents
        there = {documents.types[index] for index in np.unique(documents.entries.type).tolist()}
        known = source.model_copy(update={"by_type": tuple(type_ for type_ in source.by_type if type_ in there)})
        found += [
            _prefixes_of(one, encoder, section) for one in sets_of(name, known, rows, documents, key=key_of(name))
        ]
    return tuple(found)


def _prefixes_of(documents: DocumentSet, encoder: ChunkEncoder, section: MetadataSection) -> HeldOutPrefixes:
    """Texts are tokenised only behind prefixes that are too long: it depends on them whether there is a chunk."""
    long = np.flatnonzero(encoder.trims(render(documents.documents, section)))
    some = with_types(documents.documents, long, section.types)
    chunks = encoder.encode(render(some, section), lambda number: documents.places[long[number]])
    return HeldOutPrefixes(documents.name, len(documents), chunks.counts, chunks.bare)


def prefix_findings(
    estimate: DocumentEstimate, held_out: tuple[HeldOutPrefixes, ...], *, refuses: bool
) -> list[Finding]:
    """A sample without a chunk, and documents whose prefix leaves no room for text; `refuses`: whether these are an
    error."""
    if not estimate.chunks:
        message = "train: no document has a chunk: all have fewer tokens of text than metadata.min_tokens."
        are_all = estimate.documents == estimate.num_rows
        return [Finding("error" if are_all else "warning", "no-chunks", message, estimate.documents)]
    sets = [("train", estimate.documents, " of the sample", estimate.counts.bare, estimate.bare)]
    sets += [(one.name, one.documents, "", one.counts.bare, one.bare) for one in held_out]
    findings = []
    hint = ' Raise one of them, or set metadata.on_bad_metadata to "report": these documents then go without.'
    for name, documents, of_sample, num, examples in sets:
        if num:
            message = (
                f"{name}: none of the fields fits within metadata.prefix_share of tokens.max_length: {num:,} of"
                f" {count(documents, 'document')}{of_sample}.{hint * refuses}"
            )
            findings.append(
                Finding(
                    "error" if refuses else "warning", "prefix-without-room", message, num, tuple(map(str, examples))
                )
            )
    return findings
