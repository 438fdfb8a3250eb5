"""The verb `glue`, registered in `cli/__init__.py`: a folder of data and a backbone to a table of all tasks."""

from __future__ import annotations

import click

from textune.cli.options import json_option, names_in
from textune.cli.output import RunLines, failure_if, print_json, result_console, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing


@click.command(
    cls=Examples,
    short_help="Train and evaluate the tasks of GLUE, beside published scores.",
    examples="textune glue --data GLUE --pretrained google-bert/bert-base-cased\n"
    "textune glue --data GLUE --data SAMPLES --pretrained path/to/backbone --tasks mrpc,rte --out runs/glue\n"
    "textune glue --data hub --pretrained google-bert/bert-base-cased train.seed=1",
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FOLDER",
    help="A folder with the published files of the tasks, in folders or zip archives; `hub`: from the Hugging Face"
    " hub. Of several, the first that has the rows of a task is used.",
)
@click.option("--pretrained", required=True, metavar="BACKBONE", help="Folder or hub name of the backbone.")
@click.option("--tasks", metavar="A,B,...", help="Only these tasks, such as mrpc,rte; by default all that have rows.")
@click.option(
    "--out",
    "--output",
    "out",
    default="runs/glue",
    show_default=True,
    metavar="FOLDER",
    help="For the runs, glue.md and glue.json.",
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
@quiet_option
def glue(
    data: tuple[str, ...],
    pretrained: str,
    tasks: str | None,
    out: str,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Train and evaluate the tasks of GLUE one after the other; print their scores next to those of bert-base-cased.

    Each task has a run folder of its own. The same command again skips what is complete and resumes what was stopped.
    A task that fails does not stop the others; the command then exits with its code.
    """
    with importing(for_good=True):
        from textune.studies import glue as run_glue

    names = tuple(name for name in names_in(tasks) if name)
    if tasks is not None and not names:
        raise click.BadParameter("there is no task in it; leave it out for all of them.", param_hint="--tasks")
    result = run_glue(
        data, pretrained, tasks=names, out=out, overrides=overrides, watch=RunLines(quiet=quiet, only_bar=False)
    )
    if as_json:
        failed = failure_if(result.exit_code, "A task failed or is missing: see `tasks`.")
        print_json(result.to_dict(), failure=failed)
    else:
        say(result_console(), result.markdown().rstrip())
        click.echo(f"Written: {result.folder}/glue.md, {result.folder}/glue.json")
    if result.exit_code:
        raise click.exceptions.Exit(result.exit_code)
