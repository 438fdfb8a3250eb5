"""A worker's end of the pipe: commands come in as JSON lines, replies go out; used by `ours/` and `peers/` alike.

    with Channel() as channel:
        spec = channel.receive()
        ...                                   # build everything
        channel.reply(threads=2)              # ready
        for command in channel:               # until the other end says close
            channel.reply(seconds=...)

Only the standard library is used, so that importing it costs nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CLOSE = "close"


class Skip(Exception):
    """This worker cannot do its part here; the message is a sentence for the reader of the results."""


class Channel:
    """The pipe of one worker process."""

    def __init__(self) -> None:
        # Replies get a descriptor of their own: whatever libraries print goes to the log instead.
        self._replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._commands = sys.stdin
        self.extra: dict[str, Any] = {}
        """More facts for the last reply, such as the peak memory of a GPU."""

    def receive(self) -> dict[str, Any]:
        """The next command; blocks. EOFError where the other end is gone."""
        line = self._commands.readline()
        if not line:
            raise EOFError("the benchmark has ended")
        command: dict[str, Any] = json.loads(line)
        return command

    def reply(self, **values: Any) -> None:
        """Answer a command."""
        self._replies.write(json.dumps(values, allow_nan=False) + "\n")
        self._replies.flush()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Commands until `close`."""
        while (command := self.receive()).get("do") != CLOSE:
            yield command

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None:
            self.reply(peak_memory_mb=peak_memory_mb(), **self.extra)
        elif isinstance(error, Skip):
            self.reply(skip=str(error))
        elif isinstance(error, Exception) and not isinstance(error, EOFError):
            self.reply(error=f"{type(error).__name__}: {error}")
        self._replies.close()
        return isinstance(error, Skip | EOFError)


def peak_memory_mb() -> float:
    """Most memory that this process ever held, in MiB, libraries and weights included."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
