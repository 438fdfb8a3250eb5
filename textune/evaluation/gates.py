"""Where a threshold of a decision stands between a model's scores and an answer, and how it is set.

EvaluatedSet --Gate.rows--> GatedRows --guarantee.py--> a threshold --Gate.with_threshold--> the rule of decision

Three kinds of gate: a label that is given by itself (one of two classes, or one of several labels); one class of
several, whose answers are withheld below its bound; all answers alike, which are withheld below one bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from textune.evaluation.guarantee import GatedRows
from textune.evaluation.scored import Scored
from textune.tasks import USUAL_THRESHOLD, Decision, Head


@dataclass(frozen=True)
class Gate:
    """One threshold of a head's rule."""

    head: Head
    """With the rule that is in force."""
    label: int | None
    """The label whose answers pass it; None: those of all classes."""

    @property
    def _withholds(self) -> bool:
        """Whether answers below it are withheld, not replaced by another."""
        label_map = self.head.label_map
        return self.label is None or (label_map.exclusive and len(label_map.names) > 2)

    @property
    def _is_turned(self) -> bool:
        """Whether it is the first of two classes, which is answered where the second is not."""
        return not self._withholds and self.head.label_map.exclusive and self.label == 0

    def rows(self, scored: Scored) -> GatedRows:
        """The rows whose scores are kept, each with the probability that is compared with the threshold."""
        ranked = scored.ranked
        assert ranked.scores is not None
        probabilities = np.minimum(self.head.calibrated(ranked.scores), 1.0)  # in float32 some exceed it by a rounding
        hits = ranked.hits
        if not self._withholds:
            assert self.label is not None
            column = np.where(self._never_given(probabilities), -np.inf, self._compared(probabilities))
            return GatedRows(column, hits[:, self.label], hits[:, self.label])
        every = np.arange(len(ranked))
        best_N = self.head.decision.best(ranked.scores)
        best, right = probabilities[every, best_N], hits[every, best_N]
        if self.label is None:
            return GatedRows(best, right, np.ones(len(ranked), bool))
        true = hits[:, self.label]
        return GatedRows(np.where(best_N == self.label, best, -np.inf), true, true)

    def _compared(self, probabilities_NK: np.ndarray) -> np.ndarray:
        """float64 [N] what is compared with the threshold of a label that is given by itself."""
        return np.asarray(-probabilities_NK[:, 1] if self._is_turned else probabilities_NK[:, self.label])

    def _never_given(self, probabilities_NK: np.ndarray) -> np.ndarray:
        """bool [N] where no threshold makes the label the answer: it would be withheld, or the other class is certain,
        and no threshold of that one is above 1."""
        if not self.head.label_map.exclusive:
            return np.zeros(len(probabilities_NK), bool)
        answered = np.full(len(probabilities_NK), self.label)
        withheld = self.head.decision.withholds(probabilities_NK[:, self.label], answered)
        return np.asarray(withheld | (self._is_turned & (probabilities_NK[:, 1] >= 1.0)))

    def moves(self, label: int | None) -> bool:
        """Whether setting this threshold changes which rows pass that of `label`: two classes share one threshold, and
        the bound of all answers is also that of each class."""
        if self.label == label:
            return True
        return self.head.label_map.exclusive and (len(self.head.labels) == 2 or None in (self.label, label))

    @property
    def threshold(self) -> float:
        """The one in force, in the terms of `rows`."""
        decision = self.head.decision
        if self._withholds:
            bounds = decision.abstain_below
            if isinstance(bounds, tuple):
                return min(bounds) if self.label is None else bounds[self.label]
            return 0.0 if bounds is None else bounds
        if self._is_turned:
            second = USUAL_THRESHOLD if decision.thresholds is None else decision.thresholds[0]
            return -float(np.nextafter(second, -math.inf))
        assert self.label is not None
        if decision.thresholds is None:
            return USUAL_THRESHOLD
        return decision.thresholds[0 if self.head.label_map.exclusive else self.label]

    def with_threshold(self, threshold: float) -> Decision:
        """The head's rule with this threshold of `rows`; a rule of costs gives way to it where both cannot be."""
        decision, num_labels = self.head.decision, len(self.head.labels)
        if self._withholds:
            bound = min(max(threshold, 0.0), 1.0)
            if self.label is None:
                return replace(decision, abstain_below=bound)
            now = decision.abstain_below
            bounds = list(now) if isinstance(now, tuple) else [now or 0.0] * num_labels
            bounds[self.label] = bound
            return replace(decision, abstain_below=tuple(bounds))
        if self.head.label_map.exclusive:
            # The first class is answered up to and at -threshold, so the second from the next number on.
            second = float(np.nextafter(-threshold, math.inf)) if self._is_turned else threshold
            return replace(decision, costs=None, thresholds=(min(max(second, 0.0), 1.0),))
        assert self.label is not None
        thresholds = list(decision.thresholds or [USUAL_THRESHOLD] * num_labels)
        thresholds[self.label] = min(threshold, 1.0)
        return replace(decision, costs=None, thresholds=tuple(thresholds))
