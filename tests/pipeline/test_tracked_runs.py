"""Runs with trackers: what these get, what their faults do to the run, and how they catch up."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kits import trackers
from kits.cli import runner
from kits.errors import refused
from kits.ranking import textune_ranks
from kits.runs import Listener, set_status, signal_after
from kits.trackers import kept_in
from kits.trained import home

import textune
from textune.errors import CodeError, ConfigError, Preempted, RunError
from textune.pipeline.tracking import replay
from textune.run.folder import RunFolder

__all__ = ["home"]

SHORT = ("train.duration=12 steps", "train.log_every=2 steps", "train.evaluate_every=6 steps", "model.compile=off")


def track(kind: str, folder: Path, *, wait: float = 20.0, more: str = "") -> str:
    """A `[[track]]` of the kit's."""
    options = f"folder = {json.dumps(str(folder))}{', ' if more else ''}{more}"
    return f'{{kind = "python", object = "kits.trackers:{kind}", wait = {wait}, options = {{{options}}}}}'


def train(home: Path, run: Path, *tracks: str, words: Sequence[str] = (), **options: Any) -> Listener:
    listener = Listener()
    overrides = [*SHORT, *words, f"track=[{', '.join(tracks)}]"]
    textune.train(home / "config.toml", run=run, overrides=overrides, tracker=listener, **options)
    return listener


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def require_complete(kept: list[dict[str, Any]], run: Path) -> None:
    """A tracker has every line of metrics.jsonl once, in order, and knows how the run ended."""
    lines = lines_of(run)
    found = [line for line in kept if "stream" in line]
    steps = [
        (line["kind"] if line["kind"] == "step" else f"evaluation/{line['set']}", line["step"])
        for line in lines
        if line["kind"] != "notice"
    ]
    assert [(one["stream"], one["step"]) for one in found if one["stream"] != "notice"] == steps
    # What is said of another tracker once the run has ended is not sent any more.
    told = {
        line["message"]
        for line in lines
        if line["kind"] == "notice" and "textune tracking replay" not in line["message"]
    }
    notices = [one for one in found if one["stream"] == "notice"]
    assert told <= {one["message"] for one in notices}
    assert len({one["message"] for one in notices}) == len(notices)
    assert [one["number"] for one in notices] == list(range(1, len(notices) + 1))
    assert kept[-1]["ended"] == "complete"


@pytest.fixture(scope="module")
def untracked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("untracked") / "run"
    textune.train(home / "config.toml", run=run, overrides=SHORT)
    return run


@pytest.fixture(autouse=True)
def letting_go() -> Iterator[None]:
    """What hangs is let go after the test."""
    trackers.HANGING.clear()
    yield
    trackers.HANGING.set()


def let_go(folder: Path) -> None:
    """What failed works again, and what hung has come back."""
    trackers.HANGING.set()
    for thread in threading.enumerate():
        if thread.name.startswith("tracker "):
            thread.join(30)
    folder.mkdir(exist_ok=True)
    (folder / "up").touch()


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"}


def weights(run: Path) -> bytes:
    return (run / "best" / "model.safetensors").read_bytes()


def test_a_tracker_gets_everything_once(home: Path, tmp_path: Path, untracked: Path) -> None:
    run = tmp_path / "run"
    train(home, run, track("Kept", tmp_path / "kept"))
    kept = kept_in(tmp_path / "kept")
    require_complete(kept, run)
    parameters = kept[0]["parameters"]
    assert (parameters["train.batch_size"], parameters["facts.steps"]) == (16, 12)
    assert not [name for name in parameters if name.startswith("track")]
    first = next(one for one in kept if one.get("stream") == "step")
    [line] = [line for line in lines_of(run) if line["kind"] == "step" and line["step"] == first["step"]]
    assert first["numbers"]["train/loss"] == line["loss"] and first["time"] == line["time"]
    assert first["numbers"]["system/memory"] > 1 << 20 and first["numbers"]["system/cpu"] > 0
    evaluated = next(one for one in kept if one.get("stream") == "evaluation/validation")
    assert "validation/accuracy" in evaluated["numbers"]
    files = [one["file"] for one in kept if "file" in one]
    assert files[:4] == ["config.toml", "manifest.json", "metrics.jsonl", "best"] and "report.json" in files
    assert kept[-1]["sets"] == ["test", "validation"]
    assert weights(run) == weights(untracked)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", ["Hanging", "Unreachable", "Full", "Exiting", "Panicking"])
def test_a_tracker_that_fails_does_not_concern_the_run_or_another_tracker(
    home: Path, tmp_path: Path, untracked: Path, kind: str
) -> None:
    run = tmp_path / "run"
    listener = train(home, run, track(kind, tmp_path / "bad", wait=0.5), track("Kept", tmp_path / "good"))
    assert weights(run) == weights(untracked)
    require_complete(kept_in(tmp_path / "good"), run)
    assert json.loads((run / "manifest.json").read_text())["status"] == "complete"
    about = [notice for notice in listener.notices if "the tracker python" in notice]
    assert "textune tracking replay" in about[-1] and len(about) <= 2  # once on the way, once at the end

    if kind == "Panicking":
        assert "Panic: entered unreachable code" in about[-1]
        return
    if kind == "Exiting":  # which never comes back
        with refused(RunError, key="track", reason="SystemExit"):
            replay(run)
        return
    let_go(tmp_path / "bad")
    [first, _] = replay(run)
    assert first.records > 0 and first.trouble == ""
    require_complete(kept_in(tmp_path / "bad"), run)
    before = files_in(tmp_path)
    assert [(one.records, one.files) for one in replay(run)] == [(0, 0), (0, 0)]
    assert files_in(tmp_path) == before


def test_records_that_a_tracker_cannot_take_are_counted(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    listener = train(home, run, track("Refusing", tmp_path / "kept"))
    kept = kept_in(tmp_path / "kept")
    [about] = [notice for notice in listener.notices if "the tracker python" in notice]
    assert "too long" in about
    told = {line["message"] for line in lines_of(run) if line["kind"] == "notice"}
    num_notices = len(told - {about})  # itself is sent only if it was said before the end
    assert num_notices > 0 and kept[-1]["ended"] == "complete"
    assert json.loads((run / "tracking" / "python.json").read_text())["left_out"] - num_notices in (0, 1)


def test_two_trackers_of_one_place_and_what_is_not_there_are_refused(home: Path, tmp_path: Path) -> None:
    run, same = tmp_path / "run", track("Kept", tmp_path / "kept")
    with refused(ConfigError, key="track[1]", reason="track[0]"):
        train(home, run, same, same)
    boards = '{kind = "tensorboard"}', f'{{kind = "tensorboard", folder = "{run / "tensorboard"}"}}'
    with refused(ConfigError, key="track[1]", reason="track[0]"):
        train(home, run, *boards)
    with refused(ConfigError, key="track[1]", reason="track[0]"):
        textune.check(home / "config.toml", overrides=[f"track=[{same}, {same}]"])
    for uris in (("sqlite:///a.db", f"sqlite:///{Path('a.db').absolute()}"), ("http://h:1", "http://me:pw@h:1/")):
        with refused(ConfigError, key="track[1]", reason="track[0]"):
            train(home, run, *(f'{{kind = "mlflow", uri = "{uri}"}}' for uri in uris))
    with refused(CodeError, key="track[0].object", value="kits.trackers:Nothing"):
        train(home, run, track("Nothing", tmp_path / "kept"))
    with refused(CodeError, key="track[0].object", value="open"):
        train(home, run, '{kind = "python", object = "kits.runs:Listener"}')
    with refused(ConfigError, key="track[0].kind", value="wandb"):
        train(home, run, '{kind = "wandb"}')
    assert not run.exists()


SAVING = ("train.checkpoint.every=4 steps", "train.checkpoint.background=false", "train.checkpoint.keep=2")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("tells", ["true", "false"])
def test_a_run_that_goes_on_goes_on_in_the_same_run_of_its_tracker(home: Path, tmp_path: Path, tells: str) -> None:
    """Stopped after step 7, and made to forget what came after the checkpoint of step 4."""
    run, mine = tmp_path / "run", track("Kept", tmp_path / "kept", more=f"tells = {tells}")
    later = track("Kept", tmp_path / "later")
    with pytest.raises(Preempted):
        train(home, run, mine, words=SAVING, after_step=signal_after({7: [signal.SIGTERM]}))
    before = kept_in(tmp_path / "kept")
    assert before[-1]["ended"] == "preempted" and not [one for one in before if "file" in one]
    assert [one["step"] for one in before if one.get("stream") == "step"] == [2, 4, 6]
    shutil.rmtree(run / "checkpoints" / "step-7")
    train(home, run, mine, later, words=SAVING)
    require_complete(kept_in(tmp_path / "kept"), run)
    require_complete(kept_in(tmp_path / "later"), run)  # from the first step
    assert {path.name for path in (run / "tracking").iterdir()} == {"python.json", "python-2.json"}


def test_a_folder_that_lost_its_cursors_goes_on_from_its_checkpoint(home: Path, tmp_path: Path) -> None:
    run, mine = tmp_path / "run", track("Kept", tmp_path / "kept")
    with pytest.raises(Preempted):
        train(home, run, mine, words=SAVING, after_step=signal_after({7: [signal.SIGTERM]}))
    shutil.rmtree(run / "tracking")
    train(home, run, mine, words=SAVING)
    require_complete(kept_in(tmp_path / "kept"), run)


def test_a_tracker_that_is_taken_out_is_left_alone_and_a_branch_is_another_run(home: Path, tmp_path: Path) -> None:
    run, mine = tmp_path / "run", track("Kept", tmp_path / "kept")
    with pytest.raises(Preempted):
        train(home, run, mine, words=SAVING, after_step=signal_after({7: [signal.SIGTERM]}))
    before = files_in(tmp_path / "kept")
    train(home, tmp_path / "branch", mine, words=SAVING, resume=str(run / "checkpoints" / "step-7"))
    listener = train(home, run, words=SAVING)
    assert {path: text for path, text in files_in(tmp_path / "kept").items() if path in before} == before
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert [notice for notice in listener.notices if notice.startswith("track[0] (python) does not hear")]


def test_a_fast_development_run_is_sent_nowhere(home: Path, tmp_path: Path) -> None:
    train(home, tmp_path / "run", track("Kept", tmp_path / "kept"), fast_dev_run=True)
    assert not (tmp_path / "kept").exists()


def test_a_run_that_had_no_trackers_is_sent_afterwards(
    tmp_path: Path, untracked: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(untracked, tmp_path / "run")
    with refused(RunError, key="track", place=str(run)):
        replay(run)
    call = runner(capsys, monkeypatch, tmp_path)
    override = f"track=[{track('Kept', tmp_path / 'kept')}]"
    answer = call("tracking", "replay", run, override)
    assert answer.code == 0 and "python" in answer.out and "sent" in answer.out
    require_complete(kept_in(tmp_path / "kept"), run)
    answer = call("tracking", "replay", run, override, "--only", "python", "--json")
    [said] = json.loads(answer.out)["trackers"]
    assert (said["tracker"], said["records"], said["files"], said["trouble"]) == ("python", 0, 0, "")
    answer = call("tracking", "replay", run, override, "--only", "mlflow", "--json")
    assert answer.code == 2 and json.loads(answer.out)["error"]["key"] == "only"


def test_a_run_that_was_killed_is_sent_as_interrupted_and_one_at_work_is_not(tmp_path: Path, untracked: Path) -> None:
    run = shutil.copytree(untracked, tmp_path / "run")
    set_status(run, "running")
    tracks = {
        "track": [{"kind": "python", "object": "kits.trackers:Kept", "options": {"folder": str(tmp_path / "k")}}]
    }
    with RunFolder(run).lock(), refused(RunError, reason="another process is writing"):
        replay(run, overrides=tracks)
    replay(run, overrides=tracks)
    kept = kept_in(tmp_path / "k")
    assert kept[-1]["ended"] == "interrupted" and not [one for one in kept if "file" in one]


def test_a_cursor_that_is_damaged_is_said_and_the_run_goes_on(home: Path, tmp_path: Path) -> None:
    run, mine = tmp_path / "run", track("Kept", tmp_path / "kept")
    with pytest.raises(Preempted):
        train(home, run, mine, words=SAVING, after_step=signal_after({7: [signal.SIGTERM]}))
    (run / "tracking" / "python.json").write_text('{"place": 1}')
    listener = train(home, run, mine, words=SAVING)
    assert [notice for notice in listener.notices if "python.json" in notice]
    with refused(RunError, place="python.json"):
        replay(run)
    (run / "tracking" / "python.json").unlink()
    replay(run)
    assert len(list((tmp_path / "kept").iterdir())) == 2  # the whole run again, as a new one


def test_of_two_processes_the_first_alone_is_heard(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SHORT, f"track=[{track('Kept', tmp_path / 'kept')}]"]
    ended = textune_ranks(2, ["train", str(home / "config.toml"), "--run", str(run), *words], tmp_path / "logs")
    assert ended.codes == [0, 0], ended.said
    require_complete(kept_in(tmp_path / "kept"), run)


def test_a_run_that_goes_on_after_it_was_complete_leaves_its_files_again(home: Path, tmp_path: Path) -> None:
    run, mine = tmp_path / "run", track("Kept", tmp_path / "kept")
    for steps in (6, 12):
        words = (*SAVING, "train.schedule.kind=constant", f"train.duration={steps} steps")
        train(home, run, mine, words=words, resume="auto")
    kept = kept_in(tmp_path / "kept")
    assert [one["ended"] for one in kept if "ended" in one] == ["complete", "complete"]
    assert [one.get("file") for one in kept].count("best") == 2


def test_large_files_are_sent_only_where_all_are_asked_for(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    kinds = ("all", "reports", "none")
    mine = [track("Kept", tmp_path / kind).replace("wait", f'files = "{kind}", wait') for kind in kinds]
    train(home, run, *mine)
    sent = {kind: {one["file"] for one in kept_in(tmp_path / kind) if "file" in one} for kind in kinds}
    assert sent["all"] - sent["reports"] == {"best", "validation.rows.parquet", "test.rows.parquet"}
    assert {"config.toml", "report.json"} <= sent["reports"] and not sent["none"]


def test_an_option_of_a_tracker_is_told_to_nobody(home: Path, tmp_path: Path) -> None:
    """It may be a password; the configuration alone holds it."""
    run = tmp_path / "run"
    listener = train(home, run, track("Unreachable", tmp_path / "secret-17", wait=0.0))
    with pytest.raises(RunError) as caught:
        replay(run)
    told = [*listener.notices, str(caught.value), caught.value.place, (run / "tracking" / "python.json").read_text()]
    assert len(told) >= 4 and not [text for text in told if "secret-17" in text]
    assert "secret-17" not in (run / "metrics.jsonl").read_text()
