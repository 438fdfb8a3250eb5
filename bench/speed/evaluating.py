"""Language models: their likelihoods of documents of C4's lengths, beside a loop of one row at a time, on one core."""

from __future__ import annotations

from itertools import cycle

import numpy as np

from bench.rows import Row, compared
from bench.speed.backbones import SHAPES, make_language_model
from bench.speed.languages import LONGEST, SHAPE, document_rows
from bench.speed.measure import Comparison, repeat
from bench.speed.work import Settings
from bench.worker import Json, Worker, WorkerError

ROWS = 64
"""Of a segment."""
WORK = f"evaluating a language model, GPT-2's layers at half its size, {SHAPES[SHAPE]['vocab_size']:,} words, one core"
PEER = "transformers in fp32, one row at a time"


def evaluation(settings: Settings) -> list[Row]:
    """Scored tokens a second on the same rows: ours in the precision that it chooses, and in fp32."""
    source, path = document_rows(settings)
    folder = make_language_model(SHAPE, settings.work / SHAPE, tiny=settings.tiny)
    spec = {"model": str(folder), "rows": str(path), "threads": 1, "longest": LONGEST, "data": source}
    seconds = settings.left() / 2
    return [
        _beside_loop("lm-evaluate", WORK, spec | {"precision": "auto"}, 5e-2, seconds, settings.pairs),
        _beside_loop("lm-evaluate-fp32", f"{WORK}, fp32", spec | {"precision": "fp32"}, 1e-4, seconds, settings.pairs),
    ]


def _beside_loop(key: str, work: str, spec: Json, most_apart: float, seconds: float, pairs: int) -> Row:
    """Both sides in turns; `most_apart`: by how much the nats of a row may differ."""
    num_rows = len(np.load(spec["rows"])["lengths"])
    size = min(ROWS, num_rows)
    sides = "bench.sides.evaluating:evaluation", "bench.sides.causal:evaluation"
    with Worker(sides[0], spec) as ours, Worker(sides[1], spec) as peer:
        starts = cycle(range(0, num_rows - size + 1, size))

        def pair() -> tuple[float, float]:
            first = next(starts)
            done = [side.ask(rows=[first, first + size]) for side in (ours, peer)]
            if len({part["tokens"] for part in done}) > 1:
                raise WorkerError(f"a segment is not the same work for both: {done}")
            one, other = (float(part["tokens"] / part["seconds"]) for part in done)
            return one, other

        pair()
        rates = repeat(pair, seconds=seconds, at_least=pairs)
        facts = ours.facts
        nats = [np.array(side.close()["nats"]) for side in (ours, peer)]
    apart = float(np.abs(nats[0] / nats[1] - 1).max())
    if apart > most_apart:
        raise WorkerError(f"the two sides find other likelihoods: {apart:.2g} apart")
    details = {
        "data": spec["data"],
        "segment": {"rows": size, "segments": len(rates)},
        "precision": {"textune": facts["precision"], "transformers": "fp32"},
        "header": facts["header"],
        "threads": facts["threads"],
        "largest_relative_difference_of_nats": apart,
    }
    return compared(key, work, Comparison(rates), details, unit="scored tokens/s", peer=PEER)
