"""Micro-batches and layouts: every row once, within the bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kits.batches import loader_of, rows_of, store_of

from textune.batches.layout import Group, cut_by_tokens, lay_out, num_laid_out, padding_waste
from textune.config.schema import TrainSection

lengths_strategy = st.lists(st.integers(1, 300), min_size=1, max_size=120).map(np.array)
# Neighbours that differ by a token or two: where padding is cheaper than one more group.
near_lengths_strategy = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(1, 40, size=100)
)


@given(lengths_strategy, st.integers(300, 2000), st.sampled_from(["packed", "padded"]))
def test_micro_batches_cover_all_rows_within_the_bound(lengths: np.ndarray, max_tokens: int, layout: str) -> None:
    cuts = cut_by_tokens(lengths, max_tokens, layout=layout)  # type: ignore[arg-type]
    assert sorted(np.concatenate(cuts)) == list(range(len(lengths)))
    for cut in cuts:
        assert (np.diff(lengths[cut]) >= 0).all()
        size = len(cut) * lengths[cut].max() if layout == "padded" else lengths[cut].sum()
        assert size <= max_tokens


@given(near_lengths_strategy, st.integers(20, 900), st.sampled_from(["packed", "padded"]))
def test_what_is_computed_stays_within_the_bound_padding_included(
    lengths: np.ndarray, max_tokens: int, layout: str
) -> None:
    for cut in cut_by_tokens(lengths, max_tokens, layout=layout):  # type: ignore[arg-type]
        groups = lay_out(lengths[cut], layout=layout, max_tokens=max_tokens)  # type: ignore[arg-type]
        assert sum(group.rows for group in groups) == len(cut)
        assert num_laid_out(groups) <= max_tokens or (len(cut) == 1 and num_laid_out(groups) == lengths[cut][0])


def test_the_loader_computes_no_more_than_max_tokens() -> None:
    lengths = np.tile(np.arange(8, 32), 3)
    rows = rows_of(store_of(lengths), np.zeros(len(lengths), np.int64))
    section = TrainSection(batch_size=24, max_tokens=480, prefetch=0, order="sequential")
    batch = next(iter(loader_of(rows, section)))
    assert batch.num_tokens == 468
    assert [len(part.tokens.ids_T) <= 480 for part in batch.micro_batches] == [True]


def test_padding_gives_way_to_the_bound_and_no_further() -> None:
    lengths = np.arange(8, 32)  # 468 tokens in 24 rows
    free = lay_out(lengths, layout="packed")
    assert num_laid_out(free) > 480
    bounded = lay_out(lengths, layout="packed", max_tokens=480)
    assert 468 <= num_laid_out(bounded) <= 480 and len(bounded) <= 24
    assert lay_out(lengths, layout="packed", max_tokens=num_laid_out(free)) == free


def test_a_row_longer_than_the_bound_stands_alone() -> None:
    assert [cut.tolist() for cut in cut_by_tokens(np.array([3, 900, 4]), 10, layout="packed")] == [[0, 2], [1]]


@given(lengths_strategy, st.integers(0, 100))
def test_groups_hold_all_rows_and_cost_no_more_than_any_single_cut(lengths: np.ndarray, group_cost: int) -> None:
    ascending = np.sort(lengths)
    groups = lay_out(ascending, layout="packed", group_cost=group_cost)
    assert sum(group.rows for group in groups) == len(ascending)

    def cost(layout: list[Group]) -> int:
        return sum(group.rows * group.length + group_cost for group in layout)

    start = 0
    for group in groups:
        assert group.length == ascending[start : start + group.rows].max()
        start += group.rows
    one_cut = [
        [Group(cut, int(ascending[cut - 1])), Group(len(ascending) - cut, int(ascending[-1]))]
        for cut in range(1, len(ascending))
    ]
    alternatives = [[Group(len(ascending), int(ascending[-1]))], [Group(1, int(n)) for n in ascending], *one_cut]
    assert cost(list(groups)) <= min(cost(other) for other in alternatives)


def test_without_a_group_cost_nothing_is_padded() -> None:
    groups = lay_out(np.array([1, 1, 5, 9, 9, 9]), layout="packed", group_cost=0)
    assert groups == (Group(2, 1), Group(1, 5), Group(3, 9))
    assert lay_out(np.array([1, 5]), layout="padded") == (Group(2, 5),)
    assert lay_out(np.array([], dtype=np.int64), layout="packed") == ()


def test_padding_waste_counts_what_padding_adds() -> None:
    lengths = np.array([2, 4, 6])
    assert padding_waste(lengths, [np.array([0, 1]), np.array([2])]) == pytest.approx(1 - 12 / 14)
    assert padding_waste(lengths, [np.array([0, 1]), np.array([2])], pad_to=10) == pytest.approx(1 - 12 / 30)
