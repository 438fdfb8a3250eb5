"""The DeepSpeed file of a run of bsmetadata: which of its keys become what, and which are left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.adapters.bsmetadata.given import Given
from textune.adapters.foreign import LeftOut
from textune.adapters.shown import shown
from textune.config import Problem, parse_key, refuse
from textune.errors import ConfigError
from textune.jsontext import parse_json
from textune.wording import nearest

AUTO = "auto"
_LOSS_SCALE = "textune adapts the loss scale of fp16 itself"
_SPEED = "it changes speed and memory, not results; DeepSpeed's own value is used"
_TALK = "it is about what DeepSpeed prints"

USED = frozenset(
    {
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "optimizer.type",
        "optimizer.params.lr",
        "optimizer.params.betas",
        "optimizer.params.eps",
        "optimizer.params.weight_decay",
        "optimizer.params.adam_w_mode",
        "scheduler.type",
        "scheduler.params.total_num_steps",
        "scheduler.params.warmup_num_steps",
        "scheduler.params.warmup_min_lr",
        "scheduler.params.warmup_max_lr",
        "scheduler.params.warmup_type",
        "scheduler.params.warmup_min_ratio",
        "scheduler.params.cos_min_ratio",
        "fp16.enabled",
        "bf16.enabled",
        "zero_optimization.stage",
        "zero_optimization.cpu_offload",
        "zero_optimization.offload_optimizer.device",
        "zero_optimization.offload_param.device",
    }
)
"""Keys that decide something here."""

UNUSED: dict[str, str] = {
    "fp16.auto_cast": _LOSS_SCALE,
    "fp16.loss_scale": _LOSS_SCALE,
    "fp16.loss_scale_window": _LOSS_SCALE,
    "fp16.initial_scale_power": _LOSS_SCALE,
    "fp16.hysteresis": _LOSS_SCALE,
    "fp16.min_loss_scale": _LOSS_SCALE,
    "optimizer.params.torch_adam": _SPEED,
    "scheduler.params.last_batch_iteration": "a resumed run goes on from its own step",
    "zero_optimization.allgather_partitions": _SPEED,
    "zero_optimization.allgather_bucket_size": _SPEED,
    "zero_optimization.overlap_comm": _SPEED,
    "zero_optimization.reduce_scatter": _SPEED,
    "zero_optimization.reduce_bucket_size": _SPEED,
    "zero_optimization.contiguous_gradients": _SPEED,
    "zero_optimization.round_robin_gradients": _SPEED,
    "zero_optimization.sub_group_size": _SPEED,
    "zero_optimization.cpu_offload_use_pin_memory": _SPEED,
    "zero_optimization.offload_optimizer.pin_memory": _SPEED,
    "zero_optimization.offload_optimizer.buffer_count": _SPEED,
    "zero_optimization.offload_optimizer.fast_init": _SPEED,
    "zero_optimization.offload_param.pin_memory": _SPEED,
    "zero_optimization.offload_param.buffer_count": _SPEED,
    "zero_optimization.offload_param.buffer_size": _SPEED,
    "zero_optimization.offload_param.max_in_cpu": _SPEED,
    "zero_optimization.stage3_max_live_parameters": _SPEED,
    "zero_optimization.stage3_max_reuse_distance": _SPEED,
    "zero_optimization.stage3_prefetch_bucket_size": _SPEED,
    "zero_optimization.stage3_param_persistence_threshold": _SPEED,
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": "whole weights are always saved",
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": "whole weights are always saved",
    "zero_allow_untested_optimizer": _SPEED,
    "activation_checkpointing": "gradient_checkpointing of the Hydra configuration decides",
    "steps_per_print": _TALK,
    "wall_clock_breakdown": _TALK,
    "dump_state": _TALK,
    "memory_breakdown": _TALK,
    "comms_logger": _TALK,
    "flops_profiler": _TALK,
}
"""Keys that do not, and why; with what is in them."""


@dataclass(frozen=True)
class ZeroFile:
    """A DeepSpeed file, or none: every value that decides something here."""

    values: Mapping[str, Given] = field(default_factory=dict)
    """By dotted key; `auto` is left out."""
    auto: frozenset[str] = frozenset()
    """Keys whose value is `auto`, which accelerate fills in."""
    path: Path | None = None
    left_out: tuple[LeftOut, ...] = ()

    def __bool__(self) -> bool:
        return self.path is not None

    @property
    def name(self) -> str:
        """What messages call it."""
        return "" if self.path is None else self.path.name

    def get(self, key: str) -> Given | None:
        """The value; None where the file has none, or `auto`."""
        return self.values.get(key)

    def value(self, key: str, default: Any = None) -> Any:
        """The bare value."""
        found = self.values.get(key)
        return default if found is None else found.value


def read_zero_file(path: Path | None) -> ZeroFile:
    """ConfigError for a file that is missing, not a JSON object, or has keys or values that have no meaning here."""
    if path is None:
        return ZeroFile()
    try:
        tree = parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ConfigError(f"--deepspeed {path}: {what}.", key="--deepspeed", value=str(path), reason=what) from None
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}"
        raise ConfigError(f"{place}: this is not JSON: {error.msg}.", place=place, reason=error.msg) from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}.", place=str(path), reason=str(error)) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a JSON object.", place=str(path))
    values: dict[str, Given] = {}
    left_out: list[LeftOut] = []
    problems: list[Problem] = []
    auto = frozenset(key for key, value in _leaves(tree) if key in USED and value == AUTO)
    for key, value in _leaves(tree):
        if key in USED:
            if key not in auto:
                values[key] = Given(key, value, path.name)
        elif unused := _unused(key):
            left_out.append(LeftOut(key, unused))
        elif not _is_off(key, tree):
            problems.append(_unknown(key, value, path.name))
    refuse([*problems, *_wrong(values)])
    return ZeroFile(values, auto, path, tuple(left_out))


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{above}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        elif value != {}:
            yield key, value


def _unused(key: str) -> str | None:
    return next((reason for known, reason in UNUSED.items() if key == known or key.startswith(f"{known}.")), None)


def _is_off(key: str, tree: Mapping[str, Any]) -> bool:
    """Whether the key is in a section that is switched off."""
    section = tree.get(key.partition(".")[0])
    return isinstance(section, dict) and section.get("enabled") is False


def _unknown(key: str, value: object, place: str) -> Problem:
    close = nearest(key, [*USED, *UNUSED], cutoff=0.75)
    hint = f"Did you mean {close}?" if close else "textune has nothing that it could become: leave it out."
    return Problem(
        parse_key(key), f"{key} = {shown(value)} ({place}) is not known here.", hint, value=value, origin=place
    )


_NUMBERS = {
    "train_batch_size": int,
    "train_micro_batch_size_per_gpu": int,
    "gradient_accumulation_steps": int,
    "scheduler.params.total_num_steps": int,
    "scheduler.params.warmup_num_steps": int,
    "gradient_clipping": float,
    "optimizer.params.lr": float,
    "optimizer.params.eps": float,
    "optimizer.params.weight_decay": float,
    "scheduler.params.warmup_min_lr": float,
    "scheduler.params.warmup_max_lr": float,
}
_ABOVE_ZERO = {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "scheduler.params.total_num_steps",
    "optimizer.params.lr",
    "scheduler.params.warmup_max_lr",
}
_CHOICES: dict[str, tuple[object, ...]] = {
    "fp16.enabled": (True, False),
    "bf16.enabled": (True, False),
    "zero_optimization.stage": (0, 1, 2, 3),
    "zero_optimization.cpu_offload": (True, False),
    "zero_optimization.offload_optimizer.device": ("cpu", "none"),
    "zero_optimization.offload_param.device": ("cpu", "none"),
    "optimizer.type": ("AdamW", "Adam"),
    "optimizer.params.adam_w_mode": (True,),
    "scheduler.type": ("WarmupDecayLR", "WarmupLR", "WarmupCosineLR"),
    "scheduler.params.warmup_min_lr": (0, 0.0),
    "scheduler.params.warmup_min_ratio": (0, 0.0),
    "scheduler.params.cos_min_ratio": (0, 0.0),
    "scheduler.params.warmup_type": ("linear",),
}
"""Values that textune has something for."""


def _wrong(values: Mapping[str, Given]) -> list[Problem]:
    """Values of the wrong type, and those that nothing here does."""
    problems = []
    for key, given in values.items():
        number, value = _NUMBERS.get(key), given.value
        expected = ""
        if number is not None:
            numeric = not isinstance(value, bool) and isinstance(value, int if number is int else int | float)
            if not numeric or (value <= 0 if key in _ABOVE_ZERO else value < 0):
                what = "a whole number" if number is int else "a number"
                expected = f"{what} above zero" if key in _ABOVE_ZERO else f"{what} of at least zero"
        if not expected and key in _CHOICES and value not in _CHOICES[key]:
            expected = f"one of {', '.join(map(shown, dict.fromkeys(_CHOICES[key])))}"
        if key == "optimizer.params.betas" and not (
            isinstance(value, list) and len(value) == 2 and all(isinstance(one, int | float) for one in value)
        ):
            expected = "two numbers"
        if expected:
            problems.append(
                Problem(parse_key(key), f"{given.said}: expected {expected}.", value=value, origin=given.place)
            )
    return problems
