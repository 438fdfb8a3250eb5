"""Reports: their numbers, their warnings and notes, and that nothing in the data can break a page or a terminal."""

from __future__ import annotations

import io
import json
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kits.metrics import scored_rows
from rich.console import Console

from textune.evaluation.intervals import confidence_interval
from textune.evaluation.metrics import METRICS, compute_metrics
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.render import console, markdown
from textune.evaluation.report import Report, build_report

NASTY = (
    "a | b\nc [bold red]d[/bold red] [/] `e` *f* _g_ "
    '<script>alert("h")</script> \x1b[31mi\x1b[0m \u202ej $k$ :smile: \\'
)


def report_of(problem: Any, targets: Any, scores: Any, **changes: Any) -> Report:
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    names = changes.pop("names", ("score",) if problem == "regression" else tuple("abcdefghij"[: scores.shape[-1]]))
    scored = scored_rows(problem, targets, scores, names)
    texts = [f"text {index}" for index in range(len(targets))]
    known: dict[str, Any] = {"texts": texts, "dataset": "test.csv", "fingerprint": "f00d"}
    known |= {name: changes.pop(name) for name in list(changes) if name in EvaluatedRows.__dataclass_fields__}
    options: dict[str, Any] = {"metric": METRICS[scored.answers.measures.main], "bootstrap": 20}
    return build_report(scored, EvaluatedRows(**known), **(options | changes))


def binary_report(**changes: Any) -> Report:
    targets = [0, 0, 0, 1, 1, 1, 1, 1]
    scores = [0.1, 0.2, 0.95, 0.9, 0.8, 0.7, 0.3, 0.4]  # rows 2, 6 and 7 are wrong
    return report_of("binary", targets, [(1 - score, score) for score in scores], **changes)


def multilabel_report(**changes: Any) -> Report:
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float32)
    scores = [[0.9, 0.1, 0.2], [0.6, 0.2, 0.1], [0.1, 0.1, 0.1], [0.8, 0.7, 0.1]]
    return report_of("multilabel", targets, scores, **changes)


def regression_report(**changes: Any) -> Report:
    return report_of("regression", [1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 2.5, 6.0], **changes)


def many_classes_report(num_classes: int, **changes: Any) -> Report:
    random = np.random.default_rng(0)
    targets = np.arange(4 * num_classes) % num_classes
    scores = random.random((len(targets), num_classes)) + 0.7 * (targets[:, None] == np.arange(num_classes))
    names = tuple(f"class {index}" for index in range(num_classes))
    return report_of("multiclass", targets, scores / scores.sum(axis=1, keepdims=True), **({"names": names} | changes))


ALL = [binary_report, multilabel_report, regression_report, lambda **changes: many_classes_report(30, **changes)]


def printed(report: Report, width: int = 80, **options: Any) -> str:
    stream = io.StringIO()
    console.render(report, Console(file=stream, width=width, **options))
    return stream.getvalue()


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_metrics() -> None:
    report = binary_report(bootstrap=100, seed=4)
    targets = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    positive = np.array([0.1, 0.2, 0.95, 0.9, 0.8, 0.7, 0.3, 0.4])
    scored = scored_rows("binary", targets, np.stack([1 - positive, positive], axis=1))
    assert report.metrics == compute_metrics(scored)
    assert report.value == 5 / 8
    interval = confidence_interval(METRICS["accuracy"], scored, samples=100, seed=4)
    assert (report.interval, report.interval_method) == (interval.limits, "Wilson")
    assert report.matrix == ((2, 1), (2, 3))
    assert [tuple(pair) for pair in report.confusions] == [("b", "a", 2), ("a", "b", 1)]
    assert [(row.name, row.support, row.predicted, row.correct) for row in report.classes] == [
        ("a", 3, 4, 2),
        ("b", 5, 4, 3),
    ]


def test_mistakes_are_sorted_by_confidence() -> None:
    report = binary_report(place=lambda row: f"test.csv, line {row + 2}", mistakes=2)
    assert report.num_mistakes == 3
    assert [(mistake.row, mistake.place) for mistake in report.mistakes] == [
        (2, "test.csv, line 4"),
        (6, "test.csv, line 8"),
    ]
    first = report.mistakes[0]
    assert (first.text, first.true, first.predicted, first.score) == ("text 2", "a", "b", 0.95)
    assert binary_report(mistakes=0).mistakes == ()


def test_mistakes_of_several_labels() -> None:
    report = multilabel_report()
    assert report.num_mistakes == 2
    first, second = report.mistakes
    assert (first.row, first.true, first.predicted, first.label, first.score) == (1, ("b",), ("a",), "b", 0.2)
    assert (second.row, second.true, second.predicted, second.label, second.score) == (3, ("a",), ("a", "b"), "b", 0.7)


def test_mistakes_of_numbers_are_the_largest_errors() -> None:
    report = regression_report(mistakes=2)
    assert report.num_mistakes is None
    assert [(mistake.row, mistake.true, mistake.predicted, mistake.score) for mistake in report.mistakes] == [
        (3, 4.0, 6.0, 2.0),
        (0, 1.0, 1.5, 0.5),
    ]


def test_texts_may_be_arrow_columns_and_are_shortened() -> None:
    texts = pa.chunked_array(
        [pa.array(["x" * 1000] * 4, pa.large_string()), pa.array(["short"] * 4, pa.large_string())]
    )
    report = binary_report(texts=texts, pairs=texts)
    assert [len(mistake.text) for mistake in report.mistakes] == [300, 5, 5]
    assert report.mistakes[1].pair == "short"


def test_many_classes_keep_their_matrix_up_to_a_size() -> None:
    matrix = many_classes_report(30).matrix
    assert matrix is not None and sum(map(sum, matrix)) == 120
    report = many_classes_report(201)
    assert report.matrix is None and report.confusions


# --- baseline, warnings, notes ---------------------------------------------------------------------------------------


def test_a_model_that_does_not_beat_the_majority_is_warned_of() -> None:
    targets = [0] * 6 + [1] * 4
    report = report_of("binary", targets, [(0.4, 0.6)] * 5 + [(0.6, 0.4)] * 5)
    assert report.baseline.answer == "a" and report.baseline.value == 0.6 and report.baseline.beaten is False
    (warning,) = report.warnings
    assert warning == (
        "The model does not beat a constant answer: its accuracy is 0.1000, while always answering "
        '"a", the most frequent class of these rows, gives 0.6000.'
    )
    assert "> **Warning:** The model does not beat" in markdown.render(report)
    assert "Warning: The model does not beat" in printed(report, 200)


def test_equal_to_the_majority_is_not_better() -> None:
    assert report_of("binary", [0, 0, 1], [(0.9, 0.1)] * 3).warnings


def test_the_training_rows_decide_the_baseline() -> None:
    report = binary_report(train_targets=np.array([0, 0, 0, 1]))
    assert report.baseline.answer == "a"
    assert report.baseline.rule == 'always answering "a", the most frequent class of the training rows'
    assert report.baseline.value == 3 / 8 and report.baseline.beaten and not report.warnings
    assert report.train_support == (3, 1)
    assert [row["train_support"] for row in report.to_dict()["classes"]] == [3, 1]


def test_a_lead_inside_the_interval_may_be_chance() -> None:
    assert any(
        "may be chance" in note for note in report_of("binary", [0, 1, 1, 0, 1], np.eye(2)[[0, 1, 1, 0, 0]]).notes
    )


def test_baselines_of_other_metrics_and_problems() -> None:
    assert binary_report(metric=METRICS["mcc"]).baseline.value == 0
    report = binary_report(metric=METRICS["f1"])
    assert report.baseline.value == pytest.approx(2 * 5 / 13) and report.baseline.beaten is False
    log_loss = binary_report(metric=METRICS["log_loss"]).baseline
    assert log_loss.rule == "always giving each class its share of these rows as its probability"
    assert log_loss.value == pytest.approx(-(3 * math.log(3 / 8) + 5 * math.log(5 / 8)) / 8)
    assert log_loss.beaten is False
    assert binary_report(metric=METRICS["roc_auc"]).baseline.value == 0.5
    numbers = regression_report().baseline
    assert (numbers.answer, numbers.compared, numbers.beaten) == ("2.5000", "rmse", True)
    assert numbers.value == pytest.approx(math.sqrt(1.25)) and math.isnan(numbers.metrics["pearson"])
    labels = multilabel_report().baseline
    assert (labels.answer, labels.compared) == ("a", "f1_micro")
    assert labels.value == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    silent = multilabel_report(train_targets=np.zeros((5, 3), dtype=np.float32)).baseline
    assert (silent.answer, silent.value) == ("(no label)", 0)


def test_accuracy_below_the_majority_is_noted_where_another_metric_leads() -> None:
    targets = [0] * 8 + [1] * 2
    scores = np.eye(2)[[0] * 5 + [1] * 5]
    report = report_of("binary", targets, scores, metric=METRICS["balanced_accuracy"])
    assert not report.warnings
    assert 'Always answering "a" has accuracy 0.8000, the model 0.7000.' in report.notes


def test_notes_say_what_could_not_be_measured() -> None:
    scores = [[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.8, 0.1]] * 3
    notes = report_of("multiclass", [0, 0, 0, 2, 2, 0], scores).notes
    assert any(note.startswith('No row here belongs to "b"') for note in notes)
    assert 'The model never answers "c".' in notes
    notes = report_of("binary", [1, 1], [(0.2, 0.8)] * 2).notes
    assert any(note.startswith("roc_auc is undefined here: no class has both") for note in notes)
    assert (
        "There is no interval for roc_auc: fewer than 10 rows belong to a class, or to the rest, too few to resample."
        in (binary_report(metric=METRICS["roc_auc"]).notes)
    )
    assert "pearson is undefined here" in " ".join(report_of("regression", [1.0, 2.0], [1.0, 1.0]).notes)
    assert multilabel_report().notes[-2:] == (
        "The model gives no label at all to 1 of 4 rows.",
        "1 of 4 rows has no label. An empty answer to them is right in subset_accuracy, "
        "but counts 0 in the means over samples.",
    )
    assert binary_report(warnings=("3 rows were left out.",)).warnings[-1] == "3 rows were left out."


def test_long_lists_of_classes_are_cut() -> None:
    scores = np.zeros((4, 10))
    scores[:, 0] = 1
    (note,) = (note for note in report_of("multiclass", [0] * 4, scores).notes if note.startswith("No row"))
    assert '9 of 10 classes ("b", "c", "d", "e", "f" and 4 more)' in note


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
def test_json_holds_the_whole_report(make: Any) -> None:
    content = make().to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["rows"] > 0 and content["main"]["value"] == content["metrics"][content["main"]["metric"]]
    assert all(type(value) in (float, type(None)) for value in content["metrics"].values())


def test_undefined_is_null_in_json() -> None:
    content = report_of("binary", [1], [(0.2, 0.8)], place=lambda row: f"line {row}").to_dict()
    assert content["metrics"]["roc_auc"] is None and content["main"]["interval_95"] is None
    assert content["rows"] == 1 and content["classes"][0]["roc_auc"] is None


# --- Markdown --------------------------------------------------------------------------------------------------------


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


@pytest.mark.parametrize("make", ALL)
def test_markdown_tables_keep_their_form_whatever_the_data_says(make: Any) -> None:
    plain = make()
    names = plain.names if plain.problem == "regression" else tuple(f"{NASTY} {name}" for name in plain.names)
    count = plain.num_rows
    report = make(names=names, texts=[NASTY] * count, pairs=[NASTY] * count, place=lambda row: NASTY, dataset=NASTY)
    text = markdown.render(report)
    assert text.count("\n") == markdown.render(plain).count("\n")
    assert "<script" not in text and "\x1b" not in text and "\u202e" not in text and "\r" not in text
    table = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            table = 0
        elif table:
            assert cells(line) == table
        else:
            table = cells(line)


def test_markdown_of_a_binary_report() -> None:
    text = markdown.render(binary_report(place=lambda row: f"test.csv, line {row + 2}"))
    assert text.startswith("# Evaluation of test.csv\n\n**accuracy 0.6250** (95 % interval ")
    for fragment in (
        ' on 8 rows; binary, the positive class is "b".',
        'Baseline, always answering "b", the most frequent class of these rows: accuracy 0.6250.',
        "| mcc | 0.2582 | Matthews' correlation of predicted and true classes |",
        "| average | macro | micro | weighted |\n| --- | ---: | ---: | ---: |\n| precision | 0.6250 | 0.6250 | 0.6562"
        " |",
        "| a | 3 | 4 | 2 | 0.5000 | 0.6667 | 0.5714 | 0.6667 | ",
        "| true \\ predicted | a | b |\n| --- | ---: | ---: |\n| a | 2 | 1 |\n| b | 2 | 3 |",
        "## Most confident mistakes (3 of 3)",
        "| test.csv, line 4 | a | b | 0.9500 | text 2 |",
        "Data fingerprint: `f00d`",
    ):
        assert fragment in text


def test_markdown_lists_confusions_of_many_classes_and_the_worst_of_very_many() -> None:
    text = markdown.render(many_classes_report(30))
    assert "## Most frequent confusions" in text and "## Confusion matrix" not in text
    assert text.count("\n| class ") >= 30
    assert "## Classes: the 100 with the lowest F1 of 120" in markdown.render(many_classes_report(120))


# --- console ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_console(make: Any, width: int) -> None:
    lines = printed(make(), width).splitlines()
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("make", ALL)
def test_the_data_cannot_speak_to_the_terminal(make: Any) -> None:
    plain = make()
    names = (
        plain.names
        if plain.problem == "regression"
        else tuple(f"{NASTY[index:]}" for index in range(len(plain.names)))
    )
    count = plain.num_rows
    report = make(names=names, texts=[NASTY] * count, pairs=[NASTY] * count, place=lambda row: NASTY, dataset=NASTY)
    for options in ({}, {"force_terminal": True, "color_system": "truecolor"}):
        text = printed(report, 400, **options)
        assert "[bold red]d[/bold red]" in text and ":smile:" in text
        assert "\x1b[31m" not in text and "\u202e" not in text


def test_console_of_a_binary_report() -> None:
    text = printed(binary_report(place=lambda row: f"test.csv, line {row + 2}"))
    for fragment in (
        "Evaluation of test.csv\n  accuracy  0.6250  95 % interval ",
        '  baseline  0.6250  accuracy of always answering "b", the most frequent class of',
        "\n  b         5     0.7500  0.6000  0.6667   0.6667\n",
        "\n  b  2  3\n",
        "Most confident mistakes (3 of 3)\n  0.9500  predicted b, true a  test.csv, line 4\n    text 2\n",
    ):
        assert fragment in text
    assert "\x1b" not in text


def test_console_shows_the_worst_classes_and_says_how_many_are_hidden() -> None:
    report = many_classes_report(30)
    text = printed(report)
    assert "Classes, lowest F1 first (15 better ones not shown)" in text
    worst = report.names[report.worst_classes()[0]]
    assert text.index(worst) < text.index("Most frequent confusions")


def test_names_too_long_for_columns_become_letters() -> None:
    names = tuple(f"a name that is rather long, number {index}" for index in range(5))
    targets = np.arange(20) % 5
    text = printed(report_of("multiclass", targets, np.eye(5)[targets], names=names))
    assert "  a  a name that is rather long, number 0  4  0  0  0  0" in text


def test_one_row_and_no_mistakes() -> None:
    report = report_of("binary", [1], [(0.2, 0.8)])
    assert report.interval is None and report.mistakes == ()
    assert "no interval" in printed(report) and "mistakes" not in printed(report)
    assert "mistakes" not in markdown.render(report)
    assert report_of("regression", [1.0], [1.0]).mistakes == ()


def test_a_terminal_of_few_characters_gets_what_it_can_show() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    report = binary_report(texts=["ünïcödé — " * 30] * 8, dataset="tést.csv")
    console.render(report, Console(file=stream, width=80))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "?n?c?d?" in text and "..." in text
