"""The nightly job of the tutorial: what it does with the JSON and the exit codes of textune, whatever these are."""

import csv
import io
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.pages import ROOT
from kits.runs import reviews, write_csv

import textune
from textune.cli import main

SCRIPT = ROOT / "examples" / "tutorials" / "nightly.py"
CONFIG = """
[data.train]
files = "labelled.csv"
[data.test]
kind = "files"
files = "test.csv"
[tokens]
max_length = 24
cache = "cache"
[model]
pretrained = "backbone"
[train]
duration = "2 epochs"
batch_size = 16
precision = "fp32"
[train.optimizer]
lr = 3e-3
[evaluate]
bootstrap = 0
"""


_run = subprocess.run


def in_this_process(command: Sequence[str], **options: Any) -> Any:
    """`subprocess.run`, for a command of textune without the time that a process takes to start."""
    if list(command[:3]) != [sys.executable, "-m", "textune"]:
        return _run(command, **options)
    assert command[-1] == "--json"
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as ended:
        main(list(command[3:]))
    return SimpleNamespace(returncode=ended.value.code or 0, stdout=said.getvalue())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Runs the job of a night in `tmp_path`, and says with which code it ended."""
    tiny_backbone("bert", tmp_path / "backbone")
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    write_csv(tmp_path / "labelled.csv", reviews(150))
    write_csv(tmp_path / "test.csv", reviews(80, seed=1))
    write_csv(tmp_path / "incoming.csv", reviews(3, seed=2))
    monkeypatch.setattr(subprocess, "run", in_this_process)

    def run(night: str) -> int:
        monkeypatch.setattr(sys, "argv", ["nightly.py", str(tmp_path), night])
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


@pytest.mark.slow
def test_each_night_has_a_model_and_the_better_one_is_used(
    job: Callable[[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = tmp_path / "models" / "current"
    assert job("monday") == 0
    assert "compare" not in capsys.readouterr().out
    assert job("monday") == 0, "the same command again has nothing left to do"
    assert current.readlink() == Path("monday")
    with (tmp_path / "scored-monday.csv").open(encoding="utf-8", newline="") as file:
        assert [set(row["predicted_label"]) <= set("negpos") for row in csv.DictReader(file)] == [True] * 3
    swapped = [row | {"label": "neg" if row["label"] == "pos" else "pos"} for row in reviews(150)]
    write_csv(tmp_path / "labelled.csv", swapped)
    assert job("tuesday") == 0
    assert "the current model stays" in capsys.readouterr().out and current.readlink() == Path("monday")
    write_csv(tmp_path / "labelled.csv", reviews(200))
    assert job("wednesday") == 0
    assert "compare: accuracy" in capsys.readouterr().out and current.readlink() == Path("wednesday")


def test_what_has_to_be_mended_ends_with_2_and_says_it(
    job: Callable[[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG.replace("duration", "duratoin"), encoding="utf-8")
    assert job("monday") == 2
    assert "Did you mean train.duration?" in capsys.readouterr().out


def test_where_another_run_holds_the_folder_it_is_tried_again_later(
    job: Callable[[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = []

    def start_again(_: object) -> None:
        if not codes:
            codes.append(job("monday"))

    textune.train(tmp_path / "config.toml", run=tmp_path / "models" / "monday", after_step=start_again)
    assert codes == [75] and "train: " in capsys.readouterr().out


def test_a_command_that_the_system_kills_is_tried_again(
    job: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-9, stdout=""))
    assert job("monday") == 75
