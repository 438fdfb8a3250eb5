"""Seconds from a loader's start to its first batch, at the beginning and deep in a long run: `python bench/resume_time.py`."""

from __future__ import annotations

import argparse
import time

import numpy as np

from textune.batches.assembler import Assembler
from textune.batches.loader import Loader
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.schema import TrainSection
from textune.data.labels.map import LABEL


def main() -> None:
    """Print a line for every order and step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    lengths = np.random.default_rng(0).integers(4, 12, options.rows)
    offsets, examples = np.concatenate([[0], np.cumsum(lengths)]), np.arange(options.rows)
    store = TokenStore({"ids": np.zeros(offsets[-1], np.int32)}, offsets, lengths.astype(np.int32), examples)
    targets, weights = np.zeros(options.rows, dtype=np.int64), np.ones(options.rows, dtype=np.float32)
    rows = TokenRows(store, examples, {LABEL: targets}, weights)
    for order in ("shuffle", "bucket", "sequential", "weighted"):
        section = TrainSection(order=order, prefetch=0)
        per_epoch = -(-options.rows // section.batch_size)
        for step in (1, per_epoch // 2, per_epoch * options.epochs - 1):
            state = {"next_step": step, "max_tokens": 4096}
            began = time.perf_counter()
            batches = iter(Loader(rows, Plan.of(section, options.rows), Assembler("packed", 0), prefetch=0, state=state))
            next(batches)
            print(f"{order:10}  step {step:>12,}  {time.perf_counter() - began:.3f} s")
            batches.close()


if __name__ == "__main__":
    main()
