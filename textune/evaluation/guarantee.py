"""Thresholds with a guarantee: proposed on some rows, proved on others that had no part in it.

    proposing rows --candidates, in an order--> proving rows --one exact test after the other--> a threshold

*Learn then test* (Angelopoulos, Bates, Candes, Jordan, Lei 2021, arXiv:2110.01052): each candidate is a hypothesis
"the aim is missed here". They are tested in a sequence that the proving rows had no part in, each at the whole error
rate, up to the first that is not rejected: then the chance that any accepted one misses the aim is at most that
rate. Recall and coverage only fall as the threshold rises, so their candidates are the scores of the proving rows
themselves (Wilks 1941, Annals of Mathematical Statistics 12, 91), and nothing has to be proposed.

The guarantee is about rows that are drawn as the proving rows were. Shapes: N rows.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from textune.draws import Draws
from textune.evaluation.binomial import at_least, at_most, lower_limit, upper_limit

AimName = Literal["precision", "recall", "coverage", "cost"]
Verdict = Literal["holds", "open", "broken"]

MAX_CANDIDATES = 500
"""Thresholds that the proposing rows may put forward."""


@dataclass(frozen=True, eq=False)
class GatedRows:
    """Rows with an answer each that is given where its score reaches a threshold."""

    scores: np.ndarray
    """float64 [N] score of the answer; minus infinity where another answer is the better one."""
    right: np.ndarray
    """bool [N] whether the answer is true of the row."""
    missed: np.ndarray
    """bool [N] whether it costs something not to give it: rows that the label is true of; of abstention, all
    rows."""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> GatedRows:
        """Some of the rows."""
        return GatedRows(self.scores[rows], self.right[rows], self.missed[rows])

    def halves(self, seed: int) -> tuple[GatedRows, GatedRows]:
        """The rows in two halves, drawn at random."""
        order = Draws.of_seed(seed).permutation(len(self))
        half = len(self) // 2
        return self.take(np.sort(order[:half])), self.take(np.sort(order[half:]))


@dataclass(frozen=True)
class Aim:
    """What a threshold is to reach, and how sure that must be."""

    name: AimName
    level: float
    """The least precision, recall or coverage; the most cost of a row."""
    confidence: float = 0.95
    cost_of_wrong: float = 1.0
    """Of an answer that is given and wrong; for the aim `cost`."""
    cost_of_none: float = 1.0
    """Of an answer that is not given where that costs something; for the aim `cost`."""

    @property
    def error(self) -> float:
        """The chance that the guarantee is wrong."""
        return 1.0 - self.confidence


@dataclass(frozen=True)
class Measured:
    """How rows fare at a threshold."""

    threshold: float
    value: float
    """Of the aim; NaN where no row says anything."""
    limit: float
    """What the true value is at least (cost: at most), at the confidence of the aim."""
    p_value: float
    """How likely rows like these are where the aim is missed; small is good."""
    counted: int
    """Rows that the value is about: those answered, those that the label is true of, or all."""
    given: int
    """Rows at or above the threshold."""
    rows: int


def prove(aim: Aim, proving: GatedRows, proposing: GatedRows | None = None, *, seed: int = 0) -> Measured | None:
    """The threshold that reaches the aim on all but `aim.error` of such draws of rows, as the proving rows show it;
    None where they do not.

    Of those that do, the lowest is taken for precision (most answers), the highest for recall and coverage (most
    precise answers), and for cost the cheapest one. `proposing`: other rows with scores of the same model; without
    them, precision and cost give half of the proving rows to that, drawn with `seed`.
    """
    if aim.name in ("recall", "coverage"):
        return _highest(aim, proving)
    if proposing is None:
        proposing, proving = proving.halves(seed)
    accepted = None
    for threshold in _PROPOSED[aim.name](aim, proposing):
        measured = measure(aim, proving, threshold)
        if measured.p_value > aim.error:
            break
        accepted = measured
    return accepted


def measure(aim: Aim, rows: GatedRows, threshold: float) -> Measured:
    """How these rows fare at a threshold."""
    given = rows.scores >= threshold
    if aim.name == "cost":
        return _measured_cost(aim, rows, threshold, given)
    hits, counted = _SHARES[aim.name](rows, given)
    return Measured(
        threshold=threshold,
        value=hits / counted if counted else math.nan,
        limit=lower_limit(hits, counted, aim.confidence) if counted else 0.0,
        p_value=at_least(hits, counted, aim.level) if counted else 1.0,
        counted=counted,
        given=int(given.sum()),
        rows=len(rows),
    )


def verdict_on(aim: Aim, measured: Measured, rows: GatedRows) -> Verdict:
    """Whether new rows bear a guarantee out: `broken` where they would be so bad at most as often as the aim's error
    if it held, `holds` where they prove it by themselves, else `open`: they are too few to say."""
    if measured.p_value <= aim.error:
        return "holds"
    given = rows.scores >= measured.threshold
    if aim.name == "cost":
        most = max(aim.cost_of_wrong, aim.cost_of_none)
        # The same bound for what is spared of the most that a row can cost.
        missed = bounded_mean_p_value(1 - measured.value / most, len(rows), 1 - aim.level / most)
        return "broken" if missed <= aim.error else "open"
    hits, counted = _SHARES[aim.name](rows, given)
    return "broken" if counted and upper_limit(hits, counted, aim.confidence) < aim.level else "open"


# --- shares of rows --------------------------------------------------------------------------------------------------


def _precision(rows: GatedRows, given: np.ndarray) -> tuple[int, int]:
    return int((rows.right & given).sum()), int(given.sum())


def _recall(rows: GatedRows, given: np.ndarray) -> tuple[int, int]:
    return int((rows.right & given).sum()), int(rows.right.sum())


def _coverage(rows: GatedRows, given: np.ndarray) -> tuple[int, int]:
    return int(given.sum()), len(rows)


_SHARES: dict[str, Callable[[GatedRows, np.ndarray], tuple[int, int]]] = {
    "precision": _precision,
    "recall": _recall,
    "coverage": _coverage,
}
"""Hits, and the rows that they are counted among."""


def _highest(aim: Aim, rows: GatedRows) -> Measured | None:
    """The last threshold, upwards, before the first that is not proved; p-values only rise on the way."""
    scores = np.unique(rows.scores[np.isfinite(rows.scores)]).tolist()
    unproved = bisect.bisect_left(
        scores, True, key=lambda threshold: measure(aim, rows, threshold).p_value > aim.error
    )
    return measure(aim, rows, scores[unproved - 1]) if unproved else None


def _candidates(rows: GatedRows) -> np.ndarray:
    """Thresholds in ascending order: halfway between scores that occur, evenly spread over the rows."""
    scores = np.unique(rows.scores[np.isfinite(rows.scores)])
    if len(scores) == 0:
        return scores
    between = np.append(scores[0], (scores[:-1] + scores[1:]) / 2)
    if len(between) > MAX_CANDIDATES:
        between = between[np.linspace(0, len(between) - 1, MAX_CANDIDATES).round().astype(np.int64)]
    return between


def _safest_downwards(aim: Aim, rows: GatedRows) -> Iterator[float]:
    """From the candidate that is surest to reach the aim, downwards: ever more answers."""
    found = [measure(aim, rows, threshold) for threshold in _candidates(rows).tolist()]
    if not found:
        return
    safest = min(range(len(found)), key=lambda index: (found[index].p_value, -found[index].threshold))
    for measured in reversed(found[: safest + 1]):
        yield measured.threshold


def _cheapest(aim: Aim, rows: GatedRows) -> Iterator[float]:
    """The candidate of the lowest cost; the last one gives no answer, unless one is certain: no threshold is above
    1."""
    candidates = _candidates(rows)
    if len(candidates):
        none = min(np.nextafter(rows.scores.max(), math.inf), 1.0)
        found = [measure(aim, rows, threshold) for threshold in (*candidates.tolist(), float(none))]
        yield min(found, key=lambda measured: measured.value).threshold


_PROPOSED: dict[str, Callable[[Aim, GatedRows], Iterator[float]]] = {
    "precision": _safest_downwards,
    "cost": _cheapest,
}
"""Candidates in the order of their tests, as other rows propose it."""


# --- costs -----------------------------------------------------------------------------------------------------------


def _measured_cost(aim: Aim, rows: GatedRows, threshold: float, given: np.ndarray) -> Measured:
    costs = aim.cost_of_wrong * (given & ~rows.right) + aim.cost_of_none * (~given & rows.missed)
    most = max(aim.cost_of_wrong, aim.cost_of_none)
    value = float(costs.mean()) if len(rows) else math.nan
    return Measured(
        threshold=threshold,
        value=value,
        limit=_highest_mean(value / most, len(rows), aim.error) * most if len(rows) else most,
        p_value=bounded_mean_p_value(value / most, len(rows), aim.level / most) if len(rows) else 1.0,
        counted=len(rows),
        given=int(given.sum()),
        rows=len(rows),
    )


def bounded_mean_p_value(mean: float, num_rows: int, level: float) -> float:
    """How likely a mean as small as this is, of `num_rows` values between 0 and 1 whose true mean is above `level`.

    The smaller one of two bounds, by Hoeffding (1963) and by Bentkus (2004), as in *Learn then test*, section 2.3.
    """
    if level >= 1.0:
        return 0.0
    if mean >= level:
        return 1.0
    hoeffding = math.exp(-num_rows * _divergence(mean, level))
    bentkus = math.e * at_most(math.ceil(num_rows * mean - 1e-9), num_rows, level)
    return min(hoeffding, bentkus, 1.0)


def _divergence(mean: float, level: float) -> float:
    """Of a coin that shows heads with probability `mean` from one with `level`, in nats."""
    heads = mean * math.log(mean / level) if mean > 0 else 0.0
    tails = (1 - mean) * math.log((1 - mean) / (1 - level)) if mean < 1 else 0.0
    return heads + tails


def _highest_mean(mean: float, num_rows: int, error: float) -> float:
    """The largest true mean that values with this mean do not contradict."""
    low, high = mean, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if bounded_mean_p_value(mean, num_rows, middle) <= error else (middle, high)
    return high
