"""The command line: each verb is a thin wrapper over an importable function, and the only place that prints.

Exit codes: 0 done; 1 a fault of textune; 2 something the user can mend; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from textune import __version__
from textune.cli_chaos import chaos
from textune.errors import ConfigError, DataError, Preempted, RunError, TextuneError
from textune.imports import importing
from textune.options import (
    Examples,
    config_options,
    device_options,
    evaluation_columns,
    evaluation_source,
    json_option,
    predict_columns,
    resume_and_overrides,
    resume_option,
    run_option,
    stream_options,
)
from textune.ranks import launched_rank

if TYPE_CHECKING:
    from rich.console import Console

    from textune.console import ConsoleTracker


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; every error becomes a sentence (a traceback with `--debug`)."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        # Outside of click's standalone mode the code of `Exit` comes back as the result.
        code = commands(words, prog_name="textune", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        if launched_rank() == 0:
            click.echo("Interrupted; everything saved so far stays.", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): nothing is left to say, not even by the interpreter at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Preempted as error:
        click.echo(f"{error}", err=True)
        code = error.exit_code
    except TextuneError as error:
        code = _complain(error, str(error), error.exit_code, debug=debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        code = _complain(error, f"{place}{error.strerror or error}.", 2, debug=debug)
    except Exception as error:  # the last resort: our own faults end in a sentence too
        if _is_out_of_memory(error):
            hint = "Use a smaller backbone or fewer rows, or a machine with more memory."
            sys.exit(_complain(error, f"memory does not suffice. {hint}", 2, debug=debug))
        text = f"textune failed in a way it should not: {type(error).__name__}: {error}"
        text += "\nRun it again with --debug and report what it prints."
        code = _complain(error, text, 1, debug=debug)
    sys.exit(code)


def _complain(error: BaseException, text: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    rank = launched_rank()
    if rank == 0:
        click.echo(f"Error: {text}", err=True)
    elif not isinstance(error, ConfigError):  # which every rank finds: the first has said it
        click.echo(f"Error on rank {rank}: {text}", err=True)
    return code


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch is not imported to look at an error that cannot be its own."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from textune.model.memory import is_out_of_memory

    return is_out_of_memory(error)


@click.group(commands=[chaos], context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="textune")
def commands() -> None:
    """A file of labelled text and one TOML config in; a fine-tuned, evaluated, reusable text model out.

    Start with `textune init reviews.csv --out config.toml`. Any verb takes --debug, which shows the traceback of an error.
    """


@commands.command(
    cls=Examples,
    examples="textune init reviews.csv --out config.toml\n"
    "textune init train.tsv --out config.toml --pretrained path/to/backbone",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--out", required=True, metavar="CONFIG.toml", help="The file to write; an existing one is refused.")
@click.option("--pretrained", metavar="BACKBONE", help="Folder or hub name of the backbone.")
@json_option
def init(files: tuple[str, ...], out: str, pretrained: str | None, as_json: bool) -> None:
    """Look at a file of labelled text and write a commented config for it."""
    with importing(for_good=True):
        from textune.pipeline.starting import init as write_config

    notes = write_config(list(files), out, pretrained=pretrained)
    if as_json:
        _print_json({"path": out, "notes": notes})
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"Wrote {out}. Next: textune check {out}")


@commands.command(cls=Examples, examples="textune check config.toml\ntextune check config.toml data.on_bad_row=skip --json")
@config_options
@json_option
def check(config: str, overrides: tuple[str, ...], unset: tuple[str, ...], as_json: bool) -> None:
    """Check a config and its data, and predict tokens, padding, memory and time; trains nothing.

    Exits with 2 if something stands in the way of training.
    """
    with importing(for_good=True):
        from textune.pipeline.checking import check as run_check

    with _tracker(quiet=as_json) as tracker:
        result = run_check(config, overrides=overrides, unset=unset, tracker=tracker)
    if as_json:
        _print_json(result.to_dict())
    else:
        from textune.console import print_facts, print_findings

        console = _console()
        print_facts(console, result.facts)
        print_findings(console, result.findings)
        counts = {level: sum(f.level == level for f in result.findings) for level in ("error", "warning")}
        verdict = f"ready: textune train {config}" if result.ok else "not ready: mend the errors first"
        console.print(
            f"{counts['error']} errors, {counts['warning']} warnings; {verdict}", highlight=False, soft_wrap=True, markup=False
        )
    if not result.ok:
        raise click.exceptions.Exit(2)


@commands.command(cls=Examples, examples="textune show config.toml\ntextune show config.toml train.optimizer.lr=3e-5 --diff")
@config_options
@click.option("--diff", is_flag=True, help="Only what differs from the defaults.")
@json_option
def show(config: str, overrides: tuple[str, ...], unset: tuple[str, ...], diff: bool, as_json: bool) -> None:
    """Print the resolved config, with the origin of every value."""
    from textune.config import load_config
    from textune.config import show as show_config

    loaded = load_config(config, overrides, unset)
    if as_json:
        _print_json({"config": loaded.experiment.model_dump(mode="json"), "origins": loaded.origins})
    else:
        click.echo(show_config(loaded, diff=diff), nl=False)


@commands.command(
    cls=Examples, examples="textune schema > textune.schema.json\ntextune schema --markdown > docs/configuration.md"
)
@click.option("--markdown", is_flag=True, help="A reference page instead of JSON Schema.")
def schema(markdown: bool) -> None:
    """Print the JSON Schema of the config, for editors that complete and check TOML."""
    from textune.config import json_schema, reference_markdown

    if markdown:
        click.echo(reference_markdown(), nl=False)
    else:
        _print_json(json_schema())


@commands.command(
    cls=Examples,
    examples="textune train config.toml --run runs/first\n"
    "textune train config.toml --run runs/second train.optimizer.lr=3e-5 'train.duration=2 epochs'\n"
    "textune train config.toml --run runs/first --resume\n"
    "textune train config.toml --run runs/branch --resume runs/first/checkpoints/step-120\n"
    "textune train config.toml --fast-dev-run",
)
@config_options
@run_option
@resume_option
@click.option("--dry-run", is_flag=True, help="Build and check everything, show what would be trained, write nothing.")
@click.option("--fast-dev-run", is_flag=True, help="One batch of everything, in a folder that is removed again.")
@json_option
def train(
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    run: str | None,
    resume: str | None,
    dry_run: bool,
    fast_dev_run: bool,
    as_json: bool,
) -> None:
    """Train, keep the best model, evaluate it, and write the run folder.

    A run that was stopped goes on with --resume, exactly where its last checkpoint is.
    """
    resume, overrides = resume_and_overrides(resume, overrides)
    with importing(for_good=True):
        from textune.pipeline.training import train as run_train

    with _tracker(quiet=as_json) as tracker:
        result = run_train(
            config,
            run=run,
            overrides=overrides,
            unset=unset,
            resume=resume,
            dry_run=dry_run,
            fast_dev_run=fast_dev_run,
            tracker=tracker,
        )
    if as_json:
        _print_json(None if result is None else result.to_dict())
        return
    console = _console()
    if result is None:
        console.print("Dry run: nothing was trained or written.")
        return
    if not result.reports and result.complete_before:
        console.print(f"textune info {result.run} shows its results.", highlight=False, soft_wrap=True, markup=False)
        return
    for report in result.reports.values():
        report.console(console)
    if fast_dev_run:
        console.print("Fast development run: one batch of everything works; its folder is removed again.")
        return
    folder = result.run
    console.print(
        f"\nTrained {result.steps:,} steps in {result.seconds:.0f} s."
        f" The best model (step {result.best_step}) is in {folder}/best.\n"
        f"Next:  {_predict_example(folder)}\n"
        f"       textune evaluate {folder} --data FILE\n"
        f"       textune info {folder}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


@commands.command(
    cls=Examples, examples="textune evaluate runs/first\ntextune evaluate runs/first --data test.tsv --metric f1_macro --json"
)
@click.argument("run", metavar="RUN")
@click.option(
    "--data", metavar="FILE", multiple=True, help="Labelled rows; by default the run's own test rows, else its validation rows."
)
@click.option("--part", type=click.Choice(["validation", "test"]), help="Which of the run's own rows.")
@click.option("--metric", help="Main metric, instead of the run's.")
@click.option("--text", metavar="COLUMN", help="Text column of --data, if not the run's.")
@click.option("--text-pair", metavar="COLUMN", help="Column of the second text of a pair.")
@click.option("--label", metavar="COLUMN", help="Label column of --data, if not the run's.")
@click.option("--format", "format_", default="auto", help="Format of --data: csv, tsv, json, jsonl, parquet, arrow or text.")
@click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of --data.")
@click.option("--delimiter", help="Column delimiter of csv and tsv.")
@click.option("--quoting", default="auto", help="auto, standard or none.")
@click.option("--column-names", metavar="A,B,...", help="Names for the columns of a file without a header.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be used, and say how many.")
@device_options
@json_option
def evaluate(run: str, data: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Report on a trained model with labelled rows."""
    with importing(for_good=True):
        from textune.pipeline.evaluating import evaluate as run_evaluate

    with _tracker(quiet=as_json) as tracker, _hints_of_options(active=bool(data)):
        report = run_evaluate(
            run,
            data=evaluation_source(data, options) if data else None,
            columns=evaluation_columns(run, options) if data else None,
            part=options["part"],
            metric=options["metric"],
            on_bad_row="skip" if options["skip_bad_rows"] else "error",
            device=options["device"],
            precision=options["precision"],
            max_tokens=options["max_tokens"],
            compile=options["compile"],
            tracker=tracker,
        )
    if as_json:
        _print_json(report.to_dict())
    else:
        report.console(_console())


@commands.command(
    cls=Examples,
    examples="echo 'a fine film' | textune predict runs/first\n"
    "textune predict runs/first --input new.csv --output scored.csv\n"
    "textune predict runs/first --input big.parquet --output scored.parquet --all-scores",
)
@click.argument("run", metavar="RUN")
@click.option(
    "--input", "source", default="-", metavar="FILE", help="csv, tsv, jsonl, parquet or text; by default standard input."
)
@click.option("--output", "target", default="-", metavar="FILE", help="By default standard output.")
@click.option(
    "--format", "format_", metavar="FORMAT", help="Format of the input, where its name does not say; standard input is text."
)
@click.option(
    "--output-format", metavar="FORMAT", help="Format of the output; by default by its name, else the input's (text: jsonl)."
)
@click.option("--text", metavar="COLUMN", help="Text column, if not the run's.")
@click.option("--text-pair", metavar="COLUMN", help="Column of the second text of a pair, if not the run's.")
@click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of the input.")
@click.option("--delimiter", help="Column delimiter of csv and tsv.")
@click.option("--quoting", type=click.Choice(["auto", "standard", "none"]), default="auto", help="Quotes in csv and tsv.")
@click.option("--column-names", metavar="A,B,...", help="Names for the columns of a file without a header.")
@click.option("--all-scores", is_flag=True, help="Add the score of every label.")
@click.option("--force", is_flag=True, help="Replace an --output that exists.")
@device_options
@json_option
def predict(run: str, source: str, target: str, all_scores: bool, force: bool, as_json: bool, **options: Any) -> None:
    """Add the model's predictions to rows, keeping their columns and order."""
    if as_json and target == "-":
        raise click.UsageError("--json reports on --output FILE; predictions on standard output are the result themselves.")
    with importing(for_good=True):
        from textune.pipeline.predicting import predict_file, require_target
        from textune.prediction import find_model, load, read_card

    columns = predict_columns(read_card(find_model(run)).columns, options)
    source_options, target_options = stream_options(source, target, options)
    if source != "-" and not os.path.exists(source):
        raise RunError(f"--input {source} does not exist.", hint="Check the path.")
    require_target(source, target, force=force)
    predictor = load(
        run,
        device=options["device"],
        precision=options["precision"],
        max_tokens=options["max_tokens"],
        compile=options["compile"],
    )
    with _tracker(quiet=as_json, only_notices=target == "-") as tracker:
        count = predict_file(
            predictor,
            source=source,
            source_options=source_options,
            target=target,
            target_options=target_options,
            columns=columns,
            all_scores=all_scores,
            force=force,
            tracker=tracker,
        )
    if as_json:
        _print_json({"rows": count, "output": target})
    elif target != "-":
        click.echo(f"Wrote {count:,} rows to {target}.", err=True)


@commands.command(cls=Examples, examples="textune info runs/first\ntextune info runs/first --json")
@click.argument("run", metavar="RUN")
@json_option
def info(run: str, as_json: bool) -> None:
    """Show what a run folder holds: its status, data, results and versions."""
    with importing(for_good=True):
        from textune.pipeline.informing import info as run_info

    facts = run_info(run)
    if as_json:
        _print_json(facts)
    else:
        from textune.console import print_facts

        print_facts(
            _console(),
            {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in facts.items()},
        )


def _predict_example(run: Any) -> str:
    """How to predict with a run: a line of text is enough only where it takes one text column."""
    from textune.prediction import find_model, read_card

    columns = read_card(find_model(run)).columns
    if columns.template is None and columns.text_pair is None:
        return f"echo 'a text' | textune predict {run}"
    return f"textune predict {run} --input FILE --output FILE"


@contextlib.contextmanager
def _hints_of_options(*, active: bool) -> Iterator[None]:
    """Hints that name a key of the config name the option of the command instead."""
    try:
        yield
    except DataError as error:
        key = 'set data.on_bad_row = "skip"'
        if not active or key not in error.hint:
            raise
        raise DataError(error.message, hint=error.hint.replace(key, "add --skip-bad-rows")) from error


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=False)


def _tracker(*, quiet: bool, only_notices: bool = False) -> ConsoleTracker:
    from rich.console import Console

    from textune.console import ConsoleTracker

    return ConsoleTracker(Console(stderr=True, quiet=quiet), only_notices=only_notices)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
