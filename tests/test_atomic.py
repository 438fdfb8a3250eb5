"""Files and folders are complete or absent, whatever stops the process that writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from textune.atomic import (
    complete_folder,
    publish,
    replace_folder,
    settle_folder,
    sync_tree,
    write_bytes,
    write_folder,
    write_text,
    written_aside,
)
from textune.errors import RunError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "älter")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(error), written_aside(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_a_place_of_the_callers_own_and_what_a_dead_process_left(tmp_path: Path) -> None:
    (tmp_path / "a.writing").write_text("left by a process that was killed")
    with written_aside(tmp_path / "a", tmp_path / ".a.mine") as aside:
        aside.write_text("whole")
    assert names(tmp_path) == ["a", "a.writing"]
    with written_aside(tmp_path / "a") as aside:
        assert not aside.exists()
        aside.mkdir()
        (aside / "inner").mkdir()
        (tmp_path / "a").unlink()
    assert names(tmp_path) == ["a"] and (tmp_path / "a" / "inner").is_dir()


def test_a_folder_is_complete_or_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "deep" / "b", lambda folder: (folder / "x").write_text("x") and None)
    assert (tmp_path / "deep" / "b" / "x").read_text() == "x"

    def full(folder: Path) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(RunError, match="No space left on device"):
        write_folder(tmp_path / "c", full)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_folder(tmp_path / "file" / "d", lambda folder: None)
    assert names(tmp_path) == ["deep", "file"]


def test_a_folder_that_is_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    for name in ("a", "a.writing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    with pytest.raises(OSError):
        publish(tmp_path / "a.writing", tmp_path / "a")
    assert (tmp_path / "a" / "x").read_text() == "a"


@pytest.mark.parametrize("state", ["", ".new", ".old"])
def test_a_folder_that_was_being_replaced_is_found_and_settled(tmp_path: Path, state: str) -> None:
    folder = tmp_path / "best"
    replace_folder(folder, lambda inner: (inner / "x").write_text("one") and None)
    folder.rename(tmp_path / f"best{state}")
    (tmp_path / "best.writing").mkdir()
    assert complete_folder(folder) == tmp_path / f"best{state}"
    settle_folder(folder)
    assert names(tmp_path) == ["best"] and (folder / "x").read_text() == "one"
    replace_folder(folder, lambda inner: (inner / "x").write_text("two") and None)
    assert names(tmp_path) == ["best"] and (folder / "x").read_text() == "two"
    assert complete_folder(tmp_path / "nothing") is None


def test_everything_in_a_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    for path in (tmp_path / "a", tmp_path / "inner" / "b"):
        path.write_text("x")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    sync_tree(tmp_path)
    assert {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))} == set(synced)
