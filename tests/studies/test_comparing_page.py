"""What docs/comparing.md shows is run as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner

PAGE = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def call(trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("first", "second", "third"):
        shutil.copytree(trained[0].run, tmp_path / "runs" / name)
    return runner(capsys, monkeypatch, tmp_path)


def test_the_commands_of_the_page(call: Any, tmp_path: Path) -> None:
    (commands,) = blocks("bash")
    lines = [line.partition("#")[0].strip() for line in commands.splitlines()]
    assert len(lines) == 6
    for line in lines:
        done = call(*shlex.split(line)[1:])
        assert done.code == 0 and done.out, line
    assert (tmp_path / "differing.csv").is_file()


def test_the_python_of_the_page(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "comparing.md", "exec"), {})
    assert capsys.readouterr().out.split() == ["0.0", "None", "1.0", "False"]
