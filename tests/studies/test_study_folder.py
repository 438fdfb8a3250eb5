"""`study.json`: the same study goes on in its folder, another one is refused, and so is a second process."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.load import load_config
from textune.errors import RunError
from textune.studies.folder import NAME, Study, opened_study, read_study


def begin(folder: Path, one: Study | None = None) -> None:
    """A study with the first of its runs."""
    with opened_study(folder, one or study()):
        (folder / "run").mkdir(exist_ok=True)


def study(*words: str, **plan: Any) -> Study:
    return Study("repeat", load_config(None, words).resolved, {"folds": 5, **plan})


def test_the_same_study_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x"
    begin(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "run", NAME] and read_study(folder) == study()
    begin(folder, study("train.device=cpu"))  # computed otherwise
    assert read_study(folder) == study("train.device=cpu")


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (study(folds=4), {"key": "folds", "value": 4}),
        (study(by="grid"), {"key": "by", "value": "grid"}),
        (study("train.optimizer.lr=1e-3"), {"reason": "train.optimizer.lr"}),
        (replace(study(), kind="sweep"), {"key": "run"}),
        (replace(study(), plan={}), {"key": "folds", "value": None}),
    ],
)
def test_another_study_is_refused(tmp_path: Path, other: Study, fields: dict[str, Any]) -> None:
    begin(tmp_path)
    written = (tmp_path / NAME).read_bytes()
    with refused(RunError, place=str(tmp_path), **fields), opened_study(tmp_path, other):
        pass
    assert (tmp_path / NAME).read_bytes() == written


def test_a_study_without_a_run_leaves_nothing(tmp_path: Path) -> None:
    """As where the first run is refused: another study may then begin there."""
    with pytest.raises(ZeroDivisionError), opened_study(tmp_path / "runs" / "x", study()):
        assert (tmp_path / "runs" / "x" / NAME).is_file()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    (tmp_path / "x").mkdir()
    with opened_study(tmp_path / "x", study()):
        pass
    assert not list((tmp_path / "x").iterdir())


def test_what_else_a_folder_may_hold(tmp_path: Path) -> None:
    stack = contextlib.ExitStack()
    (tmp_path / "lock").touch()
    (tmp_path / f"{NAME}.writing").touch()  # as after a study that was killed as it began
    with opened_study(tmp_path, study()), refused(RunError, place=str(tmp_path), reason="another process"):
        stack.enter_context(opened_study(tmp_path, study()))
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    with refused(RunError, place=str(run), reason="something else"), opened_study(run, study()):
        pass
    with refused(RunError), opened_study(run / "manifest.json", study()):
        pass
    assert sorted(path.name for path in run.iterdir()) == ["manifest.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"study": "repeat"}', json.dumps({"study": "x", "plan": 1, "config": {}})]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text, encoding="utf-8")
    with refused(RunError, place=NAME), opened_study(tmp_path, study()):
        pass
    with refused(RunError, place=str(tmp_path)):
        read_study(tmp_path / "nothing")
