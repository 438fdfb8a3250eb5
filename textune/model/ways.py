"""Whether compiled kernels are faster for a run, according to measurements; used by `accelerator.py`.

`ways.json` holds microseconds per token with and without kernels, measured by `python -m bench.ways` per level of
processors, precision and row length. It is a table rather than a measurement at the start, so that the same run
always makes the same choice and computes the same numbers.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from textune.model import processor

TABLE = Path(__file__).with_name("ways.json")
"""A list of measurements, one per kind of processor."""

Work = Literal["training", "prediction"]
Part = Literal["layers", "attention"]
"""Whole encoder layers, or only attention, for families without fused layers."""


class Comparison(NamedTuple):
    """Kernels compared with PyTorch's own operators for the lengths of a run."""

    speedup: float | None
    """How many times as fast the kernels are; None if this level and precision were never measured."""
    source: str
    """Where and when it was measured; empty if it was not."""

    @property
    def kernels_are_slower(self) -> bool:
        """Whether PyTorch's own operators are faster."""
        return self.speedup is not None and self.speedup < 1

    def __str__(self) -> str:
        if self.speedup is None:
            return "not measured on this kind of processor"
        return f"{self.speedup:.2g} times as fast as PyTorch's own on rows like these ({self.source})"


def compare_ways(level: str, dtype: torch.dtype, part: Part, work: Work, lengths: np.ndarray | None) -> Comparison:
    """Kernels of `level` compared with PyTorch's own operators for rows of these lengths, in products of `dtype`.

    `lengths` are the rows' lengths in tokens; None, if they are not known yet, assumes equally many tokens in rows of
    each measured length. Measurements on a processor of the same vendor are preferred to others of the level.
    """
    found = [entry for entry in _read_table(TABLE) if entry["level"] == level]
    found.sort(key=lambda entry: entry["vendor"] != processor.vendor())
    name = str(dtype).removeprefix("torch.")
    for entry in found:
        times = entry[part].get(name, {}).get(work)
        if times:
            return Comparison(_speedup(times, lengths), f"{entry['processor']}, {entry['date']}")
    return Comparison(None, "")


def _speedup(times: dict[str, list[float]], lengths: np.ndarray | None) -> float:
    measured = np.asarray(times["lengths"], dtype=float)
    rows = measured if lengths is None else np.maximum(np.asarray(lengths, dtype=float), 1.0)
    tokens = np.ones_like(rows) if lengths is None else rows
    # Costs are interpolated over the logarithm of the length; outside the range, the nearest measurement is used.
    ours, theirs = (
        float((tokens * np.interp(np.log(rows), np.log(measured), times[way])).sum()) for way in ("kernels", "pytorch")
    )
    return theirs / ours


@functools.cache
def _read_table(path: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return table
