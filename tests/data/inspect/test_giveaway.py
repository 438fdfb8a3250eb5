"""Columns that alone give the label away: found beside a loop over rows, and only where chance cannot explain it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kits.rows import rows_of

from textune.config.sources import Columns, Labels, MetadataPrefix
from textune.data.columns import select_columns
from textune.data.inspect.audit import audit_data, require_sound
from textune.data.inspect.findings import Finding
from textune.data.inspect.giveaway import FOLDS, told_of_classes, told_of_numbers
from textune.data.labels.encode import encode_labels
from textune.data.labels.infer import infer_labels
from textune.data.labels.map import LABEL
from textune.data.prepared import PreparedData, Split
from textune.errors import DataError


def slow_classes(codes: list[int], folds: list[int], classes: list[int]) -> tuple[float, float]:
    """Errors of the table and of the usual answer, row by row."""
    wrong = usual_wrong = 0
    for fold in range(FOLDS):
        known = [(code, target) for code, target, other in zip(codes, classes, folds, strict=True) if other != fold]
        table: dict[int, Counter[int]] = defaultdict(Counter)
        for code, target in known:
            table[code][target] += 1
        everything = Counter(target for _, target in known)
        usual = min(range(4), key=lambda target: (-everything[target], target))
        for code, target, own in zip(codes, classes, folds, strict=True):
            if own == fold:
                seen = table.get(code)
                answer = usual if seen is None else min(range(4), key=lambda other: (-seen[other], other))
                wrong += answer != target
                usual_wrong += usual != target
    return wrong / len(codes), usual_wrong / len(codes)


some = st.lists(st.tuples(st.integers(0, 5), st.integers(0, FOLDS - 1), st.integers(0, 3)), min_size=1, max_size=40)


@given(some)
def test_the_table_of_a_column_is_that_of_a_loop(rows: list[tuple[int, int, int]]) -> None:
    codes, folds, classes = (list(column) for column in zip(*rows, strict=True))
    told = told_of_classes(np.array(codes), np.array(folds), np.array(classes))
    assert (told.error, told.usual_error) == pytest.approx(slow_classes(codes, folds, classes))


@given(some)
def test_the_table_of_means_is_that_of_a_loop(rows: list[tuple[int, int, int]]) -> None:
    codes, folds, numbers = (list(column) for column in zip(*rows, strict=True))
    told = told_of_numbers(np.array(codes), np.array(folds), np.array(numbers, np.float32))
    missed = usual_missed = 0.0
    for fold in range(FOLDS):
        known = [(code, number) for code, number, other in zip(codes, numbers, folds, strict=True) if other != fold]
        if not known:
            continue
        usual = sum(number for _, number in known) / len(known)
        for code, number, own in zip(codes, numbers, folds, strict=True):
            if own == fold:
                same = [other for known_code, other in known if known_code == code]
                missed += ((sum(same) / len(same) if same else usual) - number) ** 2
                usual_missed += (usual - number) ** 2
    assert told.error == pytest.approx(missed / usual_missed if usual_missed else 1.0)


def audited(columns: dict[str, list[Any]], *names: str, kind: str = "auto", **keys: Any) -> list[Finding]:
    """What the audit says of columns before the texts."""
    return [
        finding for finding in audit_data(prepared(columns, *names, kind=kind, **keys)) if "column" in finding.code
    ]


def prepared(columns: dict[str, list[Any]], *names: str, kind: str = "auto", **keys: Any) -> PreparedData:
    prefix = MetadataPrefix(columns=names, **keys)
    texts = [f"text {number}" for number in range(len(columns["label"]))]
    table = {"text": texts, **{name: pa.array(values) for name, values in columns.items()}}
    examples = select_columns(rows_of(table), Columns(), with_labels=True, prefix=prefix)
    label_map, _ = infer_labels(examples, [], Labels(), kind=kind)
    _, targets = encode_labels(examples, label_map, Labels())
    split = Split("train", examples, {LABEL: targets}, np.arange(len(examples)))
    return PreparedData({"train": split}, {LABEL: label_map}, prefix=prefix)


RANDOM = np.random.default_rng(5)
CLASSES = RANDOM.integers(0, 3, 600).tolist()
NAMES = ["red", "green", "blue"]
LABELS = [NAMES[target] for target in CLASSES]


def test_a_planted_leak_is_refused_and_may_be_allowed() -> None:
    data = {"label": LABELS, "code": [f"x{target}" for target in CLASSES], "other": ["a"] * 600}
    (finding,) = audited(data, "code", "other")
    assert (finding.level, finding.code) == ("error", "column-leak")
    assert "'code'" in finding.message and finding.examples
    with pytest.raises(DataError, match="'code' gives the label away"):
        require_sound(audit_data(prepared(data, "code", "other")))
    (allowed,) = audited(data, "code", "other", allow_leak=("code",))
    assert allowed.level == "note"
    assert not audited(data, "other")


def test_a_value_that_is_missing_only_for_one_label_gives_it_away() -> None:
    data = {"label": ["a", "b"] * 100, "mark": ["x", None] * 100}
    assert audited(data, "mark")


def test_nearly_always_right_is_refused_and_often_right_is_not() -> None:
    for num_wrong, refused in ((4, True), (20, False)):
        codes = [f"x{target}" for target in CLASSES]
        for row in RANDOM.choice(600, num_wrong, replace=False):
            codes[row] = f"x{(CLASSES[row] + 1) % 3}"
        assert bool(audited({"label": LABELS, "code": codes}, "code")) == refused


def test_unique_values_give_nothing_away() -> None:
    data = {
        "label": LABELS,
        "id": list(range(600)),
        "url": [f"http://x/{label}/{n}" for n, label in enumerate(LABELS)],
    }
    assert not audited(data, "id", "url")


def test_the_usual_answer_is_no_leak() -> None:
    """99.5 % of the rows have one label, so that any column is right that often."""
    labels = ["yes" if number % 200 == 0 else "no" for number in range(4000)]
    data = {"label": labels, "source": [f"s{number % 7}" for number in range(4000)], "copy": labels}
    assert [finding.message.split("'")[1] for finding in audited(data, "source", "copy")] == ["copy"]


def test_few_rows_prove_nothing() -> None:
    labels = ["yes" if number % 33 == 0 else "no" for number in range(200)]
    assert not audited({"label": labels, "code": labels}, "code")
    assert audited({"label": labels * 2, "code": labels * 2}, "code")


def test_each_of_several_labels_can_be_given_away() -> None:
    sets = [[NAMES[place] for place in range(3) if RANDOM.random() < 0.4] for _ in range(500)]
    data: dict[str, list[Any]] = {"label": sets, "flag": ["green" in labels for labels in sets]}
    (finding,) = audited(data, "flag", kind="multilabel")
    assert "'green'" in finding.message


def test_a_column_that_explains_a_number_is_refused() -> None:
    groups = RANDOM.integers(0, 8, 500)
    noise = RANDOM.normal(size=500)
    for spread, refused in ((0.05, True), (1.5, False)):
        data = {"label": (groups + spread * noise).tolist(), "group": groups.tolist()}
        assert bool(audited(data, "group", kind="regression")) == refused
