"""Draws from raw bits: orders, numbers and choices that hold on every platform."""

import numpy as np
import pytest

from textune.draws import Draws


def test_draws_are_what_they_always_were() -> None:
    assert Draws.of_key(0, 1).permutation(6).tolist() == [5, 3, 2, 4, 1, 0]
    assert [Draws.of_key(3, epoch).below(10) for epoch in range(6)] == [5, 6, 2, 6, 0, 1]


def test_uniform_numbers_are_those_of_numpy() -> None:
    ours = Draws.of_key(7, 2).uniform(1000)
    theirs = np.random.Generator(np.random.Philox(key=[7, 2])).random(1000)
    assert ours.dtype == np.float64 and np.array_equal(ours, theirs)


def test_one_draw_follows_the_other() -> None:
    draws = Draws.of_key(1, 0)
    first, second = draws.permutation(20), draws.permutation(20)
    assert not np.array_equal(first, second)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))


@pytest.mark.parametrize("number", [0, 1])
def test_nothing_is_drawn_of_nothing(number: int) -> None:
    draws = Draws.of_key(5, number)
    assert draws.permutation(0).tolist() == [] and draws.uniform(0).tolist() == []
    assert draws.permutation(1).tolist() == [0] and draws.below(1) == 0


def test_every_order_and_every_choice_is_about_as_likely() -> None:
    orders = [tuple(Draws.of_key(seed, 0).permutation(3).tolist()) for seed in range(3000)]
    choices = [Draws.of_key(seed, 1).below(6) for seed in range(3000)]
    for drawn in (orders, choices):
        counts = [drawn.count(one) for one in set(drawn)]
        # 500 each; five standard deviations of a binomial count.
        assert len(counts) == 6 and max(abs(count - 500) for count in counts) < 5 * (3000 * 5 / 36) ** 0.5
