"""Calls the command line in this process, as a person would type it."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from textune.cli import main


class Answer:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def runner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, *, columns: int = 200
) -> Any:
    """A function of the words of a command that runs it in `folder`; no command may show a traceback."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", str(columns))

    def call(*words: object, stdin: str = "") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Answer(int(exit_.value.code or 0), captured.out, captured.err)

    return call
