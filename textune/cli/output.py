"""What verbs print, on the first of several ranks alone: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from textune.ranks import launched_rank

if TYPE_CHECKING:
    from rich.console import Console

    from textune.console import ConsoleTracker


def result_console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=False, quiet=launched_rank() > 0)


def run_tracker(*, quiet: bool, only_notices: bool = False) -> ConsoleTracker:
    from rich.console import Console

    from textune.console import ConsoleTracker

    return ConsoleTracker(Console(stderr=True, quiet=quiet or launched_rank() > 0), only_notices=only_notices)


def print_json(value: Any) -> None:
    if launched_rank() == 0:  # of the processes of one run: all would print the same
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
