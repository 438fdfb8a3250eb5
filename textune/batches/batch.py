"""What one optimizer step computes, as tensors: batch, micro-batches, their tokens; between `rows.py` and
`assembler.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from textune.batches.layout import (
    GROUP_COST_TOKENS,
    NO_PADDING,
    Group,
    Layout,
    Padding,
    cut_by_tokens,
    lay_out,
    num_laid_out,
)
from textune.batches.store import RowStore


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Rows sorted by length and laid out group after group, row after row, each row padded only to its group's length.

    Shapes: B rows, T = sum of rows x length over the groups. A padded batch is one group; a packed batch has several,
    with little or no padding inside.
    """

    columns: Mapping[str, torch.Tensor]
    """By token, int64 [T] each: `ids`, `types` where they are not all zero, and `mask` where the store has it."""
    positions_T: torch.Tensor
    """int64 [T] 0, 1, 2, ... within each row; padding continues the count."""
    lengths_B: torch.Tensor
    """int64 [B] real tokens of each row."""
    row_lengths: np.ndarray
    """int64 [B] the same on the host, on any device: reading it never waits for the device."""
    groups: tuple[Group, ...]
    """The layout of T."""
    rows: np.ndarray
    """int64 [B] the rows' numbers in their store."""

    @property
    def ids_T(self) -> torch.Tensor:
        """int64 [T] token ids."""
        return self.columns["ids"]

    @property
    def types_T(self) -> torch.Tensor | None:
        """int64 [T] token type ids; None where they are all zero or the backbone has none."""
        return self.columns.get("types")

    @property
    def longest(self) -> int:
        """Tokens of the longest row, with its padding."""
        return self.groups[-1].length

    @property
    def num_laid_out(self) -> int:
        """T: tokens that this batch computes, padding included."""
        return num_laid_out(self.groups)

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch with its tensors on `device`; see `to_device`."""
        return self._with_tensors(lambda tensor: to_device(tensor, device))

    def pinned(self) -> TokenBatch:
        """The same batch in pinned memory, which a GPU can read by itself."""
        return self._with_tensors(torch.Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> TokenBatch:
        return replace(
            self,
            columns={name: change(column) for name, column in self.columns.items()},
            positions_T=change(self.positions_T),
            lengths_B=change(self.lengths_B),
        )


@dataclass(frozen=True, eq=False)
class WindowedBatch:
    """The windows of B examples, in parts that are computed one after the other.

    Mostly there is one part. An example of more tokens than are computed at once is alone, in several parts.
    """

    parts: tuple[TokenBatch, ...]
    places_R: torch.Tensor
    """int64 [R] the windows, example after example, as positions among the rows of all parts."""
    counts_B: torch.Tensor
    """int64 [B] windows of each example."""

    @property
    def num_laid_out(self) -> int:
        """Tokens that are computed at once, padding included."""
        return max(part.num_laid_out for part in self.parts)

    @property
    def longest(self) -> int:
        """Tokens of the longest window, with its padding."""
        return max(part.longest for part in self.parts)

    def to(self, device: torch.device) -> WindowedBatch:
        """The same with its tensors on `device`; see `to_device`."""
        parts = tuple(part.to(device) for part in self.parts)
        return WindowedBatch(parts, to_device(self.places_R, device), to_device(self.counts_B, device))

    def pinned(self) -> WindowedBatch:
        """The same in pinned memory."""
        parts = tuple(part.pinned() for part in self.parts)
        return WindowedBatch(parts, self.places_R.pin_memory(), self.counts_B.pin_memory())


Tokens = TokenBatch | WindowedBatch
"""What a model computes at once: an example for each row, or examples with several windows."""


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Examples computed at once: their tokens, targets ([B] or [B, C] by head) and weights."""

    tokens: Tokens
    targets: Mapping[str, torch.Tensor]
    weights: torch.Tensor | None
    """float32 [B], or [B, H] with a column for each head; None if the rows have none."""
    counts: bool = True
    """False if this rank computes the rows only to take part in what all ranks do together: their share of the loss
    and of the gradient is then exactly zero, regardless of `weights`."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same with its tokens and targets on `device`; see `to_device`."""
        targets = {name: to_device(target, device) for name, target in self.targets.items()}
        return replace(self, tokens=self.tokens.to(device), targets=targets)

    def pinned(self) -> MicroBatch:
        """The same with everything that is copied to the device in pinned memory."""
        targets = {name: target.pin_memory() for name, target in self.targets.items()}
        return replace(self, tokens=self.tokens.pinned(), targets=targets)


@dataclass(frozen=True, eq=False)
class Batch:
    """Everything that one optimizer step sees, and the share of it that this rank computes."""

    step: int
    """Number of the optimizer step, from 0."""
    micro_batches: tuple[MicroBatch, ...]
    """What this rank computes: its share of the rows, at least one micro-batch."""
    num_tokens: int
    """Real tokens of the whole batch, over all ranks; without padding."""
    chosen: np.ndarray
    """int64 [B] the rows of the whole batch, of all ranks: positions in its TokenRows."""
    max_tokens: int
    """The token budget that its micro-batches were cut by."""
    all_targets: Mapping[str, torch.Tensor] | None = None
    """Targets ([B] or [B, C] by head) of `chosen`, by which a rank weighs its share of the loss; None if one rank has
    all rows."""
    all_weights: torch.Tensor | None = None
    """Weights that go with `all_targets`, float32 [B] or [B, H]; None if the rows have none."""
    notices: tuple[str, ...] = ()
    """What the user should know about how its rows were read."""

    @property
    def num_rows(self) -> int:
        """Rows of the optimizer step, of all ranks."""
        return len(self.chosen)

    @property
    def largest(self) -> int:
        """Tokens of this rank's largest micro-batch, padding included."""
        return max(part.tokens.num_laid_out for part in self.micro_batches)

    @property
    def longest(self) -> int:
        """Tokens of this rank's longest row, with its padding."""
        return max(part.tokens.longest for part in self.micro_batches)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`. A copy to a GPU is queued behind its other work, and the host does not wait for it."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    # Only a copy from pinned memory lets the host continue; what the loader has already pinned is not copied again.
    return tensor.pin_memory().to(device, non_blocking=True)


def collate(
    store: RowStore,
    rows: np.ndarray,
    *,
    layout: Layout,
    pad_id: int,
    max_tokens: int | None = None,
    group_cost: int = GROUP_COST_TOKENS,
    padding: Padding = NO_PADDING,
) -> TokenBatch:
    """Lay rows of a store out as one batch; `rows` must ascend in length, as `cut_by_tokens` leaves them.

    With the `max_tokens` of that cut, the tokens with padding stay within it, too. `group_cost` is that of `lay_out`;
    `padding` makes rows of the padded layout longer.
    """
    read, places = store.read(rows)
    starts, lengths = read.offsets[places], read.lengths_of(places)
    groups = lay_out(padding.widths(lengths), layout=layout, group_cost=group_cost, max_tokens=max_tokens)
    total = num_laid_out(groups)
    columns = {name: np.full(total, pad_id if name == "ids" else 0, dtype=np.int64) for name in read.columns}
    positions = np.empty(total, dtype=np.int64)
    at, row = 0, 0
    for group in groups:
        positions[at : at + group.rows * group.length] = np.tile(np.arange(group.length), group.rows)
        for _ in range(group.rows):
            source = slice(starts[row], starts[row] + lengths[row])
            for name, column in columns.items():
                column[at : at + lengths[row]] = read.columns[name][source]
            at += group.length
            row += 1
    return TokenBatch(
        columns={
            name: torch.from_numpy(column) for name, column in columns.items() if name != "types" or column.any()
        },
        positions_T=torch.from_numpy(positions),
        lengths_B=torch.from_numpy(lengths),
        row_lengths=lengths,
        groups=groups,
        rows=rows,
    )


def collate_windows(
    store: RowStore, examples: np.ndarray, *, pad_id: int, max_tokens: int, group_cost: int
) -> WindowedBatch:
    """All windows of these examples (int64 [B]), packed in parts of at most `max_tokens`; the rest is as in
    `collate`."""
    rows = store.rows_of(examples)
    cuts = cut_by_tokens(store.lengths_of(rows), max_tokens, layout="packed")
    order_R = np.concatenate(cuts)
    places_R = np.empty_like(order_R)
    places_R[order_R] = np.arange(len(order_R))
    parts = (
        collate(store, rows[cut], layout="packed", pad_id=pad_id, max_tokens=max_tokens, group_cost=group_cost)
        for cut in cuts
    )
    return WindowedBatch(tuple(parts), torch.from_numpy(places_R), torch.from_numpy(store.num_rows_of(examples)))
