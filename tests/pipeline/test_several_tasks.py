"""Runs of several tasks, evaluated: beside scikit-learn on plain transformers' logits, on ranks, from the saved
folder."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.errors import refused
from kits.ranking import textune_ranks
from kits.resume import end_of, same_end
from kits.runs import Listener, reviews
from sklearn import metrics as library
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import ConfigError, DataError, Preempted
from textune.evaluation.mainmetric import by_metric
from textune.pipeline.info import in_words, info
from textune.run.manifest import read_manifest

TASKS = {"tone": ("neg", "pos"), "length": ("short", "medium", "long"), "third": ("a", "b", "c")}
MISSING = -1


def rows_of(num_rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Reviews with three labels each, of which one in three is missing for `tone` and `length`."""
    found = []
    for row in reviews(num_rows, seed):
        words = len(row["text"].split())
        labels = [row["label"], "short" if words < 9 else "medium" if words < 16 else "long", "abc"[row["id"] % 3]]
        labels = [None if (row["id"] + task) % 3 == 0 and task < 2 else one for task, one in enumerate(labels)]
        found.append({"text": row["text"], **dict(zip(TASKS, labels, strict=True))})
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def settings(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    news = rows_of(30, seed=1)
    for row in news:
        row["length"] = None  # a set without a label for one of the tasks
    return {
        "data": {
            "train": {"files": str(write(folder / "rows.jsonl", rows_of(120)))},
            "columns": {"labels": list(TASKS)},
            "validation": {"ratio": 0.3},
            "evaluations": {"news": {"files": str(write(folder / "news.jsonl", news))}},
        },
        "task": {"kind": "multitask", "groups": {name: list(classes) for name, classes in TASKS.items()}},
        "tokens": {"max_length": 24, "cache": str(folder / "cache")},
        "model": {"pretrained": str(home / "backbone"), "compile": "off"},
        "train": {
            "duration": "3 epochs",
            "batch_size": 16,
            "precision": "fp32",
            "device": "cpu",
            "evaluate_first": True,
            "optimizer": {"lr": 3e-3},
        },
        "evaluate": {"bootstrap": 100, "train": True, "max_tokens": 200},
    }


@pytest.fixture(scope="module")
def trained_tasks(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Listener]:
    listener = Listener()
    run = tmp_path_factory.mktemp("several") / "run"
    return textune.train(settings, run=run, tracker=listener), listener


def logits_of(folder: Path, texts: list[str]) -> dict[str, torch.Tensor]:
    """float32 [N, C] by task, by plain transformers: the outputs stand in the order of the tasks."""
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    names = [f"{task}/{one}" for task, classes in TASKS.items() for one in classes]
    assert [model.config.id2label[index] for index in range(len(names))] == names
    with torch.no_grad():
        outputs = model.eval()(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    return dict(zip(TASKS, outputs.split([len(classes) for classes in TASKS.values()], dim=1), strict=True))


def targets_of(rows: list[dict[str, Any]], task: str) -> np.ndarray:
    return np.array([MISSING if row[task] is None else TASKS[task].index(row[task]) for row in rows])


def test_every_number_is_that_of_scikit_learn_on_plain_logits(trained_tasks: Any) -> None:
    result, _ = trained_tasks
    rows = rows_of(30, seed=1)
    logits = logits_of(result.run / "best", [row["text"] for row in rows])
    report = result.reports["news"]
    wanted = {}
    for task in ("tone", "third"):
        targets, answers = targets_of(rows, task), logits[task].argmax(dim=1).numpy()
        has = targets != MISSING
        wanted[task] = library.accuracy_score(targets[has], answers[has])
        assert report.metrics[f"{task}/accuracy"] == pytest.approx(wanted[task]) == report.tasks[task].value
        f1 = library.f1_score(targets[has], answers[has], average="macro", zero_division=0)
        assert report.metrics[f"{task}/f1_macro"] == pytest.approx(f1)
        assert report.tasks[task].num_rows == has.sum()
        matrix = library.confusion_matrix(targets[has], answers[has], labels=range(len(TASKS[task])))
        assert np.array_equal(report.tasks[task].matrix, matrix)
    assert (report.metric, report.num_rows) == ("accuracy", 30)
    assert report.value == pytest.approx(np.mean([*wanted.values()]))
    assert report.metrics["accuracy_std"] == pytest.approx(np.std([*wanted.values()]))
    assert list(report.tasks) == ["tone", "third"]
    assert "No row here has a label for length: it is left out of the means." in report.notes


def test_the_mean_chooses_the_best_model_and_stands_everywhere(trained_tasks: Any) -> None:
    result, listener = trained_tasks
    lines = [values for values in listener.evaluations if values["set"] == "validation"]
    values = [line["metrics"]["accuracy"] for line in lines]
    assert all(line["main"] == "accuracy" for line in lines) and len(lines) == 4
    assert result.best_step == lines[int(np.argmax(values))]["step"]
    for line in lines:
        each = [line["metrics"][f"{task}/accuracy"] for task in TASKS]
        assert line["metrics"]["accuracy"] == pytest.approx(np.mean(each))
        assert line["metrics"]["accuracy_std"] == pytest.approx(np.std(each))
    card = json.loads((result.run / "best" / "textune.json").read_text())
    assert card["metric"] == "accuracy" and card["value"] == max(values)
    kept = read_manifest(result.run).metrics["validation"]
    assert kept["accuracy"] == max(values) and {f"{task}/accuracy" for task in TASKS} <= kept.keys()
    written = json.loads((result.run / "report.json").read_text())
    assert list(written["tasks"]) == list(TASKS) and written["metrics"]["accuracy"] == max(values)
    assert "## Task length" in (result.run / "report.md").read_text()
    words = in_words(info(result.run))
    assert words["also, validation"].startswith("tone/accuracy ") and "third/accuracy" in words["also, validation"]
    table = by_metric(kept, TASKS)
    assert set(table["accuracy"]) == {"mean", "std", *TASKS} and set(table["f1"]) == {"tone"}


def test_a_saved_model_is_evaluated_as_the_run_did(trained_tasks: Any, settings: dict[str, Any]) -> None:
    result, _ = trained_tasks
    for part in ("validation", "news", "train"):
        again = textune.evaluate(result.run, part=part, device="cpu")
        assert again.metrics == result.reports[part].metrics and again.baseline == result.reports[part].baseline
    news = settings["data"]["evaluations"]["news"]["files"]
    by_file = textune.evaluate(result.run, data=news, device="cpu")
    assert by_file.metrics == result.reports["news"].metrics
    one = textune.evaluate(result.run, part="validation", metric="length/f1_macro")
    assert one.value == result.reports["validation"].metrics["length/f1_macro"] and one.metric == "length/f1_macro"
    with refused(ConfigError, key="evaluate.metric", value="f1", reason="in common"):
        textune.evaluate(result.run, metric="f1")


def test_the_loss_is_the_mean_over_the_tasks(settings: dict[str, Any], tmp_path: Path) -> None:
    words = {"evaluate.metric": "eval_loss", "task.class_weights": "balanced", "task.label_smoothing": 0.1}
    result = textune.train(settings, run=tmp_path / "run", overrides=words)
    rows = rows_of(30, seed=1)
    logits = logits_of(result.run / "best", [row["text"] for row in rows])
    table = json.loads((result.run / "best" / "textune.json").read_text())["heads"][0]["task"]["class_weights"]
    wanted = []
    for task in ("tone", "third"):
        weights = torch.tensor([table[f"{task}/{one}"] for one in TASKS[task]])
        targets = torch.from_numpy(targets_of(rows, task))
        loss = functional.cross_entropy(logits[task], targets, weights, ignore_index=MISSING, label_smoothing=0.1)
        wanted.append(float(loss))
    report = textune.evaluate(result.run, part="news", device="cpu")
    assert report.metric == "loss" and report.value == pytest.approx(np.mean(wanted), rel=1e-5)
    assert report.metrics["tone/loss"] == pytest.approx(wanted[0], rel=1e-5) and not report.higher_is_better


def test_a_set_without_the_labels_that_are_needed_is_refused_before_training(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    nothing = write(tmp_path / "nothing.jsonl", [{"text": "a film", **dict.fromkeys(TASKS)}] * 3)
    with refused(DataError, key="data.evaluations.more", place="nothing.jsonl"):
        textune.train(settings, run=tmp_path / "run", overrides={"data.evaluations.more.files": str(nothing)})
    by_news = {"evaluate.best_by": "news", "evaluate.metric": "length/accuracy"}
    with refused(ConfigError, key="evaluate.best_by", value="news"):
        textune.train(settings, run=tmp_path / "run", overrides=by_news)
    assert not (tmp_path / "run").exists()
    facts = textune.train(settings, dry_run=True, overrides={**by_news, "evaluate.metric": "tone/accuracy"}).facts
    assert facts is not None and (facts.best_by, facts.metric) == ("news", "tone/accuracy")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_count_every_label_once(
    settings: dict[str, Any], trained_tasks: Any, tmp_path: Path, world: int
) -> None:
    """Of the model before its first step, which is the same on any number of ranks."""
    result, listener = trained_tasks
    config = result.run / "config.toml"
    words = ["train.duration=1 step", "evaluate.bootstrap=0"]
    done = textune_ranks(world, ["train", str(config), "--run", str(tmp_path / "run"), *words], tmp_path / "logs")
    assert done.codes == [0] * world, done.said
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first = [line for line in lines if line["kind"] == "evaluation" and line["step"] == 0]
    assert [line["set"] for line in first] == ["validation", "train", "news"]
    for line, values in zip(first, listener.evaluations, strict=False):
        assert line["set"] == values["set"] and line["metrics"] == values["metrics"]


def test_a_run_of_several_tasks_resumes_bit_for_bit(
    settings: dict[str, Any], trained_tasks: Any, tmp_path: Path
) -> None:
    def stop(result: Any) -> None:
        if result.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        textune.train(settings, run=tmp_path / "run", after_step=stop)
    textune.train(settings, run=tmp_path / "run")
    same_end(end_of(tmp_path / "run"), end_of(trained_tasks[0].run))
