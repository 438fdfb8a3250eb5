"""Plan to tensors: a prefetching loader with state; after `batches.py`, before the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from textune.config.schema import TrainSection
from textune.data.ahead import ahead
from textune.data.batches import (
    GROUP_COST_TOKENS,
    Group,
    Layout,
    cut_by_tokens,
    epoch_order,
    lay_out,
    num_laid_out,
    num_steps_per_epoch,
    plan_epoch,
)
from textune.data.tokens import TokenStore


@dataclass(frozen=True)
class TokenBatch:
    """Rows sorted by length and laid out group after group, row after row, each row padded to its group's length only.

    Shapes: B rows, T = sum of rows x length over the groups. A padded batch is one group; a packed batch has several, with
    little or no padding inside.
    """

    ids_T: torch.Tensor
    """int64 [T] token ids."""
    types_T: torch.Tensor | None
    """int64 [T] token type ids; None where they are all zero or the backbone has none."""
    positions_T: torch.Tensor
    """int64 [T] 0, 1, 2, ... within each row; padding continues the count."""
    lengths_B: torch.Tensor
    """int64 [B] real tokens of each row."""
    row_lengths: np.ndarray
    """int64 [B] the same on the host, whatever device the tensors are on: reading it waits for nothing."""
    groups: tuple[Group, ...]
    """The layout of T."""
    rows: np.ndarray
    """int64 [B] the rows' numbers in their data set."""

    @property
    def num_laid_out(self) -> int:
        """T: tokens that this batch computes, padding included."""
        return num_laid_out(self.groups)

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch with its tensors on `device`; see `to_device`."""
        return self._with_tensors(lambda tensor: to_device(tensor, device))

    def pinned(self) -> TokenBatch:
        """The same batch in memory that a GPU can read by itself."""
        return self._with_tensors(torch.Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> TokenBatch:
        return replace(
            self,
            ids_T=change(self.ids_T),
            types_T=None if self.types_T is None else change(self.types_T),
            positions_T=change(self.positions_T),
            lengths_B=change(self.lengths_B),
        )


@dataclass(frozen=True)
class TrainingRows:
    """What supervised training reads: N chosen rows of a token store.

    `indices` int64 [N] into the store; `targets` [N] or [N, C] and `weights` float32 [N] (or None) go with them.
    """

    store: TokenStore
    indices: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class MicroBatch:
    """Rows computed at once: tokens, their targets ([B] or [B, C]) and weights (float32 [B], or None)."""

    tokens: TokenBatch
    targets: torch.Tensor
    weights: torch.Tensor | None

    def pinned(self) -> MicroBatch:
        """What is copied to the device as it is, in memory that a GPU can read by itself."""
        return replace(self, tokens=self.tokens.pinned(), targets=self.targets.pin_memory())


@dataclass(frozen=True)
class Batch:
    """Everything one optimizer step sees."""

    step: int
    """Number of the optimizer step, from 0."""
    micro_batches: tuple[MicroBatch, ...]
    num_tokens: int
    """Real tokens, padding left out."""
    chosen: np.ndarray
    """int64 [B] the batch's rows: positions in its TrainingRows."""
    max_tokens: int
    """The bound that its micro-batches were cut by."""
    notices: tuple[str, ...] = ()
    """What the user should know of how its rows were read."""

    @property
    def num_rows(self) -> int:
        """Rows of the optimizer step."""
        return len(self.chosen)

    @property
    def largest(self) -> int:
        """Tokens of its largest micro-batch, padding included."""
        return max(part.tokens.num_laid_out for part in self.micro_batches)

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(int(part.tokens.row_lengths[-1]) for part in self.micro_batches)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`. A copy to a GPU is queued behind its other work, and the host goes on."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    # Only from pinned memory does the host not wait; what the loader has pinned already stays as it is.
    return tensor.pin_memory().to(device, non_blocking=True)


def collate(
    store: TokenStore,
    indices: np.ndarray,
    *,
    layout: Layout,
    pad_id: int,
    max_tokens: int | None = None,
    group_cost: int = GROUP_COST_TOKENS,
) -> TokenBatch:
    """Lay rows of a store out as one batch; `indices` must ascend in length, as `cut_by_tokens` leaves them.

    With the `max_tokens` of that cut, padding stays within it too. `group_cost` is that of `lay_out`.
    """
    starts, lengths = store.offsets[indices], store.offsets[indices + 1] - store.offsets[indices]
    groups = lay_out(lengths, layout=layout, group_cost=group_cost, max_tokens=max_tokens)
    total = num_laid_out(groups)
    ids = np.full(total, pad_id, dtype=np.int64)
    types = None if store.types is None else np.zeros(total, dtype=np.int64)
    positions = np.empty(total, dtype=np.int64)
    at, row = 0, 0
    for group in groups:
        positions[at : at + group.rows * group.length] = np.tile(np.arange(group.length), group.rows)
        for _ in range(group.rows):
            source = slice(starts[row], starts[row] + lengths[row])
            ids[at : at + lengths[row]] = store.ids[source]
            if types is not None and store.types is not None:
                types[at : at + lengths[row]] = store.types[source]
            at += group.length
            row += 1
    return TokenBatch(
        ids_T=torch.from_numpy(ids),
        types_T=torch.from_numpy(types) if types is not None and types.any() else None,
        positions_T=torch.from_numpy(positions),
        lengths_B=torch.from_numpy(lengths),
        row_lengths=lengths,
        groups=groups,
        rows=indices,
    )


class Batches(Protocol):
    """What the training loop reads: batches in order from any step on, with a state that says where to go on."""

    max_tokens: int
    """The bound that micro-batches are cut by."""

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""

    def state_dict(self) -> dict[str, Any]:
        """Where to go on (batches handed out, not merely prefetched), and the bound; as JSON holds it."""

    def lower_bound(self, batch: Batch, max_tokens: int) -> Batch:
        """Cut this batch, and all that come after it, by a new `max_tokens`: the same rows and the same step."""


class Loader:
    """Batches of a run in order, from any step on, prepared ahead in a thread.

    Its whole state is the number of the next step, since the plan is a pure function of (number of rows, seed, epoch, batch
    size), and the bound by which batches are cut, which only memory decides.
    """

    def __init__(
        self,
        rows: TrainingRows,
        section: TrainSection,
        *,
        layout: Layout,
        pad_id: int,
        first_step: int = 0,
        max_tokens: int | None = None,
        group_cost: int = GROUP_COST_TOKENS,
        pin_memory: bool = False,
    ) -> None:
        """`max_tokens` stands for `section.max_tokens`; where both leave it open, a batch is computed at once.

        `pin_memory` prepares batches for copies to a GPU.
        """
        self._rows = rows
        self._section = section
        self._layout = layout
        self._pad_id = pad_id
        self._next_step = first_step
        self._group_cost = group_cost
        self._pin_memory = pin_memory
        bound = section.max_tokens if max_tokens is None else max_tokens
        self.max_tokens = sys.maxsize if bound == "auto" else bound
        self.steps_per_epoch = num_steps_per_epoch(len(rows), section.batch_size)

    def state_dict(self) -> dict[str, int]:
        """Where to go on (batches handed out, not merely prefetched), and the bound."""
        return {"next_step": self._next_step, "max_tokens": self.max_tokens}

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""
        batches = ahead(self._produce(), self._section.prefetch, name="textune-loader")
        try:
            for batch in batches:
                self._next_step = batch.step + 1
                # The bound may have been lowered after this batch was prepared.
                yield batch if batch.max_tokens == self.max_tokens else self.assemble(batch.step, batch.chosen)
        finally:
            batches.close()

    def lower_bound(self, batch: Batch, max_tokens: int) -> Batch:
        """Cut this batch, and all that come after it, by a new `max_tokens`: the same rows and the same step."""
        self.max_tokens = max_tokens
        return self.assemble(batch.step, batch.chosen)

    def _produce(self) -> Generator[Batch]:
        step = self._next_step
        while True:
            epoch = step // self.steps_per_epoch
            section = self._section
            order = epoch_order(len(self._rows), seed=section.seed, epoch=epoch, order=section.order)
            for chosen in plan_epoch(order, section.batch_size)[step % self.steps_per_epoch :]:
                yield self.assemble(step, chosen)
                step += 1

    def assemble(self, step: int, chosen: np.ndarray) -> Batch:
        """The batch of these rows, int64 [B], cut by the bound as it is now."""
        rows = self._rows
        indices = rows.indices[chosen]
        lengths = rows.store.offsets[indices + 1] - rows.store.offsets[indices]
        # Read once: the training loop may lower the bound while the loader's thread is in here.
        layout, max_tokens = self._layout, self.max_tokens
        micro_batches = []
        for positions in cut_by_tokens(lengths, max_tokens, layout=layout):
            picked = chosen[positions]
            part = MicroBatch(
                tokens=collate(
                    rows.store,
                    indices[positions],
                    layout=layout,
                    pad_id=self._pad_id,
                    max_tokens=max_tokens,
                    group_cost=self._group_cost,
                ),
                targets=torch.from_numpy(rows.targets[picked]),
                weights=None if rows.weights is None else torch.from_numpy(rows.weights[picked]),
            )
            micro_batches.append(part.pinned() if self._pin_memory else part)
        return Batch(step, tuple(micro_batches), int(lengths.sum()), chosen=chosen, max_tokens=max_tokens)
