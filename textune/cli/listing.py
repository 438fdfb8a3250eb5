"""The verb runs: a table of the runs in a folder."""

from __future__ import annotations

import click

from textune.cli.options import json_option
from textune.cli.output import print_json, result_console, say
from textune.cli.verbs import Examples
from textune.imports import importing


@click.command(
    "runs",
    cls=Examples,
    short_help="List runs: task, main metric, best, status and time.",
    examples="textune runs\ntextune runs runs/sweep\ntextune runs --json",
)
@click.argument("folder", default="runs", metavar="[FOLDER]")
@json_option
def list_runs(folder: str, as_json: bool) -> None:
    """List the runs in FOLDER and in its studies, the newest first; by default those in the folder runs.

    The main metric is that of the validation rows, which choose the best model. `best` marks the best of the runs with
    the same metric on the same rows.
    """
    with importing(for_good=True):
        from textune.console import print_table
        from textune.pipeline import runs

    found = runs(folder)
    if as_json:
        print_json(found.to_dict())
        return
    console = result_console()
    if not found.runs:
        say(console, f"There are no runs in {found.folder}.")
        return
    print_table(console, *found.table(console.width))
    for run in found.runs:
        if run.reason:
            say(console, f"{run.status}: {run.run}: {run.reason}")
