"""The commands of torchrecipes: its Hydra configuration converted, and its launcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textune.adapters import convert_torchrecipes as convert_recipe
from textune.adapters import launcher_variables, named_recipe
from textune.cli.options import resume_and_overrides
from textune.cli.output import aside
from textune.cli.systems.shared import (
    Training,
    converting,
    print_converted,
    processes_option,
    train_foreign,
    training,
)
from textune.cli.verbs import Examples

if TYPE_CHECKING:
    from textune.adapters import Recipe


def _named(function: Callable[..., None]) -> Callable[..., None]:
    """Options that say which configuration it is."""
    function = click.option(
        "--config-path", "-cp", "--config-dir", metavar="FOLDER", help="Where it is; otherwise those of textune."
    )(function)
    return click.option(
        "--config-name", "-cn", metavar="NAME", help="A YAML file, such as train_app; by default default_config."
    )(function)


@click.command(
    "torchrecipes",
    cls=Examples,
    short_help="torchrecipes' Hydra groups and words.",
    examples="textune convert torchrecipes --config-name train_app trainer=multi_gpu trainer.gpus=2 --out xlmr.toml\n"
    "textune convert torchrecipes --config-name toy_config",
)
@_named
@processes_option
@converting
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
def convert_torchrecipes(
    config_name: str | None,
    config_path: str | None,
    processes: int | None,
    out: str | None,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Turn a run of torchrecipes into a config of textune.

    KEY=VALUE overrides keys and GROUP=OPTION chooses groups, in Hydra's words. Every key is turned into one of
    textune, or named as one that changes nothing.
    """
    module, mode = launcher_variables()
    named = named_recipe(config_name, config_path, module)
    foreign = convert_recipe(named, words, mode=mode, processes=processes, gpus_here=_gpus_here())
    print_converted(foreign, out=out, as_json=as_json)


@click.command(
    "torchrecipes",
    cls=Examples,
    hidden=True,
    examples="textune --config-name toy_config\n"
    "python -m textune --config-name train_app --config-path torchrecipes/text/doc_classification/conf \\\n"
    "    trainer=multi_gpu trainer.gpus=2 +tb_save_dir=/tmp/\n"
    "MODE=test textune --config-name toy_config",
)
@_named
@training
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.pass_context
def train_as_torchrecipes(
    context: click.Context,
    /,
    config_name: str | None,
    config_path: str | None,
    how: Training,
    words: tuple[str, ...],
) -> None:
    """Train as `run.py` of torchrecipes does with these words, and with its variables CONFIG_MODULE and MODE.

    The same command again goes on with its run, or reports on it if it is over. MODE is prod (train and test), train,
    test (the run that the same command trained) or predict (train, and predict the validation rows).
    """
    resume, words = resume_and_overrides(how.resume, words)
    module, mode = launcher_variables()
    foreign = convert_recipe(
        named_recipe(config_name, config_path, module),
        words,
        mode=mode,
        processes=how.num_processes(),
        gpus_here=_gpus_here(),
    )
    if mode == "test":
        _test(foreign, how)
        return
    resume = resume or foreign.resume or ("auto" if not foreign.rehearses else None)
    train_foreign(foreign, context, replace(how, resume=resume), fast_dev_run=foreign.rehearses)
    if mode == "predict" and not (how.dry_run or foreign.rehearses):
        _predict(foreign, quiet=how.quiet)


def _gpus_here() -> int:
    import torch

    return int(torch.cuda.device_count())


def _test(foreign: Recipe, how: Training) -> None:
    """Evaluate the run that the same command trained."""
    from textune.cli.models import evaluate

    words = [foreign.resume or foreign.run, *["--json"] * how.as_json, *["--quiet"] * how.quiet]
    evaluate.main(words, prog_name="textune evaluate", standalone_mode=False)


def _predict(foreign: Recipe, *, quiet: bool) -> None:
    """Predict the validation rows with the best model of the run, into its folder; rows that are in no file have their
    answers there already."""
    from textune.cli.predicting import predict

    files = foreign.tree["data"].get("validation", {}).get("files")
    if not files:
        answers = Path(foreign.run) / "evaluations" / "validation.rows.parquet"
        aside(f"The answer to every validation row is in {answers}.")
        return
    output = Path(foreign.run) / "predictions.jsonl"
    words = [foreign.run, *(word for file in files for word in ("--data", file)), "--output", str(output), "--force"]
    predict.main([*words, *["--quiet"] * quiet], prog_name="textune predict", standalone_mode=False)
