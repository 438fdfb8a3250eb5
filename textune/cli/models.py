"""Verbs about a trained model: evaluate, report, predict, info."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textune.cli.options import (
    Examples,
    by_metadata_options,
    comparison_options,
    decision_option,
    device_options,
    evaluation_columns,
    json_option,
    options_in_errors,
    predict_columns,
    quiet_option,
    read_files,
    reading_options,
)
from textune.cli.output import print_json, result_console, run_tracker, say
from textune.errors import RunError
from textune.imports import importing
from textune.ranks import joined

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
    "--part", metavar="SET", help="Which of the run's own rows: validation, test, train or a set of data.evaluations."
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
            "--part chooses among the run's own rows, but --data names other rows: give only one of them."
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
        click.echo(f"Wrote {path}.", err=True)


@click.command(
    cls=Examples,
    short_help="Add a model's predictions to rows.",
    examples="echo 'a fine film' | textune predict runs/first\n"
    "textune predict runs/first --data new.csv --output scored.csv\n"
    "textune predict runs/first --data big.parquet --output scored.parquet --all-scores\n"
    "textune predict runs/first --data big.parquet --output scored.parquet --workers 4\n"
    "textune predict runs/first --data 'crawl/*.jsonl.gz' --output scored/ --workers 8",
)
@click.argument("run", metavar="RUN")
@click.option(
    "--data",
    "--input",
    "sources",
    multiple=True,
    metavar="FILE",
    help="csv, tsv, jsonl, parquet, arrow or text; by default lines of text from standard input. Several, a pattern or"
    " a folder: one after the other, as with --workers 1.",
)
@click.option(
    "--output",
    "target",
    default="-",
    metavar="PATH",
    help="The file to write; by default standard output. A folder, such as scored/, gets a file for each shard.",
)
@click.option(
    "--output-format",
    metavar="FORMAT",
    help="Format of the output; by default that of its name, else the input's (text: jsonl).",
)
@reading_options
@click.option("--all-scores", is_flag=True, help="Add the score of every label.")
@click.option("--force", is_flag=True, help="Replace an --output that exists, or drop what another command has done.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that predict shards of the rows; the same command again continues where one was stopped.",
)
@click.option(
    "--engine",
    type=click.Choice(["processes", "ray"]),
    default="processes",
    show_default=True,
    help="What predicts shards: processes of this machine, or Ray Data (extra `ray`).",
)
@click.option(
    "--ray-address", metavar="ADDRESS", help="A running Ray cluster; by default RAY_ADDRESS, else one started here."
)
@decision_option
@device_options
@json_option
@quiet_option
def predict(
    run: str, sources: tuple[str, ...], target: str, force: bool, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Add the model's predictions to rows, keeping their columns and order."""
    if as_json and target == "-":
        raise click.UsageError("--json needs --output FILE: on standard output it would mix with the predictions.")
    if options["ray_address"] and options["engine"] != "ray":
        raise click.UsageError("--ray-address is for --engine ray.")
    with importing(for_good=True):
        from textune.config import user_path

    places = [path if path == "-" else str(user_path(path)) for path in sources or ("-",)]
    ends_as_folder = target.endswith("/")
    target = target if target == "-" else str(user_path(target)) + "/" * ends_as_folder
    in_shards = options["workers"] is not None or options["engine"] == "ray" or len(places) > 1
    in_shards = in_shards or ends_as_folder or os.path.isdir(target) or _stands_for_several(places[0])
    arguments = (run, places, target, force, as_json, quiet, options)
    if in_shards:
        _predict_in_shards(*arguments)
    else:
        _predict_one(*arguments)


def _stands_for_several(path: str) -> bool:
    return path != "-" and (os.path.isdir(path) or (glob.has_magic(path) and not os.path.exists(path)))


def _predict_in_shards(
    run: str, sources: list[str], target: str, force: bool, as_json: bool, quiet: bool, options: dict[str, Any]
) -> None:
    """Files by several processes."""
    with importing(for_good=True):
        from textune.pipeline import predict_files
        from textune.prediction import find_model, read_card
        from textune.wording import count

    if target == "-":
        several = f"--data {sources[0]} is a folder, and its files" if os.path.isdir(sources[0]) else "several files"
        raise click.UsageError(
            f"{several}, --workers and --engine ray need --output FILE, or a folder with a / behind it."
        )
    with run_tracker(quiet=quiet) as tracker, options_in_errors():
        result = predict_files(
            run,
            sources,
            target,
            workers=options["workers"] or 1,
            engine=options["engine"],
            ray_address=options["ray_address"],
            columns=predict_columns(read_card(find_model(run)).columns, options),
            read=lambda files: read_files(run, files, options),
            output_format=options["output_format"],
            all_scores=options["all_scores"],
            on_bad_row="skip" if options["skip_bad_rows"] else "error",
            force=force,
            device=options["device"],
            precision=options["precision"],
            max_tokens=options["max_tokens"],
            compile=options["compile"],
            code=options["code"],
            decision=options["decision"],
            tracker=tracker,
        )
    if as_json:
        print_json(result.to_dict())
    elif not quiet:
        click.echo(f"Wrote {count(result.rows, 'row')} to {target}.", err=True)


def _predict_one(
    run: str, sources: list[str], target: str, force: bool, as_json: bool, quiet: bool, options: dict[str, Any]
) -> None:
    """A file or a stream by this process."""
    with importing(for_good=True):
        from textune.data import located, stream_options
        from textune.pipeline import predict_file, require_target
        from textune.prediction import find_model, load, read_card

    [source] = sources
    columns = predict_columns(read_card(find_model(run)).columns, options)
    if source != "-":
        place = located(Path(source))
        if place is None:
            raise RunError(f"--data {source} does not exist.", hint="Check the path.")
        source = str(place)
    with options_in_errors():
        files, said = read_files(run, (source,), options)
        source_options, target_options = stream_options(source, target, files, options["output_format"])
    require_target(source, target, force=force)
    progress = run_tracker(quiet=quiet, only_notices=target == "-")
    with joined() as ranks, progress as tracker, options_in_errors():
        if said:
            tracker.notice(said)
        predictor = load(
            run,
            device=options["device"],
            precision=options["precision"],
            max_tokens=options["max_tokens"],
            compile=options["compile"],
            code=options["code"],
            decision=options["decision"],
            ranks=ranks,
            on_notice=tracker.notice,
        )
        count = predict_file(
            predictor,
            source=source,
            source_options=source_options,
            target=target,
            target_options=target_options,
            columns=columns,
            rename=files.rename,
            all_scores=options["all_scores"],
            on_bad_row="skip" if options["skip_bad_rows"] else "error",
            force=force,
            tracker=tracker,
        )
    if as_json:
        print_json({"rows": count, "output": target})
    elif target != "-" and ranks.is_first and not quiet:
        click.echo(f"Wrote {count:,} row{'' if count == 1 else 's'} to {target}.", err=True)


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
        click.echo(f"note: {note}", err=True)
