"""Folds: disjoint, together all rows, as even as scikit-learn's; and what cannot be cut into so many."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.errors import refused
from kits.rows import examples_of, rows_of
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from textune.config.sources import Columns, DataSection, FoldOff, GivenSource, SplitOff
from textune.data.columns import select_columns
from textune.data.folds import folds_of, spread_classes, spread_sizes
from textune.data.prepare import prepare_data
from textune.data.splits import set_aside, split_rows
from textune.errors import DataError

KEY = "data.validation"


def fold_each(targets: dict[str, np.ndarray], num: int, *, groups: Sequence[Any] | None = None, **keys: Any) -> Any:
    """The fold of each row."""
    if groups is None:
        examples = examples_of(["x"] * num)
        rows, indices = examples.rows, examples.indices
    else:
        rows, indices = rows_of({"text": ["t"] * num, "user": pa.array(groups)}), np.arange(num)
        keys["group_by"] = "user"
    return folds_of(rows, indices, targets, FoldOff(fold=0, **keys), key=KEY, class_names=("a", "b", "c", "d"))


def per_fold(fold_N: np.ndarray, class_N: np.ndarray, folds: int) -> np.ndarray:
    """Rows by fold and class, [F, C]."""
    counts = np.zeros((folds, int(class_N.max()) + 1), int)
    np.add.at(counts, (fold_N, class_N), 1)
    return counts


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(6, 40), min_size=1, max_size=6), folds=st.integers(2, 6), seed=st.integers(0, 9))
def test_each_fold_has_as_many_rows_of_a_class_as_scikit_learn_gives_it(
    sizes: list[int], folds: int, seed: int
) -> None:
    class_N = np.repeat(np.arange(len(sizes)), sizes)
    theirs = np.empty(len(class_N), int)
    for number, (_, chosen) in enumerate(StratifiedKFold(folds).split(class_N, class_N)):
        theirs[chosen] = number
    mixed = np.random.default_rng(seed).permutation(class_N)
    ours = fold_each({"label": mixed}, len(mixed), folds=folds, seed=seed)
    assert np.array_equal(per_fold(ours, mixed, folds), per_fold(theirs, class_N, folds))


@pytest.mark.parametrize("targets", [{}, {"label": np.linspace(0, 1, 53)}, {"label": np.eye(53)}])
def test_without_classes_rows_are_spread_at_random(targets: dict[str, np.ndarray]) -> None:
    ours = fold_each(targets, 53, folds=5)
    sizes = [len(chosen) for _, chosen in KFold(5).split(np.arange(53))]
    assert np.bincount(ours).tolist() == sizes and not np.array_equal(ours, np.sort(ours))
    same = fold_each({"label": np.repeat([0, 1], [3, 50])}, 53, folds=5, stratify=False)
    assert np.array_equal(same, ours)


def test_the_folds_of_a_seed_share_no_row_and_cover_all() -> None:
    """As the splits of five runs see them; another seed has others."""
    targets = {"label": np.arange(47) % 3}
    examples = examples_of(["x"] * 47)
    sides = [split_rows(examples.rows, examples.indices, targets, FoldOff(fold=fold), key=KEY) for fold in range(5)]
    assert np.array_equal(np.sort(np.concatenate([aside for _, aside in sides])), np.arange(47))
    for kept, aside in sides:
        assert np.array_equal(np.sort(np.concatenate([kept, aside])), np.arange(47))
    first, second = (fold_each(targets, 47, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_the_folds_are_the_same_everywhere() -> None:
    """Part of the record of a run: a change must be meant."""
    assert fold_each({"label": np.arange(12) % 2}, 12, folds=3, seed=3).tolist() == [
        0,
        2,
        2,
        2,
        1,
        0,
        0,
        1,
        1,
        0,
        2,
        1,
    ]
    assert fold_each({}, 8, folds=3, seed=4).tolist() == [0, 0, 1, 0, 1, 2, 2, 1]
    groups = ["a", "b", "c", "d", None, None, "a", "b", "e", "c"]
    assert fold_each({"label": np.arange(10) % 2}, 10, groups=groups, folds=3).tolist() == [
        1,
        0,
        2,
        2,
        0,
        1,
        1,
        0,
        2,
        2,
    ]
    assert fold_each({}, 10, groups=groups, folds=3).tolist() == [2, 1, 0, 0, 0, 1, 2, 1, 2, 0]


@settings(max_examples=40)
@given(
    cells=st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=6, max_size=25),
    folds=st.integers(2, 5),
)
def test_groups_are_spread_by_the_rule(cells: list[list[int]], folds: int) -> None:
    """Against the rule written out in fractions, group by group and fold by fold."""
    counts_GC = np.array(cells)
    counts_GC[~counts_GC.any(axis=1), 0] = 1
    assert spread_classes(counts_GC, folds).tolist() == by_the_rule(counts_GC.tolist(), folds)


def by_the_rule(counts: list[list[int]], folds: int) -> list[int]:
    totals = [sum(column) for column in zip(*counts, strict=True)]
    classes = [number for number, total in enumerate(totals) if total]

    def variance(values: list[Fraction]) -> Fraction:
        mean = sum(values) / Fraction(len(values))
        return sum(((value - mean) ** 2 for value in values), Fraction(0)) / len(values)

    unevenness = [variance([Fraction(row[number]) for number in classes]) for row in counts]
    held = [[0] * len(totals) for _ in range(folds)]
    found = [0] * len(counts)
    for group in sorted(range(len(counts)), key=lambda one: -unevenness[one]):

        def unfit(fold: int, group: int = group) -> tuple[float, int]:
            after = [[*row] for row in held]
            after[fold] = [one + more for one, more in zip(held[fold], counts[group], strict=True)]
            spreads = [sqrt(variance([Fraction(row[number], totals[number]) for row in after])) for number in classes]
            return round(sum(spreads) / len(classes), 12), sum(held[fold])

        fold = min(range(folds), key=unfit)
        found[group] = fold
        held[fold] = [one + more for one, more in zip(held[fold], counts[group], strict=True)]
    return found


def test_groups_are_spread_as_evenly_as_scikit_learn_spreads_them() -> None:
    """Its own rule, but for how it rounds: with two classes, where little is rounded, the same rows by fold and class
    (nearly always); with more, shares that differ no more between folds."""
    generator, same, ours_theirs = np.random.default_rng(0), 0, []
    for num_classes in [2] * 40 + [4] * 40:
        counts_GC = generator.poisson(generator.uniform(0.3, 4, (30, num_classes))) + np.eye(
            30, num_classes, dtype=int
        )
        counts_GC[:num_classes] += 5 * np.eye(num_classes, dtype=int)
        group_N = np.repeat(np.repeat(np.arange(30), num_classes), counts_GC.ravel())
        class_N = np.repeat(np.tile(np.arange(num_classes), 30), counts_GC.ravel())
        theirs = np.empty(len(class_N), int)
        for number, (_, chosen) in enumerate(StratifiedGroupKFold(5).split(class_N, class_N, group_N)):
            theirs[chosen] = number
        tables = [per_fold(fold_N, class_N, 5) for fold_N in (spread_classes(counts_GC, 5)[group_N], theirs)]
        ours_theirs.append([(table / table.sum(axis=0)).std(axis=0).mean() for table in tables])
        same += num_classes == 2 and all(np.array_equal(*(np.sort(table[:, at]) for table in tables)) for at in (0, 1))
    ours, theirs_ = np.mean(ours_theirs, axis=0)
    assert same >= 36 and ours <= 1.02 * theirs_


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 30), min_size=6, max_size=40), folds=st.integers(2, 6))
def test_groups_without_classes_are_spread_as_by_scikit_learn(sizes: list[int], folds: int) -> None:
    group_N = np.repeat(np.arange(len(sizes)), sizes)
    theirs = [len(chosen) for _, chosen in GroupKFold(folds).split(group_N, groups=group_N)]
    ours = np.bincount(spread_sizes(np.array(sizes), folds)[group_N], minlength=folds)
    assert sorted(ours.tolist()) == sorted(theirs)


@pytest.mark.parametrize("stratify", [True, False])
def test_groups_stay_whole(stratify: bool) -> None:
    groups: list[str | None] = [f"u{index % 17}" for index in range(200)] + [None] * 20
    fold_N = fold_each({"label": np.arange(220) % 3}, 220, groups=groups, stratify=stratify)
    of_group = {name: set(fold_N[[one == name for one in groups]].tolist()) for name in set(groups) - {None}}
    assert all(len(folds) == 1 for folds in of_group.values()) and len(set(fold_N[200:].tolist())) > 1
    assert max(np.bincount(fold_N)) - min(np.bincount(fold_N)) <= 14


def test_several_tasks_are_stratified_by_combination() -> None:
    """-1 is a missing label; combinations of fewer rows than folds are spread together."""
    generator = np.random.default_rng(0)
    tone = generator.choice([-1, 0, 1, 2], 400, p=[0.1, 0.6, 0.29, 0.01])
    urgent = generator.choice([-1, 0, 1], 400, p=[0.2, 0.78, 0.02])
    fold_N = fold_each({"tone": tone, "urgent": urgent}, 400, folds=5)
    for one in np.unique(combination := tone * 10 + urgent):
        counts = np.bincount(fold_N[combination == one], minlength=5)
        assert counts.max() - counts.min() <= 1 or counts.sum() < 5


def test_fewer_rows_of_a_class_than_folds() -> None:
    targets = {"label": np.repeat([0, 1, 2], [20, 3, 2])}
    with refused(DataError, key="data.validation.folds", value=5, place="train.csv", reason="'c'") as found:
        fold_each(targets, 25, folds=5)
    assert "2 rows" in found.value.message and "2 or less" in found.value.hint
    assert "stratify = false" in found.value.hint and "1 other class" in found.value.message
    assert np.bincount(fold_each(targets, 25, folds=5, stratify=False)).tolist() == [5] * 5
    with refused(DataError, reason="'b'"):
        fold_each({"label": np.repeat([0, 1], [20, 1])}, 21, folds=2)
    fold_each({"label": np.repeat([0, 2], [20, 5])}, 25)  # a class without any rows


def test_fewer_rows_or_groups_than_folds() -> None:
    with refused(DataError, key="data.validation.folds", value=5, place="train.csv"):
        fold_each({}, 4)
    with refused(DataError, key="data.validation.folds", value=5, reason="4 groups"):
        fold_each({}, 40, groups=[f"u{index % 4}" for index in range(40)])
    with refused(DataError, key="data.validation.folds", value=3, reason="1 group"):
        fold_each({"label": np.arange(10) % 2}, 10, groups=["a"] * 10, folds=3)
    with pytest.raises(DataError, match="no column 'user'"):
        folds_of(rows_of({"text": ["t"] * 9}), np.arange(9), {}, FoldOff(fold=0, group_by="user"), key=KEY)


def test_a_fold_is_a_share_beside_others() -> None:
    """The test rows are set aside first, so the folds of what is left cover it, whichever is asked for."""
    rows = {"x": [{"text": f"a text {number}", "label": "ab"[number % 2]} for number in range(40)]}
    source = GivenSource(name="x")
    seen = []
    for fold in range(3):
        section = DataSection(train=source, validation=FoldOff(folds=3, fold=fold), test=SplitOff(ratio=0.25))
        prepared = prepare_data(section, kind="auto", given=rows)
        splits = {name: set(split.indices.tolist()) for name, split in prepared.splits.items()}
        assert splits["validation"].isdisjoint(splits["train"] | splits["test"]) and len(splits["test"]) == 10
        assert prepared.splits["validation"].is_share
        seen.append(splits["validation"])
    assert len(set.union(*seen)) == sum(map(len, seen)) == 30
    section = DataSection(train=source, validation=FoldOff(folds=21, fold=0))
    with refused(DataError, key="data.validation.folds", reason="'a'"):
        prepare_data(section, kind="auto", given=rows)


def test_documents_without_labels_are_cut_into_folds() -> None:
    rows = rows_of({"text": [f"t{number}" for number in range(23)]})
    left = [set_aside(rows, DataSection(validation=FoldOff(fold=fold)))[1]["validation"] for fold in range(5)]
    texts = [text for one in left for text in one.table["text"].to_pylist()]
    assert sorted(texts) == sorted(rows.table["text"].to_pylist()) and [len(one) for one in left] == [5, 5, 5, 4, 4]


def test_columns_are_those_of_the_examples() -> None:
    """Groups follow the examples that are left, not all rows of the file."""
    rows = rows_of({"text": ["t"] * 12, "label": ["a"] * 12, "user": ["a", "b", "c", "d"] * 3})
    part = select_columns(rows, Columns(), with_labels=True).take(np.array([0, 1, 4, 5]))
    fold_N = folds_of(part.rows, part.indices, {}, FoldOff(fold=0, folds=2, group_by="user"), key=KEY)
    assert fold_N[0] == fold_N[2] != fold_N[1] == fold_N[3]
