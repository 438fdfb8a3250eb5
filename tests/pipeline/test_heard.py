"""What Python callers hear: sentences by `logging`, a bar in a terminal or a notebook."""

import inspect
import io
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from kits.runs import Listener, reviews

import textune
from textune.pipeline import heard
from textune.run import SilentTracker

ROWS = reviews(40)


def train(home: Path, run: Path, **how: Any) -> textune.TrainResult:
    overrides = {
        "train.duration": "2 steps",
        "train.precision": "fp32",
        "train.device": "cpu",
        "tokens.max_length": 24,
        "tokens.cache": str(home / "cache"),
        "evaluate.bootstrap": 0,
    }
    return textune.train(ROWS, model=str(home / "backbone"), run=run, overrides=overrides, **how)


def test_notices_are_warnings_and_the_rest_is_information(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "textune"):
        result = train(home, tmp_path / "run")
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "textune"]
    assert [message for level, message in said if level == "WARNING"] == list(result.notices)
    others = [message for level, message in said if level == "INFO"]
    assert any(message.startswith("task: binary, 2 labels") for message in others)
    assert any(message.startswith("evaluated at step 2") for message in others) and others[-1] == "the run is complete"


def test_a_tracker_of_ones_own_hears_instead(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener()
    with caplog.at_level(logging.INFO, "textune"):
        result = train(home, tmp_path / "run", tracker=listener)
    assert [record for record in caplog.records if record.name == "textune"] == [] and result.notices


def test_the_level_of_the_logger_silences_bar_and_sentences(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.ERROR, "textune"):
        train(home, tmp_path / "run")
    assert caplog.records == [] and terminal.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_that_goes_at_the_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "COLUMNS"):
        monkeypatch.setenv(name, {"TERM": "xterm", "COLUMNS": "100"}[name])
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(home, tmp_path / "run")
    drawn = terminal.getvalue()
    assert "training" in drawn and drawn.rstrip().endswith("\x1b[2K")


def fake_notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """IPython as a kernel of Jupyter has it; what its cell showed, one after the other."""
    shown: list[str] = []

    def display(drawn: str, *, display_id: bool) -> Any:
        shown.append(drawn)
        return types.SimpleNamespace(update=shown.append)

    shell = types.SimpleNamespace(kernel=object())
    package: Any = types.ModuleType("IPython")
    package.get_ipython = lambda: shell
    module: Any = types.ModuleType("IPython.display")
    module.display, module.HTML = display, str
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_has_one_bar_that_is_drawn_again_in_its_place(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = fake_notebook(monkeypatch)
    train(home, tmp_path / "run")
    assert any('<progress value="2" max="2"></progress> training  2/2  loss ' in drawn for drawn in shown)
    assert shown[-1] == "" and all(drawn for drawn in shown[:-1])


def test_other_processes_of_a_run_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "launched_rank", lambda: 1)
    fake_notebook(monkeypatch)
    with heard.speaking() as tracker:
        assert type(tracker) is SilentTracker


def test_a_verb_keeps_its_signature() -> None:
    assert list(inspect.signature(textune.train).parameters)[:4] == ["config", "text", "label", "model"]
