"""The commands of the scripts of transformers for text classification: converted, and run by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from textune.adapters import HuggingFaceCall, read_huggingface
from textune.cli.options import resume_and_overrides
from textune.cli.systems.shared import (
    Training,
    converting,
    print_converted,
    processes_option,
    train_foreign,
    training,
)
from textune.cli.verbs import Examples
from textune.errors import ConfigError
from textune.launch import accelerated

_SETTINGS = {"ignore_unknown_options": True}
_SCRIPTS = ("run_glue", "run_glue_no_trainer", "run_classification", "run_xnli")

_folder = click.option(
    "--hub-folder",
    metavar="FOLDER",
    help="A data set folder that stands for the one on the hub, such as a copy of it.",
)
_unpickle = click.option(
    "--unpickle",
    is_flag=True,
    help="Of a checkpoint of transformers that resume_from_checkpoint names, take over the step and the optimizer"
    " (optimizer.pt, scheduler.pt), too; they are read as plain tensors where that is enough, else unpickled, which"
    " runs what such a file says.",
)
_words = click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--FLAG VALUE]... | ARGS.json")


@click.command(
    "huggingface",
    cls=Examples,
    context_settings=_SETTINGS,
    short_help="transformers' scripts for text classification.",
    examples="textune convert huggingface run_glue.py --model_name_or_path bert-base-cased --task_name mrpc \\\n"
    "    --do_train --do_eval --output_dir runs/mrpc --out mrpc.toml\n"
    "textune convert huggingface run_classification.py args.json --out own.toml",
)
@processes_option
@_folder
@converting
@click.argument("script", metavar="SCRIPT")
@_words
def convert_huggingface(
    processes: int | None,
    hub_folder: str | None,
    out: str | None,
    as_json: bool,
    script: str,
    words: tuple[str, ...],
) -> None:
    """Turn a call of run_glue, run_glue_no_trainer, run_classification or run_xnli into a config of textune.

    Every flag of the script is turned into a line, or named as one that changes nothing.
    """
    name = script.rpartition("/")[2].removesuffix(".py")
    if name not in _SCRIPTS:
        raise click.BadParameter(f"{script} is none of {', '.join(_SCRIPTS)}.", param_hint="SCRIPT")
    call = read_huggingface(name, words, processes=processes or 1, folder=hub_folder)  # type: ignore[arg-type]
    print_converted(call.foreign, out=out, as_json=as_json)


def _script(name: str, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command that stands for a script, with its flags as they are."""

    def made(function: Callable[..., None]) -> click.Command:
        command = click.command(f"{name}.py", cls=Examples, hidden=True, context_settings=_SETTINGS, examples=example)
        return command(processes_option(_folder(_unpickle(training(_words(click.pass_context(function)))))))

    return made


@_script(
    "run_glue",
    "textune run_glue.py --model_name_or_path bert-base-cased --task_name mrpc --do_train --do_eval \\\n"
    "    --max_seq_length 128 --per_device_train_batch_size 32 --learning_rate 2e-5 --output_dir runs/mrpc",
)
def run_glue(context: click.Context, /, **options: Any) -> None:
    """Train, evaluate and predict as transformers' run_glue.py does with these flags, or with a JSON file of them."""
    _run(context, "run_glue", **options)


@_script(
    "run_glue_no_trainer",
    "textune run_glue_no_trainer.py --model_name_or_path bert-base-cased --task_name mrpc --max_length 128 \\\n"
    "    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3 --output_dir runs/mrpc",
)
def run_glue_no_trainer(context: click.Context, /, **options: Any) -> None:
    """Train and evaluate as transformers' run_glue_no_trainer.py does with these flags."""
    _run(context, "run_glue_no_trainer", **options)


@_script(
    "run_classification",
    "textune run_classification.py --model_name_or_path bert-base-cased --train_file train.csv \\\n"
    "    --validation_file dev.csv --text_column_names title,body --do_train --do_eval --output_dir runs/own",
)
def run_classification(context: click.Context, /, **options: Any) -> None:
    """Train, evaluate and predict as transformers' run_classification.py does with these flags."""
    _run(context, "run_classification", **options)


@_script(
    "run_xnli",
    "textune run_xnli.py --model_name_or_path bert-base-multilingual-cased --language de --train_language en \\\n"
    "    --do_train --do_eval --output_dir runs/xnli",
)
def run_xnli(context: click.Context, /, **options: Any) -> None:
    """Train in one language and evaluate in another as transformers' run_xnli.py does with these flags."""
    _run(context, "run_xnli", **options)


def _run(
    context: click.Context,
    script: Any,
    *,
    processes: int | None,
    hub_folder: str | None,
    unpickle: bool,
    how: Training,
    words: tuple[str, ...],
) -> None:
    resume, words = resume_and_overrides(how.resume, words)
    call = read_huggingface(
        script,
        words,
        processes=how.num_processes(processes) or 1,
        precision=accelerated().precision,
        folder=hub_folder,
        unpickle=unpickle,
    )
    if not (call.trains or call.evaluates or call.predict):
        message = "there is nothing to do: none of --do_train, --do_eval and --do_predict is given."
        raise ConfigError(message, hint="Add --do_train --do_eval.", key="do_train")
    if call.trains:
        train_foreign(call.foreign, context, replace(how, resume=resume or call.resume), adopt=call.adopts)
    if not how.dry_run:
        _after_training(call, quiet=how.quiet or how.as_json)


def _after_training(call: HuggingFaceCall, *, quiet: bool) -> None:
    """Evaluate a model that was not trained here, predict, push."""
    from textune.pipeline import finish_call

    for line in finish_call(call):
        if not quiet:
            click.echo(line)
