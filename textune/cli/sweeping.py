"""The verb `sweep`, registered in `cli/__init__.py`: a file of values to try, to a table of runs and the best one."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from textune.cli.options import json_option
from textune.cli.output import RunLines, failure_if, print_json, result_console, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing
from textune.wording import count

if TYPE_CHECKING:
    from textune.studies import SweepResult


@click.command(
    cls=Examples,
    short_help="Train with every combination of some values; which are the best.",
    examples="textune sweep sweep.toml --dry-run\n"
    "textune sweep sweep.toml --run runs/rates\n"
    "textune sweep sweep.toml --jobs 4 --keep-going 'train.duration=1 epochs'\n"
    "textune sweep sweep.toml --write jobs",
)
@click.argument("sweep_file", metavar="SWEEP.toml")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--run",
    "--run-folder",
    "run",
    metavar="FOLDER",
    help="The folder of the sweep and its runs; by default what the file says, or runs/NAME-OF-THE-FILE.",
)
@click.option("--jobs", type=click.IntRange(min=1), metavar="NUMBER", help="Runs at once, on the devices in turn.")
@click.option("--keep-going", is_flag=True, help="A run that is refused or fails does not stop the others.")
@click.option("--write", metavar="FOLDER", help="Only write a config file for each run and a shell script there.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the runs; train and write nothing.")
@json_option
@quiet_option
def sweep(
    sweep_file: str,
    overrides: tuple[str, ...],
    run: str | None,
    jobs: int | None,
    keep_going: bool,
    write: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a configuration with every combination of some values, and say which were the best.

    SWEEP.toml names a config and, in [grid], the values of its keys. Settings (KEY=VALUE) hold for every run. The same
    command again goes on: what is complete is not repeated, and what was stopped resumes.
    """
    if write is not None:
        if run is not None or dry_run or jobs is not None:
            raise click.UsageError("--write runs nothing: it goes without --run, --jobs and --dry-run.")
        _write(sweep_file, write, overrides, keep_going=keep_going, as_json=as_json)
        return
    with importing(for_good=True):
        from textune.studies import sweep as run_sweep

    result = run_sweep(
        sweep_file,
        run=run,
        jobs=jobs,
        keep_going=keep_going,
        overrides=overrides,
        dry_run=dry_run,
        watch=RunLines(quiet=quiet),
    )
    if as_json:
        failed = failure_if(result.exit_code, "A run failed or was refused: see `stages`.")
        print_json(result.to_dict(), failure=failed)
    else:
        say(result_console(), result.markdown().rstrip())
        say(result_console(), "Dry run: nothing was trained or written." if dry_run else _written(result))
    if result.exit_code:
        raise click.exceptions.Exit(result.exit_code)


def _written(result: SweepResult) -> str:
    """Where everything is, and what comes next: whether the best was luck."""
    folder = result.folder
    lines = [f"Written: {folder}/sweep.md, {folder}/sweep.json, {folder}/sweep.svg"]
    if result.best is not None:
        lines += [
            f"Next:  textune info {shlex.quote(str(result.best.run))}",
            f"       textune repeat {shlex.quote(str(result.best_config))} --seeds 3",
        ]
    return "\n".join(lines)


def _write(sweep_file: str, folder: str, overrides: tuple[str, ...], *, keep_going: bool, as_json: bool) -> None:
    from textune.studies import write_sweep

    written = write_sweep(sweep_file, folder, overrides=overrides, keep_going=keep_going)
    if as_json:
        print_json(written.to_dict())
        return
    say(
        result_console(),
        f"Written: {written.script}, which carries out {count(len(written.commands), 'run')}.\n"
        f"Next:  sh {shlex.quote(str(written.script))}\n"
        f"       textune sweep {shlex.quote(sweep_file)} --run {shlex.quote(str(written.folder))}",
    )
