"""The verb predict: rows of a file, a stream or many files, or a few texts given as words."""

from __future__ import annotations

import glob
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from textune.cli.options import (
    decision_option,
    device_options,
    json_option,
    options_in_errors,
    predict_columns,
    read_files,
    reading_options,
)
from textune.cli.output import aside, print_json, result_console, run_tracker, say
from textune.cli.verbs import Examples, quiet_option
from textune.errors import RunError
from textune.imports import importing
from textune.ranks import joined
from textune.wording import count, escaped

if TYPE_CHECKING:
    from textune.prediction import ModelCard, Prediction


@click.command(
    cls=Examples,
    short_help="Add a model's predictions to rows.",
    examples="textune predict runs/first 'a fine film'\n"
    "textune predict runs/first --data - < lines.txt\n"
    "textune predict runs/first --data new.csv --output scored.csv\n"
    "textune predict runs/first --data big.parquet --output scored.parquet --all-scores\n"
    "textune predict runs/first --data big.parquet --output scored.parquet --workers 4\n"
    "textune predict runs/first --data 'crawl/*.jsonl.gz' --output scored/ --workers 8",
)
@click.argument("run", metavar="RUN")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
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
    "--out",
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
@click.pass_context
def predict(
    context: click.Context,
    /,
    run: str,
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    target: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Add the model's predictions to rows, keeping their columns and order; or say what it predicts for TEXT.

    Of a model that reads pairs, two texts are one pair.
    """
    if texts:
        _require_texts(context, run, texts)
        _predict_texts(run, texts, as_json=as_json, quiet=quiet, options=options)
        return
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
        aside(f"Wrote {count(result.rows, 'row')} to {target}.")


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
        aside(f"Wrote {count:,} row{'' if count == 1 else 's'} to {target}.")


_OF_TEXTS = {"run", "texts", "all_scores", "decision", "device", "precision", "max_tokens", "compile", "code"}
_OF_TEXTS |= {"as_json", "quiet"}
"""The parameters that go with texts given as words; all others are about files."""


def _require_texts(context: click.Context, run: str, texts: tuple[str, ...]) -> None:
    """UsageError for options of files beside texts, and for a text that is the name of a file."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE
        if given and parameter.name not in _OF_TEXTS:
            raise click.UsageError(
                f"{parameter.opts[0]} is about files, but the text {texts[0]!r} is given, too: give only one of them."
            )
    for text in texts:
        if text and os.path.isfile(os.path.expanduser(text)):
            command = shlex.join(["textune", "predict", run, "--data", text])
            raise click.UsageError(f"{text} is a file, not a text. To predict its rows: {command}")


def _predict_texts(run: str, texts: tuple[str, ...], *, as_json: bool, quiet: bool, options: dict[str, Any]) -> None:
    """A few texts, as lines for people or as one JSON document."""
    with importing(for_good=True):
        from textune.prediction import find_model, prediction_in_words, read_card

    card = read_card(find_model(run))
    firsts, seconds = _as_rows(card, run, texts)
    with run_tracker(quiet=quiet, only_notices=True) as tracker, options_in_errors():
        from textune.prediction import Predictor, load_scorer

        names = ("device", "precision", "max_tokens", "compile", "code", "decision")
        scorer = load_scorer(run, on_notice=tracker.notice, **{name: options[name] for name in names})
        found = Predictor(scorer).predict(firsts, seconds)
    by_task: dict[str, list[Prediction]] = {"": found} if isinstance(found, list) else found
    if as_json:
        print_json({"predictions": [_as_json(row, firsts, seconds, by_task) for row in range(len(firsts))]})
        return
    console = result_console()
    for row, text in enumerate(firsts):
        said = "; ".join(
            f"{task}: {words}" if task else words
            for task, predictions in by_task.items()
            for words in [prediction_in_words(predictions[row], all_scores=options["all_scores"])]
        )
        shown = text if seconds is None else f"{text} | {seconds[row]}"
        say(console, f"{said}  {escaped(' '.join(shown.split()))}")


def _as_rows(card: ModelCard, run: str, texts: tuple[str, ...]) -> tuple[list[str], list[str] | None]:
    """The texts, or the first and second texts of pairs; UsageError where the model reads several columns."""
    columns = card.columns
    if columns.template is not None:
        raise click.UsageError(
            f"the model reads rows with several columns ({columns.template!r}), not single texts: give them with"
            f" --data FILE."
        )
    if columns.text_pair is None:
        return list(texts), None
    if len(texts) % 2:
        raise click.UsageError(f"the model reads pairs of texts, but {count(len(texts), 'text')} cannot be paired.")
    return list(texts[::2]), list(texts[1::2])


def _as_json(
    row: int, firsts: list[str], seconds: list[str] | None, by_task: dict[str, list[Prediction]]
) -> dict[str, object]:
    text: dict[str, object] = {"text": firsts[row]}
    if seconds is not None:
        text["text_pair"] = seconds[row]
    said = {task: predictions[row]._asdict() for task, predictions in by_task.items()}
    return text | said.get("", {"tasks": said})
