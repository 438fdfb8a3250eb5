"""`python -m bench.backbones NAME[=FOLDER]... --data FOLDER`: what the named backbones of `textune models` cost and
bring on three small tasks.

Each is fine-tuned on a few rows of SST-2 (sentiment), TREC (kinds of questions) and banking77 (77 intents), with the
settings of `TASKS`, and scored on the published dev or test rows. Seconds are processor time of this process, which
other work on the machine disturbs least: of training per 1,000 short texts, from the first optimizer step to the last,
and of prediction per 1,000 texts of TREC, tokenising included. FOLDER after a name holds its weights, where they are
not to be fetched. A name that is measured already is measured again. The figures go into the file that `textune
models` shows, next to its table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import textune
from bench.machine import processor, versions
from bench.rows import write_json
from bench.worker import ROOT
from textune.config import BACKBONES
from textune.training import StepResult

OUT = ROOT / "textune" / "config" / "backbones.json"
BATCH = 32


@dataclass(frozen=True)
class Task:
    """A task, and how much of it is learned."""

    example: str
    """Its configuration, in `examples/`."""
    rows: int
    epochs: int


TASKS = {
    "SST-2": Task("sst2.toml", 800, 3),
    "TREC": Task("trec.toml", 800, 3),
    "banking77": Task("banking77.toml", 1000, 6),
}
SMALL = frozenset({"minilm", "multilingual-minilm", "multilingual-e5"})
RATE, BASE_RATE = 2e-4, 5e-5
"""The peak learning rate of those, whose layers are 384 wide, and of the others; none was tuned."""
SPEED = "TREC"
"""The task whose test texts are predicted against the clock."""


class Clock:
    """Processor time from the first optimizer step to the last."""

    def __init__(self) -> None:
        self.steps = 0
        self._first = self._last = 0.0

    def __call__(self, result: StepResult) -> None:
        """Note a step."""
        self._last = time.process_time()
        self._first = self._first or self._last
        self.steps += 1

    @property
    def seconds_per_1000(self) -> float:
        """For 1,000 texts."""
        return (self._last - self._first) / ((self.steps - 1) * BATCH) * 1000


def measure(name: str, pretrained: str, data: Path, rate: float) -> dict[str, object]:
    """One backbone on all tasks."""
    scores: dict[str, float] = {}
    training: dict[str, float] = {}
    prediction = characters = 0.0
    for title, task in TASKS.items():
        with tempfile.TemporaryDirectory() as folder:
            clock = Clock()
            result = textune.train(
                str(ROOT / "examples" / task.example),
                run=Path(folder) / "run",
                overrides={
                    "data.folder": str(data),
                    "data.train.shuffle": True,
                    "data.train.take": task.rows,
                    "model.pretrained": pretrained,
                    "tokens.cache": f"{folder}/cache",
                    "train.duration": f"{task.epochs} epochs",
                    "train.evaluate_every": f"{task.epochs} epochs",
                    "train.batch_size": BATCH,
                    "train.schedule.warmup": "10 %",
                    "train.optimizer.lr": rate,
                },
                after_step=clock,
            )
            scores[title] = round(result.reports["validation"].value, 4)
            training[title] = round(clock.seconds_per_1000, 2)
            if title == SPEED:
                texts = _texts(data)
                characters = sum(map(len, texts)) / len(texts)
                predictor = textune.load(result.run)
                predictor.predict(texts[:32])
                begin = time.process_time()
                predictor.predict(texts)
                prediction = (time.process_time() - begin) / len(texts) * 1000
        print(f"{name} {title}: {scores[title]:.3f}, {training[title]:.1f} s of training per 1,000 texts", flush=True)
    return {
        "scores": scores,
        "training_seconds": training,
        "prediction_seconds": round(prediction, 2),
        "characters": round(characters, 1),
        "machine": processor(),
        "versions": versions(("torch", "transformers", "textune")),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _texts(data: Path) -> list[str]:
    """The test questions of TREC."""
    lines = (data / "trec" / "TREC.test").read_text(encoding="latin-1").splitlines()
    return [line.partition(" ")[2] for line in lines if line]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line for each task, and write the file after each backbone."""
    parser = argparse.ArgumentParser(prog="python -m bench.backbones", description=__doc__)
    parser.add_argument("backbones", nargs="+", metavar="NAME[=FOLDER]", help=", ".join(BACKBONES))
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="holds glue/, trec/ and banking77/")
    parser.add_argument("--note", default="", help="what to say beside the figures, such as where weights come from")
    options = parser.parse_args(arguments)
    for word in options.backbones:
        name, _, folder = word.partition("=")
        if name not in BACKBONES:
            parser.error(f"{name} is none of {', '.join(BACKBONES)}")
        found = measure(name, folder or name, options.data, RATE if name in SMALL else BASE_RATE)
        if options.note:
            found["note"] = options.note
        known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
        settings = {title: vars(task) for title, task in TASKS.items()}
        measured = known.get("measured", {}) | {name: found}
        ordered = {one: measured[one] for one in BACKBONES if one in measured}
        about = {"command": "python -m bench.backbones", "tasks": settings, "rates": [RATE, BASE_RATE]}
        write_json(OUT, {**about, "measured": ordered})


if __name__ == "__main__":
    main()
