"""What to do when memory runs out: free what can be freed, compute fewer tokens at once."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

from textune.batches import Tokens
from textune.errors import NO_MEMORY, ModelError


def free_cached(device: torch.device) -> None:
    """Give back what a failed computation has left; call it when its exception is gone, since that holds the
    tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def halved(largest: int, *, longest: int, hint: str) -> int:
    """The bound to try next where a batch ran out of memory whose largest micro-batch has `largest` tokens.

    Half of that, but at least the batch's `longest` row. ModelError (with `hint`) where that row was already alone.
    """
    if largest <= longest:
        raise ModelError(
            f"out of memory: a single row of {longest:,} tokens does not fit.", hint=hint, exit_code=NO_MEMORY
        )
    return max(largest // 2, longest)


@dataclass
class CallerBudget:
    """How many tokens one caller computes at once; halved, for that caller alone, where memory runs out.

    Callers in several threads have a budget each.
    """

    max_tokens: int
    on_notice: Callable[[str], None] = lambda _: None
    """Told when the budget is halved."""

    def halve(self, batch: Tokens, *, doing: str, hint: str) -> None:
        """Compute half of the tokens of `batch` at once from here on; ModelError (with `hint`) where it is one row."""
        self.max_tokens = halved(batch.num_laid_out, longest=batch.longest, hint=hint)
        self.on_notice(f"out of memory while {doing}: computing {self.max_tokens:,} tokens at once from here on")
