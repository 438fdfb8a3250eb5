"""Files and folders that are complete or absent: written aside, synced, renamed. Below every room that writes.

write_text, write_bytes     a file whose content is in memory
written_aside               a file or folder that the caller writes piece by piece
write_folder                a new folder; RunError where the system refuses it
replace_folder              a folder that may be read at any moment; `complete_folder` finds it
publish                     only the last step, the name, for callers that write and sync themselves
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from textune.errors import RunError

WRITING = ".writing"
"""Suffix of what is being written, or was when its process died."""
REMOVING = ".removing"
"""Suffix of a folder that is no longer used."""
_NEW, _OLD = ".new", ".old"
"""Suffixes of a complete folder that will replace another, and of the replaced one."""


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see either the old text or the new."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that readers see either the old bytes or the new."""
    with written_aside(path) as aside:
        aside.write_bytes(data)


@contextlib.contextmanager
def written_aside(path: Path, aside: Path | None = None) -> Iterator[Path]:
    """Give a temporary path, next to `path`, for a file or a folder; when the block ends, it is synced and renamed.

    After an error nothing is left of it. `aside`: the temporary path, if `path.writing` may belong to another process.
    """
    aside = aside or path.with_name(path.name + WRITING)
    _remove(aside)
    try:
        yield aside
        sync_tree(aside)
        publish(aside, path)
    except BaseException:
        _remove(aside)
        raise


def publish(aside: Path, path: Path) -> None:
    """Give what was written and synced its final name, replacing a file of that name. OSError if it is a folder."""
    aside.replace(path)
    sync_folder(path.parent)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Create a folder with what `write(folder)` writes; RunError if the system refuses."""
    try:
        with system_errors(), written_aside(folder) as aside:
            aside.mkdir(parents=True)
            write(aside)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror or error}.", hint="Choose another place."
        ) from error


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace a folder by what `write(folder)` writes. OSError if the system refuses; the old folder then stays.

    `NAME.writing` is incomplete; `NAME.new` and `NAME` are complete. A crash at any moment leaves at least one
    complete folder where there was one before (`complete_folder` finds it, `settle_folder` cleans up).
    """
    writing, new, old = (folder.with_name(folder.name + end) for end in (WRITING, _NEW, _OLD))
    try:
        with system_errors():
            settle_folder(folder)
            writing.mkdir()
            write(writing)
            sync_tree(writing)
            writing.rename(new)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    _discard(old)


def complete_folder(folder: Path) -> Path | None:
    """The complete folder, even if the process that replaced it was killed; None if there is none."""
    return next((found for end in ("", _NEW, _OLD) if (found := folder.with_name(folder.name + end)).is_dir()), None)


def settle_folder(folder: Path) -> None:
    """Give a complete folder its name if a process was killed before doing so, and remove what it left unfinished."""
    found = complete_folder(folder)
    if found is not None and found != folder:
        found.rename(folder)
    for end in (WRITING, _NEW, _OLD):
        _discard(folder.with_name(folder.name + end))
    for path in folder.parent.glob(f"{folder.name}.*{REMOVING}"):
        shutil.rmtree(path, ignore_errors=True)


def put_aside(path: Path) -> Path:
    """Rename a folder to an unused name that marks it for removal; returns that name."""
    aside, number = path.with_name(path.name + REMOVING), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{number}{REMOVING}")
    return path.rename(aside)


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """An OSError for what the system refused, even if a Rust library (safetensors, tokenizers) reports it only in
    words."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        said = re.search(r"\(os error (\d+)\)", str(error))
        if said is None:
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1]))) from error


def sync_tree(path: Path) -> None:
    """Make a file, or a folder with everything in it, survive a crash of the machine."""
    if path.is_file():
        with path.open("rb") as file:
            sync_file(file)
    elif path.is_dir():
        for inner in path.iterdir():
            sync_tree(inner)
        sync_folder(path)


def sync_file(file: IO[bytes]) -> None:
    """Make what was written to an open file survive a crash of the machine."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash; where folders cannot be opened (Windows), the system does so
    itself."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that can be written to but not listed
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)


def _discard(folder: Path) -> None:
    """Remove a folder; if the system still holds its files (a network file system), at least free its name."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(put_aside(folder), ignore_errors=True)
