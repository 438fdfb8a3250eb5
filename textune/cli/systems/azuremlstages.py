"""AzureML's stages around fine-tuning as words of textune: a model imported, rows preprocessed, a model converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from textune.adapters import CONVERT, MODEL_IMPORT, PREPROCESS, Input
from textune.cli.options import Examples, json_option
from textune.cli.output import print_json
from textune.wording import count, listing


def _inputs(table: Mapping[str, Input]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option for each input of a component, by its own name."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for one in reversed(list(table.values())):
            usual = "" if one.default is None else f" [{one.default}]"
            function = click.option(f"--{one.name}", one.name, metavar="TEXT", help=f"{one.help}{usual}")(function)
        return function

    return decorate


def _given(values: Mapping[str, Any]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _say(message: str) -> None:
    click.echo(f"note: {message}", err=True)


@click.command(
    "text_classification_model_import",
    cls=Examples,
    hidden=True,
    examples="textune text_classification_model_import --huggingface_id bert-base-uncased --output_dir model_selector",
)
@_inputs(MODEL_IMPORT)
@json_option
def import_model(as_json: bool, **values: Any) -> None:
    """AzureML's stage that imports a model: from the hub, from an earlier fine-tuning, or from MLflow.

    --output_dir is the model_selector_output of the next stages.
    """
    from textune.pipeline import import_model as write_model

    folder = write_model(_given(values), notice=_say)
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
@_inputs(PREPROCESS)
@json_option
def preprocess(as_json: bool, **values: Any) -> None:
    """AzureML's stage that checks, splits and encodes rows.

    --output_dir is the preprocess_output of text_classification_finetune.
    """
    from textune.pipeline import preprocess as write_rows

    done = write_rows(_given(values), notice=_say)
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
@_inputs(CONVERT)
@json_option
def convert_model(as_json: bool, **values: Any) -> None:
    """AzureML's stage that makes an MLflow model of a fine-tuned one."""
    from textune.pipeline import convert_model as write_model

    done = write_model(_given(values), notice=_say)
    if as_json:
        print_json({"mlflow_model_folder": str(done.folder), "step": done.step})
    else:
        click.echo(f"Wrote {done.folder}: an MLflow model that takes texts.")
