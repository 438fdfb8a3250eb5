"""How long the report on a million rows takes, and how large its page is.

    python -m bench.reportpage --rows 1000000 --classes 77

The rows are random, with texts of about a hundred characters. What is timed: metrics, interval, curves and all that
the page draws (`build_report`), and the page itself; not the model, which has scored the rows before.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from textune.config import AutoTask
from textune.data import LabelMap
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.reduction import Reduction
from textune.evaluation.render.html.page import page_of
from textune.evaluation.report import build_report
from textune.tasks import build_task

BLOCK = 20_000


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=77)
    chosen = parser.parse_args()
    names = tuple(f"class {number}" for number in range(chosen.classes))
    kind = "binary" if chosen.classes == 2 else "multiclass"
    head = build_task(AutoTask(), {"label": LabelMap(kind, names)}).head
    random = np.random.default_rng(0)
    reduction = Reduction(head, num_rows=chosen.rows)
    for start in range(0, chosen.rows, BLOCK):
        rows = np.arange(start, min(start + BLOCK, chosen.rows))
        targets = random.integers(0, chosen.classes, len(rows))
        logits = random.normal(size=(len(rows), chosen.classes))
        logits[np.arange(len(rows)), targets] += 4 * random.random(len(rows))
        exponents = np.exp(logits)
        reduction.add(rows, targets, exponents / exponents.sum(axis=1, keepdims=True))
    scored = reduction.finish()
    texts = [f"row {row} " + "of a text that says nothing " * 4 for row in range(chosen.rows)]
    started = time.perf_counter()
    report = build_report(scored, EvaluatedRows(texts, dataset="random rows"), metric=METRICS["accuracy"])
    reported = time.perf_counter()
    page = page_of({"test": report})
    ended = time.perf_counter()
    print(f"{chosen.rows:,} rows of {chosen.classes} classes")
    print(f"report {reported - started:.1f} s, page {ended - reported:.2f} s, {len(page.encode()) / 1e6:.2f} MB")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, with scores and texts")


if __name__ == "__main__":
    main()
