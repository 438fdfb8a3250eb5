"""Prediction as one writes it by hand over any runtime: texts sorted by length, each batch padded to its longest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from bench.speed.protocol import Channel

Run = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Token ids and masks [batch, length] to logits [batch, labels]."""


def answer(channel: Channel, spec: dict[str, Any], names: set[str], run: Run) -> None:
    """Predict the texts of each command; replies with seconds and label names. `names` are the inputs that `run` takes."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    config = json.loads((Path(spec["model"]) / "config.json").read_text(encoding="utf-8"))
    for command in channel:
        started = time.perf_counter()
        texts = command["texts"]
        labels = [""] * len(texts)
        for part in batches(texts, command["batch_size"]):
            encoded = tokenizer(
                [texts[number] for number in part],
                padding=True,
                truncation=True,
                max_length=spec["max_length"],
                return_tensors="np",
            )
            logits = run({name: value for name, value in encoded.items() if name in names})
            for number, best in zip(part, logits.argmax(axis=-1), strict=True):
                labels[number] = config["id2label"][str(int(best))]
        channel.reply(seconds=time.perf_counter() - started, labels=labels)


def batches(texts: list[str], size: int) -> Iterator[list[int]]:
    """Numbers of the texts, those of similar length together."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for at in range(0, len(order), size):
        yield order[at : at + size]
