"""The arithmetic of the method: fair samples, the same rows on both sides, ratios of pairs."""

import itertools

import pytest

from bench.speed.budget import Budget
from bench.speed.measure import (
    Order,
    Segment,
    choose_steps,
    compare,
    deal,
    repeat,
    row_rate,
    shared_order,
    shuffle_within,
    significant,
    spread,
)

BATCH = 4


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 10, 50])
def test_spread_is_a_permutation(count: int) -> None:
    assert sorted(spread(count)) == list(range(count))


def test_any_few_batches_in_a_row_are_a_fair_sample_of_their_block() -> None:
    """Lengths fall from 50 to 1 in a block, as grouping leaves them; dealt out, ten in a row have the mean of all."""
    dealt = [50 - number for number in spread(50)]
    means = [sum(dealt[at : at + 10]) / 10 for at in range(0, 50, 10)]
    assert all(abs(mean - 25.5) < 2.5 for mean in means)
    straight = [sum(range(50 - at, 40 - at, -1)) / 10 for at in range(0, 50, 10)]
    assert max(straight) - min(straight) == 40


def test_dealing_keeps_batches_whole_and_blocks_apart() -> None:
    order = list(range(100, 100 + 10 * BATCH + 3))
    dealt = deal(order, batch_size=BATCH, block=5)
    batches = [dealt[at : at + BATCH] for at in range(0, len(dealt), BATCH)]
    assert len(batches) == 10  # the last three rows fill no batch
    assert all(batch == list(range(batch[0], batch[0] + BATCH)) for batch in batches)
    assert set(dealt[: 5 * BATCH]) == set(order[: 5 * BATCH])
    assert set(dealt[5 * BATCH :]) == set(order[5 * BATCH : 10 * BATCH])


def test_rows_are_shuffled_within_their_block_only() -> None:
    order = list(range(100))
    shuffled = shuffle_within(order, sizes=[10, 60], seed=3)
    assert shuffled != order
    for start, end in itertools.pairwise([0, 10, 70, 100]):
        assert sorted(shuffled[start:end]) == order[start:end]
    assert shuffled == shuffle_within(order, sizes=[10, 60], seed=3)


def order_of(rows: list[int], **options: int) -> Order:
    return shared_order(rows, batch_size=BATCH, seed=0, **options)


def check_blocks(shared: Order, *, block: int, warm_up: int) -> None:
    """Every block holds the same rows on both sides, in another order."""
    at = warm_up * BATCH
    assert sorted(shared.ours[:at]) == sorted(shared.peer[:at])
    while at < len(shared.peer):
        end = at + block * BATCH
        assert sorted(shared.ours[at:end]) == sorted(shared.peer[at:end])
        assert shared.ours[at:end] != shared.peer[at:end]
        at = end


def test_both_sides_see_the_same_rows_block_by_block_after_the_warm_up() -> None:
    block, warm_up = 5, 2
    shared = order_of(list(range(20 * BATCH)), block=block, warm_up=warm_up, batches=17)
    check_blocks(shared, block=block, warm_up=warm_up)
    assert len(shared.peer) == len(shared.ours) == 17 * BATCH
    # The blocks are those of the peer's sampler: their rows belong together.
    assert set(shared.peer[warm_up * BATCH :][: block * BATCH]) == set(range(5 * BATCH, 10 * BATCH))


def test_a_random_order_is_shared_batch_for_batch() -> None:
    order = [7, 3, 1, 0, 2, 6, 5, 4, 9]
    shared = order_of(order, block=1, warm_up=1, batches=2)
    assert shared.ours == shared.peer == order[:8]
    assert order_of(order, block=1, warm_up=1, batches=4).ours == order[:8] + 2 * order[4:8]


def test_both_sides_begin_again_at_the_same_block_where_the_rows_are_through() -> None:
    """After the blocks of 20 batches come the first of them again, whole, and never the warm-up."""
    block, warm_up = 5, 2
    shared = order_of(list(range(20 * BATCH)), block=block, warm_up=warm_up, batches=warm_up + 40)
    check_blocks(shared, block=block, warm_up=warm_up)
    assert len(shared.peer) == 42 * BATCH
    first, one_pass = shared.peer[warm_up * BATCH :][: 5 * BATCH], 15 * BATCH
    assert shared.peer[warm_up * BATCH + one_pass :][: 5 * BATCH] == first


def test_too_few_rows_for_a_block_are_an_error() -> None:
    with pytest.raises(ValueError, match="16 rows are too few for 2 batches and a block of 3 of 4"):
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
def test_the_length_of_a_segment_follows_from_the_time(pair_seconds: float, seconds: float, block: int, steps: int) -> None:
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
    comparison = compare([(200.0, 100.0), (20.0, 10.0), (210.0, 100.0)])
    assert comparison.ratio == 2.0
    assert (comparison.ours, comparison.peer) == (200.0, 100.0)
    assert comparison.details()["ratio"] == {"median": 2.0, "min": 2.0, "max": 2.1}
    assert comparison.details()["pairs"][1] == [20.0, 10.0]


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        compare([])


def test_a_segment_of_longer_rows_is_not_taken_for_a_slower_one() -> None:
    short, long = Segment(rows=100, tokens=1000, seconds=1.0), Segment(rows=100, tokens=2000, seconds=2.0)
    assert row_rate(short, 15.0) == row_rate(long, 15.0)
    assert row_rate(Segment(100, 1500, 2.0), 15.0) == 50.0


def test_significant_digits() -> None:
    assert [significant(value) for value in (0.0123456, 123456.0, 2.0)] == [0.01235, 123500.0, 2.0]


def test_the_time_of_a_run_is_shared_out_and_what_one_question_leaves_the_others_have() -> None:
    now = [0.0]
    budget = Budget(60.0, {"a": 10, "b": 20, "c": 30}, clock=lambda: now[0])
    assert budget.share("a") == 10.0
    now[0] = 35.0  # took more
    assert budget.share("b") == 10.0
    now[0] = 40.0
    assert budget.share("c") == 20.0


def test_where_the_time_is_over_nothing_more_is_asked() -> None:
    now = [0.0]
    budget = Budget(60.0, {"a": 10, "b": 20}, clock=lambda: now[0])
    assert budget.share("a") == 20.0
    now[0] = 61.0
    assert budget.share("b") is None
