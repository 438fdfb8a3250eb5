"""How training went, read back from `metrics.jsonl` and thinned to what a page draws."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from textune.evaluation import History, Series

MAX_POINTS = 200
"""Of a curve. Losses are means over as many logged steps as share a point."""


def read_history(path: Path) -> History | None:
    """The curves of a run; None where it has logged nothing. A line that was cut off by a crash is passed over.

    Runs of version 0.1.0 evaluated one set, and did not name it.
    """
    steps, losses, rates = array("q"), array("d"), array("d")
    main = ""
    evaluated: dict[str, dict[str, list[tuple[int, float]]]] = {}  # by metric and set
    for line in _lines(path):
        if line.get("kind") == "step":
            steps.append(line["step"])
            losses.append(_number(line["loss"]))
            rates.append(_number(line["lr"]))
        elif line.get("kind") == "evaluation":
            main = line.get("main", main)
            for metric, value in line["metrics"].items():
                evaluated.setdefault(metric, {}).setdefault(line.get("set", "validation"), []).append(
                    (line["step"], _number(value))
                )
    if not steps and not evaluated:
        return None
    ordered = sorted(evaluated.items(), key=lambda item: item[0] != main)
    return History(
        loss=_thinned("training loss", steps, losses),
        rates=_thinned("learning rate", steps, rates),
        evaluations={
            metric: tuple(_thinned(name, *zip(*points, strict=True)) for name, points in by_set.items())
            for metric, by_set in ordered
        },
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _thinned(name: str, steps: Any, values: Any) -> Series:
    """At most `MAX_POINTS` points: the last step and the mean of the values of neighbours that share one; those that
    are undefined are left out."""
    steps_N, values_N = np.array(steps, np.int64), np.array(values, np.float64)
    known = np.isfinite(values_N)
    steps_N, values_N = steps_N[known], values_N[known]
    if not len(steps_N):
        return Series(name, (), ())
    size = -(-len(steps_N) // MAX_POINTS)
    starts = np.arange(0, len(steps_N), size)
    ends = np.append(starts[1:], len(steps_N))
    means = np.add.reduceat(values_N, starts) / (ends - starts)
    return Series(name, tuple(steps_N[ends - 1].tolist()), tuple(float(f"{mean:.6g}") for mean in means.tolist()))
