"""A whole run on a tiny backbone: what it writes, what it says, and that what it keeps is what it measured."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.patience import every_day
from kits.runs import Listener, reviews, write_csv
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import ConfigError, DataError, ModelError, RunError, TextuneError
from textune.run.folder import RunFolder
from textune.run.tracking.table import TRACKERS
from textune.training.learner import Learner


def test_a_run_learns_and_says_what_it_did(trained: Any, home: Path) -> None:
    result, listener = trained
    assert result.reports["validation"].value > 0.85
    assert result.reports["test"].num_rows == 21
    assert listener.facts is not None and listener.facts.layout == "packed"
    assert listener.facts.rows == {"train": 143, "validation": 36, "test": 21}
    assert "143 train, 36 validation, 21 test" in listener.words["rows"]
    manifest = json.loads((result.run / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["steps"] == 54
    lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} >= {"step", "evaluation"}
    # `evaluations` belongs to the tests that evaluate this run again.
    assert {path.name for path in result.run.iterdir()} - {"evaluations"} == {
        *("best", "checkpoints", "lock", "config.toml", "manifest.json", "metrics.jsonl", "run.log"),
        *("model-card.md", "report-test.json", "report-test.md", "report.html", "report.json", "report.md"),
    }


@pytest.mark.parity("TR-09")
def test_the_best_model_is_the_best_evaluation(trained: Any) -> None:
    result, listener = trained
    values = [entry["metrics"]["accuracy"] for entry in listener.evaluations]
    best = max(range(len(values)), key=lambda i: (values[i], -i))
    assert result.best_step == listener.evaluations[best]["step"]
    assert result.reports["validation"].value == pytest.approx(values[best], abs=1e-12)


@pytest.mark.parity("best-at-end")
def test_saved_is_loaded_bitwise_and_plain_transformers_agrees(trained: Any) -> None:
    result, _ = trained
    texts = [row["text"] for row in reviews(30, seed=5)]
    first, second = textune.load(result.run), textune.load(result.run / "best")
    scores = first.score(texts)
    assert np.array_equal(scores, second.score(texts))

    tokenizer = AutoTokenizer.from_pretrained(result.run / "best")
    model = AutoModelForSequenceClassification.from_pretrained(result.run / "best").eval()
    assert model.config.id2label == {0: "neg", 1: "pos"}
    inputs = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.inference_mode():
        plain = torch.softmax(model(**inputs).logits, dim=1).numpy()
    np.testing.assert_allclose(scores, plain, atol=1e-5)


def test_a_text_alone_and_in_any_batch_scores_the_same(trained: Any) -> None:
    predictor = textune.load(trained[0].run)
    texts = [row["text"] for row in reviews(40, seed=6)]
    together = predictor.score(texts)
    alone = np.concatenate([predictor.score([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together[::-1], predictor.score(texts[::-1]), atol=1e-5)


@pytest.mark.every_day(3)
@pytest.mark.parametrize("num_rows", every_day(range(1, 41), (1, 2, 3, 7, 8, 16, 17, 33, 40)))
def test_every_row_is_counted_once(trained: Any, home: Path, tmp_path: Path, num_rows: int) -> None:
    """R6: the metric equals scikit-learn's on all rows, whatever the number of rows and the size of the batches."""
    from sklearn.metrics import accuracy_score

    from textune.config.sources import FilesSource

    rows = reviews(num_rows, seed=num_rows)
    path = write_csv(tmp_path / "test.csv", rows)
    predictor = textune.load(trained[0].run, max_tokens=24 + 37 * (num_rows % 7))
    scores = predictor.score([row["text"] for row in rows])
    wanted = accuracy_score([row["label"] == "pos" for row in rows], scores.argmax(axis=1) == 1)
    report = textune.evaluate(trained[0].run / "best", data=FilesSource(files=(str(path),)), precision="fp32")
    assert report.num_rows == num_rows
    assert report.metrics["accuracy"] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parity("TR-16", "AZ-26")
def test_evaluating_again_gives_the_run_s_own_figures(trained: Any) -> None:
    result, _ = trained
    for part in ("validation", "test"):
        again = textune.evaluate(result.run, part=part)
        assert again.metrics == result.reports[part].metrics
    assert (result.run / "evaluations" / "test.json").is_file()


@pytest.mark.parity("TR-15", "AZ-14")
def test_training_again_from_the_written_config_gives_the_same_model(trained: Any, home: Path) -> None:
    result, _ = trained
    again = textune.train(result.run / "config.toml", run=home / "runs" / "again")
    assert again is not None
    assert (again.run / "best" / "model.safetensors").read_bytes() == (
        result.run / "best" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parity("TR-05")
def test_a_dry_run_and_a_fast_development_run_leave_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    dry = textune.train(home / "config.toml", run=home / "runs" / "dry", dry_run=True)
    assert dry.dry_run and (dry.steps, dry.reports) == (0, {}) and dry.facts is not None
    assert dry.facts.rows == {"train": 143, "validation": 36, "test": 21}
    both = textune.train(home / "config.toml", run=home / "runs" / "dry", dry_run=True, fast_dev_run=True)
    assert (
        both.dry_run
        and both.run == home / "runs" / "dry"
        and both.facts is not None
        and both.facts.steps == dry.facts.steps
    )
    quick = textune.train(home / "config.toml", run=home / "runs" / "quick", fast_dev_run=True)
    assert quick is not None and quick.steps == 1 and quick.reports["test"].num_rows == 16
    assert sorted(home.rglob("*")) == before


def test_a_run_opens_and_closes_the_trackers_of_the_table(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, caller, opened = Listener(), Listener(), []

    @contextlib.contextmanager
    def open_tracker(folder: RunFolder, say: Callable[[str], None]) -> Iterator[Listener]:
        assert folder.path == home / "runs" / "tracked" and (folder.path / "manifest.json").is_file()
        opened.append(True)
        yield own
        assert own.finished  # heard before it is closed
        opened.append(False)

    monkeypatch.setitem(TRACKERS, "own", open_tracker)
    textune.train(
        home / "config.toml", run=home / "runs" / "tracked", overrides=["train.duration=2 steps"], tracker=caller
    )
    assert opened == [True, False]
    assert own.started == caller.started and own.finished == caller.finished and own.finished[0][0] == "complete"
    assert own.evaluations == caller.evaluations != []
    assert set(own.notices) <= set(caller.notices)


@pytest.mark.parity("TW-15", "AZ-17")
def test_early_stopping_keeps_the_best_and_says_so(home: Path) -> None:
    listener = Listener()
    overrides = ["train.early_stopping.patience=1", "train.optimizer.lr=1e-9", "train.duration=20 epochs"]
    result = textune.train(home / "config.toml", run=home / "runs" / "stopped", overrides=overrides, tracker=listener)
    assert result is not None and result.steps == 18 and result.best_step == 9
    assert any("stopped early after step 18" in notice for notice in listener.notices)


def test_without_validation_the_last_step_is_kept(home: Path) -> None:
    overrides = ["data.validation.kind=none", "train.duration=3 steps"]
    result = textune.train(home / "config.toml", run=home / "runs" / "unvalidated", overrides=overrides)
    assert result is not None and result.best_step == 3 and set(result.reports) == {"test"}
    with pytest.raises(ConfigError, match="no validation rows to judge by"):
        textune.train(home / "config.toml", run=home / "x", overrides=[*overrides, "train.early_stopping.patience=2"])


@pytest.mark.parity("TW-05", "TW-08")
def test_regression_and_one_logit_run_through(home: Path) -> None:
    regression = textune.train(
        home / "config.toml",
        run=home / "runs" / "number",
        overrides=["data.columns.label=number", "train.duration=4 steps"],
    )
    assert regression is not None and "pearson" in regression.reports["test"].metrics
    value = textune.load(regression.run).predict(["a film"])[0]
    assert isinstance(value.label, float) and value.label == value.score

    one = textune.train(
        home / "config.toml",
        run=home / "runs" / "one",
        overrides=["task.kind=binary", "task.num_logits=1", "train.duration=27 steps"],
    )
    assert one is not None
    scores = textune.load(one.run).score(["a good film", "a bad film"])
    assert scores.shape == (2, 2) and scores.sum(axis=1) == pytest.approx([1, 1])
    plain = AutoModelForSequenceClassification.from_pretrained(one.run / "best")
    assert plain.config.num_labels == 1


def test_check_predicts_and_trains_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    result = textune.check(home / "config.toml")
    assert result.ok
    assert {"time", "memory", "padding", "tokens"} <= set(result.words)
    assert sorted(home.rglob("*")) == before
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["data.train.files=nowhere.csv"], DataError, "nowhere.csv"),
        (["data.columns.text=txt"], DataError, "txt.*text"),
        (["data.columns.label=labels"], DataError, "labels.*label"),
        (["evaluate.metric=acuracy"], ConfigError, "accuracy"),
        (["evaluate.metric=pearson"], ConfigError, "pearson"),
        (["model.pretrained=./missing"], TextuneError, "missing"),
        (
            ["train.max_tokens=10"],
            ConfigError,
            r"train.max_tokens = 10 is smaller than the longest train row: .* has 24 tokens",
        ),
        (["tokens.drop_longer=2"], DataError, "leaves no train rows"),
        (["task.kind=regression"], DataError, "neg|pos"),
        (["data.train.take=1"], DataError, "."),
        (["train.device=cuda"], TextuneError, "CUDA"),
        (["data.validation.count=500"], DataError, "500"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(
    home: Path, overrides: list[str], error: type, words: str
) -> None:
    with pytest.raises(error, match=f"(?s){words}") as caught:
        textune.train(home / "config.toml", run=home / "runs" / "refused", overrides=overrides)
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 700
    assert not (home / "runs" / "refused").exists()


def test_an_occupied_folder_is_refused_before_the_data_is_read(trained: Any, home: Path) -> None:
    with pytest.raises(RunError, match=r"already holds a run.*--run .*first-2"):
        textune.train(home / "config.toml", run=trained[0].run, overrides=["data.train.files=nowhere.csv"])
    with pytest.raises(RunError, match="is not empty"):
        textune.train(home / "config.toml", run=home)


def test_divergence_stops_the_run(home: Path) -> None:
    with pytest.raises(TextuneError, match="diverged"):
        textune.train(
            home / "config.toml",
            run=home / "runs" / "diverged",
            overrides=["train.optimizer.lr=1e30", "train.max_grad_norm=0", "train.schedule.warmup=0 steps"],
        )
    assert json.loads((home / "runs" / "diverged" / "manifest.json").read_text())["status"] == "failed"


def test_an_infinite_gradient_with_a_finite_loss_stops_the_run_in_its_step(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are then those of the step before."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    step = Learner.step

    def third_overflows(learner: Learner) -> torch.Tensor:
        weight = next(p for p in learner.model.parameters() if p.grad is not None)
        before = weight.detach().clone()
        if len(seen) == 2:
            assert weight.grad is not None
            weight.grad.view(-1)[0] = float("inf")
        norm = step(learner)
        seen.append((before, weight.detach().clone()))
        return norm

    monkeypatch.setattr(Learner, "step", third_overflows)
    with pytest.raises(ModelError, match=r"at step 3, but the norm of its gradient is inf: training diverged"):
        textune.train(home / "config.toml", run=home / "runs" / "overflow", overrides=["train.log_every=50 steps"])
    assert len(seen) == 3
    assert not torch.equal(*seen[1]) and torch.equal(*seen[2])


def test_damaged_weights_of_the_backbone_are_not_called_a_divergence(home: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(home / "backbone", tmp_path / "damaged")
    tensors = load_file(damaged / "model.safetensors")
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name].fill_(float("nan"))
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the loss is nan at step 1, before any weight was changed") as caught:
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=[f"model.pretrained={damaged}"])
    assert caught.value.hint == "The weights of the backbone are damaged."


def test_a_run_that_diverges_before_its_first_checkpoint_promises_none(home: Path, tmp_path: Path) -> None:
    words = ["train.optimizer.lr=1e30", "train.schedule.warmup=0 steps", "train.checkpoint.every=50 steps"]
    with pytest.raises(ModelError, match=r"training diverged") as caught:
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=words)
    assert caught.value.hint == "Lower train.optimizer.lr, lengthen train.schedule.warmup."


@pytest.mark.parametrize("folder", ["nowhere", "backbone"])
def test_what_is_no_run_is_said(home: Path, folder: str) -> None:
    with pytest.raises(RunError, match=r"does not exist|is not a run folder"):
        textune.load(home / folder)


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("evaluate.metric=f1_makro", "f1_makro"),
        ("data.columns.weight=weights", "weights"),
        ("data.columns.text_pair=other", "other"),
        ("task.class_weights.positive=2", "positive"),
        ('data.labels.names=["pos", "negative"]', "neg"),
    ],
)
def test_names_are_resolved_before_anything_slow(
    home: Path, monkeypatch: pytest.MonkeyPatch, override: str, name: str
) -> None:
    """R11: metric, column and label names fail before a tokenizer or a model is touched."""
    monkeypatch.setattr("textune.pipeline.buildtexts.load_tokenizer", lambda *_: pytest.fail("too late"))
    with pytest.raises(TextuneError, match=name):
        textune.train(home / "config.toml", run=home / "runs" / "refused", overrides=[override])


@pytest.mark.parity("TW-05")
def test_multilabel_with_weights_runs_through(home: Path, tmp_path: Path) -> None:
    """Several labels in a cell, balanced class weights, smoothing, a weight for each row; written back as they were
    read."""
    rows = [
        {"text": row["text"], "label": "film" if row["label"] == "pos" else "film|dull", "weight": 0.5 + row["number"]}
        for row in reviews(120)
    ]
    rows += [{"text": "nothing", "label": "", "weight": 1.0}] * 3
    write_csv(tmp_path / "rows.csv", rows)
    overrides = [f"data.train.files={tmp_path / 'rows.csv'}", "data.labels.delimiter=|", "data.columns.weight=weight"]
    overrides += ["task.class_weights=balanced", "task.label_smoothing=0.05", "train.duration=20 epochs"]
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result is not None
    report = result.reports["validation"]
    assert report.problem == "multilabel" and report.names == ("dull", "film")
    assert {"f1_micro", "f1_macro", "f1_samples", "subset_accuracy", "hamming_loss"} <= set(report.metrics)
    assert report.metrics["roc_auc"] > 0.8
    predictor = textune.load(result.run)
    prediction = predictor.predict(["a dull boring bad film"])[0]
    assert prediction.label == tuple(name for name in ("dull", "film") if prediction.scores[name] >= 0.5)
    assert prediction.score == max(prediction.scores.values())
    plain = AutoModelForSequenceClassification.from_pretrained(result.run / "best")
    assert plain.config.problem_type == "multi_label_classification"
    assert textune.evaluate(result.run).num_rows == 21
