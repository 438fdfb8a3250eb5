"""Worker: `transformers.pipeline`, batched, with texts as they come or sorted by hand."""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers

from bench.speed.peers.precision import device_memory, resolve, wait_for
from bench.speed.protocol import Channel


def predict(pipe: Any, texts: list[str], *, batch_size: int, by_length: bool, max_length: int) -> list[str]:
    """Label names in the order of the texts."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number])) if by_length else list(range(len(texts)))
    found = pipe([texts[number] for number in order], batch_size=batch_size, truncation=True, max_length=max_length)
    labels = [""] * len(texts)
    for number, prediction in zip(order, found, strict=True):
        labels[number] = prediction["label"]
    return labels


def main() -> None:
    """Predict the texts of each command."""
    with Channel() as channel:
        spec = channel.receive()
        transformers.utils.logging.disable_progress_bar()
        precision = resolve("best", spec["device"])
        pipe = transformers.pipeline(
            "text-classification",
            model=spec["model"],
            tokenizer=spec["model"],
            device=spec["device"],
            dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        )
        channel.reply(threads=torch.get_num_threads(), precision=precision)
        for command in channel:
            started = time.perf_counter()
            labels = predict(
                pipe,
                command["texts"],
                batch_size=command["batch_size"],
                by_length=command["by_length"],
                max_length=spec["max_length"],
            )
            wait_for(spec["device"])
            channel.reply(seconds=time.perf_counter() - started, labels=labels)
        channel.extra = device_memory(spec["device"])


if __name__ == "__main__":
    main()
