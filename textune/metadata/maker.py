"""Documents to the rows of tokens that a stream trains on, block by block in the loader's thread; after `chunks`.

    raw rows -> records -> sampling.py -> rendering -> chunks -> rows in the order of the block

Everything but that order follows from the row itself, the seed and the epoch: a document has the same rows in whatever
block it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textune.batches import MadeRows, TokenRows, TokenStore, is_milestone, join_stores, skipped_so_far, wrong_number
from textune.config import DataSection, MetadataSection
from textune.data import LABEL, Block, Cursor, NeededColumns, Rows, ShardStream, SkippedRow, no_rows
from textune.errors import DataError
from textune.metadata.chunks import ChunkCounts, ChunkEncoder, Chunks
from textune.metadata.documents import Documents
from textune.metadata.facts import DocumentFacts
from textune.metadata.fixedrows import cut_rows
from textune.metadata.records import BadEntries, ReadDocuments, metadata_columns, read_documents
from textune.metadata.rendering import render
from textune.metadata.sampling import Sampler
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue

SLICE_ROWS = 4096
SLICE_BYTES = 4_000_000
"""Rows, and bytes of theirs, that are rendered and tokenised at once: a tokenizer's output is many times as large."""
COLUMNS = ("ids", "mask")
"""Of every row, by token."""


@dataclass(frozen=True, eq=False)
class MadeChunks:
    """What some rows became."""

    chunks: Chunks
    read: ReadDocuments
    """With all their metadata, and what could not be read of it."""
    keep: np.ndarray
    """bool [D, T] which types of each were drawn to be rendered."""

    @property
    def documents(self) -> Documents:
        """With all their metadata."""
        return self.read.documents

    @property
    def bad(self) -> BadEntries:
        """Pieces of metadata left out."""
        return self.read.bad

    @property
    def num_documents(self) -> int:
        """Documents read."""
        return len(self.documents)

    @property
    def document_of_chunk(self) -> np.ndarray:
        """int64 [C] which of the documents each chunk is of."""
        return np.asarray(self.chunks.documents[self.chunks.store.example])

    @property
    def num_short(self) -> int:
        """Documents without a chunk."""
        return self.num_documents - len(self.chunks.documents)


class TrainingRows(NamedTuple):
    """Chunks as a model is trained on them."""

    rows: TokenRows
    """Document after document."""
    num_unscored: int
    """Documents that have none, since none of their tokens is scored."""


class DocumentMaker:
    """Makes chunks of documents; a `RowMaker`."""

    def __init__(
        self,
        source: ShardStream,
        data: DataSection,
        section: MetadataSection,
        encoder: ChunkEncoder,
        *,
        seed: int,
        facts: DocumentFacts,
        metadata_loss: bool = False,
    ) -> None:
        """`encoder`: with `data.chunks = "fixed"` one that does not cut documents; `seed`: of the run; `facts`: what
        sampling needs to know of the data; `metadata_loss`: whether tokens of metadata are scored, too."""
        self.source = source
        self.facts = facts
        self.columns = data.columns
        self.section = section
        self._encoder = encoder
        self._on_bad_row = data.on_bad_row
        self._metadata_loss = metadata_loss
        self._fixed = data.chunks == "fixed"
        self.row = "row" if self._fixed else "chunk"
        """What messages call its rows of tokens."""
        self._sampler = Sampler(section.sampling, seed, facts.counts, facts.num_documents)

    @property
    def needed(self) -> NeededColumns:
        """The texts, and whatever metadata the shards have."""
        return NeededColumns({self.columns.text: "data.columns.text"}, metadata_columns(self.section))

    @property
    def state(self) -> Mapping[str, JsonValue]:
        """The facts."""
        return self.facts.to_dict()

    def make(self, block: Block) -> MadeRows:
        """The chunks of a block's documents; their targets are the numbers of scored tokens, and twice 0 for what
        only an evaluation asks. Documents without a scored token have no rows.

        DataError for rows, and for entries of metadata, that cannot be used unless they are to be left out, and for an
        epoch without a row.
        """
        before = block.before
        made: list[MadeChunks] = []
        num_read = 0
        for rows in self.rows_of(block):
            made.append(self.chunks_of(rows, epoch=before.epoch, before=before.read + num_read))
            num_read += made[-1].num_documents
        trained = self.training_rows([one.chunks.store for one in made])
        num_short, num_unscored = sum(one.num_short for one in made), trained.num_unscored
        num_used = num_read - num_short - num_unscored
        skipped = tuple(row for _, piece in block.pieces for row in piece.bad)
        after = block.counted(
            rows=num_used,
            read=num_read,
            short=num_short,
            skipped=len(skipped),
            bad_entries=sum(one.bad.total for one in made),
            cut=ChunkCounts.sum([ChunkCounts(unscored=num_unscored), *(one.chunks.counts for one in made)]).cut,
        )
        num_rows = before.rows + num_used
        if block.is_last and not num_rows:
            raise self._nothing_left(skipped, num_short=num_short, num_unscored=num_unscored)
        notices = [*skipped_so_far(block, after, skipped), *self._left_out(block, after, made)]
        # An epoch is estimated, and a curriculum goes, by documents with those that have no row.
        notices += wrong_number(self.source, block, before.read + num_read)
        return MadeRows(self._in_order(block, trained.rows, made), after, tuple(notices))

    def rows_of(self, block: Block) -> Iterator[Rows]:
        """The rows of a block, a slice at a time. DataError for one that cannot be read, unless those are skipped."""
        for piece in block.pieces:
            yield from _slices(piece.rows(self._on_bad_row))

    def chunks_of(self, rows: Rows, *, epoch: int, before: int) -> MadeChunks:
        """What rows become in an epoch; `before`: how many documents the run has read before them."""
        read = read_documents(rows, self.columns, self.section)
        keep_DT = self._sampler.keep(read.documents, epoch=epoch, before=before)
        rendered = render(read.documents, self.section, keep_DT)
        return MadeChunks(self._encoder.encode(rendered, rows.place), read, keep_DT)

    def _left_out(self, block: Block, after: Cursor, made: list[MadeChunks]) -> Iterator[str]:
        """Notices about documents and entries of metadata that are left out."""
        if is_milestone(block.before.short, after.short):
            limit = self.section.min_tokens
            tokens = "without a token" if limit == 1 else f"of fewer than {limit} tokens"
            yield f"{count(after.short, 'document')} skipped so far: {tokens} of text"
        if is_milestone(block.before.bad_entries, after.bad_entries):
            first = next(found for one in made if (found := one.bad.first))
            entries = count(after.bad_entries, "entry of metadata", "entries of metadata")
            yield f"{entries} left out so far, such as {first.place}: {first.field}: {first.reason}"
        for name, words in ChunkCounts.from_flat(after.cut).words.items():
            if is_milestone(block.before.cut.get(name, 0), after.cut[name]):
                yield f"so far: {words}"

    def _in_order(self, block: Block, rows: TokenRows, made: Sequence[MadeChunks]) -> TokenRows:
        """The rows of a block in the order of training. What comes behind a change of the curriculum is not mixed
        with what comes before it: a cool-down ends with plain texts alone."""
        order_N = block.order(len(rows))
        if not self.section.sampling.curriculum or not len(rows):
            return rows.at(order_N)
        # A row begins with a token of a chunk, whether it is that chunk or cut from several documents.
        first = np.cumsum([0, *(one.num_documents for one in made)]).tolist()
        before = np.cumsum([0, *(len(one.chunks.store.ids) for one in made)]).tolist()
        chunks = [(one.document_of_chunk, one.chunks.store.offsets[:-1]) for one in made]
        document_C = np.concatenate([start + documents for start, (documents, _) in zip(first, chunks, strict=False)])
        begin_C = np.concatenate([start + begins for start, (_, begins) in zip(before, chunks, strict=False)])
        chunk_N = np.searchsorted(begin_C, rows.store.whole().offsets[rows.examples], side="right") - 1
        changes_N = self._sampler.changes(block.before.read + document_C[chunk_N])
        return rows.at(order_N[np.argsort(changes_N[order_N], kind="stable")])

    def training_rows(self, chunks: Sequence[TokenStore]) -> TrainingRows:
        """What is trained on of the chunks of some documents after the other. Rows of one length that have no scored
        token are left out: nothing is lost with them."""
        store = join_stores(chunks, names=COLUMNS)
        store = cut_rows(store, self._encoder.max_length) if self._fixed else store
        if self._metadata_loss:
            store = replace(store, columns=store.columns | {"mask": np.zeros_like(store.columns["mask"])})
        tokens_N = _scored_tokens(store)
        is_scored_E = np.bincount(store.example, tokens_N, minlength=store.num_examples) > 0
        kept = np.flatnonzero(is_scored_E[store.example])
        targets_N3 = np.zeros((len(store), 3), np.int64)
        targets_N3[:, 0] = tokens_N
        # Each chunk is an example of its own: those of a document need not be trained on together.
        store = replace(store, example=np.arange(len(store)))
        num_unscored = 0 if self._fixed else int((~is_scored_E).sum())
        return TrainingRows(TokenRows(store, kept, {LABEL: targets_N3}, None), num_unscored)

    def _nothing_left(self, skipped: tuple[SkippedRow, ...], *, num_short: int, num_unscored: int) -> DataError:
        if num_unscored:
            return DataError(
                f"no document of {self.source.name} has a token to learn: each has one token of text, and nothing"
                " before it that predicts it.",
                hint='Check data.columns.text, or set metadata.begin_token = "always".',
                key="metadata.begin_token",
                value=self.section.begin_token,
                place=self.source.name,
                reason="no token is scored",
            )
        if not num_short:
            return no_rows(self.source.name, skipped)
        limit = self.section.min_tokens
        return DataError(
            f"metadata.min_tokens = {limit} leaves no document of {self.source.name}.",
            hint="Lower it." if limit > 1 else "Check data.columns.text: all texts are empty.",
            key="metadata.min_tokens",
            value=limit,
        )


def _slices(rows: Rows) -> Iterator[Rows]:
    """The rows in slices of at most SLICE_ROWS rows and SLICE_BYTES bytes; a larger row by itself."""
    num = len(rows)
    if num > 1 and (num > SLICE_ROWS or rows.table.nbytes > SLICE_BYTES):
        half = num // 2
        for first, behind in ((0, half), (half, num)):
            places = rows.places.take(np.arange(first, behind))
            yield from _slices(replace(rows, table=rows.table.slice(first, behind - first), places=places))
    elif num:
        yield rows


def _scored_tokens(store: TokenStore) -> np.ndarray:
    """int64 [N] how many tokens of each row have mask 0, its first one left out: nothing predicts that."""
    if not len(store):
        return np.zeros(0, np.int64)
    scored_T = store.columns["mask"] == 0
    scored_T[store.offsets[:-1]] = False
    return np.add.reduceat(scored_T, store.offsets[:-1], dtype=np.int64)
