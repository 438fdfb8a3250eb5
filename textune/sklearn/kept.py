"""The model of a fitted estimator: a folder, opened when it is first used, that goes where the estimator goes."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from textune.config import DeviceName
from textune.exports import plain_folder
from textune.inside import within
from textune.prediction import Predictor, load, read_card

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


class KeptModel:
    """A model folder and the predictor of it.

    Pickled by content: the bytes of the folder's files, whose weights are safetensors, and from which a process
    elsewhere makes a temporary folder of its own. Adapters are put into the weights for that, since their backbone
    stays behind.
    """

    def __init__(
        self, folder: Path, *, temporary: TemporaryFolder | None, device: DeviceName, code: tuple[str, ...]
    ) -> None:
        """`temporary`: the folder that the model is in, where nobody else keeps it; `device`, `code`: as in
        `textune.load`."""
        self._folder = folder
        self._temporary = temporary
        self._device = device
        self._code = code

    @cached_property
    def predictor(self) -> Predictor:
        """The model, opened."""
        return load(self._folder, device=self._device, code=self._code)

    def __getstate__(self) -> dict[str, object]:
        card = read_card(self._folder)
        if card.adapters is None:
            files = _contents(self._folder)
        else:
            merged = TemporaryFolder()
            try:
                plain_folder(self._folder, merged.path / "model", code=self._code, form="merged")
                files = _contents(merged.path / "model")
            finally:
                merged.remove()
        return {"files": files, "device": self._device, "code": self._code}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        files, device, code = state["files"], state["device"], state["code"]
        assert isinstance(files, dict) and isinstance(code, tuple)
        temporary = TemporaryFolder()
        for name, content in files.items():
            path = within(temporary.path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.__init__(temporary.path, temporary=temporary, device=device, code=code)  # type: ignore[misc]


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
