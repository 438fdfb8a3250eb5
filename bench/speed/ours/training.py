"""Worker: textune's training loop, a segment of optimizer steps a command."""

from __future__ import annotations

import time

from bench.speed.ours.adapter import device_memory, facts, open_parts, rows_in_order, stepping, wait_for
from bench.speed.protocol import Channel


def main() -> None:
    """Train over the rows in the order that the second command gives."""
    with Channel() as channel:
        spec = channel.receive()
        parts = open_parts(spec)
        channel.reply(**facts(parts))
        run = stepping(parts, rows_in_order(parts, channel.receive()["order"]))
        for command in channel:
            started = time.perf_counter()
            results = [next(run) for _ in range(command["steps"])]
            wait_for(parts)
            seconds = time.perf_counter() - started
            channel.reply(
                seconds=seconds,
                rows=sum(result.num_rows for result in results),
                tokens=sum(result.num_tokens for result in results),
                loss=sum(float(result.loss) for result in results) / len(results),
            )
        channel.extra = device_memory(parts)


if __name__ == "__main__":
    main()
