"""The order of an epoch: which rows form a batch, the same everywhere."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune import draws
from textune.batches.layout import padding_waste
from textune.batches.order import BUCKET_BATCHES, DRAWING, _draw, plan_epoch
from textune.config.schema import RowOrder
from textune.errors import DataError

DRAWS = Path(draws.__file__)
ORDERS: tuple[RowOrder, ...] = ("shuffle", "bucket", "sequential", "weighted")
LENGTHS = np.array([5, 1, 9, 3, 7, 2, 8, 4, 6, 5])
WEIGHTS = np.array([1, 0, 2, 0.5, 0, 1, 4, 1, 0.25, 3], dtype=np.float32)


def plan(
    lengths: np.ndarray, batch_size: int, order: RowOrder, *, seed: int = 0, epoch: int = 0, drawing: int = DRAWING
) -> list[np.ndarray]:
    weights = np.resize(WEIGHTS, len(lengths))
    return plan_epoch(
        lengths, batch_size=batch_size, order=order, seed=seed, epoch=epoch, weights_N=weights, drawing=drawing
    )


def order_of(num_rows: int, order: RowOrder, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    return np.concatenate(plan(np.resize(LENGTHS, num_rows), 8, order, seed=seed, epoch=epoch))


@pytest.mark.parametrize(
    ("drawing", "order", "batches"),
    [
        (1, "shuffle", [[9, 4, 2, 1], [0, 7, 8, 5], [3, 6]]),
        (1, "bucket", [[3, 7, 9, 0], [8, 4, 6, 2], [1, 5]]),
        (1, "sequential", [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (1, "weighted", [[9, 8, 7, 6], [7, 3, 9, 6], [6, 9]]),
        (2, "shuffle", [[5, 3, 7, 8], [2, 4, 1, 0], [6, 9]]),
        (2, "bucket", [[0, 9, 8, 4], [6, 2], [1, 5, 3, 7]]),
        (2, "sequential", [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (2, "weighted", [[9, 8, 7, 6], [7, 3, 9, 6], [6, 9]]),
    ],
)
def test_plans_are_what_they_always_were(drawing: int, order: RowOrder, batches: list[list[int]]) -> None:
    """Golden values: a change of generator would silently change every run, and every resumed one."""
    assert [batch.tolist() for batch in plan(LENGTHS, 4, order, epoch=1, drawing=drawing)] == batches


@pytest.mark.parametrize(("drawing", "first"), [(1, [5, 0, 6, 1, 7, 2, 4, 3]), (2, [0, 2, 1, 5, 4, 3, 6, 7])])
def test_the_first_shuffle_is_what_it_always_was(drawing: int, first: list[int]) -> None:
    assert np.concatenate(plan(np.resize(LENGTHS, 8), 8, "shuffle", drawing=drawing)).tolist() == first


def test_new_runs_draw_from_raw_bits_alone() -> None:
    """numpy promises the raw stream of a bit generator, and nothing that its `Generator` makes of it."""
    for path in [DRAWS, *sorted(DRAWS.parent.glob("batches/*.py")), *sorted(DRAWS.parent.glob("data/**/*.py"))]:
        code = path.read_text(encoding="utf-8").partition('"""')[2].partition('"""')[2]
        assert path.name == "olddraws.py" or not re.search(
            r"random\.Generator|default_rng|RandomState|import random", code
        ), path


@pytest.mark.parametrize("order", ["shuffle", "bucket", "weighted"])
def test_a_random_plan_depends_on_seed_and_epoch(order: RowOrder) -> None:
    first = order_of(1000, order, seed=3)
    assert (first == order_of(1000, order, seed=3)).all()
    assert (first != order_of(1000, order, seed=3, epoch=1)).any()
    assert (first != order_of(1000, order, seed=4)).any()


@pytest.mark.parametrize("order", ["shuffle", "bucket"])
def test_a_random_order_is_not_biased_by_position(order: RowOrder) -> None:
    means = [np.corrcoef(np.arange(500), order_of(500, order, seed=seed))[0, 1] for seed in range(40)]
    assert abs(np.mean(means)) < 0.03


@given(
    st.integers(1, 200), st.integers(1, 50), st.sampled_from(["shuffle", "bucket", "sequential"]), st.integers(0, 9)
)
def test_every_row_is_in_exactly_one_batch(num_rows: int, batch_size: int, order: RowOrder, epoch: int) -> None:
    batches = plan(np.resize(LENGTHS, num_rows), batch_size, order, epoch=epoch)
    assert len(batches) == -(-num_rows // batch_size)
    assert sorted(np.concatenate(batches)) == list(range(num_rows))
    sizes = [len(batch) for batch in batches]
    whole = [batch_size] * (num_rows // batch_size)
    left = [num_rows % batch_size] if num_rows % batch_size else []
    assert (sorted(sizes) if order == "bucket" else sizes) == (left + whole if order == "bucket" else whole + left)
    assert all(batch.dtype == np.int64 for batch in batches)


def test_a_bucketed_batch_holds_rows_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, size=2 * BUCKET_BATCHES * 8 + 123)
    wasted = {order: padding_waste(lengths, plan(lengths, 8, order)) for order in ORDERS}
    assert wasted["bucket"] < 0.04 < 0.3 < wasted["shuffle"]
    # Batches of one block do not overlap, and short rows come as early as long ones.
    means = np.array([lengths[batch].mean() for batch in plan(lengths, 8, "bucket")])
    assert (np.diff(means) > 0).any() and (np.diff(means) < 0).any()
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3


def test_the_short_batch_of_buckets_stands_anywhere_and_holds_any_length() -> None:
    lengths, places, longest = np.arange(1, 43), set(), set()
    for epoch in range(60):
        batches = plan(lengths, 8, "bucket", epoch=epoch)
        sizes = [len(batch) for batch in batches]
        places.add(sizes.index(2))
        longest.add(int(lengths[batches[sizes.index(2)]].max()))
    assert places == set(range(6))
    assert longest == {2, 10, 18, 26, 34, 42}


def test_buckets_mix_their_rows_anew_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, size=4 * BUCKET_BATCHES * 4)
    together = [{frozenset(batch.tolist()) for batch in plan(lengths, 4, "bucket", epoch=epoch)} for epoch in (0, 1)]
    assert len(together[0] & together[1]) < 0.02 * len(together[0])


def test_rows_are_drawn_in_proportion_to_their_weights() -> None:
    num_epochs = 4000
    drawn = np.concatenate([order_of(10, "weighted", epoch=epoch) for epoch in range(num_epochs)])
    expected = WEIGHTS / WEIGHTS.sum() * 10 * num_epochs
    counts = np.bincount(drawn, minlength=10)
    assert not counts[WEIGHTS == 0].any()
    # Five standard deviations of a binomial count.
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


@given(
    st.lists(st.sampled_from([0.0, 1e-38, 0.1, 1.0, 3e38]), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_a_row_without_weight_is_never_drawn(weights: list[float], batch_size: int, seed: int) -> None:
    weights_N = np.array(weights, dtype=np.float32)
    lengths = np.ones(len(weights), dtype=np.int64)
    if not weights_N.any():
        with pytest.raises(DataError, match="weight above 0"):
            plan_epoch(lengths, batch_size=batch_size, order="weighted", seed=seed, epoch=0, weights_N=weights_N)
        return
    batches = plan_epoch(lengths, batch_size=batch_size, order="weighted", seed=seed, epoch=0, weights_N=weights_N)
    assert len(batches) == -(-len(weights) // batch_size)
    drawn = np.concatenate(batches)
    assert len(drawn) == len(weights) and (weights_N[drawn] > 0).all()


class Fixed:
    """Stands for a generator at the ends of what it can give, which chance would not show."""

    def uniform(self, count: int) -> np.ndarray:
        return np.array([0.0, 0.5, np.nextafter(0.5, 0), np.nextafter(1.0, 0)])[:count]


def test_the_ends_of_the_interval_belong_to_rows_with_weight() -> None:
    assert _draw(np.array([0, 1, 1, 0], dtype=np.float32), Fixed()).tolist() == [1, 2, 1, 2]  # type: ignore[arg-type]


def test_a_draw_needs_weights() -> None:
    with pytest.raises(DataError, match="weight above 0"):
        plan_epoch(LENGTHS, batch_size=4, order="weighted", seed=0, epoch=0)
