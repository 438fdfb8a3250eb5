"""Shared by all questions: what the command line set, the config of our side, what both sides of a training are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.speed.data import Texts
from bench.speed.shapes import make_backbone, minilm

BATCH_SIZE = 32
MAX_LENGTH = 128
LEARNING_RATE = 5e-5
TINY = {
    "minilm": "bert-tiny",
    "bert-base": "bert-tiny",
    "xlmr-base": "xlmr-tiny",
    "modernbert-base": "modernbert-tiny",
    "deberta-small": "deberta-tiny",
}
"""Shape to the one that stands for it in a tiny run."""


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
        """Seconds of measuring that are left to the question; it measures at least three pairs whatever this says."""
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
        """The folder of a backbone; made once per run."""
        if shape == "minilm" and not self.tiny:
            return minilm()
        name = TINY.get(shape, shape)
        folder = self.work / "backbones" / (name if self.tiny else shape)
        return folder if (folder / "config.json").exists() else make_backbone(folder.name, folder)


def quoted(text: str | Path) -> str:
    """A TOML string."""
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_config(
    path: Path,
    *,
    rows: Path,
    backbone: Path,
    cache: Path,
    pairs: bool = False,
    duration: str = "100000 steps",
    batch_size: int = BATCH_SIZE,
    max_length: int = MAX_LENGTH,
    order: str = "sequential",
    validation: Path | None = None,
    device: str = "cpu",
) -> Path:
    """A run's config as a user would write it; every key that is not here keeps its default."""
    held_out = f'kind = "files"\nfiles = {quoted(validation)}' if validation else 'kind = "none"'
    path.write_text(
        f"""
[data.train]
files = {quoted(rows)}
[data.validation]
{held_out}
[data.columns]
{'text_pair = "text_pair"' if pairs else ""}
[tokens]
max_length = {max_length}
cache = {quoted(cache)}
[model]
pretrained = {quoted(backbone)}
[train]
duration = "{duration}"
batch_size = {batch_size}
order = "{order}"
device = "{device}"
[train.optimizer]
lr = {LEARNING_RATE}
[train.schedule]
warmup = "50 steps"
""",
        encoding="utf-8",
    )
    return path


@dataclass(frozen=True)
class Task:
    """A training that is measured: texts on a backbone."""

    texts: Texts
    backbone: Path
    batch_size: int = BATCH_SIZE
    max_length: int = MAX_LENGTH
    total_steps: int = 6315
    """Steps that both runs are told they will last: three epochs of SST-2; decides the schedule, and what pays off."""

    def write(self, settings: Settings) -> tuple[Path, Path]:
        """The csv and our config."""
        rows = self.texts.write(settings.work / "rows.csv")
        config = write_config(
            settings.work / "config.toml",
            rows=rows,
            backbone=self.backbone,
            cache=settings.work / "cache",
            pairs=self.texts.is_pairs,
            duration=f"{self.total_steps} steps",
            batch_size=self.batch_size,
            max_length=self.max_length,
            device=settings.device,
        )
        return rows, config


def ours_spec(config: Path, *overrides: str) -> dict[str, Any]:
    """Specification of the worker `ours.training`."""
    return {"config": str(config), "overrides": list(overrides)}


def trainer_spec(task: Task, rows: Path, settings: Settings, **options: Any) -> dict[str, Any]:
    """Specification of the worker `peers.trainer`; at its best unless `options` say otherwise."""
    return {
        "backbone": str(task.backbone),
        "rows": str(rows),
        "batch_size": task.batch_size,
        "max_length": task.max_length,
        "total_steps": task.total_steps,
        "device": settings.device,
        "precision": "best",
        "padded": False,
        "grouped": True,
        "best": True,
        **options,
    }
