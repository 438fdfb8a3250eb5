"""Small data and a listener for tests of whole runs."""

import csv
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from textune.run.tracking import SilentTracker

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


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


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
        self.facts: dict[str, str] = {}
        self.notices: list[str] = []
        self.evaluations: list[Any] = []

    def header(self, facts: Any) -> None:
        self.facts = dict(facts)

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def evaluation(self, values: Any) -> None:
        self.evaluations.append(values)
