"""What verbs print, only on the first of several ranks: results on standard output, everything else on standard
error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from textune.cli.verbs import is_quiet
from textune.exitcodes import FIRST_AGAIN
from textune.ranks import launched_rank
from textune.wording import escaped

if TYPE_CHECKING:
    from rich.console import Console

    from textune.console import ConsoleTracker
    from textune.studies import PlannedRun, RunResult


def result_console() -> Console:
    """Where results are printed for people."""
    from textune.console import open_console

    return open_console(quiet=launched_rank() > 0)


def run_tracker(*, quiet: bool, only_notices: bool = False, only_bar: bool = False) -> ConsoleTracker:
    """Progress and notes on standard error."""
    from textune.console import ConsoleTracker, open_console

    console = open_console(stderr=True, quiet=quiet or launched_rank() > 0)
    return ConsoleTracker(console, only_notices=only_notices, only_bar=only_bar)


class RunLines:
    """Shows several runs on standard error: a line as each starts and one as it ends, and how far it is meanwhile."""

    def __init__(self, *, quiet: bool, only_bar: bool = True) -> None:
        """`only_bar`: nothing but a bar of the run that is at work."""
        self._quiet = quiet
        self._only_bar = only_bar

    def begin(self, run: PlannedRun, number: int, total: int) -> None:
        """Its number, its name and its folder."""
        self._say(f"{number}/{total} {run.name}: into {run.folder}")

    def tracker(self, run: PlannedRun) -> ConsoleTracker:
        """As for a single run."""
        return run_tracker(quiet=self._quiet, only_bar=self._only_bar)

    def end(self, result: RunResult, number: int, total: int) -> None:
        """The main metric of the first report, or why it failed."""
        start = f"{number}/{total} {result.name}:"
        if result.error is not None:
            self._say(f"{start} failed: {result.reason}")
            return
        reports = list(result.reports.values())
        scored = f", {reports[0].metric} {reports[0].value:.4f} ({reports[0].dataset})" if reports else ""
        self._say(f"{start} {'was complete before' if result.was_complete else 'complete'}{scored}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            click.echo(escaped(line), err=True)


def say(console: Console, text: str) -> None:
    """A sentence or a few lines, verbatim."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def aside(line: str) -> None:
    """A line on standard error, unless `--quiet` was given."""
    if not (is_quiet() or launched_rank()):
        click.echo(line, err=True)


def print_json(result: Mapping[str, object], *, failure: Mapping[str, object] | None = None) -> None:
    """The one JSON document of a command on standard output: `ok`, then what it found; last the `failure`, if it did
    not do what was asked."""
    document = {"ok": failure is None} | {name: value for name, value in result.items() if name != "ok"}
    print_json_value(document if failure is None else document | {"error": failure})


def failure(message: str, exit_code: int, *, hint: str = "", **fields: str) -> dict[str, object]:
    """Why a command failed, for a program: a sentence, what to do, the exit code and whether to try again."""
    again = exit_code >= FIRST_AGAIN
    return {"message": message, "hint": hint, "exit_code": exit_code, "try_again": again, **fields}


def failure_if(exit_code: int, message: str, *, hint: str = "") -> dict[str, object] | None:
    """`failure` where the exit code says so."""
    return failure(message, exit_code, hint=hint) if exit_code else None


def print_json_value(value: object) -> None:
    """A value as JSON on standard output; one that JSON cannot hold (NaN) is a bug of ours, never printed."""
    if launched_rank() == 0:  # all processes of a run would print the same
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(value, indent=2, allow_nan=False)
        click.echo(text)


def print_any_character() -> None:
    """Escape characters that standard output cannot encode; JSON and predicted rows handle that themselves."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
