"""Distances of counts beside scipy's, and what of a distance is chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from textune.serving.drift import drift, expected_index, shannon_distance, stability_index
from textune.serving.recent import Recent

CASES = [
    ([10, 20, 30], [30, 20, 10]),
    ([1000, 1, 1, 0], [0, 500, 3, 900]),
    ([5, 5], [50, 50]),
    ([7], [9]),
    (list(range(1, 90)), list(range(90, 1, -1))),
]


@pytest.mark.parametrize(("usual", "seen"), CASES, ids=range(len(CASES)))
def test_distances_are_those_of_scipy(usual: list[int], seen: list[int]) -> None:
    one, other = np.array(usual), np.array(seen)
    assert shannon_distance(one, other) == pytest.approx(jensenshannon(one, other, base=2), abs=1e-9)
    symmetric = entropy(one + 0.5, other + 0.5) + entropy(other + 0.5, one + 0.5)
    assert stability_index(one, other) == pytest.approx(symmetric, abs=1e-12)
    in_a_loop = 0.0
    for count, beside in zip(usual, seen, strict=True):
        p = (count + 0.5) / (sum(usual) + 0.5 * len(usual))
        q = (beside + 0.5) / (sum(seen) + 0.5 * len(seen))
        in_a_loop += (q - p) * math.log(q / p)
    assert stability_index(one, other) == pytest.approx(in_a_loop, abs=1e-12)


def test_rows_that_are_alike_and_rows_that_have_nothing_in_common() -> None:
    assert drift(np.array([30, 0, 70]), np.array([300, 0, 700])).distance == 0
    alike, apart = (drift(np.array([500, 500, 0, 0]), np.array(seen)) for seen in ([490, 510, 0, 0], [0, 0, 9, 91]))
    assert alike.psi < 0.01 < 0.25 < apart.psi
    assert apart.distance == pytest.approx(1)
    assert alike.noise == pytest.approx(1 / 1000 + 1 / 1000)  # two bins have rows


def test_the_expected_index_is_the_mean_over_samples_of_one_distribution() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.05, 0.1, 0.2, 0.3, 0.35])
    drawn = [(random.multinomial(400, shares), random.multinomial(1000, shares)) for _ in range(400)]
    mean = np.mean([stability_index(usual, seen) for usual, seen in drawn])
    assert mean == pytest.approx(expected_index(*drawn[0]), rel=0.15)
    assert expected_index(*drawn[0]) == pytest.approx(4 * (1 / 400 + 1 / 1000))


@pytest.mark.parametrize("seed", range(5))
def test_the_last_rows_are_counted_as_in_a_list(seed: int) -> None:
    random = np.random.default_rng(seed)
    recent, rows = Recent(6, 50), []
    for _ in range(60):
        num = int(random.choice([0, 1, 3, 17, 80]))
        hits = random.random((num, 6)) < 0.3
        recent.add(num, *np.nonzero(hits))
        rows = [*rows, *hits.tolist()][-50:]
        assert recent.num_rows == len(rows)
        expected = np.array(rows).reshape(-1, 6).sum(axis=0)
        assert recent.counts.tolist() == expected.astype(int).tolist()
