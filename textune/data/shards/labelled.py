"""The raw rows of a stream to labelled examples: columns, labels and weights; after `blocks.py`.

blocks of raw rows -> RowStream -> blocks of labelled examples -> batches/maker.py
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from textune.config import Columns, Labels, MetadataPrefix, OnBadRow, StreamSource
from textune.data.columns import Examples, label_columns, select_columns, text_columns
from textune.data.labels import LabelMaps, encode_by_head, tasks_in
from textune.data.reading import Piece, Places, Rows, SkippedRow, refuse
from textune.data.shards.blocks import Block, BlockReader, Cursor, NeededColumns, ShardStream, no_rows, open_shards

_SAMPLE_SEED = 0
"""Rows of the block that facts and estimates are taken from before a run."""


@dataclass(frozen=True, eq=False)
class LabelledBlock:
    """Examples in the order in which they are trained on; `targets` [N] or [N, C] by head go with
    them."""

    examples: Examples
    targets: dict[str, np.ndarray]


@dataclass(frozen=True)
class RowStream:
    """The training rows of a `stream` source: its shards, and how their rows become labelled examples."""

    source: ShardStream
    columns: Columns
    labels: Labels
    on_bad_row: OnBadRow
    prefix: MetadataPrefix | None = None
    """Columns that are written before each text."""
    label_maps: LabelMaps = field(default_factory=dict)
    """By head; those of a single head are known once the first rows have been read."""

    @property
    def name(self) -> str:
        """For messages."""
        return self.source.name

    @property
    def fingerprint(self) -> str:
        """As of `ShardStream`."""
        return self.source.fingerprint

    @property
    def needed(self) -> NeededColumns:
        """The columns of texts, the fields before them, labels and weights."""
        columns = self.columns
        texts = text_columns(columns.model_copy(update={"text_pair": None}))
        keys = dict.fromkeys(texts, "data.columns.text" if columns.template is None else "data.columns.template")
        keys |= dict.fromkeys(label_columns(columns), f"data.columns.{'labels' if columns.labels else 'label'}")
        others = {columns.text_pair: "data.columns.text_pair", columns.weight: "data.columns.weight"}
        keys |= dict.fromkeys(() if self.prefix is None else self.prefix.columns, "data.metadata.columns")
        return NeededColumns(keys | {name: key for name, key in others.items() if name is not None})

    def first_examples(self) -> Examples:
        """The first usable rows, with labels as written; DataError where no shard has any, or a column is missing."""
        skipped: list[SkippedRow] = []
        cursor = Cursor()
        with closing(self._sample_reader()) as reader:
            while cursor.epoch == 0:
                block = reader.read(cursor)
                for _, piece in block.pieces:
                    examples = self.select(piece)
                    skipped += examples.skipped
                    if len(examples):
                        return examples
                cursor = block.after
        raise no_rows(self.name, skipped)

    def sample(self) -> LabelledBlock:
        """The first block, roughly as a run will see it."""
        with closing(self._sample_reader()) as reader:
            return self.labelled(reader.read(Cursor()))

    def _sample_reader(self) -> BlockReader:
        return BlockReader(self.source, self.needed, seed=_SAMPLE_SEED, shuffles=True)

    def labelled(self, block: Block) -> LabelledBlock:
        """The examples of a block; DataError for a bad row, unless those are skipped, and for an epoch without a
        row."""
        assert self.label_maps, "labels are settled before blocks are read"
        no_targets = {name: label_map.no_targets() for name, label_map in self.label_maps.items()}
        selected = [self.select(piece) for _, piece in block.pieces]
        encoded = [
            encode_by_head(examples, self.label_maps, self.labels, on_bad_row=self.on_bad_row)
            if len(examples)
            else (examples, no_targets)
            for examples in selected
        ]
        examples = _joined([examples for examples, _ in encoded], self)
        if block.is_last and not block.before.rows + len(examples):
            raise no_rows(self.name, examples.skipped)
        targets = {
            name: np.concatenate([nothing, *(of_piece[name] for _, of_piece in encoded)])
            for name, nothing in no_targets.items()
        }
        order_N = block.order(len(examples))
        return LabelledBlock(examples.take(order_N), {name: of_head[order_N] for name, of_head in targets.items()})

    def select(self, piece: Piece) -> Examples:
        """Texts, weights and labels of a piece of one shard; DataError for a bad row, unless those are skipped."""
        if piece.bad and self.on_bad_row == "error":
            raise refuse(piece.bad, piece.places.origins[0][0])
        rows = Rows(
            piece.table,
            piece.places.origins[0][0],
            self.fingerprint,
            piece.bad,
            piece.places,
            piece.class_names,
            partial=True,
        )
        tasks = tasks_in(self.label_maps)
        examples = select_columns(
            rows, self.columns, with_labels=True, tasks=tasks, prefix=self.prefix, on_bad_row=self.on_bad_row
        )
        if tasks and examples.weight is not None and examples.weight.ndim == 1:  # other pieces may have lists
            return replace(examples, weight=np.repeat(examples.weight[:, None], len(tasks), axis=1))
        return examples


def open_stream(
    section: StreamSource,
    columns: Columns,
    labels: Labels,
    *,
    on_bad_row: OnBadRow,
    prefix: MetadataPrefix | None = None,
) -> RowStream:
    """Find the shards; DataError as `open_shards`."""
    return RowStream(open_shards(section), columns, labels, on_bad_row, prefix)


def _joined(pieces: Sequence[Examples], stream: RowStream) -> Examples:
    """Examples of several shards as those of one source; labels are not kept."""
    text = pa.chunked_array([chunk for one in pieces for chunk in one.text.chunks], pa.large_string())
    pair: pa.ChunkedArray | None = None
    if stream.columns.text_pair is not None:
        pair = pa.chunked_array([chunk for one in pieces for chunk in one.text_pair.chunks], pa.large_string())  # type: ignore[union-attr]
    weight: np.ndarray | None = None
    if stream.columns.weight is not None:
        weights = [one.weight for one in pieces if one.weight is not None]
        weight = np.concatenate(weights) if weights else np.zeros(0, np.float32)
    fields = tuple(
        pa.chunked_array([chunk for one in pieces for chunk in one.fields[column].chunks], pa.large_string())
        for column in range(0 if stream.prefix is None else len(stream.prefix.columns))
    )
    places = Places.concat([one.rows.places.take(one.indices) for one in pieces])
    skipped = tuple(row for one in pieces for row in one.skipped)
    rows = Rows(pa.table({"text": text}), stream.name, stream.fingerprint, skipped, places, partial=True)
    return Examples(
        rows=rows,
        text=text,
        text_pair=pair,
        label=None,
        weight=weight,
        indices=np.arange(len(text), dtype=np.int64),
        skipped=skipped,
        label_names=stream.columns.labels,
        label_column=", ".join(label_columns(stream.columns)),
        fields=fields,
    )
