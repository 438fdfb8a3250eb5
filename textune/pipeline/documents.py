"""Checks a configuration for documents with metadata: what their rows hold, and what of it cannot be rendered; trains
nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from textune.config import (
    Absent,
    Columns,
    DataSection,
    Experiment,
    MetadataSection,
    SetAside,
    SetsByType,
    Source,
    StreamSource,
    require_renderable,
)
from textune.data import (
    NUM_EXAMPLES,
    BlockReader,
    Cursor,
    Finding,
    GivenRows,
    NeededColumns,
    Rows,
    ShardStream,
    SkippedRow,
    key_of,
    no_rows,
    open_shards,
    shard_of_rows,
)
from textune.metadata import (
    HINTS,
    TITLES,
    BadEntries,
    ChunkEncoder,
    DocumentEstimate,
    DocumentRun,
    is_of_metadata,
    open_documents,
    read_document_rows,
    read_documents,
    render,
    require_inline_types,
    require_known_types,
)
from textune.model import load_tokenizer
from textune.pipeline.prefixes import HeldOutPrefixes, check_prefixes, prefix_findings
from textune.pipeline.sharing import shared_documents
from textune.run import Trackers
from textune.wording import count, listing

if TYPE_CHECKING:
    from pydantic import JsonValue

SAMPLE_ROWS = 10_000
"""At most so many rows are in memory as documents at once, and at most so many of a stream are read."""


@dataclass
class CheckedSet:
    """What the rows of one source hold."""

    name: str
    """`train`, `validation`, `test`, or the name of an evaluation set."""
    source: str = ""
    """Short name of its files."""
    documents: int = 0
    characters: int = 0
    entries: Counter[str] = field(default_factory=Counter)
    """By type that `metadata.types` names."""
    documents_with: Counter[str] = field(default_factory=Counter)
    """By type, as `entries`."""
    not_named: Counter[str] = field(default_factory=Counter)
    """Documents that have a type which `metadata.types` does not name."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Documents of version 1 of the records that also have columns of version 2, by these columns."""
    bad: BadEntries = field(default_factory=BadEntries)
    """Entries that cannot be rendered as they say."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Other entries that are not rendered, by reason."""
    found: set[str] = field(default_factory=set)
    """Types that the rows know, with a column or an entry."""
    without_text: list[str] = field(default_factory=list)
    """Places of documents without text."""
    skipped: list[SkippedRow] = field(default_factory=list)
    """Rows that cannot be read (`data.on_bad_row`)."""

    def add(self, rows: Rows, columns: Columns, section: MetadataSection) -> None:
        """Count some rows; DataError for a text column that cannot be used."""
        read = read_documents(rows, columns, section)
        documents = read.documents
        self.source = rows.source
        self.skipped += rows.skipped
        length_D = np.fromiter(map(len, documents.texts), np.int64, len(documents))
        self.documents += len(documents)
        self.characters += int(length_D.sum())
        num_entries = np.bincount(documents.entries.type, minlength=len(documents.types))
        for name, entries, with_it in zip(documents.types, num_entries, documents.has_type.sum(axis=0), strict=True):
            self.entries[name] += int(entries)
            self.documents_with[name] += int(with_it)
        self.not_named.update(read.not_named)
        self.passed_over.update(read.passed_over)
        self.bad.extend(read.bad)
        self.left_out.update(render(documents, section).left_out)
        self.found |= read.found
        self.without_text += [rows.place(number) for number in np.flatnonzero(length_D == 0).tolist()]

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        types: dict[str, JsonValue] = {
            name: {"documents": self.documents_with[name], "entries": self.entries[name]} for name in self.entries
        }
        return {
            "source": self.source,
            "documents": self.documents,
            "characters": self.characters,
            "types": types,
            "not_named": dict(self.not_named),
            "passed_over": dict(self.passed_over),
            "bad": {str(kind): num for kind, num in self.bad.counts.items()},
            "not_rendered": dict(self.left_out),
            "without_text": len(self.without_text),
            "skipped": len(self.skipped),
        }


@dataclass(frozen=True)
class DocumentsCheck:
    """What `check` found in documents with metadata."""

    sets: tuple[CheckedSet, ...]
    findings: list[Finding]
    """What is wrong with them, or remarkable, with example rows."""
    notices: tuple[str, ...] = ()
    estimate: DocumentEstimate | None = None
    """How much a model would read; None where no tokenizer is named."""
    held_out_prefixes: tuple[HeldOutPrefixes, ...] = ()
    """Of each held-out set, as far as a tokenizer is named."""
    training: dict[str, str] = field(default_factory=dict)
    """What would be trained on them and what that takes, in words; empty where nothing can be."""
    numbers: dict[str, JsonValue] = field(default_factory=dict)
    """The same as numbers."""

    @property
    def ok(self) -> bool:
        """Whether all of them can be rendered."""
        return not any(finding.level == "error" for finding in self.findings)

    @property
    def words(self) -> dict[str, str]:
        """Facts in words."""
        facts: dict[str, str] = {}
        for one in self.sets:
            facts[one.name] = (
                f"{count(one.documents, 'document')} of {one.source}, {count(one.characters, 'character')}"
            )
            if one.entries:
                facts[f"{one.name} metadata"] = ", ".join(
                    f"{name} in {_share(one.documents_with[name], one.documents)}" for name in one.entries
                )
        if self.estimate is None:
            return facts | {"chunks": "not known: model.tokenizer is not set"}
        facts |= {"chunks": self.estimate.words} | self.estimate.cut
        facts |= {f"{one.name} fields": one.words for one in self.held_out_prefixes if one.counts.trimmed}
        return facts | self.training

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "ok": self.ok,
            "numbers": {one.name: one.to_dict() for one in self.sets},
            "facts": dict(self.words),
            "findings": [vars(finding) for finding in self.findings],
            "notices": list(self.notices),
            "estimate": None if self.estimate is None else self.estimate.to_dict(),
            "held_out_prefixes": {one.name: one.to_dict() for one in self.held_out_prefixes},
            "training": self.numbers or None,
        }


def check_documents(
    experiment: Experiment, *, tracker: Trackers, given: GivenRows = MappingProxyType({})
) -> DocumentsCheck:
    """Read all rows of each source (of a stream, its first block), count their metadata, and render it; where a
    tokenizer is named, estimate the chunks and tokens of an epoch; look for training documents in held-out sets, for
    which all shards of a stream are read, unless `data.on_shared_text` says otherwise.

    A set that is a share of the training rows is counted with these. Raises TextuneError for a configuration or rows
    that cannot be read, but not for metadata that cannot be rendered: those are findings.
    """
    section, data = require_renderable(experiment), experiment.data
    require_inline_types(section)
    lenient = section.model_copy(update={"on_bad_metadata": "report"})
    sets = []
    for name, source in _sources(data).items():
        counted = CheckedSet(name)
        for rows in _rows_of(name, source, data, given):
            counted.add(rows, data.columns, lenient)
        sets.append(counted)
    found = {type_ for one in sets for type_ in one.found}
    require_known_types(section.types, found, {type_ for one in sets for type_ in one.not_named})
    findings = [finding for one in sets for finding in _findings(one, refuses=section.on_bad_metadata == "error")]
    findings += [finding for one in sets for finding in _empty_sets(one, data)]
    rows_of = {
        name: read_document_rows(source, data.on_bad_row, given, key=key_of(name))
        for name, source in _sources(data).items()
        if name != "train" and not isinstance(source, StreamSource)
    }
    findings += shared_documents(data, rows_of, _all_training_rows(data, given), tracker)
    if not (experiment.model.tokenizer or experiment.model.pretrained):
        return DocumentsCheck(tuple(sets), findings, tuple(tracker.notices))
    encoder = ChunkEncoder(load_tokenizer(experiment.model), experiment.tokens, lenient)
    opened = open_documents(data, given)
    estimate = DocumentRun(opened.train, data, lenient, encoder, experiment.train).sample().estimate
    held_out_prefixes = check_prefixes(encoder, data, lenient, opened.shares, given)
    findings += prefix_findings(estimate, held_out_prefixes, refuses=section.on_bad_metadata == "error")
    return DocumentsCheck(tuple(sets), findings, tuple(tracker.notices), estimate, held_out_prefixes)


def _all_training_rows(data: DataSection, given: GivenRows) -> ShardStream:
    """With those that are set aside."""
    if isinstance(data.train, StreamSource):
        return open_shards(data.train)
    return shard_of_rows(read_document_rows(data.train, data.on_bad_row, given, key="data.train"))


def _sources(data: DataSection) -> dict[str, Source | StreamSource]:
    """All sources of rows by the name of their set; a share of the training rows has none of its own."""
    own = {name: source for name, source in data.held_out.items() if not isinstance(source, SetAside | Absent)}
    return {"train": data.train, **own}


def _rows_of(name: str, source: Source | StreamSource, data: DataSection, given: GivenRows) -> Iterator[Rows]:
    """The rows, some at a time, with all their columns of metadata."""
    if isinstance(source, StreamSource):
        yield from _first_block(source, data)
        return
    rows = read_document_rows(source, data.on_bad_row, given, key=key_of(name))
    for first in range(0, len(rows), SAMPLE_ROWS):
        table = rows.table.slice(first, SAMPLE_ROWS)
        places = rows.places.take(np.arange(first, first + table.num_rows))
        yield replace(rows, table=table, places=places, skipped=() if first else rows.skipped)


def _first_block(source: StreamSource, data: DataSection) -> Iterator[Rows]:
    stream = open_shards(source.model_copy(update={"block_rows": min(source.block_rows, SAMPLE_ROWS)}))
    of_metadata = frozenset(name for name in stream.column_names() if is_of_metadata(name))
    needed = NeededColumns({data.columns.text: "data.columns.text"}, of_metadata)
    with closing(BlockReader(stream, needed, seed=0, shuffles=True)) as reader:
        pieces = reader.read(Cursor()).pieces
    if not pieces:
        raise no_rows(stream.name, ())
    for piece in pieces:
        yield replace(piece.rows(data.on_bad_row), source=f"the first rows of {stream.name}")


def _findings(counted: CheckedSet, *, refuses: bool) -> list[Finding]:
    """What is wrong with a set, or remarkable; `refuses`: whether bad metadata is an error."""
    name, documents = counted.name, count(counted.documents, "document")
    findings = []
    for kind in TITLES:
        num = counted.bad.counts.get(kind, 0)
        if not num:
            continue
        examples = tuple(str(example) for _, example in counted.bad.examples[kind])
        left_out = "cannot be rendered" if refuses else "left out"
        message = f"{name}: {count(num, 'entry', 'entries')} of metadata {left_out}: {TITLES[kind]}."
        message += f" {HINTS[kind]}" if refuses else ""
        findings.append(Finding("error" if refuses else "warning", f"metadata-{kind}", message, num, examples))
    if counted.without_text:
        message = f"{name}: {count(len(counted.without_text), 'document')} of {counted.documents:,} without text."
        shown = tuple(counted.without_text[:NUM_EXAMPLES])
        findings.append(Finding("warning", "empty-text", message, len(counted.without_text), shown))
    if counted.skipped:
        message = f"{name}: {count(len(counted.skipped), 'row')} that cannot be read left out."
        shown = tuple(f"{one.place}: {one.reason}" for one in counted.skipped[:NUM_EXAMPLES])
        findings.append(Finding("warning", "rows-skipped", message, len(counted.skipped), shown))
    for reason, num in counted.left_out.items():
        message = f"{name}: {count(num, 'entry', 'entries')} of metadata not rendered: {reason}."
        findings.append(Finding("note", "metadata-left-out", message, num))
    if absent := [type_ for type_, num in counted.documents_with.items() if not num]:
        message = f"{name}: none of {documents} has {listing(absent)}."
        findings.append(Finding("warning", "metadata-absent", message, counted.documents))
    if counted.passed_over:
        listed = listing(f"{column} ({num:,})" for column, num in counted.passed_over.most_common())
        message = (
            f"{name}: documents with a column metadata that also have metadata in other columns, which is passed over:"
            f" {listed}. Leave metadata out of these rows (null), or put all of it there."
        )
        findings.append(Finding("warning", "metadata-twice", message, max(counted.passed_over.values())))
    if counted.not_named:
        listed = listing(f"{type_} ({num:,})" for type_, num in counted.not_named.most_common())
        message = f"{name}: documents with types that metadata.types does not name: {listed}."
        findings.append(Finding("note", "metadata-not-named", message, max(counted.not_named.values())))
    return findings


def _empty_sets(counted: CheckedSet, data: DataSection) -> list[Finding]:
    """Sets by type that would have no document."""
    source = data.held_out.get(counted.name)
    findings = []
    for type_ in source.by_type if isinstance(source, SetsByType) else ():
        if not counted.documents_with[type_]:
            documents = count(counted.documents, "document")
            message = (
                f"{key_of(counted.name)}.by_type names {type_}, but none of {documents} of {counted.source} has it."
            )
            findings.append(Finding("error", "set-without-rows", message, counted.documents))
    return findings


def _share(num: int, total: int) -> str:
    return f"{num:,} ({num / total:.0%})" if total else "0"
