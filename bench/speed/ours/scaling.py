"""Worker: what a token costs, in planning and in a step, for any number of rows and any length."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from bench.speed.ours.adapter import open_parts, rows_of, stepping, wait_for
from bench.speed.protocol import Channel, peak_memory_mb


def main() -> None:
    """A command gives a config, the number of rows and their length (`None`: the lengths of the run's own rows, repeated)."""
    with Channel() as channel:
        channel.receive()
        channel.reply(threads=torch.get_num_threads())
        for command in channel:
            channel.reply(**measure(command), peak_memory_mb=peak_memory_mb())


def measure(command: dict[str, Any]) -> dict[str, float]:
    """Seconds until the first batch of an epoch is planned and loaded, and seconds and tokens of some steps."""
    parts = open_parts(command)
    count, length = command["rows"], command["length"]
    own = parts.parts["train"].lengths
    lengths = np.resize(own, count) if length is None else np.full(count, length, dtype=np.int64)
    rows = rows_of(parts, lengths)
    started = time.perf_counter()
    loader = iter(parts.loader(rows))
    next(loader)
    planning = time.perf_counter() - started
    loader.close()
    run, tokens, seconds = stepping(parts, rows), 0, 0.0
    for number in range(command["warm_up"] + command["steps"]):
        started = time.perf_counter()
        result = next(run)
        wait_for(parts)
        if number >= command["warm_up"]:
            seconds += time.perf_counter() - started
            tokens += result.num_tokens
    run.close()
    return {"planning": planning, "epoch_tokens": int(lengths.sum()), "seconds": seconds, "tokens": tokens}


if __name__ == "__main__":
    main()
