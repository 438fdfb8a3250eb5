"""Rows of an optimizer step, of what other systems make them of."""

from __future__ import annotations

from textune.adapters.foreign import BatchLine
from textune.wording import count


def batch_line(
    per_device: int,
    accumulation: int,
    processes: int,
    *,
    name: str = "per_device_train_batch_size",
    accumulation_name: str = "gradient_accumulation_steps",
) -> BatchLine:
    """`train.batch_size`: rows of a device x accumulation x processes, said with all four numbers."""
    size = per_device * accumulation * processes
    made = f"{name} {per_device} x {accumulation_name} {accumulation} x {count(processes, 'process', 'processes')}"
    return BatchLine("train.batch_size", size, f"{made} = {size} rows", accumulation, processes)
