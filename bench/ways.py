"""Compiled kernels beside PyTorch's own operators, in rows of 8 to 512 tokens: what `model.compile = "auto"` chooses by.

`OMP_NUM_THREADS=1 python -m bench.ways` (a minute and a half; with `--level avx2` as on a processor that has no more) measures
two layers of the shape of MiniLM-L6 on packed batches of 2,048 tokens and replaces this processor's entry in
textune/model/ways.json. `layers` are whole fused layers (BERT), `attention` is attention and dropout alone, as in families that
have no fused layers (ALBERT). Microseconds a token, the best of several turns.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.speed.level import CAPS

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
TOKENS = 2048
SECONDS = 0.2
"""Of measuring for each pair."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.ways", description=__doc__)
    parser.add_argument("--level", choices=sorted(CAPS), help="hold the machine to a narrower level")
    level = parser.parse_args().level
    if level and not CAPS[level].items() <= os.environ.items():
        # The libraries read their caps when they are loaded.
        os.execve(sys.executable, [sys.executable, "-m", "bench.ways", *sys.argv[1:]], os.environ | CAPS[level])
    write_entry(measure_all())


def measure_all() -> dict[str, Any]:
    """This processor's entry."""
    import torch

    from bench.speed.machine import processor as name
    from textune.model import processor
    from textune.model.native.kernels import Kernels

    types = [torch.float32, *([torch.bfloat16] if processor.prefers_bf16() else [])]
    entry: dict[str, Any] = {
        "level": Kernels().level,
        "vendor": processor.vendor(),
        "processor": name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    for part in ("layers", "attention"):
        entry[part] = {}
        for dtype in types:
            kind = str(dtype).removeprefix("torch.")
            entry[part][kind] = {work: measure(part, dtype, work) for work in ("training", "prediction")}
            for work, times in entry[part][kind].items():
                ratios = [theirs / ours for ours, theirs in zip(times["kernels"], times["pytorch"], strict=True)]
                shown = ", ".join(f"{length}: {ratio:.2f}" for length, ratio in zip(LENGTHS, ratios, strict=True))
                print(f"{part} {kind} {work}: {shown}", flush=True)
    return entry


def measure(part: str, dtype: Any, work: str) -> dict[str, list[float]]:
    """Microseconds a token at every length, both ways in turns."""
    times: dict[str, list[float]] = {"lengths": [float(length) for length in LENGTHS], "kernels": [], "pytorch": []}
    for length in LENGTHS:
        ways = [_step(part, dtype, work, length, fast=fast) for fast in (True, False)]
        for name, seconds in zip(("kernels", "pytorch"), _best(ways), strict=True):
            times[name].append(round(seconds / (TOKENS // length * length) * 1e6, 4))
    return times


def _best(ways: list[Callable[[], object]]) -> list[float]:
    for way in ways:
        way()
    best = [float("inf")] * len(ways)
    stop, turns = time.perf_counter() + SECONDS, 0
    while turns < 3 or time.perf_counter() < stop:
        turns += 1
        for index, way in enumerate(ways):
            started = time.perf_counter()
            way()
            best[index] = min(best[index], time.perf_counter() - started)
    return best


def _step(part: str, dtype: Any, work: str, length: int, *, fast: bool) -> Callable[[], object]:
    """One pass of two layers over TOKENS tokens in rows of `length`."""
    import numpy as np
    import torch
    from transformers import AlbertConfig, AlbertForSequenceClassification, BertConfig, BertForSequenceClassification

    from textune.batches.batch import TokenBatch
    from textune.batches.layout import Group
    from textune.model.backbone import TextModel

    torch.manual_seed(0)
    shape = {
        "vocab_size": 1000,
        "hidden_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    hf: Any
    if part == "layers":
        hf = BertForSequenceClassification(BertConfig(**shape, num_labels=2))
    else:  # the same layers, which nothing fuses
        dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "embedding_size": 384}
        hf = AlbertForSequenceClassification(AlbertConfig(**shape, **dropout, num_labels=2))
    model = TextModel(hf, pad_id=0, compile="on" if fast else "off")
    model.speed_up(dtype, training=work == "training")
    model.train(work == "training")
    rows = TOKENS // length
    batch = TokenBatch(
        rows=np.arange(rows),
        columns={"ids": torch.randint(5, 1000, (rows * length,))},
        positions_T=torch.arange(length).repeat(rows),
        lengths_B=torch.full((rows,), length),
        row_lengths=np.full(rows, length),
        groups=(Group(rows, length),),
    )

    def step() -> object:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            if work == "prediction":
                with torch.inference_mode():
                    return model(batch)
            loss = model(batch).square().sum()
        loss.backward()
        return loss

    return step


def write_entry(entry: dict[str, Any]) -> None:
    """Replace the entry of the same level and maker."""
    from textune.model.ways import TABLE

    table = json.loads(TABLE.read_text(encoding="utf-8"))
    kept = [other for other in table if (other["level"], other["vendor"]) != (entry["level"], entry["vendor"])]
    table = sorted([*kept, entry], key=lambda other: (other["level"], other["vendor"]))
    text = json.dumps(table, indent=1, allow_nan=False)
    # One list of numbers a line.
    text = re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)
    TABLE.write_text(text + "\n", encoding="utf-8")
    print(f"{entry['level']} of {entry['vendor']} written to {TABLE}")


if __name__ == "__main__":
    main()
