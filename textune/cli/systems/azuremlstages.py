"""AzureML's stages around fine-tuning as words of textune: a model imported, rows preprocessed, a model converted; and
all of them as one command."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from textune.adapters import CONVERT, FINETUNE, LATER, MODEL_IMPORT, PIPELINE, PREPROCESS
from textune.cli.options import json_option
from textune.cli.output import aside, print_json
from textune.cli.systems.azureml import finetune, given_of, inputs_of
from textune.cli.systems.shared import Training, training
from textune.cli.verbs import Examples
from textune.errors import ConfigError
from textune.ranks import launched
from textune.wording import count, listing


def _say(message: str) -> None:
    aside(f"note: {message}")


@click.command(
    "text_classification_model_import",
    cls=Examples,
    hidden=True,
    examples="textune text_classification_model_import --huggingface_id bert-base-uncased --output_dir model_selector",
)
@inputs_of(MODEL_IMPORT)
@json_option
def import_model(as_json: bool, **values: Any) -> None:
    """AzureML's stage that imports a model: from the hub, from an earlier fine-tuning, or from MLflow.

    --output_dir is the model_selector_output of the next stages.
    """
    from textune.pipeline import import_model as write_model

    folder = write_model(given_of(values), notice=_say)
    if as_json:
        print_json({"model_selector_output": str(folder)})
    else:
        click.echo(f"Wrote {folder}: the model_selector_output of text_classification_preprocess.")


@click.command(
    "text_classification_preprocess",
    cls=Examples,
    hidden=True,
    examples="textune text_classification_preprocess --train_file_path train.jsonl --sentence1_key sentence \\\n"
    "    --label_key label --model_selector_output model_selector --output_dir preprocessed",
)
@inputs_of(PREPROCESS)
@json_option
def preprocess(as_json: bool, **values: Any) -> None:
    """AzureML's stage that checks, splits and encodes rows.

    --output_dir is the preprocess_output of text_classification_finetune.
    """
    from textune.pipeline import preprocess as write_rows

    done = write_rows(given_of(values), notice=_say)
    if as_json:
        print_json(
            {
                "preprocess_output": str(done.folder),
                "rows": done.num_rows,
                "left_out": done.dropped,
                "class_names": list(done.class_names),
                "truncated": done.num_truncated,
            }
        )
        return
    rows = listing(f"{num:,} {name}" for name, num in done.num_rows.items())
    click.echo(
        f"Wrote {done.folder}: {rows} rows of {count(len(done.class_names), 'class', 'classes')},"
        f" {done.num_truncated:,} of them shortened; the preprocess_output of text_classification_finetune."
    )


@click.command(
    "text_classification_convert",
    cls=Examples,
    hidden=True,
    examples="textune text_classification_convert --pytorch_model_folder finetuned --mlflow_model_folder mlflow",
)
@inputs_of(CONVERT)
@json_option
def convert_model(as_json: bool, **values: Any) -> None:
    """AzureML's stage that makes an MLflow model of a fine-tuned one."""
    from textune.pipeline import convert_model as write_model

    done = write_model(given_of(values), notice=_say)
    if as_json:
        print_json({"mlflow_model_folder": str(done.folder), "step": done.step})
    else:
        click.echo(f"Wrote {done.folder}: an MLflow model that takes texts.")


_STAGES = {
    name: known
    for name, known in {**MODEL_IMPORT, **PREPROCESS, **PIPELINE, **FINETUNE, **LATER}.items()
    if name not in ("output_dir", "model_selector_output", "preprocess_output")
}
"""The inputs of all stages but the folders between them."""


@click.command(
    "text_classification_pipeline",
    cls=Examples,
    hidden=True,
    examples="textune text_classification_pipeline --huggingface_id bert-base-uncased \\\n"
    "    --train_file_path train.jsonl --sentence1_key sentence --label_key label --num_train_epochs 3",
)
@inputs_of(_STAGES)
@click.option("--pytorch_model_folder", metavar="FOLDER", default="pytorch_model_folder", show_default=True)
@click.option("--mlflow_model_folder", metavar="FOLDER", default="mlflow_model_folder", show_default=True)
@training
@click.pass_context
def pipeline(
    context: click.Context,
    /,
    pytorch_model_folder: str,
    mlflow_model_folder: str,
    how: Training,
    **options: Any,
) -> None:
    """AzureML's pipeline: import a model, preprocess rows, fine-tune, convert to MLflow.

    The stages before fine-tuning write beside the run, into PYTORCH_MODEL_FOLDER.stages. A command that is given again
    goes on with what is there.
    """
    from textune.pipeline import prepare_stages

    if launched() and not how.own_ranks:
        raise ConfigError(
            "text_classification_pipeline was started by a launcher, in several processes.",
            hint="Start it alone: it starts a process for each device. Or run its stages apart.",
        )
    rest = prepare_stages(given_of(options), pytorch_model_folder, notice=_say)
    context.invoke(
        finetune,
        pytorch_model_folder=pytorch_model_folder,
        mlflow_model_folder=mlflow_model_folder,
        **asdict(how),
        **rest,
    )
