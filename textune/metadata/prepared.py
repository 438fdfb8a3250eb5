"""The documents of a run by set, in the form that the rooms behind this one know rows by; after `opening.py`,
`sets.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from textune.config import Absent, DataSection, MetadataSection, SetAside, SetsByType
from textune.data import (
    LABEL,
    Examples,
    GivenRows,
    LabelMap,
    Places,
    PreparedData,
    Rows,
    ShardStream,
    Split,
    key_of,
    told_of_secrets,
)
from textune.metadata.opening import open_documents
from textune.metadata.records import ReadDocuments, read_document_rows, read_documents
from textune.metadata.sets import DocumentSet, sets_of

LANGUAGE = LabelMap("language", ("text",))
"""What a language model predicts."""


class PreparedDocuments(NamedTuple):
    """The documents of a run."""

    data: PreparedData
    """Of a stream, `train` has no rows."""
    train: ShardStream
    """Where the training documents are, streamed or not."""
    sets: dict[str, DocumentSet]
    """Every held-out set by name, those by type behind that of their source."""
    found: frozenset[str]
    """The types of `metadata.types` that held-out rows know."""
    not_named: frozenset[str]
    """Those that they have and `metadata.types` does not name."""


def prepare_documents(data: DataSection, section: MetadataSection, given: GivenRows) -> PreparedDocuments:
    """Read the held-out sets, and training rows that are not streamed.

    DataError as `open_documents`, `read_document_rows`, `read_documents` and `sets_of`.
    """
    opened = open_documents(data, given)
    read = dict(_held_out_rows(data, given)) | opened.shares
    splits, sets, notices = {"train": _training_split(opened.train)}, dict[str, DocumentSet](), list[str]()
    found, not_named = set[str](), set[str]()
    for name, source in data.held_out.items():
        if name not in read:
            continue
        rows = read[name]
        assert isinstance(source, SetsByType), "streams are for training"
        documents = read_documents(rows, data.columns, section)
        found |= documents.found
        not_named |= documents.not_named.keys()
        notices += [*(() if name in opened.shares else rows.notes), *_left_out(name, documents)]
        for one in sets_of(name, source, rows, documents.documents, key=key_of(name)):
            sets[one.name] = one
            splits[one.name] = _split(one, rows, is_share=name in opened.shares)
    stream = None if opened.train.shards[0].rows is not None else opened.train
    said = [*_of_training_rows(opened.train), *notices]
    prepared = PreparedData(splits, {LABEL: LANGUAGE}, tuple(said), stream=stream)
    return PreparedDocuments(prepared, opened.train, sets, frozenset(found), frozenset(not_named))


def _held_out_rows(data: DataSection, given: GivenRows) -> Iterator[tuple[str, Rows]]:
    for name, source in data.held_out.items():
        if not isinstance(source, SetAside | Absent):
            yield name, read_document_rows(source, data.on_bad_row, given, key=key_of(name))


def _training_split(train: ShardStream) -> Split:
    """All training documents; none of a stream, which are not known yet."""
    rows = train.shards[0].rows
    if rows is None:
        text = pa.chunked_array([], pa.large_string())
        nothing = Rows(pa.table({"text": text}), train.name, train.fingerprint, (), Places.concat([]), partial=True)
        return Split("train", _examples(nothing, text, np.arange(0)), {}, np.arange(0))
    # Nobody reads the texts again: rows of tokens are made of the shard.
    text = pa.chunked_array([pa.nulls(len(rows), pa.large_string())])
    return Split("train", _examples(rows, text, np.arange(len(rows))), {}, np.arange(len(rows)))


def _split(found: DocumentSet, rows: Rows, *, is_share: bool) -> Split:
    """A set as a split; `rows`: all of its source."""
    return Split(found.name, examples_of(found, rows), {}, np.arange(len(found)), is_share=is_share)


def examples_of(found: DocumentSet, rows: Rows) -> Examples:
    """The documents of a set as examples; `rows`: all of its source."""
    text = pa.chunked_array([pa.array(found.documents.texts, pa.large_string())])
    return _examples(rows, text, found.numbers)


def _examples(rows: Rows, text: pa.ChunkedArray, numbers: np.ndarray) -> Examples:
    return Examples(rows, text, None, None, None, numbers, skipped=rows.skipped)


def _of_training_rows(train: ShardStream) -> list[str]:
    rows, shards = train.shards[0].rows, train.section
    return [*told_of_secrets([*shards.files, *shards.exclude])] if rows is None else [*rows.notes]


def _left_out(name: str, read: ReadDocuments) -> list[str]:
    """A notice about entries of metadata of a set that cannot be rendered."""
    return [f"{name}: {read.bad.left_out}"] if read.bad.left_out else []
