"""The rows of tokens that a block of a stream becomes: what makes them is a part of `StreamLoader`; before
`streamed.py`.

Labelled texts are made into rows here; the room `metadata` has its own maker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from textune.batches.encode import RowTexts, make_row_store
from textune.batches.rows import TokenRows
from textune.batches.tokens import TextEncoder
from textune.data import Block, Cursor, NeededColumns, RowStream, ShardStream, SkippedRow
from textune.errors import DataError
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True, eq=False)
class MadeRows:
    """What one block became."""

    rows: TokenRows
    """In the order in which they are trained on."""
    after: Cursor
    """Where the next block begins, with the rows of this one counted."""
    notices: tuple[str, ...] = ()
    """What its user should know, as sentences."""


class RowMaker(Protocol):
    """Makes rows of tokens of blocks. What it makes of a row of a shard depends on that row and the epoch alone."""

    @property
    def source(self) -> ShardStream:
        """Where the blocks come from."""

    @property
    def needed(self) -> NeededColumns:
        """The columns that it reads."""

    @property
    def state(self) -> Mapping[str, JsonValue]:
        """What it found out about the data before the first step, for whoever makes it again to continue a run."""

    def make(self, block: Block) -> MadeRows:
        """The rows of a block, in the order that the block says; called from a thread.

        DataError for rows that cannot be used, and for an epoch without any.
        """


class TextMaker:
    """Labelled texts, one row of tokens each, or as many as it has windows."""

    def __init__(self, stream: RowStream, encoder: TextEncoder, *, seed: int = 0) -> None:
        """`seed`: of the draws of what stands before a text in an epoch."""
        self._stream = stream
        self._seed = seed
        self._encoder = encoder

    @property
    def source(self) -> ShardStream:
        """The shards of the texts."""
        return self._stream.source

    @property
    def needed(self) -> NeededColumns:
        """The columns of texts, labels and weights."""
        return self._stream.needed

    @property
    def state(self) -> Mapping[str, JsonValue]:
        """Nothing."""
        return {}

    def make(self, block: Block) -> MadeRows:
        """The texts of a block but those that `tokens.drop_longer` leaves out."""
        labelled = self._stream.labelled(block)
        examples = labelled.examples
        store = make_row_store(RowTexts.of(examples), self._encoder)
        limit = self._encoder.drop_longer
        kept = np.arange(len(examples)) if limit is None else store.shorter_examples(limit)
        num_longer = len(examples) - len(kept)
        num_rows = block.before.rows + len(kept)
        if block.is_last and not num_rows:
            raise DataError(f"tokens.drop_longer = {limit} leaves no row of {self._stream.name}.", hint="Raise it.")
        after = block.counted(rows=len(kept), skipped=len(examples.skipped), longer=num_longer)
        of_epoch = store.in_epoch(self._seed, block.before.epoch).whole()
        rows = TokenRows(of_epoch, kept, labelled.targets, examples.weight)
        notices = [*skipped_so_far(block, after, examples.skipped)]
        if is_milestone(block.before.longer, after.longer):
            notices.append(f"{count(after.longer, 'row')} of the stream skipped so far: longer than {limit} tokens")
        return MadeRows(rows, after, (*notices, *wrong_number(self.source, block, num_rows)))


# --- what every maker says ------------------------------------------------------------------------------------------


def is_milestone(before: int, after: int) -> bool:
    """Whether a count has reached the first, tenth, hundredth, ... in between."""
    return len(str(after)) > len(str(before)) or (after > 0 and before == 0)


def skipped_so_far(block: Block, after: Cursor, skipped: tuple[SkippedRow, ...]) -> Iterator[str]:
    """A notice about bad rows left out; `skipped`: those of this block."""
    if is_milestone(block.before.skipped, after.skipped):
        first = skipped[0]
        yield f"{count(after.skipped, 'row')} of the stream skipped so far, such as {first.place}: {first.reason}"


def wrong_number(source: ShardStream, block: Block, num_rows: int) -> Iterator[str]:
    """A notice at the end of the first epoch, where it had another number of usable rows than the configuration
    says; where rows have been read whole, it is nobody's number."""
    declared = None if any(shard.rows is not None for shard in source.shards) else source.section.num_rows
    if block.is_last and block.before.epoch == 0 and declared is not None and declared != num_rows:
        yield (
            f"data.train.num_rows = {declared:,}, but the stream has {count(num_rows, 'usable row')}:"
            " epochs are counted by the number in the configuration"
        )
