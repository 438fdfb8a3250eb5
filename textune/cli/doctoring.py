"""The verb `doctor`, registered in `cli/__init__.py`: what is worth mending in labelled rows, and what that gains."""

from __future__ import annotations

from typing import Any

import click

from textune.cli.options import config_options, jobs_option, json_option
from textune.cli.output import RunLines, print_json, result_console, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing


@click.command(
    cls=Examples,
    short_help="Find labels and rows worth mending, and see what that gains.",
    examples="textune doctor config.toml\n"
    "textune doctor config.toml --folds 10 --run runs/examined\n"
    "textune doctor config.toml --apply runs/config-doctor/corrections.csv",
)
@config_options
@click.option(
    "--folds", type=int, metavar="NUMBER", help="Each of so many equal parts is held out once; 5 unless set."
)
@click.option(
    "--apply",
    "corrections",
    metavar="FILE",
    help="Train before and after these corrections, and compare both on rows that they leave alone.",
)
@click.option(
    "--least-worth",
    type=click.FloatRange(min=0),
    metavar="NUMBER",
    help="With --apply: only corrections of this worth or more, such as 0.9.",
)
@click.option(
    "--run",
    "--run-folder",
    "run",
    metavar="FOLDER",
    help="The folder for the runs and what is found; by default runs/NAME-OF-CONFIG-doctor.",
)
@jobs_option
@json_option
@quiet_option
def doctor(
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    folds: int | None,
    corrections: str | None,
    least_worth: float | None,
    run: str | None,
    jobs: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Put suspect labels, conflicts of equal or nearly equal texts, and leaks into one list, by what they are worth.

    Trains on each of several folds first, so that every row is judged by a model that has not seen it. Review
    corrections.csv: take lines out, change what is proposed. With --apply, its corrections are put to the test.
    """
    if corrections is not None and folds is not None:
        raise click.UsageError("--folds is for finding corrections; --apply takes them from a file.")
    if least_worth is not None and corrections is None:
        raise click.UsageError("--least-worth chooses among corrections: it needs --apply FILE.")
    common: dict[str, Any] = {"run": run, "overrides": overrides, "unset": unset, "jobs": jobs}
    common["watch"] = RunLines(quiet=quiet)
    with importing(for_good=True):
        from textune.studies import apply_corrections
        from textune.studies import doctor as examine

    if corrections is not None:
        mended = apply_corrections(config, corrections, least_worth=least_worth or 0.0, **common)
        if as_json:
            print_json(mended.to_dict())
        else:
            say(result_console(), mended.sentence())
        return
    found = examine(config, **common) if folds is None else examine(config, folds=folds, **common)
    if as_json:
        print_json(found.to_dict())
        return
    from textune.console import print_table

    console = result_console()
    say(console, found.title())
    if found.lines:
        print_table(console, found.head, *found.table())
    say(console, "".join(f"\n- {note}" for note in found.all_notes()))
    say(console, f"Written: {found.study}/doctor.md, {found.corrections}")
    if found.lines:
        say(console, f"Review it, then: textune doctor {config} --apply {found.corrections}")
