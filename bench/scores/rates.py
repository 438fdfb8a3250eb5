"""`python -m bench.scores.rates CONFIG --rates 3e-4 1e-3 --data-folder PATH`: which learning rate learns most?

Every rate trains with seed 0 on the rows of the config without some that are set aside; those alone judge it, so the
dev set of the data stays unseen. bench/results/rates/CONFIG.json holds the scores; a rate that is there is skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.rows import write_json
from bench.scores.table import RESULTS
from bench.worker import Json, Skip, Worker, WorkerError

SEED = 0


def main(arguments: list[str] | None = None) -> int:
    """Train with every rate that has no score yet; 1 if one failed, 2 for a mistake in the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.scores.rates", description=__doc__)
    add = parser.add_argument
    add("config", type=Path, help="such as bench/scores/sst2/minilm-lora.toml")
    add("--rates", nargs="+", type=float, required=True, help="learning rates")
    add("--data-folder", required=True, type=Path, help="folder that holds glue/, trec/, ...")
    add("--held-out", type=int, default=1000, help="rows of the training rows that judge; by default %(default)s")
    add("--pretrained", help="folder of the backbone, instead of the one that the config names")
    add("--out", type=Path, default=RESULTS / "rates", help="folder of the results")
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in (options.config, options.data_folder) if not path.exists()]:
        parser.error(f"there is no {missing[0]}")
    path = options.out / f"{options.config.stem}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if found and found["held_out"] != options.held_out:
        parser.error(f"{path} has scores on {found['held_out']} rows, not on {options.held_out}: remove it first")
    failed = 0
    for rate in (rate for rate in options.rates if f"{rate:g}" not in found.get("scores", {})):
        try:
            result = _result(rate, options)
        except (Skip, WorkerError) as error:
            print(f"{options.config.stem}, lr {rate:g}: {error}", file=sys.stderr)
            failed = 1
            continue
        metric = result["metric"]
        scores = {**found.get("scores", {}), f"{rate:g}": result["last"][metric]}
        facts = {key: result[key] for key in ("versions", "machine", "threads")}
        found = {"task": options.config.stem, "metric": metric, "seed": SEED, "held_out": options.held_out, **facts}
        found["scores"] = dict(sorted(scores.items(), key=lambda item: float(item[0])))
        write_json(path, found)
        print(f"{options.config.stem}, lr {rate:g}: {metric} {scores[f'{rate:g}']:.4f} on rows set aside", flush=True)
    return failed


def _result(rate: float, options: argparse.Namespace) -> Json:
    overrides = [f"data.folder={options.data_folder.absolute()}", f"train.optimizer.lr={rate:g}"]
    overrides.append(f'data.validation={{kind="split", count={options.held_out}}}')
    overrides += [f"model.pretrained={options.pretrained}"] if options.pretrained else []
    spec = {"example": str(options.config.absolute()), "seed": SEED, "overrides": overrides}
    with Worker("bench.sides.textune:scores", spec) as worker:
        return worker.facts


if __name__ == "__main__":
    sys.exit(main())
