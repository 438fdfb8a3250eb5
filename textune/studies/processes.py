"""Several runs at once, each `textune train` in a process of its own on a device of its own; below `runs.py`.

A signal is passed on to all of them, and each saves as it would alone. They are started in sessions of their own, so
that Ctrl+C in a terminal does not reach them twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TypeAlias

import torch

from textune.atomic import WRITING, write_text
from textune.config import Loaded, TrainSection, show
from textune.errors import RunError, TextuneError
from textune.jsontext import parse_json
from textune.run import AUTO, ENDING, stop_saying

_SECONDS_BETWEEN_LOOKS = 0.1
_DEVICES = "CUDA_VISIBLE_DEVICES"

Runs: TypeAlias = Mapping[str, tuple[Loaded, Path]]
"""Configuration and run folder by name."""


def is_shared(section: TrainSection) -> bool:
    """Whether `textune train` would share the run among several processes of this machine."""
    wanted = section.distributed.devices
    if wanted == "auto":
        return section.device != "cpu" and torch.cuda.device_count() > 1
    return wanted > 1


def carry_out_at_once(
    runs: Runs, *, jobs: int, begin: Callable[[str], None], said: str
) -> Iterator[tuple[str, TextuneError | None]]:
    """The name of each run as it ends, with its error, or None for one that is complete; at most `jobs` at a time.

    `begin` is called with the name of each run that is started. After a signal no other is started; when all have
    saved and ended, KeyboardInterrupt or Preempted, which says `said`. If the caller stops asking, the same happens.
    RunError where runs that want several devices each would have to share them.
    """
    shared = [name for name, (loaded, _) in runs.items() if _wants_several(loaded.experiment.train)]
    if jobs > 1 and shared:
        raise RunError(
            f"{shared[0]}: train.distributed.devices asks for several devices, which runs beside it would use, too.",
            hint="Leave out --jobs, or set train.distributed.devices = 1.",
            key="train.distributed.devices",
            value=runs[shared[0]][0].experiment.train.distributed.devices,
        )
    waiting = list(runs)
    crew = _Crew()
    with crew.passing_signals_on():
        while (waiting and not crew.signals) or crew.running:
            while waiting and not crew.signals and len(crew.running) < jobs:
                name = waiting.pop(0)
                begin(name)
                crew.start(name, *runs[name], jobs=jobs)
            for done in crew.ended():
                error = done.error()
                if error is None or not crew.signals:
                    yield done.name, error
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    if crew.signals:
        stop_saying(crew.signals[0], said)


def _wants_several(section: TrainSection) -> bool:
    return section.distributed.devices not in ("auto", 1)


@dataclass
class _Child:
    """A process that carries out one run."""

    name: str
    process: subprocess.Popen[bytes]
    place: int
    """Which of those that work at once it is: 0, 1, ..."""
    out: IO[bytes]
    err: IO[bytes]
    scratch: contextlib.ExitStack

    def error(self) -> TextuneError | None:
        """Why it failed; None if it did not."""
        code = self.process.returncode
        out, err = (_text_of(file) for file in (self.out, self.err))
        self.scratch.close()
        if code == 0:
            return None
        try:
            said = parse_json(out)
        except ValueError:
            said = {}
        if isinstance(said, dict) and isinstance(why := said.get("error"), dict):
            hint, key, value, place, reason = (
                str(why.get(name, "")) for name in ("hint", "key", "value", "place", "reason")
            )
            found = TextuneError(
                f"{self.name}: {why['message']}", hint=hint, key=key, value=value, place=place, reason=reason
            )
        else:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            last = err.strip().rpartition("\n")[2]
            found = TextuneError(
                f"{self.name}: its process {how}{f': {last}' if last else ''}.",
                hint="The same command starts it again.",
                reason=last or how,
            )
        found.exit_code = code if code > 0 else 128 - code
        return found


@dataclass
class _Crew:
    """The processes that work at the moment."""

    running: list[_Child] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    """Those that came, in order."""

    def start(self, name: str, loaded: Loaded, run: Path, *, jobs: int) -> None:
        """Start the process of a run."""
        place = min(set(range(jobs)) - {child.place for child in self.running})
        scratch = contextlib.ExitStack()
        run.parent.mkdir(parents=True, exist_ok=True)
        # Beside the run folders, since nothing is written elsewhere.
        folder = Path(scratch.enter_context(tempfile.TemporaryDirectory(suffix=WRITING, dir=run.parent)))
        write_text(folder / "config.toml", show(loaded, diff=False))
        out, err = (scratch.enter_context((folder / end).open("w+b")) for end in ("out", "err"))
        words = ["train", str(folder / "config.toml"), "--run", str(run), "--resume", AUTO, "--json", "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-m", "textune", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment(place, jobs),
            start_new_session=True,
        )
        self.running.append(_Child(name, process, place, out, err, scratch))

    def ended(self) -> list[_Child]:
        """Those that have ended since the last time."""
        found = [child for child in self.running if child.process.poll() is not None]
        self.running = [child for child in self.running if child not in found]
        return found

    @contextlib.contextmanager
    def passing_signals_on(self) -> Iterator[None]:
        """Within this, a signal that would end this process goes to all that it has started; at the end none is left.

        A signal that is ignored (`nohup`) stays ignored. Outside the main thread Python delivers none.
        """

        def pass_on(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)
            self._send(number)

        before = {}
        if threading.current_thread() is threading.main_thread():
            wanted = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
            before = {number: signal.signal(number, pass_on) for number in wanted}
        try:
            yield
        finally:
            if self.running:  # something else went wrong: they save and end
                self._send(signal.SIGTERM)
                for child in self.running:
                    child.process.wait()
                    child.scratch.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _send(self, number: int) -> None:
        for child in self.running:
            child.process.send_signal(number)


def environment(place: int, jobs: int) -> dict[str, str]:
    """The environment of a process that works beside `jobs` - 1 others: one device, and its share of the cores."""
    found = dict(os.environ)
    if jobs > 1:
        if number := torch.cuda.device_count():
            named = [name for name in os.environ.get(_DEVICES, "").split(",") if name]
            found[_DEVICES] = (named or [str(device) for device in range(number)])[place % number]
        found.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return found


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")
