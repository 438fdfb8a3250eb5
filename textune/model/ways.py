"""Whether compiled kernels are the faster way for a run, from measurements; asked by `accelerator.py`.

`ways.json` holds microseconds a token of both ways, measured by `python -m bench.ways` for a level of processors, a precision
and rows of several lengths. A table, not a measurement at the start: the same run takes the same way every time and computes
the same numbers.
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
"""A list of measurements, one for each kind of processor."""

Work = Literal["training", "prediction"]
Part = Literal["layers", "attention"]
"""Whole encoder layers as the kernels have them, or attention alone: what a family has no fused layers for."""


class Comparison(NamedTuple):
    """Kernels beside PyTorch's own operators for the lengths of a run."""

    speedup: float | None
    """How many times as fast; None where this level and precision were never measured."""
    source: str
    """Where and when, in words; empty where it was not measured."""

    @property
    def kernels_are_slower(self) -> bool:
        """Whether PyTorch's own operators are the faster way."""
        return self.speedup is not None and self.speedup < 1

    def __str__(self) -> str:
        if self.speedup is None:
            return "not measured on this kind of processor"
        return f"{self.speedup:.2g} times as fast as PyTorch's own on rows like these ({self.source})"


def compare_ways(level: str, dtype: torch.dtype, part: Part, work: Work, lengths: np.ndarray | None) -> Comparison:
    """Kernels of `level` beside PyTorch's own for rows of these lengths, in products of `dtype`.

    `lengths` are those of the rows in tokens; None, where they are not known yet, stands for as many tokens in rows of each
    measured length. A processor of the same maker counts before others of the level.
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
    # Costs bend with the logarithm of the length; beyond the ends the nearest measurement stands.
    ours, theirs = (
        float((tokens * np.interp(np.log(rows), np.log(measured), times[way])).sum()) for way in ("kernels", "pytorch")
    )
    return theirs / ours


@functools.cache
def _read_table(path: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return table
