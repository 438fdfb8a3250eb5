"""A file that one process holds while it works, so that no two do the same at once; below every room."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

if sys.platform != "win32":
    import fcntl


class Held(Exception):
    """Another process holds the file; the words say which."""


class Removed(Held):
    """Another process held the file, and removed it as this one opened it."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file, which is made if need be and released by the system if the process dies.

    Held, or Removed, where another process has it or just had it; OSError where it cannot be opened.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            # Windows has no such locks: two processes are not kept apart there.
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Held(file.read().strip() or "it left no name") from None
        except OSError:
            pass  # a file system without locks
        if not _is_same(file, path):
            raise Removed("it has just ended")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def _is_same(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_held(path: Path) -> bool:
    """Whether a process holds the file now; True also where that cannot be known (Windows, no rights to read)."""
    if sys.platform == "win32":
        return path.is_file()
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # BlockingIOError: somebody holds it
        return True
    return False
