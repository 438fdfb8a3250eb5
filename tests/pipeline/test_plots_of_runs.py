"""`evaluate.plots` and `textune report --plots`: plots as PNG files in the run folder, and in trackers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import textune
from textune.cli import commands
from textune.errors import ConfigError
from textune.evaluation.render import plots
from textune.pipeline.report import report
from textune.run.folder import RunFolder

OF_TWO_CLASSES = {
    f"plots/{name}/{plot}.png"
    for name in ("test", "validation")
    for plot in (
        "confusion-matrix",
        "coverage",
        "lowest-classes",
        "precision-recall",
        "reliability",
        "roc",
        "scores",
    )
}
OF_TRAINING = {"plots/loss.png", "plots/learning-rate.png", "plots/training-accuracy.png"}
"""And further metrics."""


def plots_in(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted((run / "plots").rglob("*.*"))}


def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)


@pytest.fixture
def copy(trained: Any, tmp_path: Path) -> Path:
    """Of a run without plots."""
    result, _ = trained
    return Path(shutil.copytree(result.run, tmp_path / "copy"))


def test_a_run_has_plots_where_it_asks_for_them(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    run = tmp_path / "run"
    textune.train(home / "config.toml", run=run, overrides=["train.duration='1 epochs'", "evaluate.plots=true"])
    drawn = plots_in(run)
    assert {name for name in drawn if name.count("/") == 2} == OF_TWO_CLASSES
    of_training = {name for name in drawn if name.count("/") == 1}
    assert of_training >= OF_TRAINING
    assert sum(name.startswith("plots/training-") for name in of_training) == plots.MAX_METRICS
    assert all(data.startswith(b"\x89PNG\r\n\x1a\n") for data in drawn.values())
    listed = RunFolder(run).files()  # what trackers are sent
    assert {name for name in listed if name.startswith("plots")} == set(drawn)
    assert all(path.is_file() for name, path in listed.items() if name in drawn)


def test_a_run_has_none_by_default(copy: Path) -> None:
    assert not (copy / "plots").exists()
    report(copy)
    assert not (copy / "plots").exists()


@pytest.mark.slow
def test_the_verb_draws_them_later(copy: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    (copy / "plots").mkdir()
    (copy / "plots" / "old.png").write_bytes(b"of an earlier session")
    done = CliRunner().invoke(commands, ["report", str(copy), "--plots", "--json"])
    written = json.loads(done.stdout)
    assert {name for name in written if name.startswith("plots")} == set(plots_in(copy)) >= OF_TWO_CLASSES
    assert "plots/old.png" not in written
    first = plots_in(copy)
    report(copy, plots=True)
    assert plots_in(copy) == first


def test_a_missing_package_is_named_before_anything_is_written(
    home: Path, tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_matplotlib(monkeypatch)
    with pytest.raises(ConfigError) as error:
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=["evaluate.plots=true"])
    assert (error.value.key, error.value.reason) == ("evaluate.plots", "matplotlib is not installed")
    assert not (tmp_path / "run").exists()
    page = (copy / "report.html").stat().st_mtime_ns
    with pytest.raises(ConfigError) as error:
        report(copy, plots=True)
    assert error.value.key == "--plots"
    assert (copy / "report.html").stat().st_mtime_ns == page and not (copy / "plots").exists()
