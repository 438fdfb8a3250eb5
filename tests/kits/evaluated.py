"""Evaluated sets without a model behind them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kits.metrics import make_rows, scored_rows
from textune.data.inspect.slicing import Slicing
from textune.evaluation.evaluated import EvaluatedSet, RowFacts
from textune.evaluation.heads import ScoredRows, one_head
from textune.evaluation.naming import resolve_metric
from textune.evaluation.scored import Scored


def facts(num_rows: int, *, seed: int = 0, slicings: tuple[Slicing, ...] = ()) -> RowFacts:
    random = np.random.default_rng(seed)
    return RowFacts(
        row=np.arange(num_rows) * 2,
        content=random.integers(0, 2**64, num_rows, np.uint64),
        tokens=random.integers(1, 200, num_rows).astype(np.int32),
        truncated=random.random(num_rows) < 0.2,
        slicings=slicings,
    )


def slicing(num_rows: int, *values: str, column: str = "source", seed: int = 0) -> Slicing:
    """Rows at random in slices, some in none."""
    codes = np.random.default_rng(seed).integers(-1, len(values), num_rows)
    return Slicing(column, values, codes.astype(np.int32))


def evaluated(scored: Scored | ScoredRows, *, metric: Any = "auto", **known: Any) -> EvaluatedSet:
    """Of rows and scores; `known`: fields of the set."""
    scored = one_head(scored) if isinstance(scored, Scored) else scored
    fields = {
        "name": "test",
        "dataset": "test: rows.csv",
        "fingerprint": "f00d",
        "main": resolve_metric(metric, scored.heads),
        "facts": facts(scored.num_rows),
    }
    return EvaluatedSet(scored=scored, **(fields | known))


def random_set(problem: str, seed: int = 0, num_rows: int = 60, num_classes: int = 4, **known: Any) -> EvaluatedSet:
    names = () if problem != "multilabel" else tuple(f"label {index}" for index in range(num_classes))
    classes = 2 if problem == "binary" else num_classes
    return evaluated(scored_rows(problem, *make_rows(problem, seed, num_rows, classes), names), **known)
