"""How far the rows that a server is sent are from those that its model was validated on: two counts over the same bins
to a few numbers. Shapes: B bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_HALF = 0.5
"""Added to each count, so that a bin that one side leaves empty has a logarithm."""


class Drift(NamedTuple):
    """How different two counts over the same bins are."""

    psi: float
    """The population stability index; below 0.1 is usually called stable, above 0.25 a shift."""
    noise: float
    """What the index is on average if both are drawn from the same rows: no less than that can be told from chance."""
    distance: float
    """The Jensen-Shannon distance, from 0 (alike) to 1 (no bin in common)."""


def drift(usual_B: np.ndarray, seen_B: np.ndarray) -> Drift:
    """Compare the counts of usual rows with those of rows that were seen, int64 [B] each, neither of them empty."""
    held = (usual_B > 0) | (seen_B > 0)
    usual, seen = usual_B[held], seen_B[held]
    return Drift(stability_index(usual, seen), expected_index(usual, seen), shannon_distance(usual, seen))


def stability_index(usual_B: np.ndarray, seen_B: np.ndarray) -> float:
    """The population stability index: the sum over bins of (q - p) ln(q / p), with the shares p of usual and q of seen
    rows, each count taken half a row larger.

    From credit scoring (N. Siddiqi, Credit Risk Scorecards, Wiley 2006); it is the symmetric divergence of Kullback,
    Leibler and Jeffreys.
    """
    usual, seen = _shares(usual_B + _HALF), _shares(seen_B + _HALF)
    return float(((seen - usual) * np.log(seen / usual)).sum())


def expected_index(usual_B: np.ndarray, seen_B: np.ndarray) -> float:
    """The mean of the index for two samples of one distribution: (B - 1)(1 / n + 1 / m) for n and m rows, since it is
    then about so many times a chi-squared variable of B - 1 degrees of freedom.

    B. Yurdakul and J. Naranjo, Statistical properties of the population stability index, Journal of Risk Model
    Validation 14(4), 2020.
    """
    return float((len(usual_B) - 1) * (1 / usual_B.sum() + 1 / seen_B.sum()))


def shannon_distance(usual_B: np.ndarray, seen_B: np.ndarray) -> float:
    """The square root of the Jensen-Shannon divergence in bits, a metric from 0 to 1.

    J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37(1), 1991;
    D. Endres and J. Schindelin, A new metric for probability distributions, ibid. 49(7), 2003.
    """
    usual, seen = _shares(usual_B), _shares(seen_B)
    middle = (usual + seen) / 2
    return float(np.sqrt(max(0.0, (_divergence(usual, middle) + _divergence(seen, middle)) / 2)))


def _shares(counts_B: np.ndarray) -> np.ndarray:
    return np.asarray(counts_B / counts_B.sum())


def _divergence(shares_B: np.ndarray, others_B: np.ndarray) -> float:
    """Of Kullback and Leibler, in bits; a bin without rows adds nothing."""
    held = shares_B > 0
    return float((shares_B[held] * np.log2(shares_B[held] / others_B[held])).sum())
