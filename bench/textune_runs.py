"""Train an example with textune and keep its scores beside those of `trainer_reference.py`.

`python bench/textune_runs.py examples/mrpc.toml --seeds 0 1 2 --data-folder PATH` writes one JSON file per task and seed.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import textune
from textune.run.manifest import versions


def run(example: Path, seed: int, data_folder: str, overrides: list[str]) -> dict[str, Any]:
    """One run in a folder that is removed again; its evaluations, its report and its time."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"data.folder={data_folder}", f"train.seed={seed}", *overrides]
        result = textune.train(example, run=Path(folder) / "run", overrides=settings)
        assert result is not None
        lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    steps = [line for line in lines if line["kind"] == "step"]
    best = next(line for line in reversed(evaluations) if line["is_best"])
    reports = {name: report.to_dict() for name, report in result.reports.items()}
    for report in reports.values():  # texts of the data stay with the data
        for key in ("mistakes", "confusion_matrix", "confusions", "classes"):
            report.pop(key)
    return {
        "task": example.stem,
        "seed": seed,
        "metric": best["main"],
        "epochs": [{"epoch": line["epoch"], "step": line["step"], **line["metrics"]} for line in evaluations],
        "best": best["metrics"],
        "last": evaluations[-1]["metrics"],
        "reports": reports,
        "seconds": round(result.seconds, 1),
        "tokens_per_second": round(sum(line["tokens_per_second"] for line in steps) / len(steps)),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "machine": platform.platform(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def main() -> None:
    """Run every example and seed that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data-folder", required=True, help="folder that holds glue/, trec/, ...")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "textune")
    parser.add_argument("--again", action="store_true", help="repeat runs that have a result")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides, for trying things out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for example in options.examples:
        for seed in options.seeds:
            target = options.out / f"{example.stem}-{seed}.json"
            if target.exists() and not options.again:
                print(f"{target} exists")
                continue
            result = run(example, seed, str(Path(options.data_folder).absolute()), options.set)
            target.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
            score = f"{result['metric']} {result['best'][result['metric']]:.4f}"
            print(f"{example.stem} seed {seed}: {score} in {result['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
