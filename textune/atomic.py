"""Files and folders that are complete or absent: written aside, synced, renamed. Below every room that writes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from textune.errors import RunError

REMOVING = ".removing"
"""Ends the name of a folder that nobody looks for any more."""


def write_text(path: Path, text: str) -> None:
    """Write a file aside, then rename it: readers see the old text or the new one."""
    aside = path.with_name(path.name + ".writing")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a folder of what `write(folder)` writes: complete or absent."""
    aside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with system_errors():
            aside.mkdir(parents=True)
            write(aside)
            sync_tree(aside)
            aside.rename(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.", hint="Choose another place.") from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def put_aside(path: Path) -> Path:
    """Give a folder a name under which nobody looks for it, and which says that it is to be removed; returns that."""
    aside, number = path.with_name(path.name + REMOVING), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{number}{REMOVING}")
    return path.rename(aside)


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """OSError for what the system refused, also where a library written in Rust (safetensors, tokenizers) says so in words."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        said = re.search(r"\(os error (\d+)\)", str(error))
        if said is None:
            raise
        raise OSError(int(said[1]), os.strerror(int(said[1]))) from error


def sync_tree(folder: Path) -> None:
    """Make a folder survive a crash of the machine, with all files and folders in it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive; where folders cannot be opened (Windows) the system does so by itself."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
