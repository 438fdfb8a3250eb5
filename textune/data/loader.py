"""Plan to tensors: a prefetching loader with state; after `batches.py`, before the model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from textune.config.schema import TrainSection
from textune.data.batches import (
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
    groups: tuple[Group, ...]
    """The layout of T."""
    rows: np.ndarray
    """int64 [B] the rows' numbers in their data set."""

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            ids_T=self.ids_T.to(device),
            types_T=None if self.types_T is None else self.types_T.to(device),
            positions_T=self.positions_T.to(device),
            lengths_B=self.lengths_B.to(device),
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


@dataclass(frozen=True)
class Batch:
    """Everything one optimizer step sees."""

    step: int
    """Number of the optimizer step, from 0."""
    micro_batches: tuple[MicroBatch, ...]
    num_rows: int
    num_tokens: int
    """Real tokens, padding left out."""


def collate(
    store: TokenStore, indices: np.ndarray, *, layout: Layout, pad_id: int, max_tokens: int | None = None
) -> TokenBatch:
    """Lay rows of a store out as one batch; `indices` must ascend in length, as `cut_by_tokens` leaves them.

    With the `max_tokens` of that cut, padding stays within it too.
    """
    starts, lengths = store.offsets[indices], store.offsets[indices + 1] - store.offsets[indices]
    groups = lay_out(lengths, layout=layout, max_tokens=max_tokens)
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
        lengths_B=torch.from_numpy(np.ascontiguousarray(lengths)),
        groups=groups,
        rows=indices,
    )


class Loader:
    """Batches of a run in order, from any step on, prepared ahead in a thread.

    Its whole state is the number of the next step: the plan is a pure function of (number of rows, seed, epoch, batch size).
    """

    def __init__(self, rows: TrainingRows, section: TrainSection, *, layout: Layout, pad_id: int, first_step: int = 0) -> None:
        self._rows = rows
        self._section = section
        self._layout = layout
        self._pad_id = pad_id
        self._next_step = first_step
        self.steps_per_epoch = num_steps_per_epoch(len(rows), section.batch_size)

    def state_dict(self) -> dict[str, int]:
        """Where to go on: batches handed out, not merely prefetched."""
        return {"next_step": self._next_step}

    def __iter__(self) -> Generator[Batch]:
        """Endless; the training loop decides when to stop."""
        batches = self._produce() if self._section.prefetch == 0 else _prefetch(self._produce(), self._section.prefetch)
        try:
            for batch in batches:
                self._next_step = batch.step + 1
                yield batch
        finally:
            batches.close()

    def _produce(self) -> Generator[Batch]:
        step = self._next_step
        while True:
            epoch = step // self.steps_per_epoch
            section = self._section
            order = epoch_order(len(self._rows), seed=section.seed, epoch=epoch, order=section.order)
            for chosen in plan_epoch(order, section.batch_size)[step % self.steps_per_epoch :]:
                yield self._assemble(step, chosen)
                step += 1

    def _assemble(self, step: int, chosen: np.ndarray) -> Batch:
        rows = self._rows
        indices = rows.indices[chosen]
        lengths = rows.store.offsets[indices + 1] - rows.store.offsets[indices]
        layout, max_tokens = self._layout, self._section.max_tokens
        micro_batches = []
        for positions in cut_by_tokens(lengths, max_tokens, layout=layout):
            picked = chosen[positions]
            part = indices[positions]
            micro_batches.append(
                MicroBatch(
                    tokens=collate(rows.store, part, layout=layout, pad_id=self._pad_id, max_tokens=max_tokens),
                    targets=torch.from_numpy(rows.targets[picked]),
                    weights=None if rows.weights is None else torch.from_numpy(rows.weights[picked]),
                )
            )
        return Batch(step, tuple(micro_batches), num_rows=len(chosen), num_tokens=int(lengths.sum()))


def _prefetch(batches: Iterator[Batch], ahead: int) -> Generator[Batch]:
    """Run `batches` in a thread, at most `ahead` in front; its errors surface here, and closing this ends it."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(item: Batch | BaseException) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    thread = threading.Thread(target=work, name="textune-loader", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
