"""The verb `repeat`, registered in `cli/__init__.py`: one configuration on several folds and seeds."""

from __future__ import annotations

import click

from textune.cli.options import config_options, jobs_option, json_option
from textune.cli.output import RunLines, failure_if, print_json, result_console, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing


@click.command(
    cls=Examples,
    short_help="Train on several folds and seeds; report how the scores spread.",
    examples="textune repeat config.toml --folds 5\n"
    "textune repeat config.toml --folds 5 --seeds 3 --run runs/repeated\n"
    "textune repeat config.toml --seeds 5 --jobs 2 train.optimizer.lr=3e-5",
)
@config_options
@click.option("--folds", type=int, metavar="NUMBER", help="Each of so many equal parts is held out once.")
@click.option(
    "--seeds", type=int, metavar="NUMBER", help="Everything with so many seeds: train.seed, and those that follow it."
)
@click.option(
    "--run",
    "--run-folder",
    "run",
    metavar="FOLDER",
    help="The folder for the runs and their results; by default runs/NAME-OF-CONFIG-repeat.",
)
@jobs_option
@click.option("--keep-going", is_flag=True, help="A run that fails does not stop the others.")
@json_option
@quiet_option
def repeat(
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    folds: int | None,
    seeds: int | None,
    run: str | None,
    jobs: int,
    keep_going: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a config on several folds of its training rows, with several seeds, or both; print how the scores spread.

    Each fold and seed is a run of its own. With folds, every row gets an answer by a model that has not seen it: a
    report on all of them, and the rows themselves, are written beside the runs. The same command again skips runs
    that are complete and resumes those that were stopped.
    """
    with importing(for_good=True):
        from textune.studies import repeat as run_repeat

    result = run_repeat(
        config,
        folds=folds,
        seeds=seeds,
        run=run,
        overrides=overrides,
        unset=unset,
        jobs=jobs,
        keep_going=keep_going,
        watch=RunLines(quiet=quiet),
    )
    if as_json:
        failed = failure_if(result.exit_code, "A run failed or was refused: see `runs`.")
        print_json(result.to_dict(), failure=failed)
    else:
        from textune.console import print_table

        console = result_console()
        say(console, result.title())
        for name in result.sets:
            say(console, f"\n{name}")
            print_table(console, result.head(name), *result.lines(name))
        say(console, "".join(f"\n- {note}" for note in result.all_notes()))
        if result.report is not None:
            say(console, f"\nHeld-out rows: {result.report.headline()}")
        named = ["report.html", "held-out.rows.parquet"] if result.report is not None else []
        say(console, f"Written: {', '.join(f'{result.study}/{name}' for name in ['repeat.md', *named])}")
    if result.exit_code:
        raise click.exceptions.Exit(result.exit_code)
