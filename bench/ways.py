"""Compiled kernels beside PyTorch's own operators, in rows of 8 to 512 tokens: what `model.compile = "auto"` chooses
by.

`OMP_NUM_THREADS=1 python -m bench.ways` (a minute and a half; with `--level avx2` as on a processor that has no more)
measures two layers of the shape of MiniLM-L6 on packed batches of 2,048 tokens and replaces this processor's entry in
textune/model/ways.json. `layers` are whole fused layers (BERT), `attention` is attention and dropout alone, as in
families that have no fused layers (ALBERT). Microseconds per token, the best of several turns.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import CAPS, hold_to, processor
from bench.rows import write_whole
from bench.worker import ROOT, Json, Worker

TABLE = ROOT / "textune" / "model" / "ways.json"
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
TOKENS = 2048
SECONDS = 0.2
"""Of measuring for each pair."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, and replace the entry of the same level and vendor."""
    parser = argparse.ArgumentParser(prog="python -m bench.ways", description=__doc__)
    parser.add_argument("--level", choices=sorted(CAPS), help="hold the machine to a narrower level")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of measuring for each pair; by default %(default)g"
    )
    parser.add_argument("--out", type=Path, default=TABLE, help="the table; by default textune's own")
    options = parser.parse_args(arguments)
    hold_to(options.level)
    with Worker("bench.sides.kernels:layers", {}) as worker:
        entry = measured(worker, options.seconds)
    table = json.loads(options.out.read_text(encoding="utf-8"))
    kept = [other for other in table if (other["level"], other["vendor"]) != (entry["level"], entry["vendor"])]
    table = sorted([*kept, entry], key=lambda other: (other["level"], other["vendor"]))
    text = json.dumps(table, indent=1, allow_nan=False)
    # One list of numbers per line.
    text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    write_whole(options.out, text + "\n")
    print(f"{entry['level']} of {entry['vendor']} written to {options.out}")


def measured(worker: Worker, seconds: float) -> Json:
    """This processor's entry."""
    facts = dict(worker.facts)
    types, date = facts.pop("types"), datetime.now(UTC).date().isoformat()
    names = ("level", "vendor", "processor", "threads", "torch", "date")
    entry: Json = {name: (facts | {"processor": processor(), "date": date})[name] for name in names}
    for part in ("layers", "attention"):
        entry[part] = {kind: {} for kind in types}
        for kind in types:
            for work in ("training", "prediction"):
                times: dict[str, list[float]] = {"lengths": [*map(float, LENGTHS)], "kernels": [], "pytorch": []}
                for length in LENGTHS:
                    command = {"part": part, "type": kind, "work": work, "length": length}
                    found = worker.ask(**command, tokens=TOKENS, time=seconds)["ways"]
                    for way, best in found.items():
                        times[way].append(round(best / (TOKENS // length * length) * 1e6, 4))
                entry[part][kind][work] = times
                pairs = zip(LENGTHS, times["kernels"], times["pytorch"], strict=True)
                ratios = ", ".join(f"{length}: {theirs / ours:.2f}" for length, ours, theirs in pairs)
                print(f"{part} {kind} {work}: {ratios}", flush=True)
    return entry


if __name__ == "__main__":
    main()
