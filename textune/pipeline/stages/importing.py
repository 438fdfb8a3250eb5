"""`text_classification_model_import`: a model from the hub, an earlier fine-tuning or MLflow, as the next stages take
it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from textune.adapters import (
    FINETUNE_ARGS,
    FINETUNE_CONFIG,
    MLMODEL,
    MODEL_ARGS,
    MODEL_IMPORT,
    Inputs,
    read_inputs,
    read_object,
    stage_of_folder,
)
from textune.config import ModelSection, absolute
from textune.errors import ConfigError
from textune.model import find_pretrained, read_config, require_weights, tokenizer_beside
from textune.pipeline.stages.outputs import copy_model, output_folder, write_object, write_output

COMPONENT = "text_classification_model_import"
DEFAULT_NAME = "default_model_name"
"""What the model's folder is called where nobody named the model."""
_PATHS = ("pytorch_model_path", "mlflow_model_path", "huggingface_id")
"""What may name the model, the one that wins first."""
ADAPTERS = "adapter_config.json"
"""Of a folder of adapters, whose weights are those of its backbone."""
_BESIDE = ("conda.yaml", "ml_configs")
"""What travels with the model, if it is there."""


def import_model(given: Mapping[str, object], *, notice: Callable[[str], None] = lambda message: None) -> Path:
    """Write `model_selector_output`; returns its folder.

    `given`: the inputs of the component by name. ConfigError for inputs that it does not take, for none that names a
    model, and for a folder in the wrong place; ModelError for a model that cannot be read.
    """
    inputs = read_inputs(MODEL_IMPORT, given, component=COMPONENT)
    output_folder(inputs.text("output_dir"), key="output_dir")
    key = _chosen(inputs, notice)
    source = inputs.text(key)
    if key != "huggingface_id":
        source = str(_require_folder(inputs, key))
    found = find_pretrained(source, ModelSection(pretrained=source), key=key)
    read_config(found)
    if found.folder is None or not (found.folder / ADAPTERS).is_file():
        require_weights(found)
    name = _name(inputs, key, Path(source))

    def write(folder: Path) -> None:
        if found.folder is not None:
            copy_model(found.folder, folder / name)
            beside = tokenizer_beside(Path(source))
            if beside is not None:
                shutil.copytree(beside, folder / name, dirs_exist_ok=True)
            _copy_beside(Path(source), folder)
        args = {one: inputs.values[one] for one in MODEL_IMPORT if one not in ("output_dir", *_PATHS[:2])}
        paths = {one: None if inputs[one] is None else absolute(inputs.text(one), Path.cwd()) for one in _PATHS[:2]}
        write_object(folder / MODEL_ARGS, {**args, **paths, "model_name": name})
        write_object(folder / FINETUNE_CONFIG, _finetune_config(Path(source)))

    return write_output(inputs.text("output_dir"), write, key="output_dir")


def _chosen(inputs: Inputs, notice: Callable[[str], None]) -> str:
    """The input that names the model."""
    found = [name for name in _PATHS if inputs[name] is not None]
    if not found:
        raise ConfigError(
            f"{COMPONENT} needs a model.",
            hint="Give --huggingface_id NAME, --pytorch_model_path FOLDER or --mlflow_model_path FOLDER.",
            key="huggingface_id",
        )
    if found[1:]:
        others = " and ".join(f"--{name}" for name in found[1:])
        notice(
            f"--{found[0]} counts, {others} not: the order is pytorch_model_path, mlflow_model_path, huggingface_id"
        )
    return found[0]


def _require_folder(inputs: Inputs, key: str) -> Path:
    """The folder of an earlier output; ConfigError where it is one of another kind."""
    given = inputs.text(key)
    path = Path(absolute(given, Path.cwd()))
    marker, what = {
        "pytorch_model_path": (FINETUNE_ARGS, "a pytorch_model_folder"),
        "mlflow_model_path": (MLMODEL, "an MLflow model"),
    }[key]
    if not path.is_dir():
        reason, hint = "there is no such folder", f"Name {what}."
    elif not (path / marker).is_file():
        other = stage_of_folder(path)
        reason = f"it is {other}" if other else f"it has no {marker}"
        right = next((name for name in _PATHS[:2] if name != key), key)
        hint = f"Give it to --{right}." if key == "pytorch_model_path" and other == "an MLflow model" else ""
        hint = hint or f"Name {what}: a folder with {marker}. A plain model is --huggingface_id FOLDER."
    elif key == "pytorch_model_path" and not read_object(path / marker, key).get("model_name_or_path"):
        reason, hint = f"its {marker} has no model_name_or_path", "Name an output of text_classification_finetune."
    else:
        return path
    raise ConfigError(f"--{key} = {given}: {reason}.", hint=hint, key=key, value=given, place=given, reason=reason)


def _name(inputs: Inputs, key: str, source: Path) -> str:
    """What the model's folder is called, or the name on the hub, where there is no folder."""
    if key == "huggingface_id":
        return source.name if source.is_dir() else inputs.text(key)
    if key == "pytorch_model_path":
        earlier = str(read_object(source / FINETUNE_ARGS, key)["model_name_or_path"])
        return Path(earlier).name or DEFAULT_NAME
    return DEFAULT_NAME


def _copy_beside(source: Path, folder: Path) -> None:
    for name in _BESIDE:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
        elif (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / MLMODEL).is_file():
        shutil.copyfile(source / MLMODEL, folder / MLMODEL)


def _finetune_config(source: Path) -> dict[str, object]:
    """What the packaged model says of its fine-tuning, else what its `MLmodel` says."""
    if (packaged := source / FINETUNE_CONFIG).is_file():
        return read_object(packaged, "mlflow_model_path")
    if not (source / MLMODEL).is_file():
        return {}
    # What is no manifest was refused when the model in the folder was looked for.
    flavours: dict[str, object] = yaml.safe_load((source / MLMODEL).read_text(encoding="utf-8"))["flavors"]
    found = next((flavour for name, flavour in flavours.items() if str(name).startswith("hftransformers")), None)
    return {} if found is None else {"mlflow_hftransformers_misc_conf": found}
