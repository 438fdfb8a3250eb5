"""Worker: textune's prediction from a saved folder; texts in, label names out."""

from __future__ import annotations

import time
from typing import Any, get_args, get_type_hints

import torch

import textune
from bench.speed.protocol import Channel, Skip
from textune.errors import TextuneError


def known_precisions() -> set[str]:
    """The values of `precision` that `textune.load` takes."""
    names: set[str] = set()
    for part in get_args(get_type_hints(textune.load)["precision"]):
        names |= {part} if isinstance(part, str) else set(get_args(part))
    return names


def main() -> None:
    """Predict the texts of each command."""
    with Channel() as channel:
        spec = channel.receive()
        precision: Any = spec["precision"]
        if precision not in known_precisions():
            raise Skip(f"this textune has no precision {precision} for prediction")
        try:
            predictor = textune.load(spec["model"], device=spec["device"], precision=precision)
        except TextuneError as error:
            raise Skip(f"textune cannot predict in {precision} here: {error}") from error
        named = predictor.device.precision if precision == "auto" else precision
        channel.reply(threads=torch.get_num_threads(), precision=named)
        for command in channel:
            started = time.perf_counter()
            predictions = predictor.predict(command["texts"])
            seconds = time.perf_counter() - started
            channel.reply(seconds=seconds, labels=[prediction.label for prediction in predictions])
        if spec["device"] == "cuda":
            channel.extra = {"gpu_peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20}


if __name__ == "__main__":
    main()
