"""Rows set aside: shares, seeds, groups, and what cannot be split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.rows import examples_of, rows_of

from textune.config.sources import Columns, SplitOff
from textune.data.columns import Examples, select_columns
from textune.data.splits import split_rows
from textune.errors import DataError


def _split(targets: list[int] | np.ndarray, **section: object) -> tuple[np.ndarray, np.ndarray]:
    return _split_by_head({"label": np.array(targets)}, **section)


def _split_by_head(
    targets: dict[str, np.ndarray], *, num_rows: int | None = None, **section: object
) -> tuple[np.ndarray, np.ndarray]:
    examples = examples_of(["x"] * (num_rows or len(next(iter(targets.values())))))
    return split_rows(
        examples.rows, examples.indices, targets, SplitOff.model_validate(section), key="data.validation"
    )


def _message(targets: list[int], **section: object) -> str:
    with pytest.raises(DataError) as caught:
        _split(targets, **section)
    return str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    ratio=st.floats(0.05, 0.9),
    seed=st.integers(0, 5),
)
@pytest.mark.parity("stratified")
def test_stratified_shares(sizes: list[int], ratio: float, seed: int) -> None:
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    try:
        kept, aside = _split(targets, ratio=ratio, seed=seed)
    except DataError:
        wanted = int(len(targets) * ratio + 0.5)
        assert wanted in {0, len(targets)} or max(sizes) == 1
        return
    assert np.array_equal(np.sort(np.concatenate([kept, aside])), np.arange(len(targets)))
    assert np.array_equal(aside, np.sort(aside))
    assert len(kept)
    assert len(aside)
    taken = np.bincount(targets[aside], minlength=len(sizes))
    wanted = int(len(targets) * ratio + 0.5)
    for size, num in zip(sizes, taken, strict=True):
        assert num <= size - 1, "every class keeps a row for training"
    if len(aside) == wanted and all(size * wanted // len(targets) < size - 1 for size in sizes):
        for size, num in zip(sizes, taken, strict=True):
            assert abs(num - size * wanted / len(targets)) < 1, "a share is rounded up or down, never further"


@pytest.mark.parity("stratified", "validation-share", "validation-count")
def test_count_ratio_and_seed() -> None:
    targets = [0] * 70 + [1] * 30
    kept, aside = _split(targets)
    assert len(aside) == 10
    assert np.bincount(np.array(targets)[aside]).tolist() == [7, 3]
    assert len(_split(targets, count=25)[1]) == 25
    assert np.array_equal(_split(targets, seed=1)[1], _split(targets, seed=1)[1])
    assert not np.array_equal(_split(targets, seed=1)[1], aside)
    assert not np.intersect1d(kept, aside).size


@pytest.mark.parity("stratified")
def test_the_split_is_the_same_everywhere() -> None:
    """Part of the record of a run: a change must be meant."""
    assert _split([0, 1] * 10, ratio=0.2, seed=3)[1].tolist() == [0, 4, 7, 9]
    assert _split([0, 1] * 10, ratio=0.2, seed=4, stratify=False)[1].tolist() == [3, 7, 15, 18]


def test_a_class_of_one_row_stays_in_training() -> None:
    for seed in range(10):
        kept, _ = _split([0] * 30 + [1] + [2] * 9, ratio=0.5, seed=seed)
        assert 30 in kept


def test_small_classes_are_served_in_random_order() -> None:
    """Twenty classes of three rows, six rows to give: not always the first six classes."""
    targets = np.repeat(np.arange(20), 3)
    chosen = {int(label) for seed in range(20) for label in targets[_split(targets, seed=seed)[1]]}
    assert len(chosen) == 20


def test_regression_and_multilabel_are_split_at_random() -> None:
    for targets in (np.linspace(0, 1, 50, dtype=np.float32), np.eye(50, dtype=np.float32)):
        assert len(_split_by_head({"label": targets})[1]) == 5
    assert len(_split_by_head({}, num_rows=50)[1]) == 5


@pytest.mark.parametrize("seed", range(3))
def test_several_tasks_are_stratified_by_combination(seed: int) -> None:
    """-1 is a missing label; combinations too rare to give a row of so many give their share together."""
    generator = np.random.default_rng(seed)
    tone = generator.choice([-1, 0, 1, 2], 400, p=[0.1, 0.6, 0.25, 0.05])
    urgent = generator.choice([-1, 0, 1], 400, p=[0.2, 0.78, 0.02])
    kept, aside = _split_by_head({"tone": tone, "urgent": urgent}, ratio=0.25, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([kept, aside])), np.arange(400)) and len(aside) == 100
    combination = tone * 10 + urgent
    sizes = {int(one): int((combination == one).sum()) for one in np.unique(combination)}
    taken = {one: int((combination[aside] == one).sum()) for one in sizes}
    rare = [one for one, size in sizes.items() if size < 4]
    assert rare and len(sizes) - len(rare) > 5
    for one in sizes.keys() - rare:
        assert abs(taken[one] - sizes[one] / 4) < 1
    assert abs(sum(taken[one] for one in rare) - sum(sizes[one] for one in rare) / 4) < 1


def test_tasks_whose_combinations_never_repeat_are_split_at_random() -> None:
    targets = {"first": np.repeat(np.arange(8), 8), "second": np.tile(np.arange(8), 8)}
    chosen = [_split_by_head(targets, count=8, seed=seed)[1] for seed in range(20)]
    assert all(len(aside) == 8 for aside in chosen) and len(set(np.concatenate(chosen))) > 50


@pytest.mark.parametrize(
    ("num_rows", "section", "message"),
    [
        (4, {"ratio": 0.1}, "data.validation would have zero rows: 0.1 of 4 rows. Raise data.validation.ratio"),
        (10, {"count": 10}, "data.validation.count = 10 would leave no training rows: there are 10 rows"),
        (10, {"count": 99}, "would leave no training rows"),
        (10, {"ratio": 0.99}, "data.validation.ratio = 0.99 of 10 rows would leave no training rows"),
    ],
)
def test_sides_without_rows(num_rows: int, section: dict[str, object], message: str) -> None:
    assert message in _message([0, 1] * (num_rows // 2), **section)


def test_more_than_the_classes_can_give() -> None:
    targets = [0, 0, 1, 1, 2, 2]
    message = _message(targets, count=4)
    assert "4 rows cannot be set aside" in message and "keeps a row for training: at most 3 can" in message
    assert len(_split(targets, count=4, stratify=False)[1]) == 4
    assert len(_split(targets, ratio=0.8)[1]) == 3
    assert "set data.validation.stratify = false" in _message([0, 1, 2, 3], ratio=0.5)


def _grouped(groups: Sequence[str | None], **section: object) -> tuple[Examples, np.ndarray, np.ndarray]:
    rows = rows_of({"text": ["t"] * len(groups), "label": [0, 1] * (len(groups) // 2), "user": pa.array(groups)})
    examples = select_columns(rows, Columns(), with_labels=True)
    targets = {"label": np.array([0, 1] * (len(groups) // 2))}
    wanted = SplitOff.model_validate({"group_by": "user", **section})
    return (examples, *split_rows(examples.rows, examples.indices, targets, wanted, key="data.validation"))


def test_groups_stay_whole() -> None:
    groups: list[str | None] = [f"u{index % 13}" for index in range(200)]
    for seed in range(5):
        _, kept, aside = _grouped(groups, ratio=0.3, seed=seed)
        assert not {groups[index] for index in kept} & {groups[index] for index in aside}
        assert 40 <= len(aside) <= 60


def test_groups_follow_the_examples_not_the_rows() -> None:
    groups: list[str | None] = ["a", "b"] * 10
    examples, _, _ = _grouped(groups)
    part = examples.take(np.arange(0, 20, 2))
    with pytest.raises(DataError, match="all rows have the same 'user'"):
        split_rows(
            part.rows, part.indices, {"label": np.zeros(10, np.int64)}, SplitOff(group_by="user"), key="data.test"
        )


def test_groups_larger_than_wanted_and_rows_without_group() -> None:
    _, kept, aside = _grouped(["a"] * 6 + ["b"] * 4, ratio=0.1)
    assert aside.tolist() == [6, 7, 8, 9]
    _, kept, aside = _grouped([None] * 20, ratio=0.25)
    assert (len(kept), len(aside)) == (15, 5)
    with pytest.raises(
        DataError, match=r"no column 'usr'; columns found: 'text', 'label', 'user'. Did you mean 'user'"
    ):
        _grouped(["a", "b"], group_by="usr", count=1)
