"""`python -m bench.presets --data FOLDER`: what the presets `fast`, `balanced` and `best` cost and bring on three
small tasks, and what the defaults of AutoGluon's AutoMM would, written in keys of ours.

Each trains MiniLM on `ROWS` rows of SST-2, TREC and banking77, a fifth of which are set aside to choose the best step
and the members of a soup, and is scored on the published dev or test rows. Seconds are processor time of this process
for the whole run, reports included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import textune
from bench.machine import processor, versions
from bench.rows import write_json
from bench.worker import ROOT
from textune.config import load_config

OUT = ROOT / "bench" / "results" / "presets.json"
ROWS = 1000
TASKS = {"SST-2": "sst2.toml", "TREC": "trec.toml", "banking77": "banking77.toml"}
AUTOMM: Mapping[str, object] = MappingProxyType(
    {
        "train.duration": "20 epochs",
        "train.batch_size": 128,
        "train.evaluate_every": "0.5 epochs",
        "train.early_stopping.patience": 10,
        "train.optimizer.lr": 1e-4,
        "train.optimizer.weight_decay": 1e-3,
        "train.optimizer.layer_decay": 0.9,
        "train.schedule": {"kind": "cosine", "warmup": "10 %"},
    }
)
"""`optim` and `env` of AutoMM's default configuration. Its soup of the three best steps of one run has no key here:
the best step is kept."""
WAYS: Mapping[str, tuple[str | None, Mapping[str, object]]] = MappingProxyType(
    {
        "fast": ("fast", {}),
        "balanced": ("balanced", {}),
        "best": ("best", {}),
        "AutoMM's defaults": (None, AUTOMM),
    }
)


def measure(way: str, task: str, data: Path) -> dict[str, float]:
    """One way on one task: its scores and its seconds of processor time."""
    preset, own = WAYS[way]
    example = str(ROOT / "examples" / TASKS[task])
    published = load_config(example, {"data.folder": str(data)}).experiment.data.validation
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        result = textune.train(
            example,
            preset=preset,
            run=Path(folder) / "run",
            overrides={
                "data.folder": str(data),
                "data.train.shuffle": True,
                "data.train.take": ROWS,
                "data.test": published,
                "data.validation": {"kind": "split", "ratio": 0.2},
                "tokens.cache": f"{folder}/cache",
                "evaluate.bootstrap": 0,
                **own,
            },
        )
        seconds = time.process_time() - begin
    return {
        "test": round(result.reports["test"].value, 4),
        "validation": round(result.reports["validation"].value, 4),
        "seconds": round(seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line for each, and write the file after each."""
    parser = argparse.ArgumentParser(prog="python -m bench.presets", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="holds glue/, trec/ and banking77/")
    parser.add_argument("--only", choices=TASKS, action="append", help="these tasks alone")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="JSON file (default: %(default)s)")
    options = parser.parse_args(arguments)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for task in options.only or TASKS:
        for way in WAYS:
            found = measure(way, task, options.data)
            figures.setdefault(task, {})[way] = found
            print(f"{task} {way}: {found}", flush=True)
            write_json(
                options.out,
                {
                    "rows": ROWS,
                    "figures": figures,
                    "machine": processor(),
                    "versions": versions(("torch", "transformers", "textune")),
                    "date": datetime.now(UTC).date().isoformat(),
                },
            )


if __name__ == "__main__":
    main()
