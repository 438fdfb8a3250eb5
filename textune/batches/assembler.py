"""Chosen rows to the batch that one rank computes: shared, cut by the token budget, laid out; before `loader.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from textune.batches.batch import Batch, MicroBatch, Tokens, collate, collate_windows
from textune.batches.layout import GROUP_COST_TOKENS, NO_PADDING, Layout, Padding, cut_by_tokens, share_rows
from textune.batches.rows import TokenRows
from textune.batches.store import RowStore
from textune.errors import ConfigError


@dataclass(frozen=True)
class Assembler:
    """Makes the batches of one model on one rank.

    Every rank is given the whole optimizer batch and computes its share of it (`share_rows`). A rank without a row in
    a step gets one micro-batch of weight 0, since it must take part in the exchange of gradients.
    """

    layout: Layout
    pad_id: int
    group_cost: int = GROUP_COST_TOKENS
    """As `lay_out` takes it."""
    padding: Padding = NO_PADDING
    """How long the padded layout makes rows."""
    windows: bool = False
    """Whether an example may have several rows, whose vectors the model pools."""
    pin_memory: bool = False
    """Whether to pin memory for copies to a GPU."""
    rank: int = 0
    world: int = 1
    """Whose share of each batch to compute: that of `rank` of `world`."""
    lockstep: bool = False
    """Whether all ranks compute the same number of micro-batches per step, since every forward pass needs all of them
    (FSDP, ZeRO-3)."""

    def batch(self, rows: TokenRows, chosen: np.ndarray, *, step: int, max_tokens: int) -> Batch:
        """The batch of the rows at these positions (int64 [B]), cut by `max_tokens`."""
        whole = rows.at(chosen)
        lengths = whole.lengths
        if self.lockstep and self.windows:
            require_uncut(int(lengths.max()), max_tokens, key="train.max_tokens")
        own, num_parts = self._share(lengths, max_tokens)
        micro_batches = [self._micro_batch(whole.at(positions), max_tokens) for positions in own]
        if len(own) < num_parts:
            shortest = self._micro_batch(whole.at(np.array([lengths.argmin()])), max_tokens, counts=False)
            micro_batches += [shortest] * (num_parts - len(own))
        alone = self.world == 1
        return Batch(
            step,
            tuple(micro_batches),
            int(lengths.sum()),
            chosen=chosen,
            max_tokens=max_tokens,
            all_targets=None if alone else _targets(whole),
            all_weights=None if alone else _weights(whole),
        )

    def _share(self, lengths: np.ndarray, max_tokens: int) -> tuple[list[np.ndarray], int]:
        """Positions of each of this rank's micro-batches, and how many it computes: in lockstep, as many as any
        rank."""
        cuts = {}
        for rank, share in enumerate(share_rows(lengths, self.world)):
            if rank == self.rank or self.lockstep:
                parts = cut_by_tokens(self.padding.widths(lengths[share]), max_tokens, layout=self.layout)
                cuts[rank] = [share[positions] for positions in parts]
        return cuts[self.rank], max(1, *map(len, cuts.values()))

    def _micro_batch(self, rows: TokenRows, max_tokens: int, *, counts: bool = True) -> MicroBatch:
        """The micro-batch of these rows, sorted by length."""
        tokens = self.tokens(rows.store, rows.examples, max_tokens)
        micro_batch = MicroBatch(tokens, _targets(rows), _weights(rows), counts)
        return micro_batch.pinned() if self.pin_memory else micro_batch

    def tokens(self, store: RowStore, examples: np.ndarray, max_tokens: int) -> Tokens:
        """What the model computes of these examples (int64 [B]), which ascend in length."""
        if self.windows:
            return collate_windows(
                store, examples, pad_id=self.pad_id, max_tokens=max_tokens, group_cost=self.group_cost
            )
        return collate(
            store,
            examples,
            layout=self.layout,
            pad_id=self.pad_id,
            max_tokens=max_tokens,
            group_cost=self.group_cost,
            padding=self.padding,
        )


def require_uncut(num_tokens: int, max_tokens: int, *, key: str) -> None:
    """ConfigError where an example has more tokens than are computed at once, and ranks in lockstep could not agree on
    the number of its parts; `key` sets the bound."""
    if num_tokens > max_tokens:
        raise ConfigError(
            f"a text has {num_tokens:,} tokens in its windows, more than the {max_tokens:,} computed at once: ranks"
            " that share one model's weights or gradients compute every text as a whole.",
            hint=f'Set {key} = {num_tokens} or more, set tokens.max_windows, or use train.distributed.kind = "ddp".',
            key=key,
            value=max_tokens,
            reason=f"a text has {num_tokens} tokens",
        )


def _targets(rows: TokenRows) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(targets) for name, targets in rows.targets.items()}


def _weights(rows: TokenRows) -> torch.Tensor | None:
    weights = rows.weights
    return None if weights is None else torch.from_numpy(weights)
