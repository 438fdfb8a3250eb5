"""What the questions share: the settings of the command line, the config of a run, and a training that several systems
do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.speed.backbones import encoder_parameters, make_backbone, minilm, read_config
from bench.speed.texts import Texts, short_texts

BATCH_SIZE = 32
MAX_LENGTH = 128
SST2_STEPS = 6315
"""Three epochs of SST-2."""


@dataclass(frozen=True)
class Settings:
    """What the command line says, the time of this question, and a folder to work in."""

    work: Path
    data: Path | None = None
    seconds: float = 40.0
    """Of this question, start-up counted; what is left when the workers are ready is measured."""
    measuring: float | None = None
    """Of measuring alone, however long the workers take to be ready; None: whatever `seconds` leaves."""
    rows: int | None = None
    """Most rows to measure with; None leaves it to the question."""
    device: str = "cpu"
    tiny: bool = False
    """Tiny backbones and the fewest rows: to see that everything runs."""
    started: float = field(default_factory=perf_counter)

    def left(self) -> float:
        """Seconds of measuring that are left to the question; it measures at least `pairs` pairs whatever this
        says."""
        if self.measuring is not None:
            return self.measuring
        return 0.0 if self.tiny else max(0.0, self.seconds - (perf_counter() - self.started))

    @property
    def pairs(self) -> int:
        """Fewest pairs of a row."""
        return 2 if self.tiny else 3

    def count(self, rows: int, tiny: int = 256) -> int:
        """Rows, for a question that wants `rows`."""
        return tiny if self.tiny else rows if self.rows is None else min(rows, self.rows)

    def backbone(self, shape: str = "minilm") -> Path:
        """The folder of a backbone; made once per run. A tiny run has the tiny shape of the family instead."""
        if shape == "minilm" and not self.tiny:
            return minilm()
        shape = "bert-base" if shape == "minilm" else shape
        folder, tiny = self.work / "backbones" / shape, self.tiny and shape != "modernbert-long"
        return folder if (folder / "config.json").exists() else make_backbone(shape, folder, tiny=tiny)


def write_config(path: Path, keys: Mapping[str, Any], *, rows: Path, backbone: Path) -> Path:
    """A run's config as a user would write it; `keys` replace or add some, every other keeps its default."""
    settings: dict[str, Any] = {
        "data.train.files": str(rows),
        "data.validation.kind": "none",
        "tokens.max_length": MAX_LENGTH,
        "tokens.cache": str(path.parent / "cache"),
        "model.pretrained": str(backbone),
        "train.duration": "100000 steps",
        "train.batch_size": BATCH_SIZE,
        "train.order": "sequential",
        "train.optimizer.lr": 5e-5,
        "train.schedule.warmup": "50 steps",
        **keys,
    }
    # A JSON string, number or boolean is the same in TOML.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n" for key, value in settings.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Task:
    """A training that is measured: texts on a backbone."""

    texts: Texts
    backbone: Path
    batch_size: int = BATCH_SIZE
    max_length: int = MAX_LENGTH
    total_steps: int = SST2_STEPS
    """Steps that both sides are told they will last; decides the schedule, and what pays off."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the config."""

    def write(self, settings: Settings) -> Path:
        """The config that both sides read, and its csv."""
        keys = {"train.duration": f"{self.total_steps} steps", "train.batch_size": self.batch_size}
        keys |= {"train.device": settings.device, "tokens.max_length": self.max_length}
        keys |= {"data.columns.text_pair": "text_pair"} if self.texts.is_pairs else {}
        keys |= self.keys
        rows = self.texts.write(settings.work / "rows.csv")
        return write_config(settings.work / "config.toml", keys, rows=rows, backbone=self.backbone)

    @property
    def encoder_parameters(self) -> int:
        """Parameters that every token is multiplied with."""
        return encoder_parameters(read_config(self.backbone))


def short_task(settings: Settings, shape: str = "minilm", rows: int = 6400) -> Task:
    """Training on short texts, a whole number of batches: a pass over the rows is the same for everyone."""
    texts = short_texts(None, settings.data).first(settings.count(rows), multiple_of=BATCH_SIZE)
    return Task(texts, settings.backbone(shape))
