"""Run folders that earlier versions wrote (`tests/make_version_data.py`) load, predict, evaluate and go on (R20)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.runs import Listener

import textune
from textune.batches.order import FIRST_DRAWING
from textune.config.sources import FilesSource
from textune.prediction.load import load
from textune.run.manifest import read_manifest
from textune.training.checkpoint import newest

VERSIONS = sorted(path for path in (Path(__file__).parent.parent / "data-of-versions").iterdir() if path.is_dir())
"""The text that stands for the folder where it was made is the only path in there."""


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of all that was made, in another place than then."""
    return shutil.copytree(request.param, tmp_path / "place")


@pytest.fixture
def expected(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "expected.json").read_text(encoding="utf-8"))
    return found


def test_there_is_a_version() -> None:
    assert VERSIONS


def test_its_model_predicts_what_it_predicted(place: Path, expected: dict[str, Any]) -> None:
    for folder in (place / "run", place / "run" / "best"):
        predictions = load(folder, device="cpu", precision="fp32").predict(expected["texts"])
        assert [prediction.label for prediction in predictions] == expected["labels"]
        assert [prediction.score for prediction in predictions] == pytest.approx(expected["scores"], abs=1e-4)


def test_it_is_evaluated(place: Path) -> None:
    report = textune.evaluate(place / "run", data=FilesSource(files=(str(place / "rows.csv"),)), device="cpu")
    assert report.num_rows == 80
    assert report.to_dict()["metrics"]["accuracy"] > 0.8


def test_it_goes_on_to_its_end(place: Path, expected: dict[str, Any]) -> None:
    run, listener = place / "run", Listener()
    checkpoint, passed = newest(run / "checkpoints")
    assert checkpoint is not None and (checkpoint.step, passed) == (expected["stopped_at"], [])
    result = textune.train(place / "config.toml", run=run, tracker=listener)  # a scheduler had stopped it
    assert result is not None and result.steps == expected["steps"]
    assert f"resumes from step-{expected['stopped_at']} ({run})" in listener.notices
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, expected["steps"] + 1))
    # Another version of PyTorch may round otherwise, or draw other dropout; the run stays the run.
    tolerance = 1e-3 if same_torch(run) else 0.25
    assert [line["loss"] for line in steps] == pytest.approx(expected["losses"], abs=tolerance)
    metrics = result.reports["validation"].to_dict()["metrics"]
    assert metrics["accuracy"] == pytest.approx(expected["metrics"]["accuracy"], abs=0.1)
    manifest = read_manifest(run)
    assert manifest.status == "complete" and len(manifest.resumed) == 1


def test_it_keeps_the_order_of_its_rows(place: Path) -> None:
    """Its checkpoint does not say how that was drawn; those that follow do."""
    checkpoint, _ = newest(place / "run" / "checkpoints")
    assert checkpoint is not None and "drawing" not in checkpoint.state["loader"]
    textune.train(place / "config.toml", run=place / "run", overrides=["evaluate.bootstrap=0"])
    last, _ = newest(place / "run" / "checkpoints")
    assert last is not None and last.step > checkpoint.step and last.state["loader"]["drawing"] == FIRST_DRAWING


def same_torch(run: Path) -> bool:
    manifest = read_manifest(run)
    before, now = manifest.versions["torch"], manifest.resumed[0].versions["torch"]
    return bool(before.split("+")[0] == now.split("+")[0])
