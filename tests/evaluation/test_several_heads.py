"""Several heads: metrics by task, their mean and deviation beside scikit-learn's; rows without a label for a task;
intervals of the mean; the report in its three forms."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from kits.metrics import by_the_library, same, scored_rows
from kits.ranks import on_ranks
from kits.severalheads import LABEL_MAPS, Answered, answered
from rich.console import Console
from sklearn import metrics as library

from textune.data.labels.values import MISSING
from textune.errors import ConfigError, DataError
from textune.evaluation import joint, reduction
from textune.evaluation.heads import ScoredRows, TaskReduction, one_head
from textune.evaluation.intervals import confidence_interval
from textune.evaluation.joint import main_interval
from textune.evaluation.mainmetric import MainMetric, all_metrics
from textune.evaluation.metrics import METRICS, compute_metrics
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.naming import resolve_metric
from textune.evaluation.render import console, markdown
from textune.evaluation.render.json import read_report, render
from textune.evaluation.report import Report, build_report
from textune.evaluation.taskreport import build_task_report
from textune.ranks import Ranks

TASKS = tuple(LABEL_MAPS)
HEADS = answered(4).task.heads


def resolve(wanted: Any) -> MainMetric:
    return resolve_metric(wanted, HEADS)


def accuracies(rows: Answered) -> list[float]:
    """Of each task, by scikit-learn."""
    found = (rows.of(name) for name in TASKS)
    return [float(library.accuracy_score(targets, scores.argmax(axis=1))) for targets, scores in found]


# --- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parity("TW-09")
def test_every_metric_by_task_and_its_mean_and_deviation(seed: int) -> None:
    rows = answered(80, seed)
    values = all_metrics(rows.scored(), resolve("auto"))
    shared = [name for name in METRICS if all(name in head.answers.measures.names for head in HEADS)]
    assert "accuracy" in shared and "f1" not in shared and "loss" not in values
    for name in shared:
        wanted = [by_the_library(name, LABEL_MAPS[task].problem, *rows.of(task)) for task in TASKS]
        assert [values[f"{task}/{name}"] for task in TASKS] == pytest.approx(wanted, rel=1e-9), name
        assert values[name] == pytest.approx(np.mean(wanted), rel=1e-9), name
        assert values[f"{name}_std"] == pytest.approx(np.std(wanted), rel=1e-9, abs=1e-12), name
    assert values["urgent/f1"] == pytest.approx(by_the_library("f1", "binary", *rows.of("urgent")))
    assert "f1" not in values and "tone/f1" not in values
    assert list(values)[:2] == ["accuracy", "accuracy_std"]


def test_a_task_is_measured_on_its_labelled_rows_as_alone() -> None:
    rows = answered(60, 1)
    scored = rows.scored()
    for task in TASKS:
        alone = scored_rows(LABEL_MAPS[task].problem, *rows.of(task), LABEL_MAPS[task].names)
        assert compute_metrics(scored.by_head[task]) == compute_metrics(alone)
    assert scored.num_rows == 60 and scored.unlabelled == []
    numbers = scored.by_head["tone"].rows
    assert numbers is not None and numbers.tolist() == np.flatnonzero(rows.targets["tone"] != MISSING).tolist()
    assert scored.by_head["topic"].rows is None


def without_labels(rows: Answered, *tasks: str) -> Answered:
    nothing = {task: np.full(rows.num_rows, MISSING) for task in tasks}
    return rows._replace(targets={**rows.targets, **nothing})


def test_a_task_without_a_labelled_row_is_left_out_of_the_means() -> None:
    rows = without_labels(answered(50, 2), "tone")
    scored = rows.scored()
    assert scored.unlabelled == ["tone"] and scored.of("tone") is None and scored.of("topic") is not None
    values = all_metrics(scored, resolve("auto"))
    assert not any(name.startswith("tone/") for name in values) and "f1" not in values
    both = [values["urgent/accuracy"], values["topic/accuracy"]]
    assert values["accuracy"] == pytest.approx(np.mean(both)) and values["accuracy_std"] == pytest.approx(np.std(both))
    assert math.isnan(all_metrics(scored, resolve("tone/accuracy"))["tone/accuracy"])
    alone = all_metrics(without_labels(rows, "urgent").scored(), resolve("auto"))
    assert alone["accuracy"] == alone["topic/accuracy"] and alone["accuracy_std"] == 0
    with pytest.raises(DataError, match="no rows to evaluate"):
        without_labels(rows, *TASKS).reduction()


def test_an_undefined_value_is_left_out_of_the_mean() -> None:
    rows = answered(40, 3)
    rows.targets["urgent"][:] = 1  # all of one class: no area under a curve
    values = all_metrics(rows.scored(), resolve("auto"))
    assert math.isnan(values["urgent/roc_auc"])
    assert values["roc_auc"] == pytest.approx(np.mean([values["tone/roc_auc"], values["topic/roc_auc"]]))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_have_the_rows_of_all(world: int) -> None:
    rows = answered(41, 4)
    whole = rows.scored()

    def work(ranks: Ranks) -> ScoredRows:
        reduction = rows.reduction()
        mine = np.random.default_rng(0).permutation(41)[ranks.rank :: world]
        for some in np.array_split(mine, 3):
            part = rows.taken(some)
            reduction.add(some, part.targets, part.scores)
        reduction.merge(ranks)
        return reduction.finish()

    for scored in on_ranks(world, work):
        assert scored.num_rows == 41 and all(same(scored.by_head[task], whole.by_head[task]) for task in TASKS)


# --- what chooses the best model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "name", "tasks"),
    [
        ("auto", "accuracy", TASKS),
        ("eval_loss", "loss", TASKS),
        ("macro_f1", "f1_macro", TASKS),
        ("tone/acc", "tone/accuracy", ("tone",)),
        ("urgent/f1_score", "urgent/f1", ("urgent",)),
        ("urgent/auto", "urgent/accuracy", ("urgent",)),
        (["accuracy", "mcc"], "mean_of_accuracy_and_mcc", TASKS),
        (["tone/accuracy", "urgent/f1"], "mean_of_tone/accuracy_and_urgent/f1", ("tone", "urgent")),
        (["urgent/accuracy", "urgent/f1"], "mean_of_urgent/accuracy_and_urgent/f1", ("urgent",)),
    ],
)
def test_a_metric_is_the_mean_over_the_tasks_or_that_of_one(wanted: Any, name: str, tasks: Sequence[str]) -> None:
    main = resolve(wanted)
    assert (main.name, tuple(main.by_head)) == (name, tuple(tasks))
    again = resolve(main.name)  # as a saved model has it
    assert {head: metric.name for head, metric in again.by_head.items()} == {
        head: metric.name for head, metric in main.by_head.items()
    }
    if main.needs_losses:
        return
    rows = answered(60, 5)
    values = all_metrics(rows.scored(), main)
    parts = [wanted] if isinstance(wanted, str) else wanted
    each = [values[resolve(part).name] for part in parts]
    assert values[main.name] == main.of(rows.scored()) == pytest.approx(np.mean(each))


@pytest.mark.parametrize(
    ("wanted", "value", "reason", "remedy"),
    [
        ("f1", "f1", "no such metric in common", 'Write "urgent/f1".'),
        ("tine/accuracy", "tine/accuracy", "no task 'tine'", "tone, urgent, topic"),
        ("tone/f1", "tone/f1", "a metric for binary problems", "f1_macro"),
        ("pearson", "pearson", "a metric for regression problems", "accuracy"),
        (["tone/accuracy", "tone/mcc", "urgent/f1"], None, "more metrics of one task", "as many of each"),
        (["accuracy", "tone/accuracy"], None, "more metrics of one task", "as many of each"),
        (["tone/accuracy", "urgent/log_loss"], None, "their mean says nothing", "one direction"),
        (["tone/accuracy", "tone/acc"], None, "tone/accuracy twice", "once"),
    ],
)
def test_what_is_no_metric_of_the_tasks_is_refused(wanted: Any, value: Any, reason: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(wanted)
    assert caught.value.key == "evaluate.metric" and caught.value.value == (wanted if value is None else value)
    assert reason in caught.value.message and remedy in caught.value.hint


def test_a_task_may_be_called_like_the_words_between() -> None:
    black = [replace(HEADS[0], name="black_and_white"), replace(HEADS[1], name="tone")]
    main = resolve_metric(["black_and_white/accuracy", "tone/f1"], black)
    assert resolve_metric(main.name, black).name == main.name == "mean_of_black_and_white/accuracy_and_tone/f1"
    with refused(ConfigError, value="white/accuracy", reason="no task"):
        resolve_metric("white/accuracy", black)


# --- the interval of the mean ----------------------------------------------------------------------------------------


@pytest.mark.every_day(1)
@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "log_loss"])
def test_all_tasks_are_resampled_together(name: str) -> None:
    """Beside a plain bootstrap over rows, in which each drawn row keeps its labels for all tasks."""
    rows, main = answered(300, 6), resolve(name)
    found = main_interval(main, rows.scored(), samples=500)
    assert found.method == "BCa bootstrap" and found.limits is not None
    random = np.random.default_rng(1)
    values = [main.of(rows.taken(random.integers(0, 300, 300)).scored()) for _ in range(500)]
    low, high = np.quantile(values, (0.025, 0.975))
    assert found.limits == pytest.approx((low, high), abs=0.2 * (high - low))
    assert found == main_interval(main, rows.scored(), samples=500) != main_interval(main, rows.scored(), seed=1)


def test_tasks_that_err_on_the_same_rows_have_a_wider_interval() -> None:
    """Which resamples of each task by itself would not show."""
    rows = answered(300, 7, missing=0)
    alike = Answered(
        rows.task, dict.fromkeys(TASKS, rows.targets["urgent"]), dict.fromkeys(TASKS, rows.scores["urgent"])
    )
    heads = tuple(replace(rows.task.heads[1], name=task) for task in TASKS)
    alike = alike._replace(task=replace(rows.task, heads=heads))
    one = confidence_interval(METRICS["roc_auc"], alike.scored().by_head["tone"], samples=500).limits
    mean = main_interval(resolve_metric("roc_auc", heads), alike.scored(), samples=500).limits
    assert one is not None and mean is not None
    assert mean == pytest.approx(one, abs=0.15 * (one[1] - one[0]))


def test_one_task_alone_has_the_method_of_one_head() -> None:
    rows = answered(100, 8)
    scored = rows.scored().by_head["tone"]
    for wanted in ("tone/accuracy", "tone/f1_macro"):
        metric = resolve(wanted).by_head["tone"]
        assert main_interval(resolve(wanted), rows.scored()) == confidence_interval(metric, scored)
    alone = without_labels(rows, "urgent", "topic").scored()
    assert main_interval(resolve("auto"), alone) == confidence_interval(METRICS["accuracy"], alone.by_head["tone"])


def test_why_there_is_no_interval() -> None:
    def reason(rows: Answered, wanted: str) -> str:
        return main_interval(resolve(wanted), rows.scored()).reason

    assert "every answer is right" in reason(answered(50, 9, skill=500.0), "accuracy")
    assert "too few to resample" in reason(answered(8, 9), "roc_auc")
    assert "only 4 rows" in reason(answered(4, 9, missing=0, skill=0), "log_loss")
    assert main_interval(resolve("auto"), answered(50, 9).scored(), samples=0).reason == ""


def test_too_much_work_is_done_on_a_part_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, main = answered(6000, 10), resolve("log_loss")
    whole = main_interval(main, rows.scored(), samples=300).limits
    assert whole is not None
    # so that a tenth of the resamples of a third of the rows are left
    monkeypatch.setattr(joint, "MAX_WORK", 100 * (3 * 4000 + 6 * 2000))
    part = main_interval(main, rows.scored(), samples=300).limits
    assert part is not None and part == pytest.approx(whole, abs=0.4 * (whole[1] - whole[0])) and part != whole
    monkeypatch.setattr(joint, "MAX_WORK", 100 * (3 * 4000 + 6 * 500))
    assert "too much work" in main_interval(main, rows.scored(), samples=300).reason


def test_ranked_samples_are_resampled_by_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "MAX_SCORES", 400)  # tone: 133 rows, topic: 100; urgent keeps all
    rows, main = answered(300, 11), resolve("roc_auc")
    scored = rows.scored()
    sample = scored.by_head["tone"].ranked
    assert sample.rows is not None and len(sample) == 133 == len(sample.rows)
    assert np.array_equal(rows.targets["tone"][sample.rows], sample.targets)
    assert np.array_equal(
        rows.targets["topic"][scored.by_head["topic"].ranked.rows], scored.by_head["topic"].ranked.targets
    )
    found = main_interval(main, scored, samples=200).limits
    assert found is not None and found[0] < main.of(scored) < found[1]


# --- the report ------------------------------------------------------------------------------------------------------


def report_of(rows: Answered, wanted: Any = "auto", **options: Any) -> Report:
    texts = [f"text {row}" for row in range(rows.num_rows)]
    place = lambda row: f"test.jsonl, line {row + 1}"  # noqa: E731
    known = EvaluatedRows(texts, place=place, dataset="test: test.jsonl", fingerprint="f00d", num_left_out=2)
    return build_task_report(rows.scored(), known, main=resolve(wanted), **{"bootstrap": 60, **options})


def test_a_report_has_the_means_and_a_report_on_each_task() -> None:
    rows = answered(80, 12)
    train = answered(200, 13)
    report = report_of(rows, train_targets=train.targets)
    assert (report.problem, report.metric, report.num_rows, report.num_left_out) == ("multitask", "accuracy", 80, 2)
    assert report.about() == "3 tasks: tone, urgent, topic" and report.metrics == all_metrics(
        rows.scored(), resolve("auto")
    )
    assert report.value == pytest.approx(np.mean(accuracies(rows)))
    assert report.interval == main_interval(resolve("auto"), rows.scored(), samples=60).limits
    assert list(report.tasks) == list(TASKS) and report.classes == () and report.mistakes == ()
    for name, task in report.tasks.items():
        targets, scores = rows.of(name)
        assert task.names == LABEL_MAPS[name].names and task.num_rows == len(targets) and not task.tasks
        wanted = library.confusion_matrix(targets, scores.argmax(axis=1), labels=range(len(task.names)))
        assert np.array_equal(task.matrix, wanted)
        known = train.of(name)[0]
        assert task.train_support == tuple(np.bincount(known, minlength=len(task.names)))
        most = int(np.bincount(known).argmax())
        assert task.baseline.value == pytest.approx((targets == most).mean())
        assert task.num_mistakes == int((targets != scores.argmax(axis=1)).sum())
    assert report.baseline.value == pytest.approx(np.mean([task.baseline.value for task in report.tasks.values()]))
    assert report.baseline.beaten and "in each task, as the training rows suggest" in report.baseline.rule
    missing = int((rows.targets["tone"] == MISSING).sum())
    assert report.tasks["tone"].notes[0].startswith(f"{missing} of 80 rows have no label for this task")
    assert not any("no label" in note for note in report.tasks["topic"].notes)


def test_mistakes_stand_where_their_rows_stand() -> None:
    rows = answered(60, 14)
    for name, task in report_of(rows, mistakes=50).tasks.items():
        assert task.mistakes
        for mistake in task.mistakes:
            assert mistake.text == f"text {mistake.row}" and mistake.place == f"test.jsonl, line {mistake.row + 1}"
            assert mistake.true == LABEL_MAPS[name].names[rows.targets[name][mistake.row]]
            assert mistake.predicted == LABEL_MAPS[name].names[rows.scores[name][mistake.row].argmax()]
            assert mistake.score == rows.scores[name][mistake.row].max()


def test_a_metric_of_one_task_judges_and_the_others_have_their_own() -> None:
    rows = answered(80, 15)
    report = report_of(rows, "urgent/f1")
    assert report.metric == "urgent/f1" and report.value == report.tasks["urgent"].value == report.metrics["urgent/f1"]
    assert report.interval == report.tasks["urgent"].interval
    assert report.tasks["tone"].metric == "accuracy" and report.tasks["urgent"].metric == "f1"
    assert report.baseline.rule == report.tasks["urgent"].baseline.rule
    assert report.baseline.metrics["urgent/f1"] == report.tasks["urgent"].baseline.metrics["f1"]


def test_a_task_without_rows_is_said_and_a_model_that_beats_nothing_is_warned_of() -> None:
    rows = without_labels(answered(60, 16, skill=0.0), "tone")
    targets = {**rows.targets, "urgent": np.where(np.arange(60) < 57, 0, 1)}
    report = report_of(rows._replace(targets=targets))
    assert "No row here has a label for tone: it is left out of the means." in report.notes
    assert list(report.tasks) == ["urgent", "topic"]
    assert any(warning.startswith("urgent: The model does not beat") for warning in report.warnings)
    assert any(
        warning.startswith("The model does not beat a constant answer: its accuracy") for warning in report.warnings
    )


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    for wanted in ("auto", "tone/log_loss", ["tone/accuracy", "urgent/f1"]):
        report = report_of(answered(60, 17), wanted)
        (tmp_path / "report.json").write_text(render(report), encoding="utf-8")
        assert read_report(tmp_path / "report.json") == report
        tree = json.loads((tmp_path / "report.json").read_text())
        assert tree["problem"] == "multitask" and list(tree["tasks"]) == list(TASKS)
        assert tree["main"]["higher_is_better"] is (wanted != "tone/log_loss")
        assert tree["tasks"]["urgent"]["metrics"]["f1"] == tree["metrics"]["urgent/f1"]


def test_the_report_on_one_head_has_nothing_of_tasks() -> None:
    rows = answered(60, 18, missing=0)
    scored = scored_rows("binary", rows.targets["urgent"], rows.scores["urgent"])
    known = EvaluatedRows(["text"] * 60, dataset="test.csv")
    alone = build_task_report(one_head(scored), known, main=MainMetric("f1", {"label": METRICS["f1"]}), bootstrap=50)
    assert alone == build_report(scored, known, metric=METRICS["f1"], bootstrap=50)
    assert "tasks" not in alone.to_dict() and "tasks" not in markdown.render(alone).lower()
    assert all_metrics(one_head(scored), MainMetric("f1", {"label": METRICS["f1"]})) == compute_metrics(scored)


def page_of(report: Report, width: int = 100) -> str:
    target = Console(file=io.StringIO(), width=width)
    console.render(report, target)
    return target.file.getvalue()  # type: ignore[attr-defined]


def test_the_pages_show_each_task() -> None:
    report = report_of(answered(80, 19))
    page = markdown.render(report)
    means = f"| accuracy | {report.value:.4f} | {report.metrics['accuracy_std']:.4f} |"
    assert "| metric | mean | std | tone | urgent | topic |" in page and means in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Metrics",
        *(f"## Task {name}" for name in TASKS),
    ]
    assert page.count("### Confusion matrix") == 3 == page.count("### Metrics") == page.count("### Classes")
    shown = page_of(report)
    for name, task in report.tasks.items():
        assert f"Task {name}" in shown and f"{task.value:.4f}" in shown
    assert f"{report.metrics['accuracy_std']:.4f}" in shown and shown.count("Confusions") == 3
    assert max(map(len, shown.splitlines())) <= 100
    assert shown.count("Warning") == len(report.warnings) and page.count("**Warning:**") == len(report.warnings)


def test_nothing_in_the_names_of_tasks_breaks_a_page() -> None:
    rows = answered(60, 20)
    nasty = "a | b [bold]c[/bold] *d* # e"
    heads = (replace(rows.task.heads[0], name=nasty), *rows.task.heads[1:])
    renamed = Answered(
        replace(rows.task, heads=heads),
        {nasty: rows.targets["tone"], **rows.targets},
        {nasty: rows.scores["tone"], **rows.scores},
    )
    labelled = {head.name: renamed.targets[head.name] != MISSING for head in heads}
    reduced = reduction_of(renamed, labelled)
    report = build_task_report(
        reduced, EvaluatedRows(["text"] * 60), main=resolve_metric(f"{nasty}/accuracy", heads), bootstrap=20
    )
    page = markdown.render(report)
    assert "\n## Task a \\| b \\[bold\\]c\\[/bold\\] \\*d\\* \\# e\n" in page
    assert "[bold]c[/bold]" in page_of(report)


def reduction_of(rows: Answered, labelled: dict[str, np.ndarray]) -> ScoredRows:
    taken = TaskReduction(rows.task.heads, labelled, num_rows=60)
    taken.add(np.arange(60), rows.targets, rows.scores)
    return taken.finish()
