"""Worker processes, both ends of the pipe: commands go out as JSON lines, one reply comes back for each.

A worker is one system that is measured. `python -m bench.worker MODULE:FUNCTION` calls `function(channel, spec)`,
which prepares everything, says so with `channel.reply(threads=2, ...)`, and hands a function from commands to replies
to `channel.serve`. Workers prepare side by side and then compute one at a time. Only the standard library is imported
here.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

ROOT = Path(__file__).parents[1]
LOG_LINES_SHOWN = 20


class Skip(Exception):
    """This system cannot take part here; the message is a sentence for the reader of the results."""


class WorkerError(Exception):
    """A process ended with an error; the message holds the end of its log."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__("\n  ".join([reason, *log.splitlines()[-LOG_LINES_SHOWN:]]))


class Channel:
    """The worker's end."""

    def __init__(self) -> None:
        # Replies get a descriptor of their own: whatever libraries print goes to the log instead.
        self._replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._commands = sys.stdin

    def receive(self) -> Json:
        """The next command; blocks. EOFError where the other end is gone."""
        line = self._commands.readline()
        if not line:
            raise EOFError("the benchmark has ended")
        command: Json = json.loads(line)
        return command

    def reply(self, **values: Any) -> None:
        """Answer a command."""
        self._replies.write(json.dumps(values, allow_nan=False) + "\n")
        self._replies.flush()

    def __iter__(self) -> Iterator[Json]:
        """Commands until `close`."""
        while (command := self.receive()).get("do") != "close":
            yield command

    def serve(self, answer: Callable[[Json], Json]) -> None:
        """Answer each command; the reply holds the seconds that the answer took."""
        for command in self:
            started = time.perf_counter()
            found = answer(command)
            wait_for_device()
            self.reply(seconds=time.perf_counter() - started, **found)

    def run(self, side: Callable[[Channel, Json], Json | None]) -> None:
        """Let one system answer all commands; the last reply has the peak memory and what it returns, or says what is
        wrong."""
        try:
            last = side(self, self.receive())
            self.reply(**peak_memory(), **(last or {}))
        except Skip as reason:
            self.reply(skip=str(reason))
        except EOFError:
            return
        except Exception as error:
            self.reply(error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self._replies.close()


def wait_for_device() -> None:
    """Until all work handed to a GPU is done; nothing where this process uses none."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory() -> dict[str, float]:
    """Most memory that this process ever held, libraries and weights included, and that of its GPU; in MiB."""
    torch = sys.modules.get("torch")
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch is not None and torch.cuda.is_initialized() else None
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"))):
        peak = int(found[1]) / 1024
    else:
        import resource  # not on Windows; bytes on macOS

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    return {"peak_memory_mb": peak} | ({} if gpu is None else {"gpu_peak_memory_mb": gpu})


class Worker:
    """Our end: one process that runs `side` (`package.module:function`); leaving the `with` block ends it at once."""

    def __init__(self, side: str, spec: Mapping[str, Any]) -> None:
        self.side = side
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed by __exit__
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | environment,
        )
        assert self._process.stdin and self._process.stdout
        self._commands, self._replies = self._process.stdin, self._process.stdout
        self._facts: Json = {}
        self.tell(**spec)

    @property
    def facts(self) -> Json:
        """What the system said when it was ready; waits for that. Skip or WorkerError as the worker says."""
        if not self._facts:
            self._facts = self._answer()
        return self._facts

    def ask(self, **command: Any) -> Json:
        """Send a command and wait for the reply; Skip or WorkerError as the worker says."""
        _ = self.facts
        self.tell(**command)
        return self._answer()

    def tell(self, **command: Any) -> None:
        """Send a command without waiting."""
        try:
            self._commands.write(json.dumps(command, allow_nan=False) + "\n")
            self._commands.flush()
        except BrokenPipeError:
            raise self._broken("ended early") from None

    def close(self) -> Json:
        """Let the worker end by itself; returns its peak memory."""
        last = self.ask(do="close")
        self._process.wait()
        return last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _answer(self) -> Json:
        line = self._replies.readline()
        reply: Json = json.loads(line) if line else {"error": "ended without an answer"}
        if "skip" in reply:
            raise Skip(reply["skip"])
        if "error" in reply:
            raise self._broken(reply["error"])
        return reply

    def _broken(self, reason: str) -> WorkerError:
        self._process.wait()
        self._log.seek(0)
        return WorkerError(f"worker {self.side}: {reason}", self._log.read().decode(errors="replace"))


def run_module(module: str, *arguments: str) -> str:
    """Run a Python module to its end, for what it prints; WorkerError with the end of its errors."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise WorkerError(f"python -m {module} {' '.join(arguments)} failed", done.stderr)
    return done.stdout


if __name__ == "__main__":
    # Under its own name: what the sides raise and this process catches must be the same class.
    pkgutil.resolve_name("bench.worker:Channel")().run(lambda *given: pkgutil.resolve_name(sys.argv[1])(*given))
