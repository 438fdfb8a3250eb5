"""Labels of several tasks: in one column of lists or a column each, in every format, with entries left empty; and what
is wrong with them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.errors import refused
from kits.rows import examples_of

from textune.config.sources import Columns, DataSection, FilesSource, GivenSource, Labels, SplitOff
from textune.data.inspect.audit import audit_data
from textune.data.labels.bytask import encode_tasks, task_maps
from textune.data.labels.infer import infer_labels
from textune.data.labels.values import MISSING
from textune.data.prepare import prepare_data, prepare_held_out
from textune.data.prepared import PreparedData
from textune.errors import DataError

GROUPS = {"tone": ("neg", "mid", "pos"), "urgent": ("no", "yes")}
MAPS = task_maps(GROUPS)
SIDE = Columns(labels=("tone", "urgent"))
WANTED = {"tone": [0, 2, MISSING, 1], "urgent": [1, MISSING, MISSING, 0]}


def targets_of(labels: Any, **section: Any) -> dict[str, list[int]]:
    examples = examples_of(labels)
    _, targets = encode_tasks(examples, MAPS, Labels(**section), on_bad_row="error")
    assert all(of_task.dtype == np.int64 for of_task in targets.values())
    return {name: of_task.tolist() for name, of_task in targets.items()}


@pytest.mark.parametrize(
    ("labels", "section"),
    [
        ([[0, 1], [2, None], [None, None], [1, 0]], {}),
        ([[0, 1], [2, None], None, [1, 0]], {}),
        ([["neg", "yes"], ["pos", None], ["", " "], ["mid", "no"]], {}),
        ([["neg", "1"], ["2", ""], None, ["mid", "no"]], {}),
        ([[0.0, 1.0], [2.0, float("nan")], [None, None], [1.0, 0.0]], {}),
        (["[0, 1]", "[2, None]", "", "[1, 0]"], {}),
        (["['neg', 'yes']", "['pos', None]", None, "['mid', 'no']"], {}),
        (["neg,yes", "pos,", ",", "mid, no"], {"delimiter": ","}),
        (["0;1", "2;", "", "1;0"], {"delimiter": ";"}),
        (pa.array([[0, 1], [2, None], [None, None], [1, 0]], pa.list_(pa.int8(), 2)), {}),
    ],
)
def test_a_list_has_an_entry_for_each_task(labels: Any, section: dict[str, str]) -> None:
    assert targets_of(labels, **section) == WANTED


def test_names_that_are_numbers_are_names() -> None:
    maps = task_maps({"stars": ("1", "2", "3"), "urgent": ("no", "yes")})
    _, targets = encode_tasks(examples_of([[1, 1], [3, 0]]), maps, Labels(), on_bad_row="error")
    assert [targets["stars"].tolist(), targets["urgent"].tolist()] == [[0, 2], [1, 0]]


def write(folder: Path, ending: str, columns: dict[str, list[Any]]) -> Path:
    path = folder / f"rows.{ending}"
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if ending == "parquet":
        pq.write_table(pa.table(columns), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        mark = "," if ending == "csv" else "\t"
        cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
        path.write_text("".join(mark.join(row) + "\n" for row in [list(columns), *cells]))
    return path


def prepare(path: Path, columns: Columns, *, groups: Any = GROUPS, **section: Any) -> PreparedData:
    source = FilesSource(files=(str(path),))
    return prepare_data(
        DataSection(train=source, columns=columns, **{"validation": {"kind": "none"}, **section}),
        kind="multitask",
        stated=task_maps(groups),
    )


def found(data: PreparedData, split: str = "train") -> dict[str, list[int]]:
    return {name: targets.tolist() for name, targets in data.splits[split].chosen_targets.items()}


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("tone", "urgent"),
    [
        (["neg", "pos", None, "mid"], ["yes", None, None, "no"]),
        ([0, 2, None, 1], [1, None, None, 0]),
        (["neg", "pos", None, "mid"], [1, None, None, 0]),
    ],
)
def test_every_format_may_have_a_column_for_each_task(
    ending: str, tone: list[Any], urgent: list[Any], tmp_path: Path
) -> None:
    path = write(tmp_path, ending, {"text": list("abcd"), "urgent": urgent, "tone": tone})
    data = prepare(path, SIDE)
    assert found(data) == WANTED and list(data.label_maps) == ["tone", "urgent"]
    # By name if the columns have the names of the tasks, otherwise in order.
    assert found(prepare(path, Columns(labels=("urgent", "tone")))) == WANTED
    renamed = write(tmp_path, ending, {"text": list("abcd"), "x": tone, "y": urgent})
    assert found(prepare(renamed, Columns(labels=("x", "y")))) == WANTED


LISTS: list[Any] = [[[0, 1], [2, None], [None, None], [1, 0]], [["neg", "yes"], ["pos", None], None, ["mid", "no"]]]
MIXED: list[Any] = [["neg", 1], ["pos", None], [None, None], ["mid", 0]]
"""Not in parquet, whose lists have entries of one type."""


@pytest.mark.parametrize(
    ("ending", "labels"),
    [(ending, labels) for ending in ("json", "jsonl", "parquet") for labels in LISTS]
    + [(ending, MIXED) for ending in ("json", "jsonl")],
)
def test_every_format_with_lists_may_have_one_column(ending: str, labels: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path, ending, {"text": list("abcd"), "labels": labels})
    assert found(prepare(path, Columns(label="labels"))) == WANTED


def test_rows_in_memory_and_rows_to_evaluate_are_read_alike(tmp_path: Path) -> None:
    labels = zip("abcd", [0, 2, None, 1], [1, None, None, 0], strict=True)
    rows = [{"text": text, "tone": tone, "urgent": urgent} for text, tone, urgent in labels]
    section = DataSection(train=GivenSource(name="mine"), columns=SIDE, validation={"kind": "none"})  # type: ignore[arg-type]
    data = prepare_data(section, kind="multitask", stated=MAPS, given={"mine": rows})
    assert found(data) == WANTED
    path = write(tmp_path, "csv", {"text": ["a", "b"], "tone": ["pos", None], "urgent": [None, "yes"]})
    held_out = prepare_held_out(
        FilesSource(files=(str(path),)), columns=SIDE, labels=Labels(), label_maps=MAPS, on_bad_row="error"
    )
    assert [held_out.targets["tone"].tolist(), held_out.targets["urgent"].tolist()] == [[2, MISSING], [MISSING, 1]]


def test_a_share_and_evaluation_sets_keep_the_targets_of_their_rows(tmp_path: Path) -> None:
    columns = {"text": [f"t{n}" for n in range(20)], "labels": [[n % 3, n % 2] for n in range(20)]}
    path = write(tmp_path, "jsonl", columns)
    more = {"more": FilesSource(files=(str(path),))}
    data = prepare(path, Columns(label="labels"), validation=SplitOff(ratio=0.25), evaluations=more)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 15, "validation": 5, "more": 20}
    for split in data.splits.values():
        numbers = [int(text[1:]) for text in split.chosen_examples.text.to_pylist()]
        assert split.chosen_targets["tone"].tolist() == [number % 3 for number in numbers]
        assert split.chosen_targets["urgent"].tolist() == [number % 2 for number in numbers]


@pytest.mark.parametrize(
    ("labels", "row", "value", "reasons"),
    [
        ([[0, 1], [3, 0]], 1, "3", ["task 'tone'", "3", "beyond its 3 classes (0 to 2)"]),
        ([[0, 1], [0, 2]], 1, "2", ["task 'urgent'", "2", "beyond its 2 classes (0 to 1)"]),
        ([[0, 1], [1, -1]], 1, "-1", ["task 'urgent'", "-1", "null"]),
        ([["neg", "yes"], ["poss", "no"]], 1, "poss", ["task 'tone'", "'poss'", "Did you mean 'pos'"]),
        ([[0, 1], [0, 1, 1]], 1, ["0", "1", "1"], ["3 entries", "2 tasks (tone, urgent)", "null"]),
        ([[0, None], None, [2, None, 1], [1, 1]], 2, ["2", None, "1"], ["3 entries", "2 tasks"]),
        ([[0, 1], [2], [1, 1]], 1, ["2"], ["1 entry", "2 tasks"]),
        ([[0, 1], [0.5, 1]], 1, "0.5", ["task 'tone'", "0.5"]),
    ],
)
def test_a_bad_label_is_refused_with_its_row_task_and_value(
    labels: list[Any], row: int, value: object, reasons: Sequence[str]
) -> None:
    examples = examples_of(labels)
    with pytest.raises(DataError) as caught:
        encode_tasks(examples, MAPS, Labels(), on_bad_row="error")
    assert caught.value.place == f"train.csv, line {row + 2}" and caught.value.value == value
    assert all(reason in str(caught.value) for reason in reasons), caught.value


def test_bad_rows_are_skipped_and_counted() -> None:
    examples = examples_of([[0, 1], [3, 0], [1], [2, 0]])
    kept, targets = encode_tasks(examples, MAPS, Labels(), on_bad_row="skip")
    assert len(kept) == 2 and [row.place for row in kept.skipped] == ["train.csv, line 3", "train.csv, line 4"]
    assert [targets["tone"].tolist(), targets["urgent"].tolist()] == [[0, 2], [1, 0]]


def test_one_label_per_row_is_no_list() -> None:
    with refused(DataError, key="data.columns.label", value="label", place="train.csv"):
        encode_tasks(examples_of(["neg", "pos"]), MAPS, Labels(), on_bad_row="error")


def test_lists_in_the_column_of_one_task_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", {"text": ["a", "b"], "tone": [[0, 1], [1, 0]], "urgent": [0, 1]})
    with refused(DataError, key="data.columns.labels", value="tone"):
        prepare(path, SIDE)
    with refused(DataError, key="data.columns.labels"):
        prepare(path, Columns(labels=("tone", "urgent", "text")))


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "weights"),
    [("jsonl", [[0.5, 2], [1, 0], [3, 1]]), ("parquet", [[0.5, 2.0], [1.0, 0.0], [3.0, 1.0]])]
    + [(ending, ["[0.5, 2]", "[1, 0]", "[3, 1]"]) for ending in ("jsonl", "tsv")],
)
def test_a_weight_for_each_task(ending: str, weights: list[Any], tmp_path: Path) -> None:
    columns = {"text": list("abc"), "tone": [0, 1, 2], "urgent": [0, 1, 0], "w": weights}
    examples = prepare(write(tmp_path, ending, columns), SIDE.model_copy(update={"weight": "w"})).train.examples
    assert examples.weight is not None and examples.weight.dtype == np.float32
    assert examples.weight.tolist() == [[0.5, 2.0], [1.0, 0.0], [3.0, 1.0]]


def test_a_weight_for_all_tasks_is_a_number(tmp_path: Path) -> None:
    columns = {"text": list("abc"), "tone": [0, 1, 2], "urgent": [0, 1, 0], "w": [0.5, 1, 0]}
    examples = prepare(write(tmp_path, "csv", columns), SIDE.model_copy(update={"weight": "w"})).train.examples
    assert examples.weight is not None and examples.weight.tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "value", "reasons"),
    [
        ([[1, 1], [1]], [1], ["line 2", "has 1 number", "2 tasks (tone, urgent)"]),
        ([[1, 1], [1, 1, 1]], [1, 1, 1], ["line 2", "has 3 numbers"]),
        ([[1, 1], None], None, ["line 2", "is missing"]),
        ([[1, 1], [1, None]], None, ["line 2", "task 'urgent'", "missing"]),
        ([[1, 1], [-1, 1]], -1, ["line 2", "task 'tone'", "-1"]),
        ([[1, 0], [1, 0]], None, ["the task 'urgent'", "zero"]),
        ([[0, 0], [0, 0]], None, ["zero", "nothing would be learned"]),
    ],
)
def test_bad_weights_are_refused(weights: list[Any], value: object, reasons: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", {"text": ["a", "b"], "tone": [0, 1], "urgent": [0, 1], "w": weights})
    with pytest.raises(DataError) as caught:
        prepare(path, SIDE.model_copy(update={"weight": "w"}))
    assert all(reason in str(caught.value) for reason in reasons), caught.value
    assert caught.value.value == value


# --- what auto says, and the audit -----------------------------------------------------------------------------------


def test_auto_sees_lists_for_several_tasks_and_says_what_to_write() -> None:
    labels = [[0, 1, 3], [2, 1, 1], [1, 0, 0]]
    with pytest.raises(DataError) as caught:
        infer_labels(examples_of(labels), [], Labels())
    message = str(caught.value)
    assert (caught.value.key, caught.value.place) == ("task.kind", "train.csv")
    assert "3 tasks" in message and 'task.kind = "multitask"' in message and "task.group_sizes = [3, 2, 4]" in message
    # No list of ids repeats one: these are refused even where labels are said to be ids.
    with refused(DataError, key="task.kind"):
        infer_labels(examples_of(labels), [], Labels(), kind="multilabel")
    assert infer_labels(examples_of([[0, 1], [2, 1]]), [], Labels(), kind="multilabel")[0].several


def test_auto_counts_classes_without_entries_left_empty() -> None:
    with pytest.raises(DataError) as caught:
        infer_labels(examples_of([[0, None], [3, 1], [1, 1]]), [], Labels())
    assert "[1, 1]" in str(caught.value) and "task.group_sizes = [4, 2]" in str(caught.value)


def test_the_audit_counts_by_task(tmp_path: Path) -> None:
    tone = ["neg", "neg", None, "neg", "mid", None]
    urgent = ["no", "yes", None, None, "no", None]
    path = write(tmp_path, "csv", {"text": ["a", "b", "c", "d", "a", "e"], "tone": tone, "urgent": urgent})
    findings = audit_data(prepare(path, SIDE))
    of_code = {finding.code: finding for finding in findings}
    assert of_code["unlabelled"].count == 2 and "line 4" in of_code["unlabelled"].examples[0]
    assert (
        of_code["class-untrained"].message.startswith("Task 'tone'") and "'pos'" in of_code["class-untrained"].message
    )
    notes = [finding.message for finding in findings if finding.code == "classes"]
    assert any("'tone'" in note and "2 of them without a label" in note and "neg 3" in note for note in notes)
    assert any("'urgent'" in note and "3 of them without a label" in note and "no 2" in note for note in notes)
    # The rows of `a` differ in tone and agree in what is urgent.
    assert of_code["conflict"].count == 1


def test_a_set_without_a_label_for_any_task_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path, "jsonl", {"text": list("abc"), "tone": [0, 1, 2], "urgent": [0, 1, 1]})
    bare = write(tmp_path, "json", {"text": list("abc"), "tone": [None, None, None], "urgent": [None, None, None]})
    source = FilesSource(files=(str(bare),))
    with refused(DataError, key="data.evaluations.news", place="rows.json"):
        prepare(good, SIDE, evaluations={"news": source})
    with refused(DataError, key="--data", place="rows.json"):
        prepare_held_out(source, columns=SIDE, labels=Labels(), label_maps=MAPS, on_bad_row="error")
    with refused(DataError, key="data.train", place="rows.json"):
        prepare(bare, SIDE)


@pytest.mark.parametrize(("urgent", "code"), [([None, None, None], "no-label"), (["no", "no", None], "one-class")])
def test_a_task_without_anything_to_tell_apart_is_an_error(urgent: list[Any], code: str, tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", {"text": list("abc"), "tone": ["neg", "mid", "pos"], "urgent": urgent})
    errors = [finding for finding in audit_data(prepare(path, SIDE)) if finding.level == "error"]
    assert [error.code for error in errors] == [code] and "'urgent'" in errors[0].message


def test_rows_labelled_for_different_tasks_do_not_contradict_each_other(tmp_path: Path) -> None:
    columns = {"text": ["a", "a", "b", "c"], "tone": ["neg", None, "mid", "pos"], "urgent": [None, "yes", "no", None]}
    findings = audit_data(prepare(write(tmp_path, "csv", columns), SIDE))
    assert "conflict" not in {finding.code for finding in findings}
