"""A model folder as bytes, and bytes as a temporary folder: how a model goes into a pickle and out of it again.

Weights are safetensors in there, the card is JSON. Adapters are put into the weights first, since their backbone stays
behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

from textune.exports import plain_folder
from textune.inside import within
from textune.prediction import read_card

_PREFIX = "textune-"
"""Of the names of temporary folders."""


class TemporaryFolder:
    """A folder that is removed with this object, or when the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def remove(self) -> None:
        """Remove it now."""
        self._remove()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not where a process that was forked ends
        shutil.rmtree(path, ignore_errors=True)


def packed(folder: Path, code: tuple[str, ...]) -> dict[str, bytes]:
    """The files of a model folder by name, in order; `code` as in `textune.load`. ModelError where adapters cannot be
    merged."""
    if read_card(folder).adapters is None:
        return _contents(folder)
    merged = TemporaryFolder()
    try:
        plain_folder(folder, merged.path / "model", code=code, form="merged")
        return _contents(merged.path / "model")
    finally:
        merged.remove()


def unpacked(files: Mapping[str, bytes]) -> TemporaryFolder:
    """A temporary folder with these files; InputError for a name that would leave it."""
    temporary = TemporaryFolder()
    for name, content in files.items():
        path = within(temporary.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return temporary


def _contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
