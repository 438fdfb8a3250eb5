"""The page about a run is made from the files of its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textune.run.history import MAX_POINTS, read_history


def write_metrics(path: Path, num_steps: int) -> None:
    lines = []
    for step in range(1, num_steps + 1):
        lines.append({"kind": "step", "step": step, "loss": 1 / step, "lr": 1e-4})
        if step % 100 == 0:
            metrics = {"loss": None, "accuracy": step / num_steps}
            lines.append(
                {"kind": "evaluation", "set": "validation", "step": step, "main": "accuracy", "metrics": metrics}
            )
    lines.append({"kind": "notice", "message": "done"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_curves_are_thinned_to_means_of_neighbours(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.jsonl", 1000)
    history = read_history(tmp_path / "metrics.jsonl")
    assert history is not None
    loss = history.loss
    assert len(loss.steps) == len(loss.values) == MAX_POINTS
    assert (loss.steps[0], loss.steps[-1]) == (5, 1000)
    assert loss.values[0] == pytest.approx(sum(1 / step for step in range(1, 6)) / 5, rel=1e-5)
    assert history.evaluations["accuracy"][0].steps == tuple(range(100, 1001, 100))
    assert history.evaluations["loss"][0].steps == ()  # it was never defined
    assert list(history.evaluations) == ["accuracy", "loss"]  # the main metric first


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, 3)
    with path.open("a") as file:
        file.write('{"kind": "step", "step": 4, "lo')
    history = read_history(path)
    assert history is not None
    assert history.loss.steps == (1, 2, 3)


def test_a_run_that_logged_nothing_has_no_curves(tmp_path: Path) -> None:
    assert read_history(tmp_path / "metrics.jsonl") is None
