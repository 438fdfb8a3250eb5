"""Where `--resume` starts in every situation, and what it refuses, in whole runs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.resume import End, same_end
from kits.resumption import end
from kits.runs import Listener, reviews, set_status, signal_after, write_csv, write_place
from safetensors.torch import load_file

import textune
from textune.batches.loader import Loader
from textune.errors import ModelError, Preempted, RunError
from textune.pipeline.train import TrainResult
from textune.run.folder import RunFolder
from textune.run.manifest import read_manifest
from textune.training.checkpoint import checkpoints_in, newest

training = importlib.import_module("textune.pipeline.train")

CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
compile = "off"
[train]
duration = "2 epochs"
batch_size = 20
evaluate_every = "2 steps"
log_every = "1 steps"
[train.checkpoint]
every = "2 steps"
keep = 2
"""
STEPS = 8


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("source"), CONFIG, reviews(100))


def train(place: Path, run: Path, *overrides: str, **options: Any) -> TrainResult:
    result = textune.train(place / "config.toml", run=run, overrides=overrides, **options)
    assert result is not None
    return result


def stopped(place: Path, run: Path, *overrides: str, step: int = 5) -> Path:
    with pytest.raises(Preempted):
        train(place, run, *overrides, after_step=signal_after({step: [signal.SIGTERM]}))
    return run


@pytest.fixture(scope="module")
def runs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that was never stopped, one that stopped after step 5; with copies of the source, whose paths are theirs."""
    folder = tmp_path_factory.mktemp("runs")
    train(source, folder / "complete")
    stopped(source, folder / "stopped")
    return {name: folder / name for name in ("complete", "stopped")}


@pytest.fixture
def run(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the stopped run."""
    return shutil.copytree(runs["stopped"], tmp_path / "run")


@pytest.fixture
def moved(source: Path, tmp_path: Path) -> Path:
    """A copy of data and backbone in another place."""
    return shutil.copytree(source, tmp_path / "moved", ignore=shutil.ignore_patterns("cache"))


def without(end: End, key: str) -> End:
    return replace(end, lines=[{name: value for name, value in line.items() if name != key} for line in end.lines])


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- auto: what a scheduler starts again and again -------------------------------------------------------------------


@pytest.mark.every_day(1)
@pytest.mark.parametrize("before", ["no folder", "an empty folder", "killed before its manifest", "only its lock"])
def test_auto_starts_a_run_where_there_is_none(
    source: Path, runs: dict[str, Path], tmp_path: Path, before: str
) -> None:
    run = tmp_path / "run"
    if before != "no folder":
        run.mkdir()
    if before == "killed before its manifest":
        shutil.copy(runs["complete"] / "config.toml", run)
        (run / "manifest.json.writing").write_text("{")
    if before in ("killed before its manifest", "only its lock"):
        (run / "lock").write_text("process 1 on elsewhere")
    assert train(source, run, resume="auto").steps == STEPS
    same_end(end(run), end(runs["complete"]))


@pytest.mark.every_day(2)
@pytest.mark.parametrize("status", ["preempted", "failed", "interrupted", "running"])
@pytest.mark.parity("TR-10", "HF-13")
def test_auto_goes_on_with_a_run_however_it_stopped(
    source: Path, runs: dict[str, Path], run: Path, status: str
) -> None:
    set_status(run, status)
    listener = Listener()
    result = train(source, run, resume="auto", tracker=listener)
    assert (result.steps, result.complete_before) == (STEPS, False)
    assert f"resumes from step-5 ({run})" in listener.notices
    same_end(end(run), end(runs["complete"]))
    manifest = read_manifest(run)
    assert manifest.status == "complete" and [again.step for again in manifest.resumed] == [5]


def test_auto_starts_from_the_first_step_where_no_checkpoint_was_complete(
    source: Path, runs: dict[str, Path], run: Path
) -> None:
    set_status(run, "running")
    (run / "checkpoints" / "step-4").rename(run / "checkpoints" / "step-4.writing")
    shutil.rmtree(run / "checkpoints" / "step-5")
    listener = Listener()
    train(source, run, resume="auto", tracker=listener)
    assert any("no checkpoint was complete" in notice and "first step" in notice for notice in listener.notices)
    same_end(end(run), end(runs["complete"]))
    assert not list((run / "checkpoints").glob("*.writing"))


def test_auto_and_latest_leave_a_complete_run_alone(source: Path, runs: dict[str, Path]) -> None:
    before = contents(runs["complete"])
    for resume in ("auto", "latest"):
        result = train(source, runs["complete"], resume=resume)
        assert result.complete_before and result.steps == STEPS
        report = (runs["complete"] / "report.json").read_text(encoding="utf-8")
        assert json.loads(report) == result.reports["validation"].to_dict()
    assert contents(runs["complete"]) == before
    with refused(RunError, reason="train.seed was 0 and is 1"):
        train(source, runs["complete"], "train.seed=1", resume="auto")


def test_a_complete_run_is_told_that_its_rows_have_changed(
    moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(moved, run, "train.duration=1 steps")
    rows = (moved / "rows.csv").read_text(encoding="utf-8")

    def said() -> list[str]:
        again = train(moved, run, "train.duration=1 steps", resume="latest")
        assert again.complete_before
        return [notice for notice in again.notices if "rows" in notice or "changed" in notice]

    assert said() == []
    write_csv(moved / "rows.csv", [*reviews(100), {"text": "one more", "label": "pos"}])
    [notice] = said()
    assert notice.startswith("data.train, data.validation changed since") and "run-2" in notice
    (moved / "rows.csv").unlink()
    [notice] = said()
    assert "were not compared" in notice and "rows.csv" in notice
    (moved / "rows.csv").write_text(rows, encoding="utf-8")
    assert said() == []
    monkeypatch.setattr("textune.pipeline.completed._HERE", ())  # as rows of the hub are not read again
    [notice] = said()
    assert "was not looked at" in notice and "run-2" in notice


def test_a_complete_run_compares_every_source_of_several(moved: Path, tmp_path: Path) -> None:
    write_csv(moved / "more.csv", reviews(20))
    sources = ", ".join(f'{{files = "{moved / name}.csv"}}' for name in ("rows", "more"))
    several = ["data.train.kind=concat", f"data.train.sources=[{sources}]"]
    train(moved, tmp_path / "run", *several, "train.duration=1 steps")
    write_csv(moved / "more.csv", reviews(21))
    again = train(moved, tmp_path / "run", *several, "train.duration=1 steps", resume="latest")
    assert any(notice.startswith("data.train, data.validation changed since") for notice in again.notices)


@pytest.mark.parametrize("resume", ["auto", "latest"])
def test_a_run_that_another_process_works_on_is_left_to_it(source: Path, run: Path, resume: str) -> None:
    set_status(run, "running")
    before = contents(run)
    with RunFolder(run).lock():
        held = (run / "lock").read_text()
        with pytest.raises(RunError, match=rf"another process .*{run}.*process {os.getpid()} on"):
            train(source, run, resume=resume)
    assert contents(run) | {"lock": ""} == before | {"lock": ""} and held


def test_a_folder_with_other_things_is_never_taken(source: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.md").write_text("mine")
    for resume in ("auto", "latest", None):
        with pytest.raises(RunError, match=r"is not empty|there is no run in"):
            train(source, tmp_path / "run", resume=resume)


# --- latest, nothing, and paths --------------------------------------------------------------------------------------


def test_latest_wants_a_run(source: Path, tmp_path: Path) -> None:
    with refused(RunError, key="resume"):
        train(source, tmp_path / "run", resume="latest")
    assert not (tmp_path / "run").exists()


@pytest.mark.every_day(1)
@pytest.mark.parametrize("stopped", ["preempted", "interrupted"])
def test_without_resume_only_a_run_that_a_signal_stopped_goes_on(
    source: Path, runs: dict[str, Path], run: Path, stopped: str
) -> None:
    for status in ("failed", "running", "complete"):
        set_status(run, status)
        with refused(RunError, reason="already holds a run"):
            train(source, run)
    set_status(run, stopped)
    assert train(source, run).steps == STEPS
    same_end(end(run), end(runs["complete"]))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("named", ["run", "checkpoint"])
def test_a_branch_leaves_its_source_as_it_was(
    source: Path, runs: dict[str, Path], run: Path, tmp_path: Path, named: str
) -> None:
    before, branch = contents(run), tmp_path / "branch"
    path = run if named == "run" else run / "checkpoints" / "step-5"
    listener = Listener()
    train(source, branch, resume=str(path), tracker=listener)
    assert contents(run) == before
    assert read_manifest(branch).from_checkpoint == str(run / "checkpoints" / "step-5")
    whole, mine = end(runs["complete"]), end(branch)
    # Its lines begin where it begins; the best model up to there came with it.
    assert mine.lines == [
        line for line in whole.lines if line["step"] > 5 or (line["step"], line["kind"]) == (5, "evaluation")
    ]
    ours, theirs = (load_file(run.best / "model.safetensors") for run in (mine, whole))
    assert {name: tensor.tolist() for name, tensor in ours.items()} == {
        name: tensor.tolist() for name, tensor in theirs.items()
    }
    assert mine.state == whole.state
    assert read_manifest(branch).best_step == read_manifest(runs["complete"]).best_step
    again = train(source, branch, resume=str(path))  # the same command goes on with the branch, which is complete
    assert again is not None and again.complete_before


def test_a_branch_that_was_killed_before_it_saved_begins_where_it_began(
    source: Path, runs: dict[str, Path], run: Path, tmp_path: Path
) -> None:
    branch, path = tmp_path / "branch", run / "checkpoints" / "step-5"
    with pytest.raises(ZeroDivisionError):
        train(source, branch, resume=str(path), after_step=lambda result: 1 / 0)
    assert newest(branch / "checkpoints")[0] is None
    # Only the command names files elsewhere: the branch's own manifest, which may come from anybody, is not followed.
    for resume in ("latest", "auto"):
        with refused(RunError, key="resume"):
            train(source, branch, resume=resume)
    train(source, branch, resume=str(path))
    assert end(branch).state == end(runs["complete"]).state


def test_a_run_that_another_process_finished_meanwhile_is_left_alone(
    source: Path, runs: dict[str, Path], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.build_parts

    def slow(*args: Any, **kwargs: Any) -> Any:
        parts = real(*args, **kwargs)
        if monkeypatched:
            monkeypatched.clear()
            train(source, run, resume="latest")  # as another process would
        return parts

    monkeypatched = ["once"]
    monkeypatch.setattr(training, "build_parts", slow)
    with pytest.raises(RunError, match="another process has worked in"):
        train(source, run, resume="latest")
    assert read_manifest(run).status == "complete"
    same_end(end(run), end(runs["complete"]))


def test_a_config_of_the_users_own_is_not_taken_for_a_killed_run(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.toml").write_text("# mine")
    with refused(RunError, reason="is not empty"):
        train(source, folder, resume="auto")
    assert (folder / "config.toml").read_text() == "# mine" and len(list(folder.iterdir())) == 1


def test_weights_that_are_no_numbers_replace_no_checkpoint(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="diverged"):
        train(source, tmp_path / "run", "train.optimizer.lr=1e30", "train.log_every=20 steps")
    checkpoint = newest(tmp_path / "run" / "checkpoints")[0]
    if checkpoint is not None:
        assert all(bool(checkpoint.read(n).isfinite().all()) for n in checkpoint.names if n.startswith("model/"))


def test_a_checkpoint_of_the_run_itself(source: Path, runs: dict[str, Path], run: Path) -> None:
    before = contents(run)
    with refused(RunError, key="resume", place="step-4"):
        train(source, run, resume=str(run / "checkpoints" / "step-4"))
    assert contents(run) == before
    train(source, run, resume=str(run / "checkpoints" / "step-5"))
    same_end(end(run), end(runs["complete"]))


def test_a_branch_from_an_earlier_step_says_that_its_best_model_is_gone(
    source: Path, run: Path, tmp_path: Path
) -> None:
    state = json.loads((run / "checkpoints" / "step-4" / "state.json").read_text())
    best = read_manifest_step(run)
    listener = Listener()
    train(source, tmp_path / "branch", resume=str(run / "checkpoints" / "step-4"), tracker=listener)
    gone = any("is no longer there: the best from here on is kept" in notice for notice in listener.notices)
    assert gone == (best != state["best"]["best_step"])
    assert (tmp_path / "branch" / "best").is_dir()


def read_manifest_step(run: Path) -> int:
    step: int = json.loads((run / "best" / "textune.json").read_text())["step"]
    return step


@pytest.mark.parametrize("path", ["nowhere", "config.toml", "checkpoints", "checkpoints/step-5.writing"])
def test_what_is_no_checkpoint_is_refused(source: Path, run: Path, tmp_path: Path, path: str) -> None:
    if path.endswith(".writing"):
        (run / "checkpoints" / "step-5").rename(run / path)
        (run / path / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"there is no checkpoint|is not a complete checkpoint"):
        train(source, tmp_path / "branch", resume=str(run / path))
    assert not (tmp_path / "branch").exists()


# --- another run by now ----------------------------------------------------------------------------------------------


def test_another_configuration_is_refused_and_changes_nothing(source: Path, run: Path) -> None:
    before = contents(run)
    with refused(RunError, reason="train.batch_size was 20 and is 10; train.optimizer.lr was 0.003 and is 0.1"):
        train(source, run, "train.batch_size=10", "train.optimizer.lr=0.1", resume="latest")
    assert contents(run) == before


def test_harmless_changes_are_said_and_the_run_ends_the_same(source: Path, runs: dict[str, Path], run: Path) -> None:
    listener = Listener()
    train(source, run, "train.prefetch=0", "train.checkpoint.keep=1", resume="latest", tracker=listener)
    assert "train.prefetch was 2 and is 0 from here on" in listener.notices
    assert "train.checkpoint.keep was 2 and is 1 from here on" in listener.notices
    same_end(end(run), end(runs["complete"]))
    assert len(checkpoints_in(run / "checkpoints")) == 1


def test_data_and_backbone_may_move(moved: Path, runs: dict[str, Path], run: Path) -> None:
    train(moved, run, resume="latest")
    same_end(end(run), end(runs["complete"]))


def change_data(place: Path) -> None:
    rows = reviews(100)
    rows[17]["text"] += " indeed"
    write_csv(place / "rows.csv", rows)


def change_activation(place: Path) -> None:
    path = place / "backbone" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu", "hidden_dropout_prob": 0.3}))


def change_tokenizer(place: Path) -> None:
    tokenizer = json.loads((place / "backbone" / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["work"], vocabulary["without"] = vocabulary["without"], vocabulary["work"]  # no row has either
    (place / "backbone" / "tokenizer.json").write_text(json.dumps(tokenizer))


def change_weights(place: Path) -> None:
    shutil.rmtree(place / "backbone")
    tiny_backbone("bert", place / "backbone", seed=5)


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_data, r"the train data"),
        (change_activation, r"the backbone's hidden_act, the backbone's hidden_dropout_prob"),
        (change_tokenizer, r"the tokenizer"),
        (change_weights, r"the token embeddings of the backbone"),
    ],
)
def test_what_changed_behind_the_same_path_is_named(moved: Path, run: Path, change: Any, named: str) -> None:
    change(moved)
    before = contents(run)
    with pytest.raises(RunError, match=rf"{named}.* of .*run changed since it was trained\."):
        train(moved, run, resume="latest")
    # The refusal is no failure of the run, which still goes on by itself.
    assert contents(run) | {"lock": ""} == before | {"lock": ""} and read_manifest(run).status == "preempted"


def test_other_weights_behind_the_same_path_change_nothing_where_all_are_in_the_checkpoint(
    moved: Path, source: Path, tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(source, whole, "train.compact_vocabulary=off")
    stopped(source, run, "train.compact_vocabulary=off")
    change_weights(moved)
    train(moved, run, "train.compact_vocabulary=off", resume="latest")
    same_end(end(run), end(whole))


def test_a_refused_branch_can_be_started_again(moved: Path, source: Path, run: Path, tmp_path: Path) -> None:
    change_data(moved)
    with pytest.raises(RunError, match="the train data"):
        train(moved, tmp_path / "branch", resume=str(run))
    assert train(source, tmp_path / "branch", resume=str(run)).steps == STEPS


# --- checkpoints that do not serve -----------------------------------------------------------------------------------


def test_a_checkpoint_of_a_later_version_is_not_passed_over(source: Path, run: Path) -> None:
    path = run / "checkpoints" / "step-5" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    before = contents(run)
    for resume in ("latest", "auto", None, str(run)):
        with refused(RunError, key="version", value=99):
            train(source, run, resume=resume)
    assert contents(run) == before


def test_a_damaged_checkpoint_is_passed_over_for_an_earlier_one(
    source: Path, runs: dict[str, Path], run: Path
) -> None:
    damage(run / "checkpoints" / "step-5")
    listener = Listener()
    train(source, run, resume="latest", tracker=listener)
    assert any("step-5 is damaged" in notice for notice in listener.notices)
    assert f"resumes from step-4 ({run})" in listener.notices
    same_end(end(run), end(runs["complete"]))


def test_where_all_checkpoints_are_damaged_nothing_is_thrown_away(source: Path, run: Path) -> None:
    damage(run / "checkpoints" / "step-4")
    damage(run / "checkpoints" / "step-5")
    before = contents(run)
    for resume in ("latest", "auto"):
        with pytest.raises(RunError, match=r"step-5 is damaged.*step-4 is damaged"):
            train(source, run, resume=resume)
    assert contents(run) == before


def damage(checkpoint: Path) -> None:
    path = next(checkpoint.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


# --- what else a checkpoint must remember ----------------------------------------------------------------------------


def test_more_patience_lets_a_run_that_stopped_early_go_on(source: Path, tmp_path: Path) -> None:
    hasty = ["train.early_stopping.patience=1", "train.early_stopping.threshold=0.9"]
    assert train(source, tmp_path / "run", *hasty).steps == 4
    patient = [*hasty, "train.early_stopping.patience=9"]
    assert train(source, tmp_path / "branch", *patient, resume=str(tmp_path / "run")).steps == STEPS


def test_a_complete_run_goes_on_under_a_flat_schedule(source: Path, tmp_path: Path) -> None:
    words = ["train.schedule.kind=constant"]
    train(source, tmp_path / "long", *words, "train.duration=3 epochs")
    train(source, tmp_path / "run", *words)
    listener = Listener()
    result = train(source, tmp_path / "run", *words, "train.duration=3 epochs", resume="latest", tracker=listener)
    assert (result.steps, result.complete_before) == (12, False)
    assert 'train.duration was "2 epochs" and is "3 epochs" from here on' in listener.notices
    same_end(without(end(tmp_path / "run"), "total_steps"), without(end(tmp_path / "long"), "total_steps"))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("asked", ["auto", "120"])
def test_a_bound_that_memory_lowered_stays_lowered(source: Path, tmp_path: Path, asked: str) -> None:
    """Otherwise the steps behind would be cut otherwise, and run out of memory again."""
    run = stopped(source, tmp_path / "run", f"train.max_tokens={asked}")
    state = run / "checkpoints" / "step-5" / "state.json"
    tree = json.loads(state.read_text())
    tree["loader"]["max_tokens"] = 48
    rewrite(state, json.dumps(tree).encode())
    listener = Listener()
    with record_bounds() as bounds:
        train(source, run, f"train.max_tokens={asked}", resume="latest", tracker=listener)
    assert set(bounds) == {48} and listener.facts is not None
    assert (listener.facts.max_tokens, listener.facts.max_tokens_reason) == (48, "as before the run stopped")


def test_a_bound_that_the_user_changes_is_the_users(source: Path, run: Path) -> None:
    with record_bounds() as bounds:
        train(source, run, "train.max_tokens=72", resume="latest")
    assert set(bounds) == {72}


@contextlib.contextmanager
def record_bounds() -> Iterator[list[int]]:
    """The bounds by which batches are cut, as the batches show them."""
    bounds: list[int] = []
    real = Loader.__init__

    def noted(loader: Loader, *args: Any, **keys: Any) -> None:
        bounds.append(keys["max_tokens"])
        real(loader, *args, **keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "__init__", noted)
        yield bounds


def rewrite(path: Path, data: bytes) -> None:
    """Change a file of a checkpoint as if it had been written so."""
    path.write_bytes(data)
    manifest = path.parent / "manifest.json"
    tree = json.loads(manifest.read_text())
    from textune.training.tensorfile import facts_of

    tree["files"][path.name] = facts_of(path).to_dict()
    manifest.write_text(json.dumps(tree))


def test_nothing_of_the_run_is_marked_before_it_is_open(
    source: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RunError("the model does not fit.")

    monkeypatch.setattr("textune.run.session.build_learner", fail)
    with pytest.raises(RunError, match="does not fit"):
        train(source, run, resume="latest")
    assert read_manifest(run).status == "preempted"


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "only its lock"])
def test_a_run_that_is_refused_leaves_no_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """But one that was there before."""

    def fail(*_: Any) -> None:
        assert (run / "lock").is_file()
        raise RunError("the model does not fit.")

    run = tmp_path / "runs" / "x"
    if before != "nothing":
        run.mkdir(parents=True)
    if before == "only its lock":
        (run / "lock").write_text("process 1 on elsewhere")
    monkeypatch.setattr("textune.run.session.build_learner", fail)
    with pytest.raises(RunError, match="does not fit"):
        train(source, run)
    assert list(tmp_path.rglob("*")) == ([] if before == "nothing" else [run.parent, run])


def test_a_lock_that_another_process_removed_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking it; a third process might hold a new one."""
    run = tmp_path / "run"
    for again in (False, True):

        def removed(*_: Any, again: bool = again) -> None:
            (run / "lock").unlink()
            if again:
                (run / "lock").write_text("process 1 on elsewhere")

        monkeypatch.setattr("fcntl.flock", removed)
        with pytest.raises(RunError, match="another process has worked in"), RunFolder(run).lock():
            pytest.fail("it is locked")


@pytest.mark.parametrize("fault", ["below a file", "read-only"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_folder_that_cannot_be_written_is_said_before_anything_is_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, dry_run: bool
) -> None:
    run = tmp_path / ("file/run" if fault == "below a file" else "run")
    (tmp_path / "file").write_text("")

    def refused(**keys: Any) -> Any:  # root may write anywhere, so the system's answer is given here
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if fault == "read-only":
        monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(training, "build_parts", lambda *_, **__: pytest.fail("data was read"))
    reason = "file is a file" if fault == "below a file" else "Read-only file system"
    with pytest.raises(RunError, match=rf"the run folder .* cannot be written: .*{reason}"):
        textune.train(source / "config.toml", run=run, dry_run=dry_run)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_folder_of_a_run_to_resume_is_looked_at_first_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source, place := tmp_path / "place")
    train(place, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text(
        (tmp_path / "run" / "manifest.json").read_text().replace('"complete"', '"running"')
    )

    def refused(*, dir: Path) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(training, "build_parts", lambda *_, **__: pytest.fail("data was read"))
    with pytest.raises(RunError, match=r"the run folder .* cannot be written: Read-only file system"):
        train(place, tmp_path / "run", resume="latest")
