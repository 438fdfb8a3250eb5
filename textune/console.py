"""Shows a run in a terminal: with a progress bar, or without a terminal one plain line per interval. Used by
`cli`, and the bar alone where Python calls a verb.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from textune.run import PLAIN_WIDTH, Line, Pace, counted, evaluation_line, figures, notice_line

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.data import Finding
    from textune.run import EvaluationValues, Facts, StepValues

LEVEL_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
METADATA_STYLE = "bold cyan"


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console on standard output or standard error; without a terminal it neither wraps nor pads lines."""
    kind = Console if stderr else _ResultConsole
    console = kind(stderr=stderr, quiet=quiet)
    if console.is_terminal:
        return console
    stream: Any = _Unpadded(sys.stderr if stderr else sys.stdout)
    return kind(file=stream, width=PLAIN_WIDTH, quiet=quiet)


class _ResultConsole(Console):
    """Raises BrokenPipeError when the reader of results closes the pipe (`| head`); the command line then ends
    normally.
    """

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Unpadded(io.TextIOBase):
    """A stream without trailing blanks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute of other streams
        return self._stream.encoding

    def write(self, text: str) -> int:
        self._stream.write(re.sub(r"[ \t]+(?=\n)", "", text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


class ConsoleTracker:
    """Shows a run on standard error, so that standard output holds only results."""

    def __init__(self, console: Console, *, only_notices: bool = False, only_bar: bool = False) -> None:
        """`only_notices`: show no progress, for a command that prints its result to the terminal. `only_bar`: show
        the bar alone, and without a terminal nothing, for one of several runs."""
        self._console = console
        self._only_notices = only_notices
        self._only_bar = only_bar
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._pace = Pace()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._only_notices:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[counted]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[extra]}"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """The facts of the run, one per line."""
        self.header(facts)

    def header(self, facts: Facts) -> None:
        """The facts of a run that starts or would start."""
        if self._only_bar:
            return
        from textune.run import describe

        print_facts(self._console, describe(facts))

    def notice(self, message: str) -> None:
        """A sentence, marked as a note."""
        if not self._only_bar:
            self._print(notice_line(message))

    def progress(self, stage: str, done: int, total: int) -> None:
        """The bar of a stage; without a terminal, a line at intervals. `total` 0 means not known."""
        if self._only_notices or (self._only_bar and self._bar is None):
            return
        if self._bar is not None:
            self._show_bar(stage, done, total, "")
        elif line := self._pace.stage(stage, done, total):
            self._print(((line, ""),))

    def step(self, values: StepValues) -> None:
        """Loss, learning rate and speed of the last logged steps."""
        if self._bar is not None:
            self._show_bar("training", values["step"], values["total_steps"], figures(values))
        elif not self._only_bar and (line := self._pace.step(values)):
            self._print(((line, ""),))

    def evaluation(self, values: EvaluationValues) -> None:
        """The main metric and a few others; of several tasks, what it is of each."""
        if not self._only_bar:
            self._print(evaluation_line(values))

    def _print(self, line: Line) -> None:
        self._console.print(Text.assemble(*line), highlight=False, soft_wrap=True)

    def finish(self, status: str, files: Mapping[str, Path]) -> None:
        """Nothing: the command itself reports the end."""

    def state(self) -> Mapping[str, JsonValue]:
        """Nothing."""
        return {}

    def _show_bar(self, stage: str, done: int, total: int, extra: str) -> None:
        assert self._bar is not None
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total or None, counted="", extra="")
        self._bar.update(self._tasks[stage], completed=done, counted=counted(done, total), extra=extra)
        if done == total and stage != "training":
            self._bar.remove_task(self._tasks.pop(stage))


def print_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Names and values in two columns; without a terminal, one `name: value` per line."""
    if not console.is_terminal:
        for name, value in facts.items():
            console.print(Text(f"{name}: {value}"), highlight=False, soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name), escape(value))
    console.print(table, highlight=False)


def print_table(console: Console, head: Sequence[str], *rows: Sequence[str]) -> None:
    """Names in the first column, and what belongs to them in the others."""
    table = Table(box=box.SIMPLE_HEAD, header_style="", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(head):
        table.add_column(escape(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table, highlight=False)


def print_parts(console: Console, parts: Sequence[tuple[str, bool]]) -> None:
    """One line of texts, those marked in colour, verbatim."""
    console.print(
        Text.assemble(*((text, METADATA_STYLE if marked else "") for text, marked in parts)),
        highlight=False,
        no_wrap=True,
        soft_wrap=True,
    )


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """The findings of an audit, the worst first, with example rows."""
    for finding in sorted(findings, key=lambda f: list(LEVEL_STYLES).index(f.level)):
        style = LEVEL_STYLES[finding.level]
        console.print(
            f"[{style}]{finding.level}:[/{style}] {escape(finding.message)}", highlight=False, soft_wrap=True
        )
        for example in finding.examples:
            console.print(f"    {escape(example)}", highlight=False, soft_wrap=True, style="dim")
