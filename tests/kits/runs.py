"""Small data and a listener for tests of whole runs."""

import csv
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kits.backbones import WORDS, tiny_backbone
from textune.run.facts import Facts
from textune.run.header import describe
from textune.run.tracking.tracker import SilentTracker
from textune.training.loop import StepResult

GOOD, BAD = ["good", "fine", "great", "charming", "brilliant"], ["bad", "dull", "boring", "poor", "worst"]


def reviews(num_rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose label is plain from their words, of very different lengths."""
    generator = random.Random(seed)
    rows = []
    for number in range(num_rows):
        positive = number % 2 == 0
        words = generator.choices(["the", "film", "is", "a", "movie", "and"], k=generator.randint(1, 20))
        words += generator.choices(GOOD if positive else BAD, k=2)
        generator.shuffle(words)
        rows.append(
            {
                "id": number,
                "text": " ".join(words),
                "label": "pos" if positive else "neg",
                "number": round(generator.random(), 3),
            }
        )
    return rows


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


QUICK = """
[tokens]
max_length = 24
cache = "cache"
[train]
batch_size = 16
precision = "fp32"
device = "cpu"
[train.optimizer]
lr = 3e-3
[evaluate]
bootstrap = 0
"""
"""What the configurations of quick runs have in common."""


def write_place(folder: Path, config: str, rows: list[dict[str, Any]]) -> Path:
    """As `write_config`, with `rows.csv` beside the rest."""
    write_csv(folder / "rows.csv", rows)
    return write_config(folder, config)


def write_config(folder: Path, config: str, *, words: Sequence[str] = WORDS) -> Path:
    """The folder, with a tiny BERT of these words in `backbone`, and `config.toml`: `config` laid over `QUICK`."""
    tiny_backbone("bert", folder / "backbone", words=words)
    (folder / "quick.toml").write_text(QUICK, encoding="utf-8")
    (folder / "config.toml").write_text(f'extends = "quick.toml"\n{config}', encoding="utf-8")
    return folder


def set_status(run: Path, status: str) -> None:
    """Make a run look as if it had ended otherwise."""
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"status": status}), encoding="utf-8")


def signal_after(steps: Mapping[int, Sequence[int]]) -> Callable[[StepResult], None]:
    """For `train(after_step=...)`: sends this process real signals after the steps that are named."""

    def after_step(result: StepResult) -> None:
        for number in steps.get(result.step, ()):
            os.kill(os.getpid(), number)

    return after_step


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch computes with so many; tests have one otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Listener(SilentTracker):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.facts: Facts | None = None
        self.notices: list[str] = []
        self.evaluations: list[Any] = []
        self.started: list[Any] = []
        """What `start` was given besides the facts: the configuration, and what trackers had kept."""
        self.finished: list[Any] = []

    @property
    def words(self) -> dict[str, str]:
        """The facts in words."""
        assert self.facts is not None
        return describe(self.facts)

    def start(self, config: Any, facts: Facts, state: Any) -> None:
        self.facts = facts
        self.started.append((config, state))

    def finish(self, status: str, files: Any) -> None:
        self.finished.append((status, dict(files)))

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def evaluation(self, values: Any) -> None:
        self.evaluations.append(values)
