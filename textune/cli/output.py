"""What verbs print, only on the first of several ranks: results on standard output, everything else on standard
error."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import click

from textune.ranks import launched_rank

if TYPE_CHECKING:
    from rich.console import Console

    from textune.console import ConsoleTracker


def result_console() -> Console:
    """Where results are printed for people."""
    from textune.console import open_console

    return open_console(quiet=launched_rank() > 0)


def run_tracker(*, quiet: bool, only_notices: bool = False) -> ConsoleTracker:
    """Progress and notes on standard error."""
    from textune.console import ConsoleTracker, open_console

    return ConsoleTracker(open_console(stderr=True, quiet=quiet or launched_rank() > 0), only_notices=only_notices)


def say(console: Console, text: str) -> None:
    """A sentence or a few lines, verbatim."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def print_json(value: object) -> None:
    """One JSON document on standard output; a value that JSON cannot hold (NaN) is a bug of ours, never printed."""
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


def printable(text: str) -> str:
    """The text with terminal control characters escaped; line ends, as in a list of problems, stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\u00a0\u3000" else letter.encode("unicode_escape").decode()
        for letter in text
    )
