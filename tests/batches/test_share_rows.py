"""Shares of the ranks: whose rows are whose, balanced by tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from textune.batches.layout import share_rows


@given(st.lists(st.integers(1, 300), min_size=1, max_size=120).map(np.array), st.integers(1, 9))
def test_ranks_share_all_rows_and_about_as_many_tokens(lengths: np.ndarray, world: int) -> None:
    shares = share_rows(lengths, world)
    assert len(shares) == world
    assert sorted(np.concatenate(shares)) == list(range(len(lengths)))
    tokens = [int(lengths[share].sum()) for share in shares]
    # Whoever got the last row had the fewest tokens before it.
    assert max(tokens) - min(tokens) <= lengths.max()
    assert all((np.diff(share) > 0).all() and share.dtype == np.int64 for share in shares)
    assert sum(len(share) > 0 for share in shares) == min(world, len(lengths))


def test_the_longest_row_comes_first_and_ties_go_to_the_lowest_rank() -> None:
    shares = share_rows(np.array([4, 4, 9, 1, 4, 2]), 3)
    # 9 -> 0; 4 -> 1; 4 -> 2; 4 -> 1 (a tie); 2 -> 2; 1 -> 2
    assert [share.tolist() for share in shares] == [[2], [0, 4], [1, 3, 5]]
    assert [share.tolist() for share in share_rows(np.array([7, 7]), 4)] == [[0], [1], [], []]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40).map(np.array))
def test_one_rank_has_all_rows_as_they_stand(lengths: np.ndarray) -> None:
    (share,) = share_rows(lengths, 1)
    assert share.tolist() == list(range(len(lengths)))
