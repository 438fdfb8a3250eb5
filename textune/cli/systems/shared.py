"""What the commands of all systems have in common: options, how many processes train, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from textune.cli.options import json_option, quiet_option, resume_option
from textune.cli.output import print_json
from textune.cli.runs import share_among_devices, train_and_report
from textune.ranks import launched, launched_world

if TYPE_CHECKING:
    from textune.adapters import Foreign

processes_option = click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many processes train there, one for each GPU; by default as many as were started, or one.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Build and check everything, show what would be trained, write nothing."
)


_OWN_RANKS = "--own-ranks"
own_ranks_option = click.option(_OWN_RANKS, is_flag=True, hidden=True)
"""Says that textune itself started this process as one of several, so their number is none of the user's words."""


def processes_started(given: int | None, *, own_ranks: bool) -> int | None:
    """How many processes the user means: those that `--processes` says, else those that a launcher started; None where
    nobody said."""
    return launched_world() if given is None and launched() and not own_ranks else given


def converting(function: Callable[..., None]) -> Callable[..., None]:
    """Options of every command of `convert`: `out`, `as_json`."""
    return click.option(
        "--out",
        metavar="CONFIG.toml",
        help="The file to write; by default standard output. An existing one is refused.",
    )(json_option(function))


def training(function: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that trains: `resume`, `dry_run`, `as_json`, `quiet`, `own_ranks`."""
    return resume_option(dry_run_option(json_option(quiet_option(own_ranks_option(function)))))


def print_converted(foreign: Foreign, *, out: str | None, as_json: bool) -> None:
    """Print the config of ours, or write it to `out` and say what differs and what comes next."""
    from textune.pipeline import convert as write_converted

    text = write_converted(foreign, out)
    if as_json:
        print_json(foreign.to_dict())
    elif out is None:
        click.echo(text, nl=False)
    else:
        for note in foreign.notes:
            click.echo(f"note: {note}", err=True)
        follow = ["--run", foreign.run] if foreign.run else []
        click.echo(f"Wrote {out}. Next: {shlex.join(['textune', 'train', out, *follow])}")


def train_foreign(
    foreign: Foreign,
    context: click.Context,
    *,
    resume: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train what another system's configuration says, in its run folder, and print the reports.

    Without a launcher, a process is started for each device; what is trained stays the same.
    """
    from textune.adapters import load_foreign
    from textune.launch import accelerated

    loaded = load_foreign(foreign)
    if not (dry_run or launched() or accelerated().precision):
        share_among_devices(loaded.experiment.train, [*(context.obj or []), _OWN_RANKS])
    train_and_report(loaded, dry_run=dry_run, as_json=as_json, quiet=quiet, resume=resume)
