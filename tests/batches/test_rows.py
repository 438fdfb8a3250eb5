"""Rows of a store and the examples that they come from, where an example has several rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore, join_stores


def store_of_chunks(counts: list[int]) -> TokenStore:
    """Example i has `counts[i]` rows; row j has j + 1 tokens, all of them j."""
    num_rows = sum(counts)
    lengths = np.arange(1, num_rows + 1)
    return TokenStore(
        {"ids": np.repeat(np.arange(num_rows), lengths).astype(np.int32)},
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        raw_lengths=lengths.astype(np.int32),
        example=np.repeat(np.arange(len(counts)), counts),
    )


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.randoms())
def test_the_rows_of_examples_are_theirs_in_the_order_asked_for(counts: list[int], random: object) -> None:
    store = store_of_chunks(counts)
    examples = list(range(len(counts)))
    random.shuffle(examples)  # type: ignore[attr-defined]
    rows = store.rows_of(np.array(examples))
    expected = [row for example in examples for row in range(len(store)) if store.example[row] == example]
    assert rows.tolist() == expected and rows.dtype == np.int64


def test_targets_weights_and_places_are_those_of_the_example() -> None:
    store = store_of_chunks([2, 1, 3])
    targets, weights = {"topic": np.array([10, 20, 30])}, np.array([0.1, 0.2, 0.3], dtype=np.float32)
    rows = TokenRows(store, np.array([2, 0]), targets, weights)
    assert rows.rows.tolist() == [3, 4, 5, 0, 1] and rows.row_lengths.tolist() == [4, 5, 6, 1, 2]
    assert rows.lengths.tolist() == [15, 3] and rows.num_windows.tolist() == [3, 2]
    assert rows.targets["topic"].tolist() == [30, 10]
    assert rows.weights is not None and rows.weights.tolist() == weights[[2, 0]].tolist()


def test_an_example_with_one_long_row_is_long() -> None:
    store = store_of_chunks([2, 1, 3])  # rows of 1 and 2, 3, and 4 to 6 tokens
    assert store.shorter_examples(6).tolist() == [0, 1, 2]
    assert store.shorter_examples(5).tolist() == [0, 1]
    assert store.shorter_examples(1).tolist() == []


def test_joined_stores_count_their_examples_on() -> None:
    joined = join_stores([store_of_chunks([2, 1]), store_of_chunks([1, 2])], names=("ids",))
    assert joined.example.tolist() == [0, 0, 1, 2, 3, 3] and joined.lengths.tolist() == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("num_rows", [0, 1, 7])
def test_where_every_example_has_one_row_rows_are_examples(num_rows: int) -> None:
    store = store_of_chunks([1] * num_rows)
    assert store.rows_of(np.arange(num_rows)[::-2]).tolist() == np.arange(num_rows)[::-2].tolist()
