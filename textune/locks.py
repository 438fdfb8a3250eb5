"""A file that one process holds while it works, so that no two do the same at once; below every room."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class Held(Exception):
    """Another process holds the file; the words say which."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file, which is made if need be and released by the system if the process dies.

    Held where another process has it; OSError where it cannot be opened.
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
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield
