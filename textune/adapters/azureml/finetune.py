"""`text_classification_finetune` as a configuration of textune: its inputs and the two folders that it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from textune.adapters.azureml.component import NAME
from textune.adapters.azureml.conflicts import refuse_conflicts, stage_of
from textune.adapters.azureml.folders import (
    FINETUNE_ARGS,
    FINETUNE_CONFIG,
    LABELS,
    TOKENIZER_CONFIG,
    TOKENS,
    Preprocessed,
    Selected,
    read_object,
    read_preprocessed,
    read_selected,
)
from textune.adapters.azureml.inputs import FINETUNE, LATER, Inputs, read_inputs, shown
from textune.adapters.azureml.lora import lora_left_out, lora_lines, model_type_of
from textune.adapters.azureml.training import Half, read_training
from textune.adapters.foreign import Foreign, LeftOut, Line, kept_files
from textune.config import load_config
from textune.errors import ConfigError

SYSTEM = "azureml"
RUN = "pytorch_model_folder"
"""The usual name of the run folder, as there."""
_LONGEST, _USUAL_LENGTH = 1_000_000, 512
"""What tokenizers say that know no bound is more than the first; rows have at most the second then."""
_COSTLY = {
    "per_device_train_batch_size": "a step reads one row, where 16 or 32 train better and much faster",
    "num_train_epochs": "the rows are read once, where 3 are usual",
    "save_total_limit": "every checkpoint is kept, with the optimizer's state",
}
"""The defaults that cost most, and what they mean."""
_NO_MISMATCH = ("llama", "gpt_neox", "falcon", "RefinedWebModel", "mixtral")
"""Families for which `ignore_mismatched_sizes` is false there, whatever is asked for."""


def read_finetune(given: Mapping[str, object], *, places: Mapping[str, str] | None = None) -> Inputs:
    """The inputs of the component, those of later versions too; errors as of `read_inputs`."""
    return read_inputs({**FINETUNE, **LATER}, given, component=NAME, places=places)


def convert_finetune(
    inputs: Inputs, *, run: str = RUN, processes: int = 1, half: Half = "bf16", words: tuple[str, ...] = ()
) -> Foreign:
    """The configuration that trains what `text_classification_finetune` trains with these inputs.

    `run`: its `pytorch_model_folder`, which becomes the run folder. `processes`: how many train, which the rows of a
    step depend on. `half`: what 16 bits are on the machine that trains. `words`: the command, for the record.
    Raises a ConfigError for a folder of another stage, and lists the inputs that do not go together.
    """
    preprocessed = read_preprocessed(inputs.text("preprocess_output"))
    selected = read_selected(inputs.text("model_selector_output"))
    has_validation = "validation" in preprocessed.files
    stage = stage_of(inputs)
    refuse_conflicts(inputs, stage=stage, has_validation=has_validation, processes=processes)
    model_type = model_type_of(preprocessed, selected)
    training = read_training(inputs, stage=stage, half=half, has_validation=has_validation, processes=processes)
    notes = list(training.notes)
    lines = (
        *_data_lines(preprocessed),
        *_model_lines(inputs, preprocessed, selected, model_type, notes),
        *lora_lines(inputs, model_type, selected, notes),
        *training.lines,
    )
    left_out = (*training.left_out, *lora_left_out(inputs), *_left_out(inputs))
    notes += _usual_notes(inputs)
    files = [Path(inputs.text("deepspeed"))] if stage is not None and inputs["deepspeed"] is not None else []
    kept = {FINETUNE_ARGS: _as_json(_all_args(inputs, preprocessed, selected, model_type))}
    if selected.config:
        kept[FINETUNE_CONFIG] = _as_json(selected.config)
    return Foreign(
        SYSTEM,
        words or tuple(f"--{name}={inputs[name]}" for name in FINETUNE if name in inputs.given),
        lines,
        left_out,
        tuple(notes),
        run=run,
        kept={**kept, **kept_files(files)},
    )


def _data_lines(preprocessed: Preprocessed) -> Iterator[Line]:
    folder = "preprocess_output"
    for name, file in preprocessed.files.items():
        yield Line(f"data.{name}.kind", "files", folder)
        yield Line(f"data.{name}.files", (os.path.relpath(file),), f"{folder}: {file.name}")
    if "validation" not in preprocessed.files:
        yield Line("data.validation.kind", "none", f"{folder} has no validation rows")
    yield Line("data.columns.tokens", TOKENS, f"{folder}: encoded rows")
    for ours, theirs in (("text", "sentence1_key"), ("text_pair", "sentence2_key")):
        column = preprocessed.args.get(theirs)
        if isinstance(column, str) and column in preprocessed.columns:
            yield Line(f"data.columns.{ours}", column, f"{theirs} of preprocess_args.json")
    yield Line("data.columns.label", LABELS, f"{folder}: encoded rows")
    yield Line("data.labels.names", preprocessed.class_names, f"{folder}: class_names.json")
    several = preprocessed.args.get("problem_type") == "multi_label_classification"
    kind = "multilabel" if several else "multiclass" if len(preprocessed.class_names) > 2 else "binary"
    yield Line("task.kind", kind, f"{len(preprocessed.class_names)} names in class_names.json")
    yield _length_line(preprocessed)
    if preprocessed.args.get("pad_to_max_length") in (True, "true"):
        yield Line("tokens.pad", "max_length", "pad_to_max_length of preprocess_args.json")


def _length_line(preprocessed: Preprocessed) -> Line:
    """The longest row; where the stage was asked for what the model takes (-1), that is what its tokenizer says."""
    length = preprocessed.args.get("max_seq_length")
    if _is_length(length):
        return Line("tokens.max_length", length, "max_seq_length of preprocess_args.json")
    file = preprocessed.path / TOKENIZER_CONFIG
    stated = read_object(file, "preprocess_output").get("model_max_length") if file.is_file() else None
    if _is_length(stated):
        return Line("tokens.max_length", stated, f"max_seq_length = {length}: model_max_length of {TOKENIZER_CONFIG}")
    return Line("tokens.max_length", _USUAL_LENGTH, f"max_seq_length = {length}: the tokenizer states no length")


def _is_length(length: object) -> bool:
    return isinstance(length, int) and 2 <= length <= _LONGEST


def _model_lines(
    inputs: Inputs, preprocessed: Preprocessed, selected: Selected, model_type: str, notes: list[str]
) -> Iterator[Line]:
    before = earlier_run(inputs, selected)
    if before is not None:
        model = load_config(str(before / "config.toml")).experiment.model.pretrained
        yield Line("model.pretrained", model, f"{inputs.origin('resume_from_checkpoint')}: the backbone of {before}")
    else:
        yield Line("model.pretrained", selected.model, f"model_selector_output: model_name of {selected.path.name}")
    if preprocessed.has_tokenizer:
        yield Line("model.tokenizer", os.path.relpath(preprocessed.path), "preprocess_output: its tokenizer")
    ignore = inputs.on("ignore_mismatched_sizes") and model_type not in _NO_MISMATCH
    why = f": false for {model_type}, as there" if ignore != inputs.on("ignore_mismatched_sizes") else ""
    yield Line("model.ignore_mismatched_sizes", ignore, f"{inputs.origin('ignore_mismatched_sizes')}{why}")
    kwargs = selected.config.get("load_config_kwargs")
    if isinstance(kwargs, dict) and kwargs.get("trust_remote_code"):
        notes.append(
            "finetune_config.json asks for trust_remote_code: code of the model is not run unless you write"
            " model.trust_remote_code = true into the config, having read that code."
        )


def earlier_run(inputs: Inputs, selected: Selected) -> Path | None:
    """The run of textune that `resume_from_checkpoint` goes on from: that of the imported model; None where it is
    false. ConfigError where the imported model is of no such run."""
    if not inputs.on("resume_from_checkpoint"):
        return None
    for path in selected.sources:
        if (path / "checkpoints").is_dir() and (path / "config.toml").is_file():
            return path
    raise ConfigError(
        f"{inputs.said('resume_from_checkpoint')}: the model in {selected.path} was not imported from a run of textune"
        " with checkpoints.",
        hint="Import a pytorch_model_folder that textune wrote, or write --resume_from_checkpoint false, which begins"
        " with the weights of the model.",
        key="resume_from_checkpoint",
        value="true",
        place=str(selected.path),
        reason="the imported model has no checkpoints of textune",
    )


def _left_out(inputs: Inputs) -> Iterator[LeftOut]:
    if "save_as_mlflow_model" in inputs.given:
        yield LeftOut("save_as_mlflow_model", "the command writes mlflow_model_folder once the run is complete")
    if "resume_from_checkpoint" in inputs.given:
        yield LeftOut("resume_from_checkpoint", "the command says where a run begins: --resume")


def _usual_notes(inputs: Inputs) -> Iterator[str]:
    costly = [f"{name} = {shown(inputs[name])} ({why})" for name, why in _COSTLY.items() if name not in inputs.given]
    if costly:
        yield f"Defaults of the component that cost most: {'; '.join(costly)}."
    yield (
        "No GPU is needed, no cache of models is removed, and no code of a model is run unasked. The loss is the mean"
        " over the rows of the whole batch."
    )


def _all_args(inputs: Inputs, preprocessed: Preprocessed, selected: Selected, model_type: str) -> Mapping[str, object]:
    """All inputs, and what the stages before said, as the component writes them beside its model."""
    before = {key: value for key, value in {**selected.args, **preprocessed.args}.items() if key not in inputs.values}
    return {**before, **inputs.values, "model_type": model_type, "model_name_or_path": selected.model}


def _as_json(tree: Mapping[str, object]) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def resumed_run(inputs: Inputs) -> str | None:
    """The run that `resume_from_checkpoint` goes on from, as `--resume` takes it; None where it is false."""
    if not inputs.on("resume_from_checkpoint"):
        return None
    return str(earlier_run(inputs, read_selected(inputs.text("model_selector_output"))))
