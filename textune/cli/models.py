"""Verbs about a trained model: evaluate, report, info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from textune.cli.options import (
    by_metadata_options,
    comparison_options,
    decision_option,
    device_options,
    evaluation_columns,
    json_option,
    options_in_errors,
    read_files,
    reading_options,
)
from textune.cli.output import aside, print_json, result_console, run_tracker, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing

if TYPE_CHECKING:
    from textune.evaluation import Comparison


@click.command(
    cls=Examples,
    short_help="Report on a trained model with labelled rows.",
    examples="textune evaluate runs/first\ntextune evaluate runs/first --data test.tsv --metric f1_macro --json\n"
    "textune evaluate runs/pages --by-metadata --untrained openai-community/gpt2 --out metadata.md",
)
@click.argument("run", metavar="RUN")
@click.option(
    "--data",
    metavar="FILE",
    multiple=True,
    help="Labelled rows; by default the run's own test rows, else its validation rows.",
)
@click.option(
    "--set",
    "--part",
    "part",
    metavar="SET",
    help="Which of the run's own rows: validation, test, train or a set of data.evaluations.",
)
@click.option("--metric", help="Main metric, such as f1, or mean_of_f1_and_accuracy; by default the run's.")
@click.option("--label", metavar="COLUMN", help="Label column of --data, if not the run's.")
@click.option(
    "--label-files", metavar="FILE", multiple=True, help="For text: files with one label per line, parallel to --data."
)
@click.option("--split", metavar="NAME", help="Which rows of a .json file that holds several splits.")
@click.option("--where", metavar="COLUMN=VALUE", multiple=True, help="Only rows of --data that have this value.")
@by_metadata_options
@reading_options
@decision_option
@device_options
@json_option
@quiet_option
def evaluate(run: str, data: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Report on a trained model with labelled rows, or on a language model with documents.

    --by-metadata compares what a language model needs for documents with their metadata and without, type by type.
    """
    if data and options["part"]:
        raise click.UsageError(
            "--set chooses among the run's own rows, but --data names other rows: give only one of them."
        )
    with options_in_errors():
        source, said = read_files(run, data, options) if data else (None, "")
    compared = comparison_options(options)
    with importing(for_good=True):
        from textune.pipeline import evaluate as run_evaluate
        from textune.pipeline import evaluate_by_metadata
    with run_tracker(quiet=quiet) as tracker, options_in_errors(files=bool(data)):
        if said:
            tracker.notice(said)
        common: dict[str, Any] = {name: options[name] for name in ("device", "precision", "max_tokens", "compile")}
        common |= {"part": options["part"], "code": options["code"], "tracker": tracker}
        common |= {"data": source, "columns": evaluation_columns(run, options) if data else None}
        common["on_bad_row"] = "skip" if options["skip_bad_rows"] else "error"
        if compared is not None:
            show_comparison(evaluate_by_metadata(run, **common, **compared), as_json=as_json)
            return
        report = run_evaluate(run, metric=options["metric"], decision=options["decision"], **common)
    if as_json:
        print_json(report.to_dict())
    else:
        from textune.evaluation import render

        render.console.render(report, result_console())


def show_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """Print what metadata is worth."""
    if as_json:
        print_json(comparison.to_dict())
        return
    from textune.evaluation import render

    render.comparison.to_console(comparison, result_console())


@click.command(
    cls=Examples,
    short_help="Write the page about a run again, from its files.",
    examples="textune report runs/first\ntextune report runs/first --plots\ntextune report runs/first --json",
)
@click.argument("run", metavar="RUN")
@click.option("--plots", is_flag=True, help="Draw its plots as PNG files into plots/ too; needs the extra `plots`.")
@json_option
def report(run: str, plots: bool, as_json: bool) -> None:
    """Write report.html into a run folder, a page to look at that needs no other file, and model-card.md.

    Every run writes them at its end; this writes them again, as for a run of an earlier version. No model and no rows
    are read.
    """
    with importing(for_good=True):
        from textune.pipeline import report as run_report

    written = run_report(run, plots=plots)
    if as_json:
        print_json({name: str(path) for name, path in written.items()})
        return
    for path in written.values():
        aside(f"Wrote {path}.")


@click.command(
    cls=Examples,
    short_help="Show what a run folder holds, or the parameters of a model.",
    examples="textune info runs/first\n"
    "textune info runs/first --json\n"
    "textune info config.toml --parameters model.lora.r=16",
)
@click.argument("run", metavar="RUN|CONFIG")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--parameters",
    "count_parameters",
    is_flag=True,
    help="Parameters of a run, a config, a model folder or a checkpoint, part by part, and its linear layers.",
)
@click.option("--unset", multiple=True, metavar="KEY", help="With --parameters: unset an optional key.")
@json_option
def info(run: str, overrides: tuple[str, ...], unset: tuple[str, ...], count_parameters: bool, as_json: bool) -> None:
    """Show what a run folder holds: its status, data, results and versions.

    With --parameters: how many parameters each part of a model has, how many of them are trained, and what they take;
    and the linear layers by name, which model.lora.targets may match. No weights and no rows are read.
    """
    if count_parameters:
        _show_parameters(run, overrides, unset, as_json=as_json)
        return
    if overrides or unset:
        raise click.UsageError("KEY=VALUE and --unset change a config: they need --parameters.")
    with importing(for_good=True):
        from textune.console import print_facts
        from textune.pipeline import in_words
        from textune.pipeline import info as run_info

    found = run_info(run)
    if as_json:
        print_json(found)
    else:
        print_facts(result_console(), in_words(found))


def _show_parameters(source: str, overrides: tuple[str, ...], unset: tuple[str, ...], *, as_json: bool) -> None:
    with importing(for_good=True):
        from textune.console import print_table
        from textune.pipeline import as_tables, headline, parameters

    found = parameters(source, overrides, unset)
    if as_json:
        print_json(found.to_dict())
        return
    console = result_console()
    say(console, headline(found))
    for table in as_tables(found):
        say(console, "")
        print_table(console, *table)
    for note in found.notes:
        aside(f"note: {note}")
