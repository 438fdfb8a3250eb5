"""`text_classification_convert`: the model of a fine-tuning as an MLflow model that takes texts."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from textune.adapters import CLASS_NAMES, CONVERT, FINETUNE_ARGS, read_inputs, read_object, stage_of_folder
from textune.config import Columns, Labels, ModelSection, MulticlassTask, absolute
from textune.errors import ConfigError
from textune.exports import Exported, export
from textune.model import CARD_NAME, complete_model, find_pretrained, read_config
from textune.pipeline.stages.outputs import copy_model, output_folder
from textune.prediction import HeadCard, ModelCard, write_card

COMPONENT = "text_classification_convert"
KEY = "pytorch_model_folder"


def convert_model(given: Mapping[str, object], *, notice: Callable[[str], None] = warnings.warn) -> Exported:
    """Write `mlflow_model_folder`; the gate of exports asks it and compares its answers.

    `given`: the inputs of the component by name. ConfigError for inputs that it does not take and for another folder;
    else errors as of `export`.
    """
    inputs = read_inputs(CONVERT, given, component=COMPONENT)
    source = Path(absolute(inputs.text(KEY), Path.cwd()))
    _require_finetuned(source, inputs.text(KEY))
    target = output_folder(inputs.text("mlflow_model_folder"), key="mlflow_model_folder")
    if target.is_dir():
        target.rmdir()
    if _is_ours(source):
        return export(source, target, to="mlflow", on_notice=notice)
    with tempfile.TemporaryDirectory(prefix="textune-") as scratch:
        model = Path(scratch) / "model"
        copy_model(source, model)
        write_card(_card(source, inputs.text(KEY)), model)
        return export(model, target, to="mlflow", on_notice=notice)


def _is_ours(source: Path) -> bool:
    """Whether textune trained the model: a run, or a model folder with its card."""
    return (source / CARD_NAME).is_file() or complete_model(source) is not None


def _require_finetuned(source: Path, given: str) -> None:
    """ConfigError unless this is what the fine-tuning stage writes."""
    if (source / FINETUNE_ARGS).is_file() or _is_ours(source):
        return
    found = stage_of_folder(source)
    reason = (
        f"it is {found}" if found else f"it has no {FINETUNE_ARGS}" if source.is_dir() else "there is no such folder"
    )
    raise ConfigError(
        f"--{KEY} = {given}: {reason}.",
        hint="Name an output of text_classification_finetune.",
        key=KEY,
        value=given,
        place=given,
        reason=reason,
    )


def _card(source: Path, given: str) -> ModelCard:
    """How a model that AzureML itself trained predicts, by the files beside it; ConfigError where they do not say."""
    args = read_object(source / FINETUNE_ARGS, KEY)
    config = read_config(find_pretrained(str(source), ModelSection(pretrained=str(source)), key=KEY))
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    if (source / CLASS_NAMES).is_file():
        listed = read_object(source / CLASS_NAMES, KEY).get("class_names")
        names = [str(name) for name in listed] if isinstance(listed, list) else names
    if len(names) < 2:
        raise ConfigError(
            f"--{KEY} = {given}: neither {CLASS_NAMES} nor config.json names two classes.",
            hint="Name an output of text_classification_finetune.",
            key=KEY,
            value=given,
            place=given,
            reason="no class names",
        )
    texts = {"text": args.get("sentence1_key") or "text", "text_pair": args.get("sentence2_key")}
    length = args.get("max_seq_length")
    return ModelCard(
        heads=(HeadCard(problem="multiclass", names=tuple(names), task=MulticlassTask()),),
        max_length=length if isinstance(length, int) and length > 1 else 128,
        truncate="head",
        columns=Columns.model_validate({name: value for name, value in texts.items() if value}),
        labels=Labels(names=tuple(names)),
        precision="fp32",
    )
