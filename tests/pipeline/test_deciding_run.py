"""A run with a section `decide`: what is fitted is kept with the model, applied wherever it answers, and reported on
rows that it was not fitted on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.cli import runner
from kits.ranks import on_ranks
from kits.runs import Listener, reviews, write_csv

import textune
from textune.config.deciding import DecideSection, F1Thresholds
from textune.config.taskkinds import AutoTask
from textune.data.labels.map import LabelMap
from textune.errors import ConfigError
from textune.evaluation.decisionpart import DecisionPart
from textune.evaluation.heads import one_head
from textune.evaluation.reduction import scored_rows
from textune.evaluation.render.json import read_report
from textune.evaluation.report import Report
from textune.exports import export
from textune.prediction.card import ModelCard, read_card, write_card
from textune.prediction.load import load
from textune.run.deciding import GUARANTEES, fit_decisions, keep_decisions
from textune.tasks.decision import USUAL, Decision, sigmoid
from textune.tasks.task import build_task

DECIDE = {"thresholds": "f1", "abstain_below": 0.55, "folds": 4}
SHORT = ["data.validation.ratio=0.4", "train.duration=2 epochs"]


def trained_with(home: Path, run: Path, *settings: str, decide: Any = None) -> Any:
    return textune.train(home / "config.toml", run=run, overrides=[*SHORT, *settings, *_as_words(decide)])


def _as_words(decide: Any) -> list[str]:
    return [] if decide is None else [f"decide.{key}={value}" for key, value in decide.items()]


@pytest.fixture(scope="module")
def decided(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    run = tmp_path_factory.mktemp("decided") / "run"
    return run, trained_with(home, run, decide=DECIDE)


RULE = Decision(temperature=1.8, thresholds=(0.62,), abstain_below=0.6)
"""A decision that moves answers, written where a fitted one would be."""
SHIFTED = Decision(platt=((0.7, -0.4),), thresholds=(0.55,), abstain_below=0.52)
"""Another one, which is calibrated by a slope and a shift."""


@pytest.fixture(params=[RULE, SHIFTED], ids=["temperature", "platt"])
def model(trained: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "model"
    export(trained[0].run, folder)
    write_card(read_card(folder).with_decisions({"label": request.param}), folder)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


def part_of(report: Report) -> DecisionPart:
    assert report.decision is not None
    return report.decision


def test_the_weights_are_those_of_a_run_without_it(home: Path, decided: tuple[Path, Any], tmp_path: Path) -> None:
    run, result = decided
    plain = trained_with(home, tmp_path / "plain")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (run / "best" / name).read_bytes() == (tmp_path / "plain" / "best" / name).read_bytes()
    cards = [json.loads((one / "best" / "textune.json").read_text()) for one in (run, tmp_path / "plain")]
    decisions = [card["heads"][0].pop("decision") for card in cards]
    assert cards[0] == cards[1]
    assert (
        decisions[0]
        != decisions[1]
        == {
            "temperature": 1.0,
            "thresholds": None,
            "costs": None,
            "abstain_below": None,
            "platt": None,
        }
    )
    assert plain.reports["validation"].decision is None
    for name in ("roc_auc", "average_precision"):  # rankings are of scores
        for split in ("validation", "test"):
            assert result.reports[split].metrics[name] == plain.reports[split].metrics[name]


def test_the_report_says_what_was_fitted_and_what_it_is_worth(decided: tuple[Path, Any]) -> None:
    run, result = decided
    kept = read_card(run / "best").heads[0].decision
    assert kept.abstain_below == 0.55
    validation, test = (part_of(result.reports[name]) for name in ("validation", "test"))
    assert validation.cross_fitted and not test.cross_fitted
    assert validation.decision == test.decision == kept
    assert validation.fit is not None and validation.fit.folds == 4 and test.fit is None
    assert validation.fit.num_rows == result.reports["validation"].num_rows
    (label,) = validation.fit.labels
    assert label.name == "pos" and bool(label.reason) == (kept.thresholds is None)
    for part in (validation, test):
        assert set(part.usual) == set(part.decided) == {"ece", "log_loss", "accuracy", "f1", "f1_macro", "f1_micro"}
        assert part.abstention is not None and 0 < part.abstention.coverage <= 1
    assert result.reports["test"].metrics["accuracy"] == test.decided["accuracy"]
    assert any(notice.startswith("decision: ") for notice in result.notices)
    for name, stem in (("validation", "report"), ("test", "report-test")):
        assert read_report(run / f"{stem}.json").decision == part_of(result.reports[name])
        text = (run / f"{stem}.md").read_text(encoding="utf-8")
        assert "## Decision" in text and ("never on the row itself" in text) == (name == "validation")


@pytest.mark.every_day(1)
def test_decided_answers_are_the_same_everywhere(model: Path, tmp_path: Path, cli: Any) -> None:
    """In a table, in Python, on the command line, in an evaluation, and from a copy of the folder."""
    rows = reviews(80, seed=5)
    opened, usual = textune.load(model, device="cpu"), textune.load(model, device="cpu", decision=False)
    scores = np.asarray(usual.score([row["text"] for row in rows]))
    rule = read_card(model).heads[0].decision
    assert rule.thresholds is not None and isinstance(rule.abstain_below, float)
    second, threshold, bound = rule.calibrated_classes(scores)[:, 1], rule.thresholds[0], rule.abstain_below
    names = np.where(second >= threshold, "pos", "neg")
    sure = np.where(second >= threshold, second, 1 - second)
    wanted = [None if one < bound else str(name) for one, name in zip(sure, names, strict=True)]
    assert None in wanted and {"pos", "neg"} <= set(wanted)
    assert [one.label for one in opened.predict([row["text"] for row in rows])] == wanted  # type: ignore[union-attr]
    np.testing.assert_allclose(np.asarray(opened.score([row["text"] for row in rows]))[:, 1], second)
    table = opened.predict_table(rows, all_scores=True)
    assert table["predicted_label"].to_pylist() == wanted
    np.testing.assert_allclose(table["predicted_score"].to_pylist(), sure, atol=1e-6)
    np.testing.assert_allclose(table["score_pos"].to_pylist(), second, atol=1e-6)

    source, target = write_csv(tmp_path / "rows.csv", rows), tmp_path / "out.csv"
    words = ("predict", model, "--data", source, "--output", target, "--device", "cpu", "--quiet")
    assert cli(*words).code == 0
    with target.open(newline="") as file:
        assert [row["predicted_label"] or None for row in csv.DictReader(file)] == wanted
    assert cli(*words, "--force", "--no-decision").code == 0
    plain = [("neg", "pos")[index] for index in scores.argmax(axis=1)]
    with target.open(newline="") as file:
        assert [row["predicted_label"] for row in csv.DictReader(file)] == plain

    report = textune.evaluate(model, data=source, device="cpu")
    truth = np.array([row["label"] for row in rows])
    assert report.metrics["accuracy"] == pytest.approx((names == truth).mean())
    assert part_of(report).abstention is not None
    undecided = textune.evaluate(model, data=source, device="cpu", decision=False)
    assert undecided.decision is None
    assert undecided.metrics["accuracy"] == pytest.approx((np.array(plain) == truth).mean())
    assert undecided.metrics["roc_auc"] == report.metrics["roc_auc"]

    export(model, tmp_path / "copy")
    copied = textune.load(tmp_path / "copy", device="cpu")
    assert [one.label for one in copied.predict([row["text"] for row in rows])] == wanted  # type: ignore[union-attr]


@pytest.mark.every_day(1)
def test_plain_transformers_sees_scores(model: Path) -> None:
    """The folder itself knows nothing of the decision."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts = [row["text"] for row in reviews(10, seed=6)]
    tokenizer = AutoTokenizer.from_pretrained(model)
    hf = AutoModelForSequenceClassification.from_pretrained(model)
    with torch.no_grad():
        logits = hf(**tokenizer(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")).logits
    scores = np.asarray(textune.load(model, device="cpu", decision=False).score(texts))
    np.testing.assert_allclose(scores, torch.softmax(logits, dim=1).numpy(), atol=1e-5)


def test_a_run_that_is_complete_is_not_fitted_again(home: Path, decided: tuple[Path, Any]) -> None:
    run, result = decided
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = [*SHORT, *_as_words(DECIDE)]
    again = textune.train(home / "config.toml", run=run, overrides=words, resume="latest")
    assert again.complete_before and again.reports["validation"].decision == result.reports["validation"].decision
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_evaluated_again_the_fitted_rows_are_called_so(decided: tuple[Path, Any]) -> None:
    run, _ = decided
    report = textune.evaluate(run, part="validation", device="cpu")
    assert any("fitted on these rows" in warning for warning in report.warnings)
    assert not textune.evaluate(run, part="test", device="cpu").warnings


def test_more_scores_than_are_kept_are_a_sample(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond it are decided by the decision itself, which has not seen them."""
    monkeypatch.setattr("textune.evaluation.reduction.MAX_SCORES", 120)
    path = tmp_path / "rows.csv"
    write_csv(path, [row | {"size": ("s", "m", "l")[len(row["text"]) % 3]} for row in reviews(200)])
    words = (f"data.train.files={path}", "data.columns.label=size")
    result = trained_with(home, tmp_path / "run", *words, decide={"abstain_below": 0.4, "folds": 4})
    report = result.reports["validation"]
    part = part_of(report)
    assert part.fit is not None and part.fit.num_rows == 40 and report.num_rows > 60
    assert part.cross_fitted and part.abstention is not None


def test_several_tasks_have_a_decision_each(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv(path, [row | {"long": "yes" if len(row["text"]) > 30 else "no"} for row in reviews(200)])
    result = textune.train(
        home / "config.toml",
        run=tmp_path / "run",
        overrides=[
            *SHORT,
            *(f"data.train.files={path}", "data.columns.labels=['label', 'long']", "task.kind=multitask"),
            "task.groups={label = ['neg', 'pos'], long = ['no', 'yes']}",
            *_as_words({"thresholds": "f1", "calibrate": "platt"}),
        ],
    )
    card = read_card(tmp_path / "run" / "best")
    report = result.reports["validation"]
    assert [head.name for head in card.heads] == ["label", "long"] and report.decision is None
    for head in card.heads:
        part = part_of(report.tasks[head.name])
        assert part.decision == head.decision and part.fit is not None and part.cross_fitted


def test_a_resumed_run_may_change_it(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def stop(result: Any) -> None:
        if result.step == 9:
            raise KeyboardInterrupt

    words = [*SHORT, "train.checkpoint.every=4 steps"]
    with pytest.raises(KeyboardInterrupt):
        textune.train(home / "config.toml", run=run, overrides=words, after_step=stop)
    listener = Listener()
    textune.train(
        home / "config.toml",
        run=run,
        overrides=[*words, *_as_words({"abstain_below": 0.7})],
        resume="latest",
        tracker=listener,
    )
    assert read_card(run / "best").heads[0].decision.abstain_below == 0.7
    assert any("decide.abstain_below" in notice for notice in listener.notices)


def test_a_quick_run_fits_on_the_few_rows_there_are(home: Path, tmp_path: Path) -> None:
    words = [*SHORT, "train.batch_size=4", *_as_words(DECIDE)]
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=words, fast_dev_run=True)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (
            ["decide.thresholds={kind = 'cost', matrix = [[0, 1, 1], [1, 0, 1], [1, 1, 0]]}"],
            "decide.thresholds.matrix",
        ),
        (["decide.folds=90"], "decide.folds"),
        (["decide.folds=2", "data.validation.kind=none"], "decide"),
        (["task.kind=multiclass", "decide.thresholds=f1"], "decide.thresholds"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_training(
    settings: list[str], key: str, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=settings)
    assert caught.value.key == key and caught.value.hint
    assert not (tmp_path / "run").exists()


def test_the_usual_decision_is_put_back_where_none_is_wanted(decided: tuple[Path, Any]) -> None:
    card: ModelCard = load(decided[0], device="cpu", decision=False).card
    assert card.heads[0].decision == USUAL


def test_a_rule_that_a_guarantee_locks_stays(model: Path) -> None:
    """A run that trains on, and keeps its best model, writes its reports again."""
    rule = read_card(model).heads[0].decision
    (model / GUARANTEES).write_text("{}", encoding="utf-8")
    assert "guarantees.json" in keep_decisions({}, model)
    assert read_card(model).heads[0].decision == rule
    assert keep_decisions({"label": rule}, model) == ""
    (model / GUARANTEES).unlink()
    assert keep_decisions({}, model) == "" and read_card(model).heads[0].decision == USUAL


def test_a_better_model_is_not_that_of_the_proof(home: Path, tmp_path: Path) -> None:
    """The rule that was proved goes with the model; its proof is kept, and that is said."""
    run, listener = tmp_path / "run", Listener()

    def stop(result: Any) -> None:
        if result.step == 5:
            raise KeyboardInterrupt

    words = [*SHORT, "train.checkpoint.every=1 steps", "train.evaluate_every=4 steps"]
    with pytest.raises(KeyboardInterrupt):
        textune.train(home / "config.toml", run=run, overrides=words, after_step=stop)
    (run / "best" / GUARANTEES).write_text('{"proof": 1}', encoding="utf-8")
    card = read_card(run / "best")
    write_card(card.model_copy(update={"value": -1.0}), run / "best")  # so that any other model is better
    textune.train(home / "config.toml", run=run, overrides=words, resume="latest", tracker=listener)
    assert read_card(run / "best").step != card.step
    assert (run / f"guarantees-step-{card.step}.json").read_text() == '{"proof": 1}'
    assert not (run / "best" / GUARANTEES).exists()
    (said,) = [notice for notice in listener.notices if "textune decide" in notice]
    assert f"guarantees-step-{card.step}.json" in said


def test_all_ranks_have_the_decision_of_the_first() -> None:
    """Each has the same scores; one fits, and the others are told."""
    head = build_task(AutoTask(), {"label": LabelMap("binary", ("no", "yes"))}).head
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 400)
    second = sigmoid((targets * 2 - 1 + random.normal(size=400)) * 4)
    scored = one_head(scored_rows(head, targets, np.stack([1 - second, second], axis=1)))
    section = DecideSection(thresholds=F1Thresholds())
    one, other = on_ranks(2, lambda ranks: fit_decisions(section, scored, None, ranks))
    assert one.decisions == other.decisions and one.decisions["label"].temperature > 1.5
    assert np.array_equal(one.fitted["label"].rules.which_N, other.fitted["label"].rules.which_N)
