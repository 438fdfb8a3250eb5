"""The arithmetic of the method: fair samples, the same rows on both sides, ratios of pairs."""

import itertools

import pytest

from bench.speed.__main__ import shared_out
from bench.speed.measure import Comparison, choose_steps, deal, repeat, shared_order, significant, spread

BATCH = 4


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 10, 50])
def test_spread_is_a_permutation(count: int) -> None:
    assert sorted(spread(count)) == list(range(count))


def test_any_few_batches_in_a_row_are_a_fair_sample_of_their_block() -> None:
    """Lengths fall from 50 to 1 in a block, as grouping leaves them; dealt out, ten in a row have the mean of all."""
    dealt = [50 - number for number in spread(50)]
    means = [sum(dealt[at : at + 10]) / 10 for at in range(0, 50, 10)]
    assert all(abs(mean - 25.5) < 2.5 for mean in means)


def test_dealing_keeps_batches_whole_and_blocks_apart() -> None:
    order = list(range(100, 100 + 10 * BATCH + 3))
    dealt = deal(order, batch_size=BATCH, block=5)
    batches = [dealt[at : at + BATCH] for at in range(0, len(dealt), BATCH)]
    assert len(batches) == 10  # the last three rows fill no batch
    assert all(batch == list(range(batch[0], batch[0] + BATCH)) for batch in batches)
    assert set(dealt[: 5 * BATCH]) == set(order[: 5 * BATCH])
    assert set(dealt[5 * BATCH :]) == set(order[5 * BATCH : 10 * BATCH])


def order_of(rows: list[int], **options: int) -> tuple[list[int], list[int]]:
    return shared_order(rows, batch_size=BATCH, seed=0, **options)


def test_both_sides_see_the_same_rows_block_by_block_and_begin_again_at_the_same_block() -> None:
    """After the blocks of 20 batches come the first of them again, whole, and never the warm-up."""
    block, warm_up = 5, 2
    ours, peer = order_of(list(range(20 * BATCH)), block=block, warm_up=warm_up, batches=warm_up + 40)
    bounds = [0, *range(warm_up * BATCH, len(peer) + 1, block * BATCH)]
    assert len(peer) == len(ours) == 42 * BATCH == bounds[-1]
    for start, end in itertools.pairwise(bounds):
        assert sorted(ours[start:end]) == sorted(peer[start:end])
        assert ours[start:end] != peer[start:end]
    # The blocks are those of the peer's sampler: their rows belong together.
    first = peer[bounds[1] : bounds[2]]
    assert set(first) == set(range(5 * BATCH, 10 * BATCH))
    assert peer[bounds[4] : bounds[5]] == first


def test_a_random_order_is_shared_batch_for_batch() -> None:
    order = [7, 3, 1, 0, 2, 6, 5, 4, 9]
    assert order_of(order, block=1, warm_up=1, batches=2) == (order[:8], order[:8])
    assert order_of(order, block=1, warm_up=1, batches=4)[0] == order[:8] + 2 * order[4:8]


def test_too_few_rows_for_a_block_are_an_error() -> None:
    with pytest.raises(ValueError, match="16 rows"):
        order_of(list(range(16)), block=3, warm_up=2, batches=10)


@pytest.mark.parametrize(
    ("pair_seconds", "seconds", "block", "steps"),
    [
        (0.1, 50.0, 50, 50),  # a whole block, five times
        (1.0, 60.0, 50, 10),  # 25 five times would take 125 seconds
        (10.0, 50.0, 50, 2),  # too slow for anything: not a single step all the same
        (10.0, 50.0, 25, 5),
        (0.1, 50.0, 1, 50),  # no more than 50
        (2.0, 30.0, 1, 3),
        (100.0, 30.0, 1, 1),
        (0.1, 0.0, 2, 2),
    ],
)
def test_the_length_of_a_segment_follows_from_the_time(
    pair_seconds: float, seconds: float, block: int, steps: int
) -> None:
    assert choose_steps(pair_seconds, seconds=seconds, block=block) == steps


def test_pairs_are_repeated_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=1.0)
    monkeypatch.setattr("bench.speed.measure.perf_counter", lambda: next(clock))
    calls = iter(range(100))
    # The clock is looked at once a round. After three rounds 4 seconds are gone: another would end at 5.3.
    assert repeat(lambda: next(calls), seconds=5.0, at_least=2) == [0, 1, 2]
    assert len(repeat(lambda: 0, seconds=0.0, at_least=3)) == 3
    assert len(repeat(lambda: 0, seconds=1e9, at_most=7)) == 7


def test_the_ratio_is_the_median_of_the_pairs_not_the_quotient_of_the_medians() -> None:
    """A neighbour that slows both sides of one pair does not move it."""
    comparison = Comparison([(200.0, 100.0), (20.0, 10.0), (210.0, 100.0)])
    assert comparison.medians() == (200.0, 100.0, 2.0)
    assert comparison.details()["ratio"] == {"median": 2.0, "min": 2.0, "max": 2.1}
    assert comparison.details()["pairs"][1] == [20.0, 10.0]
    with pytest.raises(ValueError, match="nothing was measured"):
        Comparison([])


def test_significant_digits() -> None:
    assert [significant(value) for value in (0.0123456, 123456.0, 2.0)] == [0.01235, 123500.0, 2.0]


def test_the_time_of_a_run_is_shared_out_and_what_one_question_leaves_the_others_have() -> None:
    wanted = {"a": 10.0, "b": 20.0, "c": 30.0}
    assert shared_out(60.0, wanted, "a") == 10.0
    assert shared_out(25.0, wanted, "b") == 10.0  # `a` took more
    assert shared_out(20.0, wanted, "c") == 20.0
    assert shared_out(-1.0, {"d": 1.0}, "d") < 0
