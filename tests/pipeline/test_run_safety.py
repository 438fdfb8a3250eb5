"""What a run keeps, says and refuses when something goes wrong around it."""

import errno
import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.runs import Listener, reviews, signal_after, write_csv

import textune
from textune.errors import Preempted, RunError
from textune.model.saved import complete_model
from textune.run.folder import RunFolder
from textune.run.manifest import read_manifest
from textune.training.checkpoint import newest


def status(run: Path) -> str:
    return str(read_manifest(run).status)


@pytest.mark.parametrize("step", [2, 12])
@pytest.mark.parity("TW-22")
def test_ctrl_c_finishes_the_step_and_saves(home: Path, tmp_path: Path, step: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        textune.train(home / "config.toml", run=tmp_path / "run", after_step=signal_after({step: [signal.SIGINT]}))
    assert signal.getsignal(signal.SIGINT) is before
    assert status(tmp_path / "run") == "interrupted"
    checkpoint, _ = newest(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and checkpoint.step == step
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line["step"] for line in lines if line["kind"] == "evaluation"]
    assert evaluated == ([] if step == 2 else [9])


def test_a_run_that_fails_after_training_says_so(home: Path, tmp_path: Path) -> None:
    class FailingInTheReport(Listener):
        def progress(self, stage: str, done: int, total: int) -> None:
            if stage == "evaluating test":
                raise RuntimeError("the disk is gone")

    listener = FailingInTheReport()
    with pytest.raises(RuntimeError):
        textune.train(
            home / "config.toml", run=tmp_path / "run", overrides=["train.duration=1 steps"], tracker=listener
        )
    [(status_told, files)] = listener.finished
    assert status_told == "failed" and {"best", "metrics.jsonl", "report.json"} <= files.keys()
    assert status(tmp_path / "run") == "failed"
    assert read_manifest(tmp_path / "run").reason == "the disk is gone"
    assert textune.load(tmp_path / "run").predict(["a film"])


class FailingToFinish(Listener):
    """A tracker whose service is gone when the run ends."""

    def finish(self, status: str, files: Any) -> None:
        super().finish(status, files)
        raise OSError("the service is gone")


def test_a_tracker_that_cannot_finish_does_not_hide_why_the_run_stopped(home: Path, tmp_path: Path) -> None:
    listener, stop = FailingToFinish(), signal_after({2: [signal.SIGTERM]})
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=tmp_path / "run", tracker=listener, after_step=stop)
    assert [ending for ending, _ in listener.finished] == ["preempted"] and status(tmp_path / "run") == "preempted"
    assert any("the service is gone" in notice for notice in listener.notices)


def test_a_tracker_that_cannot_finish_leaves_a_complete_run_complete(home: Path, tmp_path: Path) -> None:
    listener = FailingToFinish()
    with pytest.raises(OSError, match="the service is gone"):
        textune.train(
            home / "config.toml", run=tmp_path / "run", overrides=["train.duration=1 steps"], tracker=listener
        )
    assert [ending for ending, _ in listener.finished] == ["complete"] and status(tmp_path / "run") == "complete"


@pytest.mark.parametrize("calls_until_crash", range(1, 5))
def test_a_crash_while_the_best_model_is_replaced_loses_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls_until_crash: int
) -> None:
    folder = RunFolder(tmp_path)
    folder.save_best(lambda path: (path / "model").write_text("first") and None)
    real, calls = Path.rename, 0

    def crashing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == calls_until_crash:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", crashing)
    with pytest.raises(KeyboardInterrupt):
        folder.save_best(lambda path: (path / "model").write_text("second") and None)
    monkeypatch.undo()
    found = complete_model(tmp_path)
    assert found is not None and (found / "model").read_text() in {"first", "second"}
    folder.save_best(lambda path: (path / "model").write_text("third") and None)
    assert complete_model(tmp_path) == tmp_path / "best" and (tmp_path / "best" / "model").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_best_model_that_cannot_be_removed_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network file system answers while somebody has a file of it open."""
    folder = RunFolder(tmp_path)

    def refused(path: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refused)
        for text in ("first", "second", "third"):
            folder.save_best(lambda path, text=text: (path / "model").write_text(text) and None)
            assert complete_model(tmp_path) == tmp_path / "best" and (tmp_path / "best" / "model").read_text() == text
        assert len(list(tmp_path.iterdir())) == 3
    folder.save_best(lambda path: (path / "model").write_text("fourth") and None)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_run_that_was_killed_while_it_replaced_its_model_still_predicts(trained: Any, tmp_path: Path) -> None:
    shutil.copytree(trained[0].run / "best", tmp_path / "run" / "best.old")
    assert textune.load(tmp_path / "run").predict(["a film"]) == textune.load(trained[0].run).predict(["a film"])


def test_a_fast_development_run_touches_nothing_of_the_users(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.fast-dev-run"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me too")
    assert textune.train(home / "config.toml", run=tmp_path / "mine", fast_dev_run=True) is not None
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "mine", "mine.fast-dev-run", "mine.fast-dev-run/notes.txt", "mine/notes.txt",
    ]  # fmt: skip


def test_evaluating_after_the_training_labels_changed_is_refused(home: Path, tmp_path: Path) -> None:
    rows = reviews(60)
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "held.csv", reviews(20, seed=1))
    overrides = [f"data.train.files={tmp_path / 'train.csv'}", "data.test.kind=none", "train.duration=1 steps"]
    overrides += ["data.validation.kind=files", f"data.validation.files={tmp_path / 'held.csv'}"]
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result is not None
    write_csv(tmp_path / "train.csv", [{**row, "label": "also"} if row["id"] < 4 else row for row in rows])
    with pytest.raises(RunError, match=r"the train data of .* changed since training.*--data FILE"):
        textune.evaluate(result.run)


def test_what_was_left_out_and_noticed_stands_in_the_run_folder(home: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = reviews(80)
    rows[5]["label"] = ""
    rows += [dict(rows[0], label="pos"), dict(rows[0], label="neg")]
    write_csv(tmp_path / "train.csv", rows)
    overrides = [f"data.train.files={tmp_path / 'train.csv'}", "data.on_bad_row=skip", "tokens.max_length=8"]
    overrides += ["train.duration=2 steps", "train.schedule.warmup=50 steps"]
    listener = Listener()
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides, tracker=listener)
    assert result is not None
    manifest = read_manifest(result.run)
    assert manifest.num_skipped == 1 and "train.csv, line 7" in manifest.skipped[0]
    assert manifest.truncated["train"] > 0
    assert list(manifest.notices) == list(result.notices) == listener.notices
    text = "\n".join(result.notices)
    for words in (
        "1 of 82 train rows (1.2%) was left out; the first: train.csv, line 7:",
        "never reaches its peak",
        "is also in the train rows",
    ):
        assert words in text, text
    kinds = [json.loads(line)["kind"] for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert kinds.count("notice") == len(result.notices)


def test_balanced_weights_are_those_of_the_rows_that_are_trained(home: Path, tmp_path: Path) -> None:
    from textune.config.load import load_config
    from textune.pipeline.build import build_parts

    rows = (
        [{"text": "good", "label": "pos"}] * 30
        + [{"text": "bad " * 12, "label": "neg"}] * 20
        + [{"text": "bad", "label": "neg"}] * 10
    )
    random.Random(0).shuffle(rows)
    write_csv(tmp_path / "train.csv", rows)
    overrides = [f"data.train.files={tmp_path / 'train.csv'}", "tokens.drop_longer=6", "task.class_weights=balanced"]
    overrides += ["data.validation.kind=none", "data.test.kind=none"]
    parts = build_parts(load_config(home / "config.toml", overrides).experiment, tracker=Listener(), audit=False)
    weights = parts.task.head.row_weights(torch.tensor([0, 1]), None)
    assert weights.tolist() == [pytest.approx(40 / 20), pytest.approx(40 / 60)]


def test_files_of_one_name_get_reports_of_their_own(home: Path, trained: Any, tmp_path: Path) -> None:
    from textune.config.sources import FilesSource

    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        path = write_csv(tmp_path / folder / "same.csv", reviews(10, seed=seed))
        for _ in range(2):  # the same rows again: the same report
            textune.evaluate(trained[0].run, data=FilesSource(files=(str(path),)))
    assert len(list((trained[0].run / "evaluations").glob("same.csv*.json"))) == 2
