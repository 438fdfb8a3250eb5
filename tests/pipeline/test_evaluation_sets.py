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
from kits.ranking import Watch, textune_ranks
from kits.resume import end_of, same_end
from kits.runs import Listener, reviews, write_csv
from safetensors.torch import load_file

import textune
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
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == "evaluation"]


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
        more = [*words, f"data.evaluations.more.files={news}"]
        textune.train(home / "config.toml", run=tmp_path / "other", overrides=more)


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
