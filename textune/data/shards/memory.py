"""Rows in memory read as a shard of a stream, from any position; beside `reader.py`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from textune.data.reading import Piece, Rows
from textune.data.shards.reader import Position


class RowsReader:
    """Rows of a source that has been read whole, in any order."""

    def __init__(
        self, rows: Rows, position: Position, *, wanted: frozenset[str], order_N: np.ndarray | None = None
    ) -> None:
        """`order_N`: int64 [N], which row comes when; None for that of the source."""
        self._rows = rows
        self._table = rows.table.select([name for name in rows.table.column_names if name in wanted])
        self._order_N = order_N
        self.position = position

    def read(self, num_rows: int) -> tuple[Piece, int]:
        """The next rows, and how many."""
        first = self.position.offset
        behind = min(first + num_rows, len(self._rows))
        self.position = Position(behind, behind)
        if self._order_N is None:
            table, chosen = self._table.slice(first, behind - first), np.arange(first, behind)
        else:
            chosen = self._order_N[first:behind]
            table = self._table.take(pa.array(chosen))
        return Piece(table, self._rows.places.take(chosen)), behind - first

    def all_columns(self) -> Piece:
        """All rows with all their columns, for messages."""
        rows = self._rows
        return Piece(rows.table, rows.places, dropped=rows.dropped, unclear=rows.unclear, hint=rows.hint)

    def close(self) -> None:
        """Nothing is open."""
