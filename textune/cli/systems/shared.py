"""What the commands of all systems have in common: options, how many processes train, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from textune.cli.options import json_option, own_ranks_option, processes_option, processes_started, resume_option
from textune.cli.output import aside, print_json
from textune.cli.runs import share_among_devices, train_and_report
from textune.cli.verbs import quiet_option
from textune.ranks import launched

if TYPE_CHECKING:
    from textune.adapters import Foreign

__all__ = ["Training", "converting", "print_converted", "processes_option", "train_foreign", "training"]

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Build and check everything, show what would be trained, write nothing."
)


def converting(function: Callable[..., None]) -> Callable[..., None]:
    """Options of every command of `convert`: `out`, `as_json`."""
    return click.option(
        "--out",
        "--output",
        "out",
        metavar="CONFIG.toml",
        help="The file to write; by default standard output. An existing one is refused.",
    )(json_option(function))


@dataclass(frozen=True)
class Training:
    """What the options of every command that trains say."""

    resume: str | None
    dry_run: bool
    as_json: bool
    quiet: bool
    own_ranks: bool
    """Whether textune itself started the processes, one for each device."""

    def num_processes(self, given: int | None = None) -> int | None:
        """How many processes train in the other system: those that a launcher started, or those that are `given`."""
        return processes_started(given, own_ranks=self.own_ranks)


def training(function: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that trains; the command gets them as `how`, a `Training`."""

    @wraps(function)
    def command(
        *arguments: Any, resume: str | None, dry_run: bool, as_json: bool, quiet: bool, own_ranks: bool, **options: Any
    ) -> None:
        function(*arguments, how=Training(resume, dry_run, as_json, quiet, own_ranks), **options)

    return resume_option(dry_run_option(json_option(quiet_option(own_ranks_option(command)))))


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
            aside(f"note: {note}")
        follow = ["--run", foreign.run] if foreign.run else []
        click.echo(f"Wrote {out}. Next: {shlex.join(['textune', 'train', out, *follow])}")


def train_foreign(
    foreign: Foreign, context: click.Context, how: Training, *, fast_dev_run: bool = False, adopt: str | None = None
) -> None:
    """Train what another system's configuration says, in its run folder, and print the reports. `adopt`: the
    checkpoint whose step and optimizer the run takes over.

    Without a launcher, a process is started for each device; what is trained stays the same.
    """
    from textune.adapters import load_foreign
    from textune.launch import accelerated

    loaded = load_foreign(foreign)
    if not (how.dry_run or launched() or accelerated().precision):
        share_among_devices(loaded.experiment.train, context.obj or [])
    train_and_report(
        loaded,
        dry_run=how.dry_run,
        fast_dev_run=fast_dev_run,
        as_json=how.as_json,
        quiet=how.quiet,
        resume=how.resume,
        unpickle=adopt,
    )
