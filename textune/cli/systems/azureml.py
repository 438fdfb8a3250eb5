"""The AzureML components for text classification as words of `textune`, and `textune convert azureml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import click

from textune.adapters import (
    AUTOML,
    FINETUNE,
    LATER,
    Input,
    component_yaml,
    convert_automl,
    convert_finetune,
    read_automl,
    read_finetune,
    resumed_run,
)
from textune.cli.options import processes_started
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
from textune.ranks import launched_rank


def inputs_of(*tables: dict[str, Input]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option for each input of a component; whoever reads them checks their values."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for known in reversed([one for table in tables for one in table.values()]):
            default = "" if known.default is None else f" By default {known.default}."
            shown = "|".join(known.choices) or known.type.upper()
            function = click.option(f"--{known.name}", metavar=shown, help=f"{known.help}{default}")(function)
        return function

    return decorate


def _outputs(function: Callable[..., None]) -> Callable[..., None]:
    function = click.option(
        "--mlflow_model_folder",
        metavar="FOLDER",
        default="mlflow_model_folder",
        show_default=True,
        help="The best model as an MLflow model.",
    )(function)
    return click.option(
        "--pytorch_model_folder",
        metavar="FOLDER",
        default="pytorch_model_folder",
        show_default=True,
        help="The run: its best model, its checkpoints and its reports.",
    )(function)


def given_of(options: dict[str, Any]) -> dict[str, str]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


@click.command(
    "azureml",
    cls=Examples,
    short_help="The inputs of AzureML's text_classification_finetune.",
    examples="textune convert azureml --preprocess_output preprocessed --model_selector_output model \\\n"
    "    --apply_lora true --processes 4 --out finetune.toml",
)
@inputs_of(FINETUNE, LATER)
@_outputs
@processes_option
@converting
def convert_azureml(
    pytorch_model_folder: str,
    mlflow_model_folder: str,
    processes: int | None,
    out: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn the inputs of AzureML's component text_classification_finetune into a config of textune."""
    from textune.pipeline import half_precision  # here and below: the stages before do not need it, nor PyTorch

    started = processes_started(processes, own_ranks=False) or 1
    inputs = read_finetune(given_of(options))
    foreign = convert_finetune(inputs, run=pytorch_model_folder, processes=started, half=half_precision())
    print_converted(foreign, out=out, as_json=as_json)


def _print_component(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(component_yaml(), nl=False)
        context.exit()


@click.command(
    "text_classification_finetune",
    cls=Examples,
    hidden=True,
    examples="textune text_classification_finetune --preprocess_output preprocessed --model_selector_output model \\\n"
    "    --apply_lora true --per_device_train_batch_size 16 --pytorch_model_folder runs/first\n"
    "textune text_classification_finetune --component > component.yaml",
)
@inputs_of(FINETUNE, LATER)
@_outputs
@click.option(
    "--component",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_component,
    help="Print the component file for AzureML, and stop.",
)
@click.option("--local_rank", "--local-rank", type=int, hidden=True, expose_value=False)
@training
@click.pass_context
def finetune(
    context: click.Context,
    /,
    pytorch_model_folder: str,
    mlflow_model_folder: str,
    how: Training,
    **options: Any,
) -> None:
    """Train what AzureML's component of this name trains; pytorch_model_folder becomes the run folder.

    Booleans are the strings true and false. The config of the run folder has every value with the input that it comes
    from, and names what was left out and what is done otherwise. A run that was stopped resumes with --resume.
    """
    from textune.pipeline import half_precision, require_mlflow_folder

    inputs = read_finetune(given_of(options))
    foreign = convert_finetune(
        inputs,
        run=pytorch_model_folder,
        processes=how.num_processes() or 1,
        half=half_precision(),
    )
    if inputs.on("save_as_mlflow_model"):
        require_mlflow_folder(pytorch_model_folder, mlflow_model_folder)
    train_foreign(foreign, context, replace(how, resume=how.resume or resumed_run(inputs)))
    if inputs.on("save_as_mlflow_model") and not how.dry_run:
        _save_as_mlflow_model(pytorch_model_folder, mlflow_model_folder, quiet=how.quiet)


def _save_as_mlflow_model(run: str, folder: str, *, quiet: bool) -> None:
    """Write the MLflow model of a complete run, once."""
    from textune.pipeline import write_mlflow_folder

    written = write_mlflow_folder(run, folder) if launched_rank() == 0 else None
    if written is not None and not quiet:
        aside(f"Wrote {written.folder}: the best model as an MLflow model.")


def _automl(kind: Literal["multiclass", "multilabel"]) -> click.Command:
    """The command of one of the two pipelines."""
    name = f"nlp_textclassification_{kind}"

    @click.command(
        name,
        cls=Examples,
        hidden=True,
        examples=f"textune {name} --training_data train.csv --validation_data valid.csv --label_column_name label",
    )
    @inputs_of(AUTOML)
    @click.option("--mlflow_model_folder_finetune", metavar="FOLDER", default="mlflow_model_folder", show_default=True)
    @click.option(
        "--pytorch_model_folder_finetune", metavar="FOLDER", default="pytorch_model_folder", show_default=True
    )
    @training
    @click.pass_context
    def command(
        context: click.Context,
        /,
        pytorch_model_folder_finetune: str,
        mlflow_model_folder_finetune: str,
        how: Training,
        **options: Any,
    ) -> None:
        """Train what AzureML's pipeline of this name trains, by AutoML's defaults; all columns but the label's are one
        text."""
        from textune.pipeline import half_precision, require_mlflow_folder, text_columns

        inputs = read_automl(given_of(options), kind=kind)
        foreign = convert_automl(
            inputs,
            kind=kind,
            columns=text_columns(inputs.text("training_data"), label=inputs.text("label_column_name")),
            run=pytorch_model_folder_finetune,
            processes=how.num_processes() or 1,
            half=half_precision(),
        )
        if inputs.on("save_as_mlflow_model"):
            require_mlflow_folder(pytorch_model_folder_finetune, mlflow_model_folder_finetune)
        train_foreign(foreign, context, how)
        if inputs.on("save_as_mlflow_model") and not how.dry_run:
            _save_as_mlflow_model(pytorch_model_folder_finetune, mlflow_model_folder_finetune, quiet=how.quiet)

    return command


multiclass, multilabel = _automl("multiclass"), _automl("multilabel")
