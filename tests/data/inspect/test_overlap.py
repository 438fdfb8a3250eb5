"""Held-out rows that share texts with training rows, beside loops over all pairs of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.data.inspect.duplicates import EMPTY_KEY
from textune.data.inspect.overlap import Overlap, overlap

_ROWS = st.integers(1, 2).flatmap(
    lambda texts: st.tuples(
        st.lists(
            st.tuples(st.lists(st.integers(1, 5), min_size=texts, max_size=texts), st.integers(0, 2)), max_size=9
        ),
        st.lists(
            st.tuples(st.lists(st.integers(1, 5), min_size=texts, max_size=texts), st.integers(0, 3)), max_size=9
        ),
        st.just(texts),
    )
)


def _arrays(rows: list[tuple[list[int], int]], num_texts: int) -> tuple[np.ndarray, np.ndarray]:
    keys = np.array([[EMPTY_KEY if key == 5 else key for key in texts] for texts, _ in rows], np.int64)
    return keys.reshape(len(rows), num_texts).T, np.array([label for _, label in rows], np.int64)


@given(_ROWS)
def test_it_counts_as_a_loop_does(
    rows: tuple[list[tuple[list[int], int]], list[tuple[list[int], int]], int],
) -> None:
    held_out, train, num_texts = rows
    found = overlap(*_arrays(held_out, num_texts), *_arrays(train, num_texts))
    other, same, undecided, agreements, chances = [], [], [], [], []
    for index, (texts, label) in enumerate(held_out):
        met = [theirs for text in set(texts) - {5} for others, theirs in train if text in others]
        if not met:
            continue
        agreements.append(met.count(label) / len(met))
        chances.append([theirs for _, theirs in train].count(label) / len(train))
        (other if agreements[-1] < 0.5 else same if agreements[-1] > 0.5 else undecided).append(index)
    assert [found.other.tolist(), found.same.tolist(), found.undecided.tolist()] == [other, same, undecided]
    assert found.num_sharing == len(agreements)
    assert found.agreement == pytest.approx(np.mean(agreements) if agreements else 1.0)
    assert found.expected == pytest.approx(np.mean(chances) if chances else 1.0)


def _sharing(num: int, *, agreement: float, expected: float = 0.5) -> Overlap:
    rows = np.arange(num)
    return Overlap(rows, rows[:0], rows[:0], agreement, expected)


@pytest.mark.parametrize(
    ("found", "num_rows", "effect"),
    [
        (_sharing(0, agreement=1.0, expected=1.0), 50, ""),
        (_sharing(60, agreement=0.1), 70, "misleads"),
        (_sharing(60, agreement=0.9), 70, "helps"),
        (_sharing(60, agreement=0.45), 70, ""),  # within chance
        (_sharing(5, agreement=0.0), 5, ""),  # so few rows prove nothing
        (_sharing(60, agreement=0.1), 1000, ""),  # most of the score does not depend on them
        (_sharing(60, agreement=0.0, expected=0.0), 70, ""),
    ],
)
def test_an_effect_is_large_and_no_accident(found: Overlap, num_rows: int, effect: str) -> None:
    assert found.effect(num_rows) == effect
