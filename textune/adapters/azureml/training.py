"""The section `train` and what chooses the best model, of the inputs of `text_classification_finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from textune.adapters.azureml.conflicts import offloads
from textune.adapters.azureml.inputs import Inputs, shown
from textune.adapters.foreign import LeftOut, Line
from textune.adapters.trainer import Arguments, read_arguments

Half = Literal["bf16", "fp16", "fp32"]

_SAME = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "auto_find_batch_size",
    "optim",
    "learning_rate",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "seed",
    "dataloader_num_workers",
    "max_grad_norm",
    "eval_steps",
    "logging_strategy",
    "logging_steps",
    "metric_for_best_model",
    "save_total_limit",
)
"""Inputs that TrainingArguments has by the same name."""
_RENAMED = {"evaluation_strategy": "eval_strategy", "enable_full_determinism": "full_determinism"}
"""Those that it has by another."""
_NAMES = {ours: theirs for theirs, ours in _RENAMED.items()}


@dataclass(frozen=True)
class Training:
    """What the inputs of training became."""

    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def read_training(inputs: Inputs, *, stage: int | None, half: Half, has_validation: bool, processes: int) -> Training:
    """The lines of `train` and `evaluate`.

    `stage`: of DeepSpeed, None without it. `half`: what 16 bits are on the machine that trains. `has_validation`:
    whether there are rows to evaluate on. `processes`: how many train.
    """
    arguments = _arguments(inputs, has_validation=has_validation, processes=processes)
    own = {line.key: line for line in _own_lines(inputs, stage, half, has_validation=has_validation)}
    lines = [own.pop(line.key, line) for line in arguments.lines]
    notes = [*arguments.notes, *_notes(inputs, stage, half)]
    return Training((*lines, *own.values()), (*arguments.left_out, *_left_out(inputs)), tuple(notes))


def _arguments(inputs: Inputs, *, has_validation: bool, processes: int) -> Arguments:
    """What TrainingArguments make of the inputs that they have too."""
    names = {name: _RENAMED.get(name, name) for name in (*_SAME, *_RENAMED)}
    values = {ours: _plain(inputs, name) for name, ours in names.items()}
    if not has_validation:
        values |= {"eval_strategy": "no"}
    given = {ours: values[ours] for name, ours in names.items() if name in inputs.given}
    rest = {ours: value for ours, value in values.items() if ours not in given}
    strategy = {"save_strategy": values["eval_strategy"], "save_steps": values["eval_steps"]}
    if has_validation:
        rest |= strategy | {"load_best_model_at_end": True}
    else:
        rest |= {"save_strategy": inputs["evaluation_strategy"], "save_steps": values["eval_steps"]}
    return read_arguments(
        given,
        where=lambda key: inputs.places.get(_NAMES.get(key, key), f"--{_NAMES.get(key, key)}"),
        defaults=rest,
        called=_NAMES,
        processes=processes,
        has_validation=has_validation,
    )


def _plain(inputs: Inputs, name: str) -> object:
    """The value as TrainingArguments have it."""
    value = inputs[name]
    if value in ("true", "false"):
        return value == "true"
    return None if name == "save_total_limit" and value == -1 else value


def _own_lines(inputs: Inputs, stage: int | None, half: Half, *, has_validation: bool) -> Iterator[Line]:
    """Lines that TrainingArguments know nothing of, or say otherwise."""
    yield Line("train.precision", *_precision(inputs, half))
    yield from _evaluation_lines(inputs, has_validation=has_validation)
    if inputs.on("apply_early_stopping"):
        for name in ("patience", "threshold"):
            yield Line(
                f"train.early_stopping.{name}",
                inputs[f"early_stopping_{name}"],
                inputs.origin(f"early_stopping_{name}"),
            )
    if stage is not None:
        yield from _deepspeed_lines(inputs, stage)
    if inputs.on("apply_ort"):
        yield Line("train.engine", "onnxruntime", inputs.origin("apply_ort"))
    yield Line("train.layout", "azureml", "pytorch_model_folder")


def _precision(inputs: Inputs, half: Half) -> tuple[str, str]:
    if inputs.text("precision") == "32":
        return "fp32", inputs.origin("precision")
    why = {"bf16": "this machine has it", "fp16": "this machine has no bf16", "fp32": "this machine has no 16 bits"}[
        half
    ]
    return half, f"{inputs.origin('precision')}: {why}"


def _evaluation_lines(inputs: Inputs, *, has_validation: bool) -> Iterator[Line]:
    """When to evaluate, and that every evaluation saves a checkpoint."""
    share = inputs.number("evaluation_steps_interval")
    if share:
        every, name = f"{share:.10g} {'epoch' if share == 1 else 'epochs'}", "evaluation_steps_interval"
    elif inputs.text("evaluation_strategy") == "steps":
        number = inputs.count("eval_steps")
        every, name = f"{number} {'step' if number == 1 else 'steps'}", "eval_steps"
    else:
        every, name = "1 epoch", "evaluation_strategy"
    if has_validation:
        yield Line("train.evaluate_every", every, inputs.origin(name))
    yield Line("train.checkpoint.every", every, f"{inputs.origin(name)}: a checkpoint at every evaluation")


def _deepspeed_lines(inputs: Inputs, stage: int) -> Iterator[Line]:
    file = inputs["deepspeed"]
    yield Line("train.distributed.kind", "deepspeed", inputs.origin("apply_deepspeed"))
    if file is None:
        yield Line("train.distributed.stage", stage, inputs.origin("deepspeed_stage"))
        yield Line("train.distributed.cpu_offload", True, f"as in the component's own zero{stage}.json")
        return
    yield Line("train.distributed.stage", stage, f"zero_optimization.stage of {file}")
    if offloads(inputs):
        yield Line("train.distributed.cpu_offload", True, f"zero_optimization of {file}")
    yield Line("train.distributed.config", str(file), inputs.origin("deepspeed"))


def _left_out(inputs: Inputs) -> Iterator[LeftOut]:
    """Inputs that somebody set and that change nothing beside the others."""
    share = inputs.number("evaluation_steps_interval")
    silent: dict[str, str] = {}
    if share:
        silent |= dict.fromkeys(("evaluation_strategy", "eval_steps"), f"evaluation_steps_interval = {share:g}")
    elif inputs.text("evaluation_strategy") == "epoch":
        silent["eval_steps"] = 'evaluation_strategy = "epoch"'
    if not inputs.on("apply_early_stopping"):
        names = ("early_stopping_patience", "early_stopping_threshold")
        silent |= dict.fromkeys(names, "apply_early_stopping is false")
    if not inputs.on("apply_deepspeed"):
        silent |= dict.fromkeys(("deepspeed", "deepspeed_stage"), "apply_deepspeed is false")
    elif inputs["deepspeed"] is not None:
        silent["deepspeed_stage"] = "the file says the stage"
    silent["eval_accumulation_steps"] = "evaluation keeps no more than it needs"
    for name, reason in silent.items():
        if name in inputs.given:
            yield LeftOut(name, reason)


def _notes(inputs: Inputs, stage: int | None, half: Half) -> Iterator[str]:
    """What is done otherwise than there."""
    share = inputs.number("evaluation_steps_interval")
    if share:
        yield (
            f"evaluation_steps_interval = {share:g} is a share of an epoch, as its description says. There it is"
            " counted in rows and not in batches, so that it comes too late by the rows of a batch."
        )
    if stage == 2 and inputs["deepspeed"] is None:
        yield (
            f"lr_scheduler_type = {shown(inputs['lr_scheduler_type'])} is followed. There the component's own file for"
            " stage 2 names WarmupLR, by which the rate never falls."
        )
    if inputs.on("apply_ort"):
        yield (
            'apply_ort = "true" trains with ONNX Runtime, on a processor. There the switch is read, and then nothing'
            " is done by it."
        )
    if inputs.text("precision") == "16":
        yield f'precision = "16" is {half} on this machine; a config says which, so that another one trains the same.'
