"""What the audit sees, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kits.rows import examples_of

from textune.config.sources import Labels
from textune.data.inspect import audit, duplicates
from textune.data.inspect.audit import audit_data
from textune.data.inspect.duplicates import conflicting, normalised, repeated, text_keys
from textune.data.inspect.findings import Finding
from textune.data.inspect.tokenfacts import TokenFacts
from textune.data.labels.encode import encode_labels
from textune.data.labels.infer import infer_labels
from textune.data.labels.map import LABEL
from textune.data.prepared import PreparedData, Split

_Rows = Sequence[tuple[str, Any]]


@pytest.fixture(autouse=True)
def few_rows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data of these tests is small; tests/pipeline/test_cautions.py sees what is said of that."""
    monkeypatch.setattr(audit, "MIN_TRAIN_ROWS", 0)
    monkeypatch.setattr(audit, "MIN_HELD_OUT_ROWS", 0)


def _data(
    train: _Rows,
    validation: _Rows = (),
    *,
    kind: str = "auto",
    pairs: Sequence[str] | None = None,
    held_out_pairs: Sequence[str] | None = None,
    **labels: Any,
) -> PreparedData:
    section = Labels(**labels)
    sets = {
        name: examples_of(
            [label for _, label in rows],
            texts=[text for text, _ in rows],
            source=f"{name}.csv",
            pairs=pairs if name == "train" else held_out_pairs,
        )
        for name, rows in (("train", train), ("validation", validation))
        if rows
    }
    label_map, _ = infer_labels(
        sets["train"], [examples for name, examples in sets.items() if name != "train"], section, kind=kind
    )
    splits: dict[str, Split] = {}
    for name, examples in sets.items():
        _, targets = encode_labels(examples, label_map, section)
        splits[name] = Split(name, examples, {LABEL: targets}, np.arange(len(examples)))
    return PreparedData(splits, {"label": label_map})


def _found(data: PreparedData, tokens: TokenFacts | None = None) -> dict[str, Finding]:
    return {finding.code: finding for finding in audit_data(data, tokens=tokens)}


_CLEAN = [(f"text number {index}", "yes" if index % 2 else "no") for index in range(20)]


def test_clean_data_has_notes_only() -> None:
    findings = audit_data(_data(_CLEAN, [("one more", "yes"), ("and another", "no")]))
    assert [(finding.level, finding.code) for finding in findings] == [("note", "classes"), ("note", "classes")]
    assert findings[0].message == "train: 20 rows; no 10, yes 10."


def test_empty_and_blank_texts() -> None:
    found = _found(_data([*_CLEAN, ("", "yes"), (" \t\n", "no")]))
    assert found["empty-text"].count == 2
    assert found["empty-text"].message == "2 texts of the train rows are empty."
    assert found["empty-text"].examples == ("train.csv, line 22: ''", "train.csv, line 23: ''")
    assert "duplicate" not in found
    whole = audit_data(_data([("", "yes"), (" ", "no")]))
    assert (whole[0].level, whole[0].code) == ("error", "all-empty")


def test_a_pair_is_empty_only_if_both_texts_are() -> None:
    found = _found(_data([("", "yes"), ("a", "no"), ("", "yes")], pairs=["b", "", ""]))
    assert found["empty-text"].count == 1
    assert "duplicate" not in _found(_data([("a", "yes"), ("a", "no")], pairs=["b", "c"]))


@pytest.mark.parity("data-checks")
def test_duplicates_and_conflicts() -> None:
    found = _found(_data([*_CLEAN, ("text number 3", "yes"), ("text number 3", "yes"), ("text number 4", "yes")]))
    assert found["duplicate"].count == 3
    assert found["duplicate"].examples[0] == "train.csv, line 22: 'text number 3'"
    assert found["conflict"].count == 1
    assert found["conflict"].message == "1 text of the train rows has different labels in different rows."
    assert found["conflict"].examples == ("train.csv, line 6: 'text number 4'", "train.csv, line 24: 'text number 4'")


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (["one text", "another one", "a third", "and so on"], True),
        (["the same", "the same", "as ever", "as ever"], False),
        (["1", "2", "3", "4"], False),
    ],
    ids=["texts", "texts that differ with nothing", "numbers of rows"],
)
def test_a_conflict_names_the_column_that_tells_its_rows_apart(others: list[str], named: bool) -> None:
    data = _data([("a", "yes"), ("a", "no"), ("b", "yes"), ("b", "no")])
    examples = data.splits["train"].examples
    table = examples.rows.table.append_column("question", pa.array(others, pa.large_string()))
    split = replace(data.splits["train"], examples=replace(examples, rows=replace(examples.rows, table=table)))
    message = _found(replace(data, splits={"train": split}))["conflict"].message
    assert message.startswith("2 texts of the train rows have different labels in different rows.")
    assert ("They differ in 'question', which is not read: data.columns.text_pair" in message) == named


def test_conflicts_of_multilabel_and_regression() -> None:
    rows: list[tuple[str, Any]] = [("a", ["x"]), ("a", ["x", "y"]), ("b", ["y", "x"]), ("b", ["x", "y"])]
    assert _found(_data(rows))["conflict"].count == 1
    scores: list[tuple[str, Any]] = [("a", 0.5), ("a", 0.75), ("b", 0.1), ("b", 0.1)]
    found = _found(_data(scores))
    assert found["conflict"].count == 1
    assert found["scores"].message == "train: 4 rows; scores from 0.1 to 0.75, mean 0.363, deviation 0.277."


@pytest.mark.parity("data-checks")
def test_leaks() -> None:
    validation = [
        ("text number 5", "yes"),
        ("TEXT  number 6!", "no"),
        ("“Text” number 7…", "yes"),
        ("ｔext number 8", "no"),
        ("new", "yes"),
    ]
    found = _found(_data(_CLEAN, validation))
    assert found["leak-exact"].count == 1
    assert found["leak-exact"].message == "1 validation text is also in the train rows (20.0% of validation)."
    assert found["leak-exact"].examples == ("validation.csv, line 2: 'text number 5'",)
    assert found["leak-normalised"].count == 3
    assert (
        "3 validation texts differ from one of the train rows only in case, spacing or punctuation"
        in found["leak-normalised"].message
    )


def test_a_leak_says_how_many_have_another_label() -> None:
    same = [("text number 5", "yes"), ("new", "no")]
    assert "another label" not in _found(_data(_CLEAN, same))["leak-exact"].message
    one = _found(_data(_CLEAN, [("text number 5", "no"), *same[1:]]))["leak-exact"]
    assert one.message.endswith("(50.0% of validation). 1 of them has another label there.")
    two = _found(_data(_CLEAN, [("text number 5", "no"), ("text number 6", "yes"), ("text number 7", "yes")]))
    assert two["leak-exact"].message.endswith("2 of them have another label there.")


def _pairs(flip: bool) -> PreparedData:
    """Training pairs, and as many held-out pairs of the same first texts, with the other label or the same."""
    train = [(f"sentence {index}", "yes" if index % 2 else "no") for index in range(40)]
    held_out = [(text, "no" if (label == "yes") == flip else "yes") for text, label in train]
    return _data(
        train,
        held_out,
        pairs=[f"claim {index}" for index in range(40)],
        held_out_pairs=[f"other {index}" for index in range(40)],
    )


def test_held_out_pairs_that_share_a_text_with_training_pairs() -> None:
    found = _found(_pairs(flip=True))["shared-texts"]
    assert (found.level, found.count) == ("warning", 40)
    assert "40 of 40 validation pairs (100.0%)" in found.message
    assert "40 mostly under another label, 0 mostly under the same one" in found.message
    assert "below chance" in found.message
    assert (
        found.examples[0] == "validation.csv, line 2: 'sentence 0 other 0' / train.csv, line 2: 'sentence 0 claim 0'"
    )
    found = _found(_pairs(flip=False))["shared-texts"]
    assert (found.level, found.count) == ("warning", 40) and "above what it has learned" in found.message


def test_a_text_counts_in_whichever_column_it_stands() -> None:
    train = [(f"sentence {index}", "yes" if index % 2 else "no") for index in range(20)]
    held_out = [(f"new {index}", "no" if index % 2 else "yes") for index in range(20)]
    data = _data(train, held_out, pairs=["claim"] * 20, held_out_pairs=[text for text, _ in train])
    assert "20 mostly under another label" in _found(data)["shared-texts"].message


def test_shared_texts_without_an_effect_are_a_note_or_nothing() -> None:
    train = [(f"sentence {index}", "yes" if index % 2 else "no") for index in range(40)]
    mixed = [(f"sentence {index}", "yes" if index % 4 < 2 else "no") for index in range(40)]
    columns = {"pairs": ["a b"] * 40, "held_out_pairs": [f"other {index}" for index in range(40)]}
    assert _found(_data(train, mixed, **columns))["shared-texts"].level == "note"  # type: ignore[arg-type]
    apart = [(f"new {text}", label) for text, label in mixed]
    apart[0] = mixed[0]
    assert "shared-texts" not in _found(_data(train, apart, **columns))  # type: ignore[arg-type]


def test_whole_pairs_and_empty_texts_are_not_shared_texts() -> None:
    train = [(f"sentence {index}", "yes" if index % 2 else "no") for index in range(20)]
    whole = _found(_data(train, train, pairs=["claim"] * 20, held_out_pairs=["claim"] * 20))
    assert whole["leak-exact"].count == 20 and "shared-texts" not in whole
    other = [(f"new {index}", "yes" if index % 2 else "no") for index in range(20)]
    assert "shared-texts" not in _found(_data(train, other, pairs=[""] * 20, held_out_pairs=[""] * 20))
    assert "shared-texts" not in _found(_data(train, other))


def test_labels_that_are_distributed_otherwise() -> None:
    train = [(f"train {index}", "yes" if index % 2 else "no") for index in range(200)]
    found = _found(_data(train, [(f"new {index}", "yes" if index % 10 else "no") for index in range(100)]))
    assert found["label-shift"].level == "warning"
    assert "differ by 40.0%, most in 'no' (50.0% of train, 10.0% of validation)" in found["label-shift"].message
    slight = _data(train * 10, [(f"new {index}", "yes" if index % 20 > 6 else "no") for index in range(600)])
    assert _found(slight)["label-shift"].level == "note"
    assert "label-shift" not in _found(_data(train, [(f"new {index}", "yes") for index in range(4)]))
    assert "label-shift" not in _found(_data([("a", 0.5), ("b", 1.5)], [("c", 1.5)]))


def test_texts_of_marks_alone_do_not_leak() -> None:
    assert "leak-normalised" not in _found(_data([("!!!", "yes"), ("a", "no")], [("???", "yes"), ("b", "no")]))


@pytest.mark.parametrize("pairs", [False, True])
def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch, pairs: bool) -> None:
    rows = [*_CLEAN, ("text number 3", "yes"), ("", "no"), ("TEXT number 3.", "no")]
    held_out = [*_CLEAN[:7], ("Text, number 9", "no")]
    columns = {"pairs": ["b"] * len(rows), "held_out_pairs": [*"bcdbcdbc"]} if pairs else {}
    data = _data(rows, held_out, **columns)  # type: ignore[arg-type]
    whole = audit_data(data)
    assert len(whole) >= 2
    monkeypatch.setattr(duplicates, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(duplicates, "_BLOCK_KEYS", 2)
    assert audit_data(data) == whole


def test_class_findings() -> None:
    rows = [(f"a{index}", "big") for index in range(50)] + [("b", "single"), ("c", "small"), ("d", "small")]
    found = _found(_data(rows, [("x", "big"), ("y", "other")]))
    assert found["class-untrained"].message == "1 label has no training row: 'other'."
    assert found["class-single"].message == "1 label has only one training row: 'single'."
    assert found["class-unseen"].message == "2 labels have no validation row: 'single', 'small'."
    assert (
        found["imbalance"].message
        == "Classes are imbalanced: 'big' has 50 training rows, 'single' has 1; see task.class_weights."
    )
    assert found["imbalance"].numbers == {"most": 50, "least": 1}


def test_one_class_left_is_an_error() -> None:
    data = _data(_CLEAN)
    only = data.train.only(np.flatnonzero(data.train.targets[LABEL] == 0))
    findings = audit_data(PreparedData({"train": only}, data.label_maps))
    assert findings[0].level == "error"
    assert findings[0].message == "The training rows have only one class: 'no'."
    empty = _data([("a", ["x"]), ("b", ["y"]), ("c", [])])
    none = empty.train.only(np.array([2]))
    assert audit_data(PreparedData({"train": none}, empty.label_maps))[0].code == "no-label"
    scores = _data([("a", 0.5), ("b", 1.5)])
    same = scores.train.only(np.array([0]))
    assert {one.level for one in audit_data(PreparedData({"train": same}, scores.label_maps))} == {"note"}


def test_token_findings() -> None:
    tokens = TokenFacts(
        lengths={"train": np.array([4] * 15 + [8] * 5), "validation": np.array([6])},
        truncated={"train": 5},
        max_length=8,
        num_unknown=3,
        num_tokens=100,
        padding_share=0.25,
    )
    found = {
        (finding.code, finding.message)
        for finding in audit_data(_data(_CLEAN), tokens=tokens)
        if finding.code != "classes"
    }
    assert found == {
        ("lengths", "train rows have 4 to 8 tokens, half of them at most 4, 95 % at most 8."),
        ("lengths", "validation rows have 6 to 6 tokens, half of them at most 6, 95 % at most 6."),
        ("truncated", "5 train rows (25.0%) lose tokens: longer than tokens.max_length 8."),
        ("unknown-tokens", "3.00% of the tokens (3) are unknown to the tokenizer."),
        ("padding", "With padding, a run would spend 25% of its computation on it."),
    }
    levels = {finding.code: finding.level for finding in audit_data(_data(_CLEAN), tokens=tokens)}
    assert (levels["truncated"], levels["unknown-tokens"], levels["padding"]) == ("warning", "warning", "note")


def test_figures_of_a_sentence_are_numbers_too() -> None:
    tokens = TokenFacts(
        lengths={"train": np.array([4] * 15 + [8] * 5)},
        truncated={"train": 5},
        windows={"train": {1: 17, 2: 3}},
        beyond={"train": 12},
        max_length=8,
        num_unknown=3,
        num_tokens=100,
        padding_share=0.25,
    )
    data = _data([(f"a{n}", "yes") for n in range(90)] + [("b", "no")] * 10, [(f"c{n}", "no") for n in range(50)])
    classes = {(one.set, one.code): one.numbers for one in audit_data(data, tokens=tokens) if one.numbers}
    assert classes.pop(("train", "classes")) == {"rows": 100, "without_label": 0, "classes": {"yes": 90, "no": 10}}
    assert classes.pop(("validation", "classes")) == {"rows": 50, "without_label": 0, "classes": {"no": 50, "yes": 0}}
    assert classes.pop(("validation", "label-shift")) == pytest.approx({"distance": 0.9, "before": 0.1, "here": 1.0})
    assert classes == {
        ("train", "lengths"): {"least": 4, "median": 4, "percentile_95": 8, "longest": 8},
        ("train", "windows"): {"rows_by_windows": {"1": 17, "2": 3}, "tokens_lost": 12},
        ("train", "truncated"): {"share": 0.25, "tokens_lost": 12},
        (None, "unknown-tokens"): {"share": 0.03},
        ("train", "padding"): {"share": 0.25},
    }
    scores = audit_data(_data([("a", 0.5), ("b", 1.5)]))
    assert scores[0].numbers == {"least": 0.5, "most": 1.5, "mean": 1.0, "deviation": 0.5}


# --- the arrays underneath -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,\t WORLD!! ", "hello world"),
        ("ＡＢＣ①", "abc1"),
        ("“quoted” — text…", "quoted text"),
        ("ÉCOLE\u00a0x", "e\u0301cole x"),
        ("E\u0301COLE x", "e\u0301cole x"),
        ("...", ""),
        ("", ""),
        ("😀 good", "😀 good"),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(pa.array([text, "x", text], pa.large_string())).to_pylist() == [expected, "x", expected]


@given(st.lists(st.text(alphabet="aB ,.é“\n", max_size=6), max_size=12), st.integers(0, 3))
def test_normalised_does_not_depend_on_neighbours(texts: list[str], start: int) -> None:
    array = pa.array(texts, pa.large_string())
    together = normalised(array.slice(start)).to_pylist()
    assert together == [normalised(pa.array([text], pa.large_string())).to_pylist()[0] for text in texts[start:]]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1)), max_size=12))
def test_repeated_and_conflicting(rows: list[tuple[str, int]]) -> None:
    key_N = text_keys(iter([pa.array([text for text, _ in rows], pa.large_string())]))
    seen: set[str] = set()
    again = []
    for index, (text, _) in enumerate(rows):
        if text in seen:
            again.append(index)
        seen.add(text)
    assert repeated(key_N).tolist() == again
    found = conflicting(key_N, np.array([target for _, target in rows]))
    texts = [text for text, _ in rows]
    mixed = [i for i, text in enumerate(texts) if len({target for other, target in rows if other == text}) > 1]
    assert found.tolist() == sorted(mixed, key=lambda i: (texts.index(texts[i]), i))


def test_where_a_pair_is_divided_matters() -> None:
    """Both rows are the same characters; only the border between the texts differs."""
    joined = [f"{first}{duplicates._SEPARATOR}{second}" for first, second in (("a", "b c"), ("a b", "c"))]
    one, two = normalised(pa.array(joined, pa.large_string())).to_pylist()
    assert one != two


def test_long_texts_are_looked_at_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", 10)
    texts = ["abc", "", "defg", "x" * 30, "hi", "", "j" * 11, "k"]
    pieces = [piece.to_pylist() for piece in duplicates._by_bytes(pa.array(texts, pa.large_string()).slice(1))]
    assert [text for piece in pieces for text in piece] == texts[1:]
    assert all(len(piece) == 1 or sum(map(len, piece)) <= 10 for piece in pieces)
