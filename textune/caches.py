"""The user's cache folder: where it is, and whether what lies in a folder can be trusted; for `batches/store.py`.

What is cached here was made of private texts, or is run as code: nobody else may read it, and nobody else may have written it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

PRIVATE = 0o700
ROOT = 0
"""The number of the user who may do anything anyway."""


def user_cache(name: str) -> Path:
    """The folder for caches of that name: `$XDG_CACHE_HOME/textune/NAME`, by default `~/.cache/textune/NAME`.

    The one variable of the environment that textune itself reads of the user's: it says where all programs keep such files.
    RuntimeError where there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # Its standard has relative paths ignored.
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return folder / "textune" / name


def open_cache(folder: Path, *, ours: bool) -> None:
    """Make a cache folder that only its owner can look into. OSError where it cannot be made, or as `require_own`.

    `ours`: it is the default one, so that one that others may look into (an earlier version made it so) is closed.
    """
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if ours and os.name == "posix" and folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o077:
        folder.chmod(PRIVATE)
    require_own(folder)


def require_own(path: Path) -> None:
    """PermissionError where another user (but root) owns a file or folder of a cache, or may write there."""
    if os.name != "posix":
        return
    found = path.stat()
    if found.st_uid not in (os.geteuid(), ROOT):
        raise PermissionError(None, f"it belongs to another user (number {found.st_uid})", str(path))
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(None, "other users may write to it (close it with chmod go-w)", str(path))
