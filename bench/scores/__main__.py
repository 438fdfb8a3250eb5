"""`python -m bench.scores examples/trec.toml --data-folder PATH`: train with textune and with Trainer, fit the floor.

One JSON file per system, task and seed lies in bench/results afterwards; a run whose file is there is skipped. What is
compared shares no code but for the floor, which reads its rows with textune. `python -m bench.page` writes
docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.rows import write_json
from bench.scores.table import RESULTS
from bench.worker import Json, Skip, Worker, WorkerError

SYSTEMS = ("textune", "trainer", "static")
"""The sides; `static` is the floor that has no encoder, and no seeds."""


def main(arguments: list[str] | None = None) -> int:
    """Every example, system and seed that has no result yet; 1 if one failed, 2 for a mistake in the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.scores", description=__doc__)
    parser.add_argument("examples", nargs="+", type=Path, help="example configs, such as examples/mrpc.toml")
    parser.add_argument("--data-folder", required=True, type=Path, help="folder that holds glue/, trec/, ...")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pretrained", help="folder of the backbone, instead of the one that an example names")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the folders of the systems")
    parser.add_argument("--again", action="store_true", help="repeat runs whose result is there")
    parser.add_argument(
        "--max-rows", type=int, help="so many rows of each part only, to see that it runs; needs --out"
    )
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in [*options.examples, options.data_folder] if not path.exists()]:
        parser.error(f"there is no {missing[0]}")
    if options.max_rows is not None and options.out == RESULTS:
        parser.error("--max-rows is for trying things out: name another folder with --out")
    failed = 0
    for example in options.examples:
        runs = [
            (system, seed) for system in options.systems for seed in (options.seeds if system != "static" else [0])
        ]
        for system, seed in runs:
            path = options.out / system / f"{example.stem}-{seed}.json"
            if path.exists() and not options.again:
                print(f"{path} exists")
                continue
            try:
                result = _result(system, example, seed, options)
            except (Skip, WorkerError) as error:
                print(f"{example.stem}, {system}, seed {seed}: {error}", file=sys.stderr)
                failed = 1
                continue
            write_json(path, result)
            score = f"{result['metric']} {result['last'][result['metric']]:.4f} after the last epoch"
            print(f"{example.stem}, {system}, seed {seed}: {score}", flush=True)
    return failed


def _result(system: str, example: Path, seed: int, options: argparse.Namespace) -> Json:
    folder = str(options.data_folder.absolute())
    words = [
        f"data.{name}.take={options.max_rows}" for name in ("train", "validation") if options.max_rows is not None
    ]
    words += [f"model.pretrained={options.pretrained}"] if options.pretrained else []
    spec = {"example": str(example.absolute()), "seed": seed, "data_folder": folder, "max_rows": options.max_rows}
    spec["pretrained"] = options.pretrained
    with Worker(f"bench.sides.{system}:scores", {**spec, "overrides": [f"data.folder={folder}", *words]}) as worker:
        return {"task": example.stem, "date": datetime.now(UTC).date().isoformat(), **worker.facts}


if __name__ == "__main__":
    sys.exit(main())
