"""The model of a fitted estimator: a folder, opened when it is first used, that goes where the estimator goes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from textune.config import DeviceName
from textune.pipeline import TemporaryFolder, packed, unpacked
from textune.prediction import Predictor, load


class KeptModel:
    """A model folder and the predictor of it; pickled by content (`pipeline/packed.py`)."""

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
        return {"files": packed(self._folder, self._code), "device": self._device, "code": self._code}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        files, device, code = state["files"], state["device"], state["code"]
        assert isinstance(files, dict) and isinstance(code, tuple)
        temporary = unpacked(files)
        self.__init__(temporary.path, temporary=temporary, device=device, code=code)  # type: ignore[misc]
