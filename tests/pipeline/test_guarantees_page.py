"""What docs/guarantees.md shows: each command is one of the command line, and those on two classes run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.runs import reviews, write_csv

from textune.cli.deciding import decide
from textune.pipeline.guarantees import read_guarantees

PAGE = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_what_the_page_shows(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained[0].run.parents[1], tmp_path, dirs_exist_ok=True)
    shutil.copytree(trained[0].run, tmp_path / "runs" / "spam")
    write_csv(tmp_path / "labelled-this-week.csv", reviews(100, seed=5))
    call = runner(capsys, monkeypatch, tmp_path)
    # A model of few steps proves little on few rows.
    low = PAGE.replace("0.98", "0.02")
    (commands,), (code,) = (re.findall(rf"```{language}\n(.*?)```", low, re.DOTALL) for language in ("bash", "python"))
    lines = [shlex.split(line) for line in commands.splitlines()]
    for words in lines:
        decide.make_context("decide", words[2:])  # raises for what it does not know
    spam = [words for words in lines if words[2] == "runs/spam"]
    assert (len(lines), len(spam)) == (4, 2)
    for words in spam:
        done = call(*words[1:])
        assert done.code == 0 and done.out, words
    (found,) = read_guarantees(tmp_path / "runs" / "spam" / "best")
    (tmp_path / "runs" / "spam" / "best" / "guarantees.json").unlink()
    exec(compile(code, "guarantees.md", "exec"), {})
    (again,) = read_guarantees(tmp_path / "runs" / "spam" / "best")
    assert again.model_copy(update={"at": found.at}) == found
