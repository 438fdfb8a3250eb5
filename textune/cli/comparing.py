"""The verb `compare`, registered in `cli/__init__.py`: runs beside each other on the same rows."""

from __future__ import annotations

import click

from textune.cli.options import json_option
from textune.cli.output import print_json, result_console
from textune.cli.verbs import Examples
from textune.imports import importing


@click.command(
    cls=Examples,
    short_help="Compare runs on the same rows, and say what may be chance.",
    examples="textune compare runs/first runs/second\n"
    "textune compare runs/first runs/second runs/third --set test --metric f1_macro\n"
    "textune compare runs/first runs/second --out differing.csv",
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--set",
    "--part",
    "sets",
    multiple=True,
    metavar="SET",
    help="Which set; by default all that every run has rows of.",
)
@click.option("--metric", help="Main metric; by default that of the first run.")
@click.option("--common", is_flag=True, help="Leave out rows that not all runs have, instead of refusing them.")
@click.option(
    "--out",
    "--output",
    "out",
    metavar="FILE",
    help="Write the rows that are answered differently: .parquet, .csv, .tsv, .jsonl.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
def compare(
    runs: tuple[str, ...],
    sets: tuple[str, ...],
    metric: str | None,
    common: bool,
    out: str | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Compare each run with the first one, on the rows that they keep of their evaluations.

    The difference of the main metric comes with a paired bootstrap interval and a p-value: McNemar's exact test where
    answers are right or wrong, a paired permutation test for all other metrics, corrected by Holm for several runs.
    """
    if markdown and as_json:
        raise click.UsageError("--markdown and --json are two forms of one result: give only one of them.")
    with importing(for_good=True):
        from textune.evaluation import render
        from textune.studies import compare as run_compare

    found = run_compare(runs, sets=sets, metric=metric, common=common, out=out)
    if as_json:
        print_json(found.to_dict())
    elif markdown:
        click.echo(render.versus.as_markdown(found.sets), nl=False)
    else:
        render.versus.to_console(found.sets, result_console())
