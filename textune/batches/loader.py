"""Plan to tensors: a prefetching loader with state; after `layout.py`, before the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from textune.ahead import ahead
from textune.batches.layout import (
    GROUP_COST_TOKENS,
    Group,
    Layout,
    cut_by_tokens,
    lay_out,
    num_laid_out,
    share_rows,
)
from textune.batches.plan import Plan
from textune.batches.tokens import TokenStore
from textune.config import TrainSection


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
    Weights count in the loss or, with `train.order = "weighted"`, in the draw.
    """

    store: TokenStore
    indices: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of each row."""
        return np.asarray(self.store.offsets[self.indices + 1] - self.store.offsets[self.indices])


@dataclass(frozen=True)
class MicroBatch:
    """Rows computed at once: tokens, their targets ([B] or [B, C]) and weights (float32 [B], or None)."""

    tokens: TokenBatch
    targets: torch.Tensor
    weights: torch.Tensor | None
    counts: bool = True
    """False where the rows are computed only so that this rank takes part in what all ranks do together: their share of the
    loss and of the gradient is exactly zero, whatever `weights` says."""

    def pinned(self) -> MicroBatch:
        """What is copied to the device as it is, in memory that a GPU can read by itself."""
        return replace(self, tokens=self.tokens.pinned(), targets=self.targets.pin_memory())


@dataclass(frozen=True)
class Batch:
    """Everything one optimizer step sees, and the part of it that this rank computes."""

    step: int
    """Number of the optimizer step, from 0."""
    micro_batches: tuple[MicroBatch, ...]
    """What this rank computes: its share of the rows, at least one micro-batch."""
    num_tokens: int
    """Real tokens of the whole batch, of all ranks; padding left out."""
    chosen: np.ndarray
    """int64 [B] the rows of the whole batch, of all ranks: positions in its TrainingRows."""
    max_tokens: int
    """The bound that its micro-batches were cut by."""
    all_targets: torch.Tensor | None = None
    """Targets ([B] or [B, C]) of `chosen`, by which a rank weighs its share of the loss; None where one rank has all rows."""
    all_weights: torch.Tensor | None = None
    """Weights that go with `all_targets`, float32 [B]; None where the rows have none."""
    notices: tuple[str, ...] = ()
    """What the user should know of how its rows were read."""

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
        """Tokens of this rank's longest row."""
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

    Its whole state is the number of the next step, since the plan is a pure function of (lengths, weights, seed, epoch, batch
    size), and the bound by which batches are cut, which only memory decides. Neither depends on the number of ranks: a state
    written with four goes on with two.

    Every rank plans the whole optimizer batch and computes its share of it (`share_rows`). A rank without a row in a step gets
    one micro-batch that does not count, since it must take part in the exchange of gradients.
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
        rank: int = 0,
        world: int = 1,
        lockstep: bool = False,
    ) -> None:
        """`max_tokens` stands for `section.max_tokens`; where both leave it open, a batch is computed at once.

        To go on from a `state_dict()`, give its `next_step` as `first_step` and its `max_tokens`. `pin_memory` prepares batches
        for copies to a GPU. `rank` of `world` says whose share of each batch to prepare; `lockstep` gives all ranks the
        same number of micro-batches in a step, for models whose every forward pass is a joint effort (FSDP, ZeRO-3).
        """
        self._rows = rows
        self._section = section
        # What decides how often a row is drawn must not count in the loss again.
        self._weights = None if section.order == "weighted" else rows.weights
        self._layout = layout
        self._pad_id = pad_id
        self._next_step = first_step
        self._group_cost = group_cost
        self._pin_memory = pin_memory
        self._rank, self._world, self._lockstep = rank, world, lockstep
        bound = section.max_tokens if max_tokens is None else max_tokens
        self.max_tokens = sys.maxsize if bound == "auto" else bound
        self._plan = Plan.of(section, len(rows))

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
        """Cut this batch, and all that come after it, by a new `max_tokens`: the same rows and the same step.

        With `lockstep`, the ranks' numbers of micro-batches follow from the bound: the caller sees to it that all ranks set the
        same one at the same step. Gradients exchanged at the end of a step make that necessary without `lockstep` too:
        all ranks must do a step again or none.
        """
        self.max_tokens = max_tokens
        return self.assemble(batch.step, batch.chosen)

    def _produce(self) -> Generator[Batch]:
        step = self._next_step
        while True:
            epoch, done = self._plan.place_of(step)
            for chosen in self._plan.batches(epoch, self._rows.lengths, self._rows.weights)[done:]:
                yield self.assemble(step, chosen)
                step += 1

    def assemble(self, step: int, chosen: np.ndarray) -> Batch:
        """The batch of these rows (int64 [B], positions in the TrainingRows), cut by the bound as it is now."""
        rows, weights = self._rows, self._weights
        indices = rows.indices[chosen]
        lengths = rows.store.offsets[indices + 1] - rows.store.offsets[indices]
        # Read once: the training loop may lower the bound while the loader's thread is in here.
        max_tokens = self.max_tokens
        own, num_parts = self._share(lengths, max_tokens)
        micro_batches = [self._micro_batch(chosen[positions], max_tokens) for positions in own]
        if len(own) < num_parts:
            shortest = self._micro_batch(chosen[[lengths.argmin()]], max_tokens, counts=False)
            micro_batches += [shortest] * (num_parts - len(own))
        return Batch(
            step,
            tuple(micro_batches),
            int(lengths.sum()),
            chosen=chosen,
            max_tokens=max_tokens,
            all_targets=None if self._world == 1 else torch.from_numpy(rows.targets[chosen]),
            all_weights=None if self._world == 1 or weights is None else torch.from_numpy(weights[chosen]),
        )

    def _share(self, lengths: np.ndarray, max_tokens: int) -> tuple[list[np.ndarray], int]:
        """Positions of each of this rank's micro-batches, and how many it computes: in lockstep, as many as any rank."""
        cuts = {}
        for rank, share in enumerate(share_rows(lengths, self._world)):
            if rank == self._rank or self._lockstep:
                parts = cut_by_tokens(lengths[share], max_tokens, layout=self._layout)
                cuts[rank] = [share[positions] for positions in parts]
        return cuts[self._rank], max(1, *map(len, cuts.values()))

    def _micro_batch(self, picked: np.ndarray, max_tokens: int, *, counts: bool = True) -> MicroBatch:
        """The rows `picked` (positions in the TrainingRows, ascending in length), computed at once."""
        rows = self._rows
        part = MicroBatch(
            tokens=collate(
                rows.store,
                rows.indices[picked],
                layout=self._layout,
                pad_id=self._pad_id,
                max_tokens=max_tokens,
                group_cost=self._group_cost,
            ),
            targets=torch.from_numpy(rows.targets[picked]),
            weights=None if self._weights is None else torch.from_numpy(self._weights[picked]),
            counts=counts,
        )
        return part.pinned() if self._pin_memory else part
