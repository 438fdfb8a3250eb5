"""The user's cache folder: where it is, and whether its contents can be trusted; for `batches/store.py`.

Cached files are made from private texts or run as code, so only their owner may read or write them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

PRIVATE = 0o700
ROOT = 0
"""User id of root, who can read and write everything anyway."""


def user_cache(name: str) -> Path:
    """The folder for caches of that name: `$XDG_CACHE_HOME/textune/NAME`, by default `~/.cache/textune/NAME`.

    This is the only environment variable of the user that textune itself reads: the standard place of caches.
    RuntimeError if there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG standard says to ignore relative paths.
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return folder / "textune" / name


def open_cache(folder: Path, *, ours: bool) -> None:
    """Create a cache folder that only its owner can read. OSError if it cannot be created, or as `require_own`.

    `ours`: this is the default folder; if others can read it (an earlier version created it so), its permissions are
    fixed.
    """
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if ours and os.name == "posix" and folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o077:
        folder.chmod(PRIVATE)
    require_own(folder)


def require_own(path: Path) -> None:
    """Raise PermissionError if another user (except root) owns a file or folder of a cache, or can write to it."""
    if os.name != "posix":
        return
    found = path.stat()
    if found.st_uid not in (os.geteuid(), ROOT):
        raise PermissionError(None, f"it belongs to another user (number {found.st_uid})", str(path))
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(None, "other users can write to it (fix it with chmod go-w)", str(path))
