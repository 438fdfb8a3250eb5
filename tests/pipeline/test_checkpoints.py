"""What `train.checkpoint` does in a run, and that no moment to die is a bad one: before each change to the folder in
turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kits.errors import refused
from kits.kills import Forked
from kits.resume import end_of, same_end
from kits.runs import set_status
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.chaos.alike import lines_of
from textune.errors import RunError
from textune.run.best import best_of
from textune.run.folder import RunFolder
from textune.run.manifest import read_manifest
from textune.training.checkpoint import checkpoints_in, open_checkpoint
from textune.training.keeper import CheckpointKeeper

SMALL = (
    "data.test.kind=none",
    "train.duration=1 epochs",
    "train.batch_size=32",
    "train.evaluate_every=2 steps",
    "train.log_every=1 step",
    "train.checkpoint.every=2 steps",
    "model.compile=off",
)
STEPS = 5


def train(home: Path, run: Path, *overrides: str, resume: str | None = None) -> textune.pipeline.train.TrainResult:
    result = textune.train(home / "config.toml", run=run, overrides=[*SMALL, *overrides], resume=resume)
    assert result is not None
    return result


def steps_in(run: Path) -> list[int]:
    return [step for step, _ in checkpoints_in(run / "checkpoints")]


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(home, run)
    return run


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ((), [5]),
        (("train.checkpoint.keep=2",), [4, 5]),
        (("train.checkpoint.keep=all",), [2, 4, 5]),
        (("train.checkpoint.at_steps=[1,3]",), [1, 3, 5]),
        (("train.checkpoint.every=never",), [5]),
        (("train.checkpoint.every=never", "train.checkpoint.at_steps=[3]"), [3, 5]),
        (("train.checkpoint.keep=all", "train.checkpoint.every=1 epochs"), [5]),
        (("train.checkpoint.keep=all", "train.checkpoint.save_only_model=true"), [2, 4, 5]),
    ],
)
@pytest.mark.parity("AZ-18")
def test_the_keys_decide_what_stays(home: Path, tmp_path: Path, overrides: tuple[str, ...], kept: list[int]) -> None:
    train(home, tmp_path / "run", *overrides, "train.checkpoint.background=false")
    assert steps_in(tmp_path / "run") == kept


@pytest.mark.parity("AZ-18")
def test_the_best_evaluations_stay(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(
        home, run, "train.checkpoint.keep_best=1", "train.checkpoint.every=never", "train.optimizer.lr=1e-9"
    )
    # Nothing is learnt at such a rate, so that the first evaluation stays the best.
    assert result.best_step == 2 and steps_in(run) == [2, 5]


def test_models_alone_load_anywhere_and_cannot_be_gone_on_from(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(home, run, "train.checkpoint.save_only_model=true", "train.evaluate_every=5 steps")
    saved = run / "checkpoints" / "step-5"
    texts = ["a fine film", "a dull film"]
    assert textune.load(saved).predict(texts) == textune.load(run).predict(texts)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    with torch.no_grad():
        logits_BC = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    assert model.config.id2label[int(logits_BC[0].argmax())] == textune.load(saved).predict(texts)[0].label
    with pytest.raises(RunError, match="holds only the model") as raised:
        train(home, tmp_path / "other", resume=str(saved))
    assert f'model.pretrained = "{saved}"' in raised.value.hint
    with refused(RunError, key="train.checkpoint.save_only_model", value=True):
        train(home, tmp_path / "other", resume=str(run))
    # What a scheduler starts once more is complete; there is nothing to refuse.
    again = train(home, run, "train.checkpoint.save_only_model=true", "train.evaluate_every=5 steps", resume="auto")
    assert again.complete_before
    assert not (tmp_path / "other").exists()


def test_evaluations_made_again_are_told_as_the_first_time(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    """Stopped behind an evaluation that was the best so far, and before the first checkpoint."""
    run, every = tmp_path / "run", "train.checkpoint.every=5 steps"

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointKeeper, "save", stopped)
        train(home, run, every)
    assert best_of(run) is not None and steps_in(run) == []
    train(home, run, every, resume="auto")
    assert lines_of(run) == lines_of(whole)
    same_end(end_of(run), end_of(whole))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("state", ["new", "old"])
def test_a_best_model_without_its_name_gets_it_back(home: Path, tmp_path: Path, whole: Path, state: str) -> None:
    """A process was killed in between two renames, or behind the last evaluation: the report reads `best`."""
    run = tmp_path / "run"
    train(home, run)
    (run / "report.json").unlink()
    (run / "best").rename(run / f"best.{state}")
    (run / "best.writing").mkdir()
    (run / "checkpoints" / "abc.writing").mkdir()
    set_status(run, "running")
    train(home, run, resume="latest")
    same_end(end_of(run), end_of(whole))
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[] if n in (12, 31, 50, 64) else pytest.mark.slow) for n in range(1, 130)]
)
def test_death_before_any_change_to_the_folder_loses_nothing(
    home: Path, tmp_path: Path, whole: Path, number: int
) -> None:
    run = tmp_path / "run"
    words = ["train", str(home / "config.toml"), "--run", str(run), "--resume", "auto", *SMALL]
    code = Forked(words, tmp_path / "log", dies_at=number).wait()
    assert code in (-9, 0), (tmp_path / "log").read_text()
    if code == 0:
        pytest.skip(f"a run makes fewer than {number} changes")
    assert Forked(words, tmp_path / "log").wait() == 0, (tmp_path / "log").read_text()
    same_end(end_of(run), end_of(whole))
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds the files of a run and not its model."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux":
        pytest.skip("mounts a small file system as Linux does")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_too_small_for_the_best_model_is_said(home: Path, small_disk: Path) -> None:
    with pytest.raises(RunError, match=r"the best model cannot be written to .*: No space left on device") as raised:
        train(home, small_disk / "run")
    assert "--resume" in raised.value.hint
    assert not (small_disk / "run" / "best.writing").exists()
    assert read_manifest(small_disk / "run").status == "failed"


def test_a_best_model_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_best(lambda path: (path / "model").write_text("first") and None)

    def failing(path: Path) -> None:
        (path / "model").write_text("half")
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(RunError, match=r"No space left on device\. The previous one is still there\."):
        folder.save_best(failing)
    assert (tmp_path / "best" / "model").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same(home: Path, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    train(home, run, "train.checkpoint.keep=all", "train.checkpoint.background=false")
    for step in (4, 5):
        path = run / "checkpoints" / f"step-{step}" / "state-1-of-1.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    set_status(run, "running")
    result = train(home, run, "train.checkpoint.keep=all", resume="latest")
    assert sum("is damaged" in notice for notice in result.notices) == 2
    assert any("resumes from step-2" in notice for notice in result.notices)
    assert open_checkpoint(run / "checkpoints" / f"step-{STEPS}").step == STEPS  # written anew
    same_end(end_of(run), end_of(whole))
