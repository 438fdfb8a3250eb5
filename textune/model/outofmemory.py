"""What to do when memory runs out: tell that it did, free what can be freed, compute fewer tokens at once."""

from __future__ import annotations

import gc

import torch

from textune.errors import ModelError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch's own error, Python's, or one of the sentences that torch's C++ raises."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "status_alloc_failed")
    return isinstance(error, RuntimeError) and any(part in str(error).lower() for part in words)


def free_cached(device: torch.device) -> None:
    """Give back what a failed computation has left; call it when its exception is gone, since that holds the tensors."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def halved(largest: int, *, longest: int, hint: str) -> int:
    """The bound to try next where a batch ran out of memory whose largest micro-batch has `largest` tokens.

    Half of that, but at least the batch's `longest` row. ModelError (with `hint`) where that row was already alone.
    """
    if largest <= longest:
        raise ModelError(f"memory does not suffice for one row of {longest:,} tokens.", hint=hint)
    return max(largest // 2, longest)
