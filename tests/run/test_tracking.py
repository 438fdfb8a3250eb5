"""Trackers: several as one, what a checkpoint keeps of them, and the lines of metrics.jsonl."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from textune.run.tracking.lines import JsonlTracker, cut_lines
from textune.run.tracking.tracker import SilentTracker, Trackers


class Keeping(SilentTracker):
    """Keeps a state, as a tracker of a service does that has runs of its own."""

    def __init__(self, **kept: Any) -> None:
        self.kept = kept
        self.heard: list[Any] = []

    def finish(self, status: str, files: Any) -> None:
        self.heard.append((status, files))

    def notice(self, message: str) -> None:
        self.heard.append(message)

    def state(self) -> dict[str, Any]:
        return self.kept


def test_several_are_one() -> None:
    one, other = Keeping(run_id="a"), Keeping(session=3)
    trackers = Trackers([one, Trackers([other])])
    trackers.notice("hear")
    trackers.finish("complete", {"best": Path("best")})
    assert one.heard == other.heard == ["hear", ("complete", {"best": Path("best")})]
    assert trackers.notices == ["hear"]
    assert trackers.state() == {"run_id": "a", "session": 3}


def test_two_that_keep_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="run_id"):
        Trackers([Keeping(run_id="a"), Keeping(run_id="b")]).state()


def test_lines_are_cut_where_the_state_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonlTracker(path) as lines:
        lines.notice("ä")
        size = lines.state()["metrics_bytes"]
        lines.notice("later")
    assert isinstance(size, int) and path.stat().st_size > size
    cut_lines(path, size)
    [line] = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (line["kind"], line["message"]) == ("notice", "ä") and line["time"] == pytest.approx(time.time(), abs=600)
    path.write_bytes(path.read_bytes()[:-3])  # a machine went down
    cut_lines(path, size)
    assert path.read_bytes() == b""


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    with JsonlTracker(tmp_path / "metrics.jsonl") as lines:
        metrics = {"accuracy": float("nan"), "f1": 0.5}
        lines.evaluation({"set": "news", "step": 1, "epoch": 1.0, "main": "f1", "is_best": False, "metrics": metrics})
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["metrics"] == {"accuracy": None, "f1": 0.5} and (line["kind"], line["set"]) == ("evaluation", "news")
