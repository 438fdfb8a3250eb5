"""Worker: textune's loop and a loop written by hand, over equal models and the same batches, in one process."""

from __future__ import annotations

import time

from bench.speed.ours.adapter import PlainLoop, facts, open_parts, rows_in_order, stepping, take_batches
from bench.speed.protocol import Channel


def main() -> None:
    """Two commands: `ours` and `plain`, each with a number of steps; both meet the same batches."""
    with Channel() as channel:
        spec = channel.receive()
        # Two models, so that neither loop meets what the other leaves in the gradients.
        parts, plain = open_parts(spec), PlainLoop(open_parts(spec))
        channel.reply(**facts(parts))
        setting = channel.receive()
        rows = rows_in_order(parts, setting["order"])
        batches = take_batches(parts, rows, setting["batches"])
        run, done = stepping(parts, rows), 0
        for command in channel:
            count = command["steps"]
            started = time.perf_counter()
            if command["do"] == "ours":
                for _ in range(count):
                    next(run)
            else:
                for number in range(done, done + count):
                    plain.step(batches[number % len(batches)])
                done += count
            channel.reply(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
