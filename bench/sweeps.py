"""`python -m bench.sweeps --out FILE`: what a sweep of eight runs costs beside the same eight runs alone.

Both train `preset:tiny` with eight rates in this process, one run after the other, each side with a token cache of its
own that begins empty; the order of the sides changes with each pair. The file holds every pair: seconds of the clock
and of the processor, which on a machine shared with other work is the figure to read. Each sweep must end with the
values that its runs have alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import textune
from bench.machine import processor
from bench.rows import write_json

KEY = "train.optimizer.lr"
RATES = [1e-4, 2e-4, 4e-4, 8e-4, 1e-3, 2e-3, 4e-3, 8e-3]
Values = list[float | None]


def alone(folder: Path, settings: dict[str, Any]) -> Values:
    """The eight runs, each by `textune.train`; their values on the validation rows."""
    runs = [textune.train("preset:tiny", run=folder / str(lr), overrides={**settings, KEY: lr}) for lr in RATES]
    return [run.reports["validation"].value for run in runs]


def swept(folder: Path, settings: dict[str, Any]) -> Values:
    """The same as one sweep."""
    found = textune.sweep({"config": "preset:tiny", "grid": {KEY: RATES}}, run=folder / "s", overrides=settings)
    return [cell.value for cell in found.stages[0].cells]


def measured(side: Callable[[Path, dict[str, Any]], Values]) -> tuple[Values, dict[str, float]]:
    """The values of a side, and what they cost."""
    with tempfile.TemporaryDirectory() as name:
        settings = {"tokens.cache": f"{name}/cache"}
        clock, cpu = time.perf_counter(), time.process_time()
        values = side(Path(name), settings)
        return values, {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}


def pair(number: int) -> dict[str, dict[str, float]]:
    """Both sides once."""
    sides = {"alone": alone, "sweep": swept}
    order = list(sides) if number % 2 == 0 else list(reversed(sides))
    found = {name: measured(sides[name]) for name in order}
    assert found["alone"][0] == found["sweep"][0], "a sweep ends as its runs do alone"
    return {name: cost for name, (_, cost) in found.items()}


def main() -> None:
    """Measure, print the median ratios, write every pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    measured(alone)  # the first one imports, and finds out what the machine can do
    pairs = [pair(number) for number in range(options.pairs)]
    ratios = {
        name: statistics.median(one["sweep"][name] / one["alone"][name] for one in pairs)
        for name in ("seconds", "cpu_seconds")
    }
    write_json(
        options.out,
        {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": processor(),
            "ratios": ratios,
            "pairs": pairs,
        },
    )
    print(", ".join(f"{name}: {ratio:.3f} of the runs alone" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
