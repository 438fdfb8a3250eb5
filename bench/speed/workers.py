"""Our end of the pipe: worker processes that are started together, prepare together, and then compute one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bench.speed.protocol import CLOSE, Skip

ROOT = Path(__file__).parents[2]
LOG_LINES_SHOWN = 15


class WorkerError(Exception):
    """A worker ended with an error; the message holds the end of its log."""


class Worker:
    """One process of `bench.speed.ours` or `bench.speed.peers`; its first reply says that it is ready.

    Leaving the `with` block ends the process, whatever it is doing.
    """

    def __init__(self, module: str, spec: Mapping[str, Any], *, work: Path) -> None:
        self.module = module
        self._log = work / f"{module}-{os.urandom(4).hex()}.log"
        self._log_file: IO[bytes] = self._log.open("wb")
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"bench.speed.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            text=True,
            env=environment,
        )
        self._send(spec)
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the worker said when it was ready; waits for that."""
        if self._facts is None:
            self._facts = self._answer()
        return self._facts

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the reply; Skip or WorkerError as the worker says."""
        _ = self.facts
        self._send(command)
        return self._answer()

    def tell(self, **command: Any) -> None:
        """Send a command that has no reply."""
        _ = self.facts
        self._send(command)

    def close(self) -> dict[str, Any]:
        """End the worker in peace; returns its peak memory."""
        last = self.ask(do=CLOSE)
        self._process.wait()
        return last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._log_file.close()

    def _send(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command, allow_nan=False) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken("is gone") from None

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._broken("ended without an answer")
        reply: dict[str, Any] = json.loads(line)
        if "skip" in reply:
            raise Skip(reply["skip"])
        if "error" in reply:
            raise self._broken(reply["error"])
        return reply

    def _broken(self, reason: str) -> WorkerError:
        self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return WorkerError("\n  ".join([f"worker {self.module}: {reason}", *lines]))


def run_module(module: str, *arguments: str) -> str:
    """Run a Python module to its end; returns what it printed. WorkerError with the end of its errors."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.splitlines()[-LOG_LINES_SHOWN:]
        raise WorkerError("\n  ".join([f"python -m {module} {' '.join(arguments)} failed", *lines]))
    return done.stdout


@contextmanager
def working(work: Path, *workers: tuple[str, Mapping[str, Any]]) -> Iterator[list[Worker]]:
    """Workers (module, specification), prepared side by side; all are ready when the block begins."""
    with ExitStack() as stack:
        started = [stack.enter_context(Worker(module, spec, work=work)) for module, spec in workers]
        for worker in started:
            _ = worker.facts
        yield started
