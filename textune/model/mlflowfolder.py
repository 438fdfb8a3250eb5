"""The plain folder inside a folder of MLflow, and the one of its tokenizer; before `pretrained.py`.

MLmodel                                         what it is, as YAML: nothing is unpickled, and no code of it is run
artifacts/model/                                `textune export --to mlflow`
model/, components/tokenizer/                   MLflow's transformers flavour
data/model/, data/config/, data/tokenizer/      AzureML's hftransformers flavour
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from textune.errors import ModelError
from textune.inside import within

MLMODEL = "MLmodel"
TOKENIZER_PLACES = ("components/tokenizer", "data/tokenizer")
"""Where a flavour keeps the tokenizer apart from the model."""


def mlflow_model(folder: Path) -> Path | None:
    """The plain Hugging Face folder inside; None where `folder` is none of MLflow's.

    Raises ModelError where its `MLmodel` cannot be read, or names no such folder inside.
    """
    file = folder / MLMODEL
    if not file.is_file():
        return None
    try:
        flavours = yaml.safe_load(file.read_text(encoding="utf-8"))["flavors"]
        places = list(_places(flavours))
        found = next((path for path in (within(folder, place) for place in places) if _is_model(path)), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{file} is not what MLflow writes: {reason}.",
            hint="Copy the folder again, or name the plain model folder inside it.",
            place=str(file),
            reason=reason,
        ) from error
    if found is None:
        raise ModelError(
            f"{folder} is a folder of MLflow (flavours: {', '.join(map(str, flavours)) or 'none'}) without a model"
            " that can be read as plain files: config.json beside model.safetensors.",
            hint="Models of MLflow's transformers flavour, AzureML's, and those of `textune export --to mlflow` have"
            " one; others are pickles.",
            place=str(folder),
            reason="no plain model inside",
        )
    return found


def tokenizer_beside(folder: Path) -> Path | None:
    """The folder of the tokenizer, where a folder of MLflow keeps it apart from its model; None for all others."""
    if mlflow_model(folder) is None:
        return None
    return next((path for place in TOKENIZER_PLACES if (path := within(folder, place)).is_dir()), None)


def _places(flavours: Mapping[str, Mapping[str, object]]) -> Iterator[object]:
    """Where the model may lie, the likeliest place first."""
    for name, flavour in flavours.items():
        if name == "transformers":
            yield flavour.get("model_binary", "model")
        elif name.startswith("hftransformers"):
            yield from ("data/model", "data")
        elif name == "python_function" and isinstance(artefacts := flavour.get("artifacts"), dict):
            yield from (one["path"] for one in artefacts.values())


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()
