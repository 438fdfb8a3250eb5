"""Runs with evaluation sets of the user's own: what is written, that nothing else changes, and where an evaluation
resumes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused
from kits.ranking import Watch, textune_ranks
from kits.resume import end_of, same_end
from kits.runs import Listener, reviews, write_csv
from safetensors.torch import load_file

import textune
from textune.chaos.alike import TIMES
from textune.errors import ConfigError, DataError, Preempted, RunError
from textune.pipeline.info import in_words, info
from textune.run.manifest import read_manifest
from textune.run.state import state_of
from textune.training.checkpoint import newest

SMALL = [
    "train.duration=6 steps",
    "train.evaluate_every=2 steps",
    "train.checkpoint.every=1 step",
    "train.checkpoint.background=false",
    "model.compile=off",
    "evaluate.bootstrap=0",
    "evaluate.max_tokens=100000",  # one batch in each set
]
BY_NEWS = [
    "evaluate.best_by=news",
    "evaluate.metric=log_loss",
    "train.evaluate_at=[1, 5]",
    "train.checkpoint.at_steps=[1]",
    "evaluate.max_tokens=100",  # several batches in each set
]
FIRST = [*BY_NEWS, "evaluate.metric=loss", "train.evaluate_first=true", "train.duration=1 step"]


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def words(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    news = write_csv(tmp_path_factory.mktemp("news") / "news.csv", reviews(30, seed=5))
    web = write_csv(news.with_name("web.csv"), reviews(12, seed=6))
    named = [f"data.evaluations.news.files={news}", f"data.evaluations.web.files={web}"]
    return [*SMALL, *named, "evaluate.train=true", "evaluate.at_end=web"]


@pytest.fixture(scope="module")
def whole(home: Path, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    textune.train(home / "config.toml", run=run, overrides=words)
    return run


def evaluations(run: Path) -> list[dict[str, Any]]:
    """Without what depends on the clock and the machine."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {key: value for key, value in line.items() if key not in TIMES}
        for line in lines
        if line["kind"] == "evaluation"
    ]


def test_every_set_has_its_lines_and_its_report(whole: Path) -> None:
    told = [(line["step"], line["set"]) for line in evaluations(whole)]
    assert told == [(step, name) for step in (2, 4, 6) for name in ("validation", "train", "news")]
    assert not any(line["is_best"] for line in evaluations(whole) if line["set"] != "validation")
    names = {"report", "report-test", "report-train", "report-news", "report-web"}
    assert (
        {path.stem for path in whole.glob("report*.json")} == {path.stem for path in whole.glob("report*.md")} == names
    )
    manifest = read_manifest(whole)
    assert manifest.metrics.keys() == {"validation", "test", "train", "news", "web"}
    assert manifest.rows == {"train": 143, "validation": 36, "test": 21, "news": 30, "web": 12}


def test_a_report_is_that_of_evaluate_and_of_the_best_step(whole: Path) -> None:
    best = read_manifest(whole).best_step
    for name in ("news", "web", "train"):
        report = textune.evaluate(whole, part=name)
        assert report.to_dict()["metrics"] == json.loads((whole / f"report-{name}.json").read_text())["metrics"]
        lines = {line["step"]: line["metrics"] for line in evaluations(whole) if line["set"] == name}
        if name != "web":
            assert report.metrics["accuracy"] == pytest.approx(lines[best]["accuracy"])
    with pytest.raises(ConfigError, match="nowhere") as caught:
        textune.evaluate(whole, part="nowhere")
    assert "news" in caught.value.hint


def test_info_tells_of_every_set_the_test_rows_first(whole: Path) -> None:
    found = info(whole)
    assert list(found["results"]) == ["validation", "test", "news", "train", "web"]
    words = in_words(found)
    assert [name for name in words if name in found["results"]] == ["test", "validation", "news", "train", "web"]
    assert "143 train, 36 validation, 21 test, 30 news, 12 web" in words["rows"]


def test_more_sets_change_nothing_of_the_run(home: Path, whole: Path, tmp_path: Path) -> None:
    textune.train(home / "config.toml", run=tmp_path / "plain", overrides=SMALL)
    ours, plain = (load_file(run / "best" / "model.safetensors") for run in (whole, tmp_path / "plain"))
    assert all(bool((ours[name] == plain[name]).all()) for name in plain)
    assert [line for line in evaluations(whole) if line["set"] == "validation"] == evaluations(tmp_path / "plain")


def test_a_share_of_the_training_rows_is_set_aside_behind_the_others(home: Path) -> None:
    listener = Listener()
    overrides = ["data.evaluations.share.kind=split", "data.evaluations.share.count=13"]
    facts = textune.train(home / "config.toml", dry_run=True, overrides=overrides, tracker=listener).facts
    assert facts is not None and facts.rows == {"train": 130, "validation": 36, "test": 21, "share": 13}
    assert facts.evaluated == ["validation", "share"]


class ActingAtEvaluation(Listener):
    """Does something when the n-th set of a step was evaluated."""

    def __init__(self, step: int, number: int, act: Callable[[], None]) -> None:
        super().__init__()
        self.at, self.left, self.act = step, number, act

    def evaluation(self, values: Any) -> None:
        super().evaluation(values)
        self.left -= values["step"] == self.at
        if values["step"] == self.at and self.left == 0:
            self.act()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("step", "done"), [(2, ["validation"]), (4, ["validation", "train"]), (6, ["validation"])])
def test_a_signal_between_two_sets_is_resumed_with_the_next(
    home: Path, words: list[str], whole: Path, tmp_path: Path, step: int, done: list[str]
) -> None:
    run, listener = tmp_path / "run", ActingAtEvaluation(step, len(done), terminate)
    with pytest.raises(Preempted, match=f"after step {step}"):
        textune.train(home / "config.toml", run=run, overrides=words, tracker=listener)
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None and checkpoint.step == step
    progress = state_of(checkpoint).progress
    assert (progress.evaluated, progress.evaluated_sets) == (False, done)
    again = Listener()
    textune.train(home / "config.toml", run=run, overrides=words, tracker=again)
    left = [name for name in ("validation", "train", "news") if name not in done]
    assert [values["set"] for values in again.evaluations if values["step"] == step] == left
    if step < 6:  # the last checkpoint of all is from before its evaluation was over
        same_end(end_of(run), end_of(whole))
    assert evaluations(run) == evaluations(whole)


def test_a_run_that_fails_between_two_sets_resumes_from_its_last_checkpoint(
    home: Path, words: list[str], whole: Path, tmp_path: Path
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        listener = ActingAtEvaluation(4, 2, fail)
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=words, tracker=listener)
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=words, resume="latest")
    same_end(end_of(tmp_path / "run"), end_of(whole))


@pytest.mark.slow
def test_several_ranks_evaluate_every_set_together(home: Path, words: list[str], tmp_path: Path) -> None:
    """A signal in the middle: they finish the evaluation, since they could not all stop at the same batch."""
    run = tmp_path / "run"
    arguments = ["train", str(home / "config.toml"), "--run", str(run), *words]
    stopped = textune_ranks(2, arguments, tmp_path / "logs", Watch(act="SIGTERM", act_rank=1, act_step=4))
    assert stopped.codes == [143, 143], stopped.said
    assert [line["set"] for line in evaluations(run) if line["step"] == 4] == ["validation", "train", "news"]
    resumed = textune_ranks(2, arguments, tmp_path / "logs-2")
    assert resumed.codes == [0, 0], resumed.said
    told = [(line["step"], line["set"]) for line in evaluations(run)]
    assert told == [(step, name) for step in (2, 4, 6) for name in ("validation", "train", "news")]
    assert (run / "report-web.json").is_file()


def test_early_stopping_does_not_leave_the_other_sets_out(home: Path, words: list[str], tmp_path: Path) -> None:
    hasty = ["train.early_stopping.patience=1", "train.early_stopping.threshold=0.9"]
    run = tmp_path / "run"
    with pytest.raises(Preempted):
        listener = ActingAtEvaluation(4, 1, terminate)
        textune.train(home / "config.toml", run=run, overrides=[*words, *hasty], tracker=listener)
    assert textune.train(home / "config.toml", run=run, overrides=[*words, *hasty]).steps == 4
    assert [line["set"] for line in evaluations(run) if line["step"] == 4] == ["validation", "train", "news"]


def test_rows_that_changed_or_moved(home: Path, words: list[str], tmp_path: Path) -> None:
    news = write_csv(tmp_path / "news.csv", reviews(30, seed=5))
    moved = [*words, f"data.evaluations.news.files={news}"]
    with pytest.raises(Preempted):
        textune.train(
            home / "config.toml", run=tmp_path / "run", overrides=words, tracker=ActingAtEvaluation(2, 1, terminate)
        )
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    assert textune.train(home / "config.toml", run=tmp_path / "run", overrides=moved).steps == 6
    write_csv(news, reviews(30, seed=9))
    with pytest.raises(RunError, match="the news data"):
        textune.train(home / "config.toml", run=tmp_path / "other", overrides=moved)
    with pytest.raises(RunError, match=r"data\.evaluations\.more"):
        more = [*words, "data.evaluations.more.kind=split", "data.evaluations.more.count=5"]
        textune.train(home / "config.toml", run=tmp_path / "other", overrides=more)


def test_sets_come_and_go_while_a_run_is_stopped(home: Path, words: list[str], whole: Path, tmp_path: Path) -> None:
    run, web = tmp_path / "run", next(word for word in words if ".web.files" in word)
    with pytest.raises(Preempted):
        listener = ActingAtEvaluation(4, 2, terminate)
        textune.train(home / "config.toml", run=run, overrides=words, tracker=listener)
    (run / "report-train.json").write_text("{}")  # as a session leaves it that was stopped while it reported
    (run / "report-train.md").write_text("")
    again = [word for word in words if not any(key in word for key in (".web.", "evaluate.train", "at_end"))]
    listener = Listener()
    other = web.replace(".web.", ".other.")
    textune.train(home / "config.toml", run=run, overrides=[*again, other], tracker=listener)
    told = [(values["step"], values["set"]) for values in listener.evaluations]
    assert told == [(4, "news"), (4, "other"), *((6, name) for name in ("validation", "news", "other"))]
    assert {path.name for path in run.glob("report*")} == {
        "report.html",
        *(f"report{name}.{suffix}" for name in ("", "-test", "-news", "-other") for suffix in ("json", "md")),
    }
    ours, theirs = (load_file(folder / "best" / "model.safetensors") for folder in (run, whole))
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)
    said = " ".join(read_manifest(run).resumed[-1].said)
    assert "data.evaluations.other is evaluated from here on" in said
    assert "data.evaluations.web is not evaluated from here on" in said
    report = textune.evaluate(run, part="other")  # also where the best model is older than the set
    assert report.metrics == pytest.approx(json.loads((whole / "report-web.json").read_text())["metrics"])


def test_a_set_of_other_words_cannot_come_later_where_these_are_not_trained(
    home: Path, words: list[str], tmp_path: Path
) -> None:
    run, compact = tmp_path / "run", [*words, "train.compact_vocabulary=on"]
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=run, overrides=compact, tracker=ActingAtEvaluation(2, 1, terminate))
    strange = write_csv(tmp_path / "strange.csv", [{"text": f"xylophone {word}", "label": "pos"} for word in "qzj?!"])
    more = [*compact, f"data.evaluations.strange.files={strange}"]
    with refused(RunError, key="data.evaluations", value=["strange"], place=str(run)):
        textune.train(home / "config.toml", run=run, overrides=more)
    assert textune.train(home / "config.toml", run=run, overrides=compact).steps == 6


# --- the set that chooses the best model, and steps of one's own -----------------------------------------------------


@pytest.fixture(scope="module")
def chosen_by_news(home: Path, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("by-news") / "run"
    textune.train(home / "config.toml", run=run, overrides=[*words, *BY_NEWS])
    return run


@pytest.mark.parity("TW-15", "evaluate-first")
def test_another_set_chooses_the_best_model(home: Path, chosen_by_news: Path, whole: Path) -> None:
    lines = evaluations(chosen_by_news)
    steps = (1, 2, 4, 5, 6)
    assert [(line["step"], line["set"]) for line in lines] == [
        (step, name) for step in steps for name in ("news", "validation", "train")
    ]
    values = [line["metrics"]["log_loss"] for line in lines if line["set"] == "news"]
    best = [line["step"] for line in lines if line["is_best"]]
    assert {line["set"] for line in lines if line["is_best"]} == {"news"}
    assert best == [step for at, step in enumerate(steps) if values[at] < min([*values[:at], 9.0])]
    manifest = read_manifest(chosen_by_news)
    assert manifest.best_step == best[-1] == steps[values.index(min(values))]
    assert manifest.facts["best_by"] == "news" and manifest.resolved["best by"] == "log_loss on the set news"
    assert json.loads((chosen_by_news / "best" / "textune.json").read_text())["value"] == min(values)
    assert read_manifest(whole).facts["best_by"] == "validation"


def test_what_is_evaluated_at_a_step_is_saved_there_with_its_value(chosen_by_news: Path) -> None:
    kept = {path.name: json.loads((path / "state.json").read_text()) for path in chosen_by_news.glob("checkpoints/*")}
    values = {
        line["step"]: line["metrics"]["log_loss"] for line in evaluations(chosen_by_news) if line["set"] == "news"
    }
    assert kept["step-1"]["evaluation"] == -values[1] and kept["step-1"]["best"]["best_value"] == values[1]
    assert kept["step-1"]["progress"]["evaluated"] is True


@pytest.mark.parity("TW-15", "early-stopping-threshold")
def test_early_stopping_follows_the_set_that_chooses(home: Path, words: list[str], tmp_path: Path) -> None:
    hasty = [*words, *BY_NEWS, "train.early_stopping.patience=1", "train.early_stopping.threshold=0.9"]
    run = tmp_path / "run"
    result = textune.train(home / "config.toml", run=run, overrides=[*hasty, "data.validation.kind=none"])
    assert result.steps == 2  # the second evaluation, which the first one's threshold makes no better
    assert [(line["step"], line["set"]) for line in evaluations(run)] == [
        (step, name) for step in (1, 2) for name in ("news", "train")
    ]
    with refused(ConfigError, key="train.early_stopping.patience"):
        without = ["data.validation.kind=none", "evaluate.best_by=validation"]
        textune.train(home / "config.toml", run=tmp_path / "other", overrides=[*hasty, *without])


class InTheMiddle(Listener):
    """Sends a signal after the second batch of a stage, at one step."""

    def __init__(self, step: int, stage: str) -> None:
        super().__init__()
        self.at, self.stage, self.now = step, stage, 0

    def evaluation(self, values: Any) -> None:
        super().evaluation(values)
        self.now = values["step"]

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage == self.stage and self.now == self.at and 0 < done < total and not self.sent:
            self.sent = (done, total)
            terminate()

    sent: tuple[int, int] | None = None


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("step", "stage", "done"),
    [(1, "evaluating", ["news"]), (4, "evaluating", ["news"]), (5, "evaluating train", ["news", "validation"])],
)
def test_a_signal_in_the_middle_of_a_set_is_resumed_with_that_set(
    home: Path, words: list[str], chosen_by_news: Path, tmp_path: Path, step: int, stage: str, done: list[str]
) -> None:
    """The second of three sets, and the third: bit for bit as if nothing had happened."""
    run, listener = tmp_path / "run", InTheMiddle(step, stage)
    overrides = [*words, *BY_NEWS]
    with pytest.raises(Preempted, match=f"after step {step}"):
        textune.train(home / "config.toml", run=run, overrides=overrides, tracker=listener)
    assert listener.sent is not None and 0 < listener.sent[0] < listener.sent[1]
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None and checkpoint.step == step
    assert state_of(checkpoint).progress.evaluated_sets == done
    again = Listener()
    textune.train(home / "config.toml", run=run, overrides=overrides, tracker=again)
    left = [name for name in ("news", "validation", "train") if name not in done]
    assert [values["set"] for values in again.evaluations if values["step"] == step] == left
    same_end(end_of(run), end_of(chosen_by_news))
    assert evaluations(run) == evaluations(chosen_by_news)


def test_a_resumed_run_keeps_the_set_that_chooses_and_may_evaluate_elsewhere(
    home: Path, words: list[str], tmp_path: Path
) -> None:
    run, overrides = tmp_path / "run", [*words, *BY_NEWS]
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=run, overrides=overrides, tracker=ActingAtEvaluation(2, 3, terminate))
    with refused(RunError, reason='evaluate.best_by was "news" and is "validation"'):
        textune.train(home / "config.toml", run=run, overrides=[*overrides, "evaluate.best_by=validation"])
    elsewhere = Listener()
    textune.train(
        home / "config.toml", run=run, overrides=[*overrides, "train.evaluate_at=[3, 400]"], tracker=elsewhere
    )
    assert sorted({values["step"] for values in elsewhere.evaluations}) == [3, 4, 6]
    assert any("train.evaluate_at" in said and "400" in said for said in elsewhere.notices)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_evaluate_each_row_of_three_sets_once(
    home: Path, words: list[str], whole_at_once: list[dict[str, Any]], tmp_path: Path, world: int
) -> None:
    """Of the model before its first step, which is the same on any number of ranks."""
    arguments = ["train", str(home / "config.toml"), "--run", str(tmp_path / "run"), *words, *FIRST]
    done = textune_ranks(world, arguments, tmp_path / "logs")
    assert done.codes == [0] * world, done.said
    lines = [line for line in evaluations(tmp_path / "run") if line["step"] == 0]
    assert [line["set"] for line in lines] == ["news", "validation", "train"] and lines == whole_at_once


@pytest.fixture(scope="module")
def whole_at_once(home: Path, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    run = tmp_path_factory.mktemp("at-once") / "run"
    textune.train(home / "config.toml", run=run, overrides=[*words, *FIRST])
    return [line for line in evaluations(run) if line["step"] == 0]


@pytest.mark.parametrize(
    ("content", "words"),
    [("text\na good film\n", "label"), ("text,label\n", "no rows"), ("text,label\ngood,\n", "line 2")],
)
def test_rows_without_labels_are_said(home: Path, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "news.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        overrides = [f"data.evaluations.news.files={tmp_path / 'news.csv'}"]
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert words in caught.value.message and ("news" in caught.value.message)
