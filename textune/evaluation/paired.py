"""The difference of two models on the same rows: its interval, and whether chance alone could make it; after
`joint.py`, before `lift.py` and `versus.py`.

- The interval is a BCa bootstrap over rows, each drawn with what both models answer.
- Right and wrong answers: McNemar's test in its exact form with the mid-p value (McNemar 1947, Psychometrika 12, 153;
  Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13, 91).
- Any other metric: a paired permutation test. If both models were alike, exchanging their answers to a row would
  change nothing; so many times these are exchanged for a random half of the rows, and the p-value is the share of
  exchanges that make at least the difference that there is (Good 2005, Permutation, Parametric and Bootstrap Tests).

Shapes: N rows of both models in one order, n of them with a label for a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.evaluation.binomial import at_most
from textune.evaluation.evaluated import positions_of, rows_within
from textune.evaluation.heads import ScoredRows
from textune.evaluation.intervals import CALL, MIN_ERRORS, MIN_RESAMPLED, Around, Interval, work
from textune.evaluation.joint import Resamples, bootstrap, mean_of, part_of
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import Metric
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import is_undefined
from textune.wording import count

PERMUTATIONS = 999
"""Exchanges of the permutation test: with the difference itself, a thousand values."""
MIN_PERMUTATIONS = 199
"""Fewer exchanges than these give no p-value below 0.005."""
MAX_PERMUTED = 100_000_000
"""Values that a metric looks at in all exchanges together; above it there are fewer of them, then fewer rows."""


# --- the interval ----------------------------------------------------------------------------------------------------


def difference_interval(
    main: MainMetric, one: ScoredRows, other: ScoredRows, value: float, resamples: Resamples, *, other_is: str = ""
) -> Interval:
    """95 % interval of `value`, by how much the metric of `one` is larger than that of `other`; what the other is may
    follow in the reason where there is none."""
    if resamples.samples < 1 or is_undefined(value):
        return Interval(None)
    counted = heads_counted(main, one)
    if (few := _too_few(main, one, other, counted)) is not None:
        return Interval(None, reason=f"{few}{other_is if one.num_rows >= MIN_RESAMPLED else ''}, too few to resample")
    parts = [part_of(main.by_head[head], rows.by_head[head]) for rows in (one, other) for head in counted]
    half = len(counted)

    def difference(values: Sequence[float]) -> float:
        return mean_of(values[:half]) - mean_of(values[half:])

    around = Around(value, value, 1.0, higher_is_better=True, bounded=False)
    return bootstrap(parts, difference, around, one.num_rows, resamples)


def heads_counted(main: MainMetric, scored: ScoredRows) -> list[str]:
    """The heads of a metric that some row has a label for."""
    return [head for head in main.by_head if head in scored.by_head]


def _too_few(main: MainMetric, one: ScoredRows, other: ScoredRows, counted: Sequence[str]) -> str | None:
    """Of what there is too little for resamples of these rows to stand for other rows; None if they can."""
    if one.num_rows < MIN_RESAMPLED:
        return f"there are only {one.num_rows} rows"
    if any(part.uses != "decisions" for head in counted for part in main.by_head[head].parts or (main.by_head[head],)):
        return None
    changed = sum(int(changed_rows(one.by_head[head], other.by_head[head]).sum()) for head in counted)
    return f"only {count(changed, 'answer differs', 'answers differ')}" if changed < MIN_ERRORS else None


def changed_rows(one: Scored, other: Scored) -> np.ndarray:
    """bool [n] the rows of a head that are answered otherwise."""
    return np.asarray((one.predictions != other.predictions).reshape(len(one), -1).any(axis=1))


# --- right and wrong answers -----------------------------------------------------------------------------------------


def mcnemar(only_one: int, only_other: int) -> float:
    """The mid-p value of as many rows that only one model answers right, and only the other."""
    few, total = min(only_one, only_other), only_one + only_other
    return min(1.0, at_most(few - 1, total, 0.5) + at_most(few, total, 0.5)) if total else 1.0


# --- any metric ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Permuted:
    """What a permutation test says."""

    p_value: float
    exchanges: int
    num_rows: int
    """Rows that it was made on: all, or a random part where all are too much work."""


def permutation_test(main: MainMetric, one: ScoredRows, other: ScoredRows, *, seed: int = 0) -> Permuted | None:
    """Whether exchanging the answers of both models makes differences as large as theirs; None where the metric has
    no value."""
    generator = np.random.default_rng(seed)
    counted, num_rows = heads_counted(main, one), one.num_rows
    single = main.by_head[counted[0]] if len(counted) == 1 else None
    in_cells = single is not None and single.uses == "decisions"
    if not in_cells:
        costs = [work(main.by_head[head], one.by_head[head]) for head in counted]
        fixed, per_row = 2 * sum(cost for cost, _ in costs), 2 * sum(cost for _, cost in costs)
        max_rows = max(1, (MAX_PERMUTED // MIN_PERMUTATIONS - fixed) // per_row)
        if num_rows > max_rows:
            chosen = np.sort(generator.choice(num_rows, max_rows, replace=False))
            one, other = rows_within(one, chosen), rows_within(other, chosen)
        exchanges = MAX_PERMUTED // (fixed + per_row * one.num_rows)
    if in_cells and single is not None:
        cells = _Cells.of(one.by_head[counted[0]], other.by_head[counted[0]])
        exchanges = MAX_PERMUTED // (2 * (CALL + len(cells)))
        draw: Callable[[bool], tuple[float, float]] = _cell_draws(single, cells, generator)
    else:
        draw = _row_draws({head: main.by_head[head] for head in counted}, one, other, generator)
    exchanges = min(PERMUTATIONS, max(MIN_PERMUTATIONS, exchanges))
    first, second = draw(False)
    if is_undefined(first) or is_undefined(second):
        return None
    seen, tolerance = abs(first - second), 1e-12 * max(1.0, abs(first), abs(second))
    as_large = 0
    for _ in range(exchanges):
        first, second = draw(True)
        as_large += not abs(first - second) < seen - tolerance  # an undefined one counts as one that is as large
    return Permuted((1 + as_large) / (1 + exchanges), exchanges, one.num_rows)


def _row_draws(
    metrics: Mapping[str, Metric], one: ScoredRows, other: ScoredRows, generator: np.random.Generator
) -> Callable[[bool], tuple[float, float]]:
    """The metric of both, the answers to each row exchanged for all heads or for none."""
    parts = []
    for head, metric in metrics.items():
        mine, theirs = metric.rows(one.by_head[head]), metric.rows(other.by_head[head])
        places = positions_of(one, head) if mine.rows is None or len(mine) == one.num_rows else mine.rows
        parts.append((metric, joined(mine, theirs), places))

    def draw(exchanges: bool) -> tuple[float, float]:
        swapped_N = generator.random(one.num_rows) < 0.5 if exchanges else np.zeros(one.num_rows, bool)
        values = np.zeros((2, len(parts)))
        for index, (metric, both, places) in enumerate(parts):
            every, swapped = np.arange(len(places)), swapped_N[places]
            for side in (0, 1):
                values[side, index] = metric.function(both.take(every + len(places) * (swapped ^ bool(side))))
        return mean_of(values[0].tolist()), mean_of(values[1].tolist())

    return draw


@dataclass(frozen=True)
class _Cells:
    """Rows of equal target and equal answers of both models, as one: metrics of decisions see no more."""

    both: Scored
    """One row for each of m cells with the answer of the first model, then the same with that of the second."""
    counts: np.ndarray
    """int64 [m] rows of each cell."""
    differs: np.ndarray
    """bool [m] the cells with two answers."""

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def of(cls, one: Scored, other: Scored) -> _Cells:
        choices = one.answers.choices
        assert choices is not None, "metrics of decisions are of choices"
        ids = [np.unique(choices.pairs(of.targets, of.predictions), return_inverse=True)[1] for of in (one, other)]
        together = ids[0].astype(np.int64) * (int(ids[1].max(initial=0)) + 1) + ids[1]
        _, first, counts = np.unique(together, return_index=True, return_counts=True)
        cells = [Scored(of.head, of.targets[first], of.predictions[first]) for of in (one, other)]
        return cls(joined(*cells), counts, changed_rows(*cells))


def _cell_draws(
    metric: Metric, cells: _Cells, generator: np.random.Generator
) -> Callable[[bool], tuple[float, float]]:
    """The metric of both, so many answers of each cell exchanged as heads in that many throws of a coin."""

    def draw(exchanges: bool) -> tuple[float, float]:
        swapped = np.where(cells.differs, generator.binomial(cells.counts, 0.5), 0) if exchanges else 0 * cells.counts
        sides = (np.concatenate([cells.counts - swapped, swapped]), np.concatenate([swapped, cells.counts - swapped]))
        first, second = (metric.function(cells.both.take(np.flatnonzero(times), times[times > 0])) for times in sides)
        return first, second

    return draw


def joined(one: Scored, other: Scored) -> Scored:
    """The rows of one, then those of the other, of which both keep the same."""

    def both(mine: np.ndarray | None, theirs: np.ndarray | None) -> np.ndarray | None:
        return None if mine is None or theirs is None else np.concatenate([mine, theirs])

    calibrated = one.probabilities is not None or other.probabilities is not None
    return replace(
        one,
        targets=np.concatenate([one.targets, other.targets]),
        predictions=np.concatenate([one.predictions, other.predictions]),
        loss=both(one.loss, other.loss),
        sureness=both(one.sureness, other.sureness),
        suspect=both(one.suspect, other.suspect),
        scores=both(one.scores, other.scores),
        probabilities=both(one.seen, other.seen) if calibrated else None,
        row_losses=both(one.row_losses, other.row_losses),
        row_weights=both(one.row_weights, other.row_weights),
        sample=None,
        rows=None,
    )
