"""Two models on the same rows: how their metrics differ, on which rows, and whether that may be chance; after
`paired.py`, `pairing.py`.

two evaluated sets --align--> the same rows in one order --contrast--> Versus, which is data
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from textune.evaluation.evaluated import EvaluatedSet, positions_of, rows_within
from textune.evaluation.formulas import right_rows
from textune.evaluation.heads import ScoredRows
from textune.evaluation.intervals import MAX_WORK
from textune.evaluation.joint import Resamples
from textune.evaluation.mainmetric import MainMetric, all_metrics
from textune.evaluation.metrics import metrics_for
from textune.evaluation.paired import changed_rows, difference_interval, heads_counted, mcnemar, permutation_test
from textune.evaluation.slices import parts_of
from textune.evaluation.undefined import is_undefined, to_json

LEVEL = 0.05
"""A p-value below it is called a difference: of pairs of equal models, one in twenty is."""
METRIC_WORK = MAX_WORK // 10
"""Values that each metric beside the main one looks at for its interval."""


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same rows."""

    metric: str
    first: float
    other: float
    difference: float
    """What the other one has more; below 0 if it has less."""
    interval: tuple[float, float] | None
    """95 % interval of the difference over the choice of rows."""
    reason: str = ""
    """Why there is no interval, as the end of a sentence; empty where it was not asked for."""


@dataclass(frozen=True)
class Agreement:
    """How many rows of a head two models answer right."""

    head: str
    both: int
    only_first: int
    only_other: int
    neither: int
    p_value: float
    """McNemar's exact test, mid-p."""


@dataclass(frozen=True)
class SliceDifference:
    """The main metric on some of the rows."""

    column: str
    name: str | None
    """As of `Slice`."""
    num_rows: int
    main: Difference


@dataclass(frozen=True)
class Versus:
    """A model beside the first one, on the same rows."""

    num_rows: int
    num_changed: int
    """Rows that it answers otherwise, of any head."""
    main: Difference
    p_value: float | None
    """Whether chance alone could make the main metric differ so much; None where it has no value."""
    test: str
    """What gave the p-value."""
    adjusted: float | None
    """The same where several models are compared with the first one, by Holm."""
    metrics: tuple[Difference, ...]
    """Every metric but the main one."""
    agreement: tuple[Agreement, ...]
    """By head; none for numbers and texts."""
    slices: tuple[SliceDifference, ...]
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the main metric differs by more than chance explains."""
        return self.adjusted is not None and self.adjusted < LEVEL

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: NaN as None."""
        plain: dict[str, Any] = to_json({**asdict(self), "differs": self.differs})
        return plain


def contrast(
    first: EvaluatedSet, other: EvaluatedSet, main: MainMetric, *, samples: int = 1000, seed: int = 0
) -> Versus:
    """What differs; both have the same rows in one order. `samples`: resamples for the intervals, 0 for none."""
    one, two = with_same_sample(first.scored, other.scored)
    p_value, test, notes = _tested(main, one, two, seed)
    changed_N = changed_of(one, two)
    return Versus(
        num_rows=one.num_rows,
        num_changed=int(changed_N.sum()),
        main=_difference(main, one, two, Resamples(samples, seed)),
        p_value=p_value,
        test=test,
        adjusted=p_value,
        metrics=tuple(_others(main, one, two, Resamples(samples, seed, METRIC_WORK))),
        agreement=tuple(_agreements(one, two)),
        slices=tuple(_slices(main, first, other, one, two, samples=samples, seed=seed)),
        notes=notes,
    )


def _tested(
    main: MainMetric, one: ScoredRows, two: ScoredRows, seed: int
) -> tuple[float | None, str, tuple[str, ...]]:
    """The p-value of the main metric, what gave it, and what to know of it."""
    counted = heads_counted(main, one)
    if len(counted) == 1 and main.by_head[counted[0]].share is right_rows:
        found = _agreement(counted[0], one, two)
        return found.p_value, "McNemar, exact, mid-p", ()
    permuted = permutation_test(main, one, two, seed=seed)
    if permuted is None:
        return None, "", (f"{main.name} has no value on these rows.",)
    test = f"paired permutation, {permuted.exchanges:,} exchanges"
    if permuted.num_rows == one.num_rows:
        return permuted.p_value, test, ()
    few = f"The p-value is that of {permuted.num_rows:,} of {one.num_rows:,} rows, drawn at random."
    return permuted.p_value, test, (few,)


def _difference(main: MainMetric, one: ScoredRows, two: ScoredRows, resamples: Resamples) -> Difference:
    mine, theirs = main.of(one), main.of(two)
    interval = difference_interval(main, two, one, theirs - mine, resamples)
    return Difference(main.name, mine, theirs, theirs - mine, interval.limits, interval.reason)


def _others(main: MainMetric, one: ScoredRows, two: ScoredRows, resamples: Resamples) -> list[Difference]:
    """Every metric of a head alone with its interval; of several heads their values."""
    if len(one.heads) == 1:
        (head,) = one.by_head
        measured = metrics_for(one.by_head[head].answers)
        each = [MainMetric(metric.name, {head: metric}) for metric in measured if metric.name != main.name]
        return [_difference(metric, one, two, resamples) for metric in each]
    mine, theirs = all_metrics(one, main), all_metrics(two, main)
    shared = [name for name in mine if name in theirs and name != main.name]
    return [Difference(name, mine[name], theirs[name], theirs[name] - mine[name], None) for name in shared]


def _agreements(one: ScoredRows, two: ScoredRows) -> list[Agreement]:
    choosing = [name for name, rows in one.by_head.items() if rows.answers.choices is not None]
    return [_agreement(name, one, two) for name in choosing]


def _agreement(head: str, one: ScoredRows, two: ScoredRows) -> Agreement:
    mine, theirs = one.by_head[head].right, two.by_head[head].right
    only_mine, only_theirs = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    both, neither = int((mine & theirs).sum()), int((~mine & ~theirs).sum())
    return Agreement(head, both, only_mine, only_theirs, neither, mcnemar(only_mine, only_theirs))


def _slices(
    main: MainMetric,
    first: EvaluatedSet,
    other: EvaluatedSet,
    one: ScoredRows,
    two: ScoredRows,
    *,
    samples: int,
    seed: int,
) -> list[SliceDifference]:
    """The slices of the first set, and those that only the other one has a column for."""
    known = {slicing.column for slicing in first.facts.slicings}
    more = [slicing for slicing in other.facts.slicings if slicing.column not in known]
    parts = list(parts_of(replace(first.facts, slicings=(*first.facts.slicings, *more))))
    work = min(MAX_WORK // 5, 4 * MAX_WORK // max(1, len(parts)))
    found = []
    for column, name, chosen in parts:
        sides = (rows_within(one, chosen), rows_within(two, chosen))
        resamples = Resamples(samples, seed, work)
        found.append(SliceDifference(column, name, len(chosen), _difference(main, *sides, resamples)))
    return found


def changed_of(one: ScoredRows, two: ScoredRows, heads: Sequence[str] = ()) -> np.ndarray:
    """bool [N] the rows that two models answer otherwise, in any of these heads, or in any at all."""
    changed_N = np.zeros(one.num_rows, bool)
    for head in heads or one.by_head:
        changed_N[positions_of(one, head)] |= changed_rows(one.by_head[head], two.by_head[head])
    return changed_N


def with_same_sample(one: ScoredRows, two: ScoredRows) -> tuple[ScoredRows, ScoredRows]:
    """Both with scores of the same rows, where not all scores are kept."""
    sides = (dict(one.by_head), dict(two.by_head))
    for head in one.by_head:
        pair = [side[head] for side in sides]
        if all(rows.sample is None for rows in pair):
            continue
        everywhere = positions_of(one, head)
        kept = [everywhere if rows.sample is None else np.asarray(rows.sample.rows) for rows in pair]
        common = np.intersect1d(kept[0], kept[1], assume_unique=True)
        for side, rows, places in zip(sides, pair, kept, strict=True):
            sample = rows.ranked.take(np.flatnonzero(np.isin(places, common, assume_unique=True)))
            side[head] = replace(rows, scores=None, probabilities=None, sample=replace(sample, rows=common))
    return replace(one, by_head=sides[0]), replace(two, by_head=sides[1])


def adjusted_by_holm(found: Sequence[Versus]) -> tuple[Versus, ...]:
    """The same with p-values that are right for all of them together: Holm (1979), Scandinavian Journal of Statistics
    6, 65."""
    known = sorted((one.p_value, index) for index, one in enumerate(found) if one.p_value is not None)
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, (p_value, index) in enumerate(known):
        highest = max(highest, min(1.0, p_value * (len(known) - rank)))
        adjusted[index] = highest
    return tuple(replace(one, adjusted=adjusted.get(index)) for index, one in enumerate(found))


def better_of(found: Difference, *, higher_is_better: bool) -> str:
    """Which of the two has the better value: `first`, `other` or neither ("")."""
    if is_undefined(found.difference) or found.difference == 0:
        return ""
    return "other" if (found.difference > 0) == higher_is_better else "first"
