"""What a run on documents begins with: its shards, what sampling needs to know of them, and how much there is of
everything; after `maker.py`.

Which documents are counted and sampled does not depend on the seed of the run: they have an order of their own. What
is drawn for those of an estimate is what the first epoch of the run draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from textune.batches import Plan, TokenRows
from textune.config import DataSection, MetadataSection, Sampling, StreamSource, TrainSection, UniformTypes
from textune.data import (
    NUM_EXAMPLES,
    BlockReader,
    Cursor,
    GivenRows,
    Rows,
    ShardStream,
    open_shards,
    set_aside,
    shard_of_rows,
)
from textune.metadata.chunks import Bare, ChunkCounts, ChunkEncoder
from textune.metadata.facts import DocumentFacts
from textune.metadata.maker import DocumentMaker
from textune.metadata.records import read_document_rows, read_documents
from textune.metadata.sampling import TypeCounts
from textune.wording import count

SAMPLED_DOCUMENTS = 1000
"""Documents whose chunks and tokens are counted for an estimate."""
_SAMPLE_SEED = 0


class OpenedDocuments(NamedTuple):
    """The source of the training rows, and the sets that are shares of it."""

    train: ShardStream
    shares: dict[str, Rows]


def open_documents(data: DataSection, given: GivenRows) -> OpenedDocuments:
    """The shards of a stream; any other source is read whole, and may be split. DataError as `open_shards`,
    `read_document_rows` and `set_aside`."""
    if isinstance(data.train, StreamSource):
        return OpenedDocuments(open_shards(data.train), {})
    rows, shares = set_aside(read_document_rows(data.train, data.on_bad_row, given, key="data.train"), data)
    return OpenedDocuments(shard_of_rows(rows), shares)


@dataclass(frozen=True)
class DocumentRun:
    """What decides the rows of a run on documents."""

    source: ShardStream
    data: DataSection
    section: MetadataSection
    encoder: ChunkEncoder
    train: TrainSection
    metadata_loss: bool = False
    """Whether tokens of metadata are scored, too."""

    def maker(self, *, state: Mapping[str, Any] | None = None) -> DocumentMaker:
        """The maker of its rows. `state`: that of its loader, where the run continues; nothing is counted anew then.

        DataError for rows that cannot be read.
        """
        if state is not None:
            return self._maker(DocumentFacts.from_dict(state.get("maker", {})))
        estimate = self._new_sample.estimate
        num_documents = self._num_documents(estimate) if self.section.sampling.curriculum else None
        return self._maker(DocumentFacts(self._counts, num_documents, estimate.chunks_per_epoch))

    def plan(self, maker: DocumentMaker) -> Plan:
        """Its steps: an epoch of documents counts as about as many rows of tokens as a sample of them says."""
        return Plan.of(self.train, maker.facts.chunks_per_epoch)

    def sample(self, *, state: Mapping[str, Any] | None = None) -> DocumentSample:
        """What some of its documents become in the first epoch, at the average probability of the run; `state` as for
        `maker`."""
        if state is None:
            return self._new_sample
        return self._sample(DocumentFacts.from_dict(state.get("maker", {})).counts)

    def _maker(self, facts: DocumentFacts, sampling: Sampling | None = None) -> DocumentMaker:
        section = self.section if sampling is None else self.section.model_copy(update={"sampling": sampling})
        return DocumentMaker(
            self.source,
            self.data,
            section,
            self._training_encoder,
            seed=self.train.seed,
            facts=facts,
            metadata_loss=self.metadata_loss,
        )

    @cached_property
    def _training_encoder(self) -> ChunkEncoder:
        return self.encoder.uncut() if self.data.chunks == "fixed" else self.encoder

    @cached_property
    def _counts(self) -> TypeCounts | None:
        """Of a run that begins."""
        sampling = self.section.sampling
        if not isinstance(sampling, UniformTypes) or sampling.weights != "counts":
            return None
        num_rows = sampling.count_rows if isinstance(self.data.train, StreamSource) else None
        return count_types(self._maker(DocumentFacts()), num_rows)

    def _num_documents(self, estimate: DocumentEstimate) -> int:
        """How many documents it reads; with a duration in steps, about so many."""
        duration, num_rows = self.train.duration, self.source.section.num_rows
        if duration.unit == "epochs":
            assert num_rows is not None, "a curriculum in epochs needs the number of rows"
            return max(1, round(num_rows * duration.amount))
        return max(1, round(duration.amount * self.train.batch_size / estimate.chunks_per_document))

    @cached_property
    def _new_sample(self) -> DocumentSample:
        """Of a run that begins."""
        return self._sample(self._counts)

    def _sample(self, counts: TypeCounts | None) -> DocumentSample:
        sampling = self.section.sampling
        average = sampling.model_copy(update={"probability": mean_probability(sampling), "curriculum": ()})
        return sample(self._maker(DocumentFacts(counts), average), SAMPLED_DOCUMENTS)


def mean_probability(sampling: Sampling) -> float:
    """Probability of any metadata over the whole run."""
    shares, probabilities = zip((0.0, sampling.probability), *sampling.curriculum, strict=True)
    lengths = [later - share for share, later in pairwise([*shares, 1.0])]
    return float(sum(length * probability for length, probability in zip(lengths, probabilities, strict=True)))


def count_types(maker: DocumentMaker, num_rows: int | None = None) -> TypeCounts:
    """In how many of the training documents each type is found; `num_rows`: how many to count, None for all."""
    counts, documents = np.zeros(len(maker.section.types), np.int64), 0
    for rows in _sampled_rows(maker, num_rows):
        read = read_documents(rows, maker.columns, maker.section)
        counts += read.documents.has_type.sum(axis=0)
        documents += len(read.documents)
    return TypeCounts(documents, dict(zip(maker.section.types, counts.tolist(), strict=True)))


@dataclass(frozen=True)
class DocumentEstimate:
    """What a sample of the training documents became in the first epoch."""

    documents: int
    """Documents of the sample."""
    short: int
    """Of these, with fewer than `metadata.min_tokens`; they have no chunk."""
    chunks: int
    tokens: int
    """Of all chunks, their prefixes included."""
    metadata_tokens: int
    """Those with mask 1."""
    counts: ChunkCounts = field(default_factory=ChunkCounts)
    """What did not become tokens as it stands."""
    bare: tuple[Bare, ...] = ()
    """The first of the documents that go without a prefix."""
    num_rows: int | None = None
    """Documents of an epoch, where their number is known."""
    row: str = "chunk"
    """What a row of tokens is called."""
    has_types: bool = True
    """Whether documents have any type of metadata."""

    @property
    def chunks_per_document(self) -> float:
        """The chunks of the average document; 1 where there are none."""
        return self.chunks / self.documents if self.chunks else 1.0

    @property
    def chunks_per_epoch(self) -> int | None:
        """About; None where the number of documents is not known."""
        return self._scaled(self.chunks)

    @property
    def tokens_per_epoch(self) -> int | None:
        """About; None where the number of documents is not known."""
        return self._scaled(self.tokens)

    def _scaled(self, number: int) -> int | None:
        if self.num_rows is None:
            return None
        return round(number * self.num_rows / max(1, self.documents))

    @property
    def words(self) -> str:
        """The estimate as a sentence."""
        whole = self.documents == self.num_rows
        sample = "" if whole else f", by {count(self.documents, 'document')} of them"
        chunks, tokens, of = self.chunks, self.tokens, f"{count(self.documents, 'document')} make"
        if self.chunks_per_epoch is not None and self.tokens_per_epoch is not None:
            chunks, tokens, of = (
                self.chunks_per_epoch,
                self.tokens_per_epoch,
                f"an epoch of {count(self.num_rows or 0, 'document')} has",
            )
        else:
            sample = ""
        about = "" if whole or self.num_rows is None else "about "
        share = f", {self.metadata_tokens / max(1, self.tokens):.0%} of them metadata" if self.has_types else ""
        return f"{of} {about}{count(chunks, self.row)} of {count(tokens, 'token')}{share}{sample}"

    @property
    def cut(self) -> dict[str, str]:
        """What of the sample was cut, in words."""
        num_chunked, counts = self.documents - self.short, self.counts
        if not num_chunked:
            return {}
        if not counts.trimmed:
            room = f"none of {count(num_chunked, 'document')} has more than metadata.prefix_share has room for"
        else:
            room = counts.trimmed_of(num_chunked)
        words = counts.words
        tags = [words[name] for name in ("split", "not_reopened") if name in words]
        unscored = {"unscored": words["unscored"]} if "unscored" in words else {}
        fields = {"fields": room} if self.has_types else {}
        return fields | ({"tags": ", ".join(tags)} if tags else {}) | unscored

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        numbers = {
            name: value for name, value in vars(self).items() if name not in ("counts", "bare", "row", "has_types")
        }
        numbers |= {"chunks_per_epoch": self.chunks_per_epoch, "tokens_per_epoch": self.tokens_per_epoch}
        return numbers | {name: value for name, value in vars(self.counts).items() if name != "short"}


class DocumentSample(NamedTuple):
    """What some documents become."""

    estimate: DocumentEstimate
    rows: TokenRows
    """Their rows of tokens."""
    found: frozenset[str]
    """The types of `metadata.types` that they know."""
    not_named: frozenset[str]
    """Those that they have and `metadata.types` does not name."""


def sample(maker: DocumentMaker, num_documents: int) -> DocumentSample:
    """What about so many of the training documents become in the first epoch; all, if there are not so many."""
    found = DocumentEstimate(
        0, 0, 0, 0, 0, num_rows=maker.source.section.num_rows, row=maker.row, has_types=bool(maker.section.types)
    )
    stores, types, others = [], set[str](), set[str]()
    for rows in _sampled_rows(maker, num_documents):
        made = maker.chunks_of(rows, epoch=0, before=0)
        store = made.chunks.store
        stores.append(store)
        types |= made.read.found
        others |= made.read.not_named.keys()
        found = replace(
            found,
            documents=found.documents + made.num_documents,
            short=found.short + made.num_short,
            metadata_tokens=found.metadata_tokens + int(store.columns["mask"].sum()),
            counts=ChunkCounts.sum([found.counts, made.chunks.counts]),
            bare=(*found.bare, *made.chunks.bare)[:NUM_EXAMPLES],
        )
    trained = maker.training_rows(stores)
    counts = ChunkCounts.sum([found.counts, ChunkCounts(unscored=trained.num_unscored)])
    chunks, tokens = len(trained.rows), int(trained.rows.lengths.sum())
    found = replace(found, chunks=chunks, tokens=tokens, counts=counts)
    return DocumentSample(found, trained.rows, frozenset(types), frozenset(others))


def _sampled_rows(maker: DocumentMaker, num_rows: int | None) -> Iterator[Rows]:
    """The first rows of an order of their own, at least `num_rows` if there are so many; None for all."""
    source, cursor, num_read = maker.source, Cursor(), 0
    if num_rows is not None:
        block_rows = min(source.section.block_rows, num_rows)
        source = replace(source, section=source.section.model_copy(update={"block_rows": block_rows}))
    with closing(BlockReader(source, maker.needed, seed=_SAMPLE_SEED, shuffles=True)) as reader:
        while cursor.epoch == 0 and (num_rows is None or num_read < num_rows):
            block = reader.read(cursor)
            for rows in maker.rows_of(block):
                num_read += len(rows)
                yield rows
            cursor = block.after
