"""Runs with trackers: what these get, what their faults do to the run, and how they catch up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kits import trackers
from kits.errors import refused
from kits.runs import Listener
from kits.trackers import kept_in
from kits.trained import home

import textune
from textune.errors import CodeError, ConfigError

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
    told = dict.fromkeys(line["message"] for line in lines if line["kind"] == "notice")
    notices = [one for one in found if one["stream"] == "notice"]
    assert [one["message"] for one in notices] == list(told)[: len(notices)]
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


@pytest.mark.parametrize("kind", ["Hanging", "Unreachable", "Full", "Exiting"])
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


def test_records_that_a_tracker_cannot_take_are_counted(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(home, run, track("Refusing", tmp_path / "kept"))
    kept = kept_in(tmp_path / "kept")
    num_notices = len({line["message"] for line in lines_of(run) if line["kind"] == "notice"})
    assert num_notices > 0 and kept[-1]["ended"] == "complete"
    assert json.loads((run / "tracking" / "python.json").read_text())["left_out"] == num_notices


def test_two_trackers_of_one_place_and_what_is_not_there_are_refused(home: Path, tmp_path: Path) -> None:
    run, same = tmp_path / "run", track("Kept", tmp_path / "kept")
    with refused(ConfigError, key="track[1]", reason="track[0]"):
        train(home, run, same, same)
    with refused(CodeError, key="track[0].object", value="kits.trackers:Nothing"):
        train(home, run, track("Nothing", tmp_path / "kept"))
    with refused(CodeError, key="track[0].object", value="open"):
        train(home, run, '{kind = "python", object = "kits.runs:Listener"}')
    with refused(ConfigError, key="track[0].kind", value="wandb"):
        train(home, run, '{kind = "wandb"}')
    assert not run.exists()
