"""All that decides what is predicted of rows, whoever does it: the same in every process, and noted beside what is
done, so that parts of two different commands are never put together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textune.config import Columns, DeviceName, PredictionPrecision, Switch
from textune.data import StreamOptions
from textune.errors import ModelError
from textune.jsontext import parse_json
from textune.prediction import Input, ModelCard, Predictor, load, precision_of, prediction_fields
from textune.version import __version__

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Opening:
    """How each process opens the model."""

    model: str
    """A run folder or a model folder."""
    device: DeviceName = "auto"
    precision: PredictionPrecision = "auto"
    max_tokens: int | None = None
    compile: Switch = "auto"
    code: tuple[str, ...] = ()
    decision: bool = True

    def open(self, on_notice: Callable[[str], None]) -> Predictor:
        """The model, opened here; errors as `textune.prediction.load`."""
        return load(
            self.model,
            device=self.device,
            precision=self.precision,
            max_tokens=self.max_tokens,
            compile=self.compile,
            code=self.code,
            decision=self.decision,
            on_notice=on_notice,
        )


@dataclass(frozen=True)
class Settings:
    """One command."""

    opening: Opening
    paths: tuple[str, ...]
    """The input files, in the order of their rows."""
    reading: StreamOptions
    writing: StreamOptions
    columns: Columns
    rename: Mapping[str, str] = field(default_factory=dict)
    all_scores: bool = False
    skips: bool = False
    """Whether rows that cannot be used are left out."""

    def anywhere(self) -> Settings:
        """The same for a process in another folder."""
        opening = replace(self.opening, model=os.path.abspath(self.opening.model))
        return replace(self, opening=opening, paths=tuple(os.path.abspath(path) for path in self.paths))

    def input(self, index: int, card: ModelCard, max_rows: int) -> Input:
        """One of the files as it is read."""
        return Input(
            self.paths[index],
            self.reading,
            self.columns,
            self.rename,
            prediction_fields(card, all_scores=self.all_scores).names,
            max_rows,
            skips=self.skips,
            prefix=card.metadata,
        )

    def facts(self, model: Path, card: ModelCard) -> dict[str, Any]:
        """What decides the output, by the words that name it in a message; `model` is the model's folder.

        How fast it is computed is left out: workers, engine, kernels and tokens at once may change on the way, and so
        may the device, unless it computes in another precision.
        """
        facts = {
            "textune": __version__,
            "the model": _content(model),
            "the input files": [os.path.abspath(path) for path in self.paths],
            "how the input is read": vars(self.reading),
            "the format of the output": vars(self.writing),
            "the columns of the text": [self.columns.model_dump(mode="json"), dict(self.rename)],
            "--all-scores": self.all_scores,
            "--skip-bad-rows": self.skips,
            "--no-decision": not self.opening.decision,
            "the precision (--precision, --device)": self._precision(card),
            "--code": list(self.opening.code),
        }
        return dict(parse_json(json.dumps(facts, allow_nan=False).encode()))

    def _precision(self, card: ModelCard) -> str:
        try:
            return precision_of(card, self.opening.device, self.opening.precision)
        except ModelError:  # of this machine: others may have what is asked for, and a worker that has not says so
            return self.opening.precision


def _content(model: Path) -> str:
    """A hash of all files of a folder with their names."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(model).as_posix()} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
