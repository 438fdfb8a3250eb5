"""Inputs that do not go with each other: those that the component refuses, and those that textune cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from textune.adapters.azureml.inputs import Inputs
from textune.config import Problem, parse_key, refuse
from textune.errors import ConfigError
from textune.jsontext import parse_json

_WHOLE_STATE = ("adafactor",)
"""Optimizers whose state DeepSpeed cannot share."""
_GATHER = "stage3_gather_16bit_weights_on_model_save"


def stage_of(inputs: Inputs) -> int | None:
    """The stage of DeepSpeed's ZeRO; None without DeepSpeed. ConfigError where its file does not say it."""
    if not inputs.on("apply_deepspeed"):
        return None
    if inputs["deepspeed"] is None:
        return int(inputs.text("deepspeed_stage"))
    zero = _zero_of(inputs)
    stage = zero.get("stage")
    if isinstance(stage, bool) or stage not in (1, 2, 3):
        _refuse_file(
            inputs, "zero_optimization.stage is missing", 'Write {"zero_optimization": {"stage": 2}} into the file.'
        )
    if stage == 3 and zero.get(_GATHER) is not True:
        _refuse_file(
            inputs,
            f"stage 3 needs zero_optimization.{_GATHER} = true",
            "Write it into the file: without it no whole model could be saved.",
        )
    return int(stage)


def _zero_of(inputs: Inputs) -> dict[str, Any]:
    """The section `zero_optimization` of the file."""
    try:
        tree = parse_json(Path(inputs.text("deepspeed")).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        _refuse_file(inputs, f"it cannot be read: {error.strerror}", "Name a JSON file.")
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError) as error:
        _refuse_file(inputs, f"it is no JSON: {error}", "Fix the file.")
    zero = tree.get("zero_optimization") if isinstance(tree, dict) else None
    return zero if isinstance(zero, dict) else {}


def _refuse_file(inputs: Inputs, reason: str, hint: str) -> NoReturn:
    raise ConfigError(
        f"--deepspeed = {inputs['deepspeed']}: {reason}.",
        hint=hint,
        key="deepspeed",
        value=inputs["deepspeed"],
        place=inputs.text("deepspeed"),
        reason=reason,
    )


def refuse_conflicts(inputs: Inputs, *, stage: int | None, has_validation: bool, processes: int) -> None:
    """ConfigError that lists every pair of inputs that do not go together.

    `stage`: of DeepSpeed, None without it. `has_validation`: whether the data have validation rows. `processes`: how
    many train.
    """
    refuse(list(_conflicts(inputs, stage, has_validation, processes)))


def _conflicts(inputs: Inputs, stage: int | None, has_validation: bool, processes: int) -> Iterator[Problem]:
    if stage is not None:
        yield from _beside_deepspeed(inputs, stage)
    if inputs.on("apply_early_stopping") and not has_validation:
        yield _pair(
            inputs,
            "apply_early_stopping",
            "there are no validation rows to evaluate on",
            "Give the preprocess stage validation rows, or write --apply_early_stopping false.",
        )
    if inputs.on("apply_ort"):
        yield from _beside_onnxruntime(inputs, processes)


def _beside_deepspeed(inputs: Inputs, stage: int) -> Iterator[Problem]:
    if inputs.on("auto_find_batch_size"):
        yield _pair(
            inputs,
            "auto_find_batch_size",
            "it does not go with apply_deepspeed",
            "Write --auto_find_batch_size false: a batch is cut into parts that fit into memory anyway.",
        )
    if stage == 3 and inputs.on("apply_lora"):
        yield _pair(
            inputs,
            "apply_lora",
            "stage 3 of DeepSpeed does not go with LoRA for classification",
            "Use --deepspeed_stage 2, or --apply_lora false.",
        )
    if inputs.text("optim") in _WHOLE_STATE:
        yield _pair(
            inputs,
            "optim",
            "its state cannot be shared by DeepSpeed",
            "Use --optim adamw_torch, or --apply_deepspeed false.",
        )
    if inputs.on("apply_ort"):
        yield _pair(
            inputs,
            "apply_ort",
            f"stage {stage} of DeepSpeed does not go with ONNX Runtime",
            "Write --apply_ort false, or --apply_deepspeed false.",
        )


def _beside_onnxruntime(inputs: Inputs, processes: int) -> Iterator[Problem]:
    if inputs.text("precision") == "16":
        yield _pair(
            inputs, "precision", "ONNX Runtime trains in 32 bits", "Write --precision 32, or --apply_ort false."
        )
    if processes > 1:
        yield _pair(
            inputs,
            "apply_ort",
            f"ONNX Runtime trains in one process, and {processes} were started",
            "Start one, or write --apply_ort false.",
        )


def _pair(inputs: Inputs, name: str, reason: str, hint: str) -> Problem:
    place = inputs.places.get(name, "")
    return Problem(parse_key(name), f"{inputs.said(name)}: {reason}.", hint, value=inputs[name], origin=place)


def offloads(inputs: Inputs) -> bool:
    """Whether the user's DeepSpeed file keeps state in the memory of the host."""
    zero = _zero_of(inputs)
    devices = (zero.get(name) for name in ("offload_optimizer", "offload_param"))
    return (
        any(isinstance(one, dict) and one.get("device") == "cpu" for one in devices) or zero.get("cpu_offload") is True
    )
