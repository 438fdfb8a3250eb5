"""run.log: what a terminal shows of a run, in plain lines with the time, whoever is watching."""

from __future__ import annotations

import io
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from textune.evaluation import read_report, render
from textune.prediction import find_model, read_card
from textune.run.folder import RunFolder
from textune.run.header import describe
from textune.run.manifest import Manifest, command_line, read_manifest
from textune.run.spoken import PLAIN_WIDTH, Pace, closing_words, evaluation_line, notice_line, plain
from textune.run.tracking.tracker import EvaluationValues, SilentTracker, StepValues
from textune.wording import escaped

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run.facts import Facts
    from textune.run.manifest import Ending


class RunLog(SilentTracker):
    """Appends to the file, line by line and unbuffered, so that a process that is killed loses none. Where the disk
    does not take a line, that is said once, and the run goes on."""

    def __init__(self, folder: RunFolder, say: Callable[[str], None]) -> None:
        """`say` is told, after the first call, that the log cannot be written."""
        self._folder = folder
        self._say = say
        self._pace = Pace()
        self._failure: OSError | None = None
        self._has_complained = False
        self._is_torn = False
        """Whether the file ends within a line."""
        self._file: io.FileIO | None = None
        try:
            self._file = io.FileIO(folder.log, "a")
        except OSError as error:
            self._failure = error

    def __enter__(self) -> Self:
        self._write([f"$ {shlex.join(command_line())}"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        self._write(f"{name}: {value}" for name, value in describe(facts).items())
        self._complain()

    def notice(self, message: str) -> None:
        self._write([plain(notice_line(message))])

    def progress(self, stage: str, done: int, total: int) -> None:
        if line := self._pace.stage(stage, done, total):
            self._write([line])

    def step(self, values: StepValues) -> None:
        if line := self._pace.step(values):
            self._write([line])
        self._complain()

    def evaluation(self, values: EvaluationValues) -> None:
        self._write([plain(evaluation_line(values))])

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """The reports and what comes next; of a run that did not complete, how it ended."""
        manifest = read_manifest(self._folder.path)
        if status == "complete":
            self._write([*self._reports(), *self._closing(manifest)])
        else:
            self._write([f"{status}: {manifest.reason}" if manifest.reason else status])
        self._complain()

    def _reports(self) -> list[str]:
        from rich.console import Console

        shown = io.StringIO()
        console = Console(file=shown, width=PLAIN_WIDTH, color_system=None, force_terminal=False)
        for path in self._folder.reports().values():
            render.console.render(read_report(path), console)
        return [line.rstrip() for line in shown.getvalue().splitlines()]

    def _closing(self, manifest: Manifest) -> list[str]:
        words = closing_words(
            self._folder.path,
            read_card(find_model(self._folder.path)),
            steps=manifest.steps or 0,
            best_step=manifest.best_step or 0,
            seconds=manifest.seconds or 0.0,
        )
        return words.splitlines()

    def _write(self, said: Iterable[str]) -> None:
        """Append lines; a text of several lines becomes several."""
        if self._file is None:
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines = [line for text in said for line in escaped(text).split("\n")]
        content = "".join(f"{now}  {line}".rstrip() + "\n" for line in lines).encode("utf-8", "backslashreplace")
        content = b"\n" + content if self._is_torn else content
        try:
            written = self._file.write(content) or 0
        except OSError as error:
            self._failure = error
            return
        self._is_torn = written < len(content)

    def _complain(self) -> None:
        if self._failure is not None and not self._has_complained:
            self._has_complained = True
            self._say(
                f"{self._folder.log} cannot be written: {self._failure.strerror or self._failure}; the run goes on"
            )
