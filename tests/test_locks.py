"""A file that one process holds: a second one is told who has it, also where it goes as that one opens it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from textune.locks import Held, Removed, held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")


def test_the_second_is_told_who_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path):
        with pytest.raises(Held, match=f"process {os.getpid()} on ") as caught, held(path):
            pass
        assert not isinstance(caught.value, Removed)
    with held(path):  # what stays is no obstacle, and says the same
        assert path.read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_goes_as_it_is_opened_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    import fcntl

    path = tmp_path / "lock"

    def lock(*_: object) -> None:  # who held it removes it now, and another process may make it anew
        path.unlink()
        if again:
            path.write_text("another one")

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.raises(Removed), held(path):
        pass
    assert not again or path.read_text() == "another one"


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text()


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OSError), held(tmp_path / "absent" / "lock"):
        pass
