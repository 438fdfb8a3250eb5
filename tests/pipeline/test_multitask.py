"""Several tasks in one model, from rows to predictions: trained, evaluated, saved, opened in plain transformers, and
predicted from in Python and on the command line."""

import csv
import json
import random
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from kits.errors import refused
from kits.ranking import textune_ranks
from kits.runs import Listener, write_config, write_jsonl
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.cli import main
from textune.errors import DataError, TextuneError
from textune.pipeline.info import in_words, info

GROUPS = {"tone": ["neg", "mid", "pos"], "urgent": ["no", "yes"]}
TONES = {"neg": ["bad", "dull"], "mid": ["plain", "usual"], "pos": ["good", "great"]}
CONFIG = """
[data]
train.files = "rows.jsonl"
validation.ratio = 0.2
test = { kind = "files", files = "test.jsonl" }
columns.labels = ["tone", "urgent"]
[task]
kind = "multitask"
groups = { tone = ["neg", "mid", "pos"], urgent = ["no", "yes"] }
[model]
pretrained = "backbone"
[train]
duration = "8 epochs"
[evaluate]
bootstrap = 50
"""
REAL = Path(__file__).parents[3] / "shared" / "data" / "training_wizard" / "multi_task_classification.jsonl"


def messages(num_rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose labels are plain from their words; a quarter has no label for one of the two tasks."""
    generator = random.Random(seed)
    rows = []
    for number in range(num_rows):
        tone, urgent = generator.choice(list(TONES)), generator.choice(["no", "yes"])
        words = generator.choices(["the", "film", "is", "a", "movie"], k=generator.randint(1, 12))
        words += [*generator.choices(TONES[tone], k=2), *(["now", "today"] if urgent == "yes" else ["later"])]
        generator.shuffle(words)
        missing = {0: "tone", 2: "urgent"}.get(number % 8)
        row = {"text": " ".join(words), "tone": tone, "urgent": urgent}
        rows.append(row | ({missing: None} if missing else {}))
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    words = ["the", "film", "is", "a", "movie", "now", "today", "later", *chain.from_iterable(TONES.values())]
    write_jsonl(folder / "rows.jsonl", messages(240))
    write_jsonl(folder / "test.jsonl", messages(40, seed=1))
    return write_config(folder, CONFIG, words=words)


@pytest.fixture(scope="module")
def run(place: Path) -> Any:
    listener = Listener()
    return textune.train(place / "config.toml", run=place / "runs" / "first", tracker=listener), listener


def test_all_tasks_are_learned_and_reported(run: Any) -> None:
    result, listener = run
    assert "multitask, 5 labels: tone/neg, tone/mid, tone/pos, urgent/no, urgent/yes" in listener.words["task"]
    metrics = result.reports["test"].metrics
    assert metrics["tone/accuracy"] > 0.9 and metrics["urgent/accuracy"] > 0.9
    both = [metrics["tone/accuracy"], metrics["urgent/accuracy"]]
    assert metrics["accuracy"] == pytest.approx(np.mean(both)) == result.reports["test"].value
    assert metrics["accuracy_std"] == pytest.approx(np.std(both))
    values = [entry["metrics"]["accuracy"] for entry in listener.evaluations]
    assert result.reports["validation"].value == pytest.approx(max(values), abs=1e-12)
    lines = map(json.loads, (result.run / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parity("TW-09")
def test_the_saved_folder_is_the_same_in_plain_transformers(run: Any, place: Path) -> None:
    folder = run[0].run / "best"
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [row["text"] for row in messages(20, seed=2)]
    with torch.no_grad():
        logits = plain(**tokenizer(texts, return_tensors="pt", padding=True, truncation=True)).logits.double()
    assert list(plain.config.id2label.values()) == ["tone/neg", "tone/mid", "tone/pos", "urgent/no", "urgent/yes"]
    model = textune.load(run[0].run)
    scores: Any = model.score(texts)
    np.testing.assert_allclose(scores["tone"], torch.softmax(logits[:, :3], 1).numpy(), atol=1e-5)
    np.testing.assert_allclose(scores["urgent"], torch.softmax(logits[:, 3:], 1).numpy(), atol=1e-5)


def test_python_predicts_by_task(run: Any) -> None:
    model = textune.load(run[0].run)
    texts = ["the film is good great now today", "a bad dull movie later"]
    found: Any = model.predict(texts)
    assert {name: [one.label for one in of_task] for name, of_task in found.items()} == {
        "tone": ["pos", "neg"],
        "urgent": ["yes", "no"],
    }
    probabilities: Any = model.predict_proba(texts)
    assert {name: array.shape for name, array in probabilities.items()} == {"tone": (2, 3), "urgent": (2, 2)}
    first = found["tone"][0]
    assert probabilities["tone"][0].tolist() == list(first.scores.values())
    assert list(first.scores) == ["neg", "mid", "pos"] and first.score == max(first.scores.values())
    table = model.predict_table([{"text": text} for text in texts], all_scores=True).to_pydict()
    assert list(table) == [
        *("predicted_label_tone", "predicted_score_tone", "score_tone/neg", "score_tone/mid", "score_tone/pos"),
        *("predicted_label_urgent", "predicted_score_urgent", "score_urgent/no", "score_urgent/yes"),
    ]
    assert table["predicted_label_tone"] == ["pos", "neg"] and table["predicted_label_urgent"] == ["yes", "no"]
    assert table["score_tone/pos"][0] == pytest.approx(first.scores["pos"], abs=1e-6)
    assert "multitask, 5 labels (tone/neg" in repr(model)
    assert in_words(info(run[0].run))["task"].startswith("multitask")


@pytest.mark.every_day(2)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_command_line_writes_a_column_for_each_task(ending: str, run: Any, tmp_path: Path) -> None:
    rows = messages(30, seed=3)
    source, target = (
        write_jsonl(tmp_path / "in.jsonl", [{"text": row["text"]} for row in rows]),
        tmp_path / f"out.{ending}",
    )
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run[0].run), "--input", str(source), "--output", str(target), "--all-scores"])
    assert not ended.value.code
    if ending == "csv":
        with target.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    elif ending == "parquet":
        found = pq.read_table(target).to_pylist()
    else:
        found = [json.loads(line) for line in target.read_text().splitlines()]
    predictions: Any = textune.load(run[0].run).predict([row["text"] for row in rows])
    for name in GROUPS:
        assert [row[f"predicted_label_{name}"] for row in found] == [one.label for one in predictions[name]]
    assert {"score_tone/neg", "score_urgent/yes", "predicted_score_urgent"} <= set(found[0])


def test_rows_that_are_evaluated_later_may_lack_labels(run: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "later.jsonl", messages(24, seed=4))
    report = textune.evaluate(run[0].run, data=path)
    assert report.num_rows == 24 and report.metrics["tone/accuracy"] > 0.8
    path = write_jsonl(tmp_path / "wrong.jsonl", [{"text": "a", "tone": "neg", "urgent": "maybe"}])
    with refused(DataError, place="wrong.jsonl, line 1", reason="'urgent'"):
        textune.evaluate(run[0].run, data=path)


def test_ranks_write_what_one_process_writes(run: Any, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": row["text"]} for row in messages(60, seed=5)])
    words = [
        "predict",
        str(run[0].run),
        "--input",
        str(source),
        "--all-scores",
        "--max-tokens",
        "80",
        "--compile",
        "off",
    ]
    with pytest.raises(SystemExit):
        main([*words, "--output", str(tmp_path / "alone.jsonl")])
    ended = textune_ranks(2, [*words, "--output", str(tmp_path / "ranks.jsonl")], tmp_path / "logs")
    assert ended.codes == [0, 0], ended.said
    assert (tmp_path / "ranks.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


def test_going_on_keeps_the_tasks_that_stay(run: Any, place: Path, tmp_path: Path) -> None:
    listener = Listener()
    overrides = [f"model.pretrained={run[0].run}", "train.duration=1 steps", "train.optimizer.lr=1e-9"]
    overrides += ['task.groups={ urgent = ["no", "yes"], tone = ["neg", "mid", "pos"] }']
    again = textune.train(
        place / "config.toml",
        run=tmp_path / "again",
        overrides=overrides,
        unset=["task.groups"],  # a table that is set merges with that of the file, in its order
        tracker=listener,
    )
    assert again is not None and any("in the order of the labels here" in notice for notice in listener.notices)
    texts = [row["text"] for row in messages(10, seed=6)]
    before, after = (textune.load(one.run).score(texts) for one in (run[0], again))
    for name in GROUPS:
        np.testing.assert_allclose(after[name], before[name], atol=1e-4)  # type: ignore[call-overload]


def test_streamed_rows_are_read_alike(place: Path, tmp_path: Path) -> None:
    stream = {"kind": "stream", "files": [str(place / "rows.jsonl")], "num_rows": 240}
    held_out = {"kind": "files", "files": str(place / "test.jsonl")}
    overrides = {"data.train": stream, "data.validation": held_out, "data.test": {"kind": "none"}}
    result = textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result is not None and result.reports["validation"].metrics["urgent/accuracy"] > 0.8


def test_check_says_what_the_rows_have_by_task(place: Path) -> None:
    result = textune.check(place / "config.toml", timing=False)
    assert result.ok and result.facts.problem == "multitask"
    notes = [finding.message for finding in result.findings if finding.code == "classes"]
    assert len(notes) == 6 and any(note.startswith("Task 'tone': train:") for note in notes)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parity("TW-09")
def test_a_file_of_lists_trains_and_reports_its_three_tasks(real: bool, place: Path, tmp_path: Path) -> None:
    if real and not REAL.is_file():
        pytest.skip("the public data sets are not beside the repository")
    path = (
        REAL
        if real
        else write_jsonl(
            tmp_path / "rows.jsonl", [{"text": f"a film {n}", "labels": [n % 3, n % 2, n % 4]} for n in range(20)]
        )
    )
    sizes = [3, 2, 4]
    overrides: dict[str, Any] = {
        "data": {
            "train": {"files": str(path)},
            "columns": {"label": "labels"},
            "validation": {"kind": "files", "files": str(path)},
        },
        "task": {"kind": "multitask", "group_sizes": sizes},
        "tokens": {"cache": str(tmp_path / "cache")},
        "model": {"pretrained": str(place / "backbone")},
        "train": {"duration": "2 epochs", "batch_size": 8},
    }
    result = textune.train(overrides, run=tmp_path / "run")
    assert result is not None
    report = result.reports["validation"]
    assert {f"group_{index}/accuracy" for index in range(3)} <= set(report.metrics)
    with pytest.raises(TextuneError) as caught:
        textune.train({**overrides, "task": {"kind": "auto"}}, run=tmp_path / "auto")
    assert caught.value.key == "task.kind" and f"task.group_sizes = {sizes}" in str(caught.value)
