"""The component file `component.yaml`, made from the table of inputs: what AzureML starts, and what it asks for."""

from __future__ import annotations

import yaml

from textune.adapters.azureml.inputs import FINETUNE, Input

NAME = "text_classification_finetune"
VERSION = "0.0.1"
OUTPUTS = {
    "pytorch_model_folder": ("uri_folder", "The run: its best model, its checkpoints and its reports."),
    "mlflow_model_folder": ("mlflow_model", "The best model as an MLflow model."),
}
"""What the component writes: the type and the meaning of each output."""


def component_yaml() -> str:
    """The component file: inputs and outputs as AzureML's schema has them, and the command."""
    tree = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json",
        "name": NAME,
        "version": VERSION,
        "type": "command",
        "display_name": "Text Classification Finetune",
        "description": "Fine-tunes a model for text classification with textune.",
        "inputs": {one.name: _described(one) for one in FINETUNE.values()},
        "outputs": {name: {"type": kind, "description": meaning} for name, (kind, meaning) in OUTPUTS.items()},
        "environment": "azureml:textune@latest",
        "command": _command(),
    }
    return str(yaml.safe_dump(tree, sort_keys=False, width=10_000, allow_unicode=True))


def _described(one: Input) -> dict[str, object]:
    table: dict[str, object] = {"type": one.type, "optional": one.optional, "description": one.help}
    if one.default is not None:
        table["default"] = one.default
    if one.choices:
        table["enum"] = list(one.choices)
    if one.minimum is not None and one.type == "integer":
        table["min"] = int(one.minimum)
    return table


def _command() -> str:
    words = [f"textune {NAME}"]
    for one in FINETUNE.values():
        word = f"--{one.name} '${{{{inputs.{one.name}}}}}'"
        words.append(f"$[[{word}]]" if one.optional else word)
    words += [f"--{name} '${{{{outputs.{name}}}}}'" for name in OUTPUTS]
    return " ".join(words)
