"""A user's DeepSpeed file beside this run's configuration: every value that both have must be the same; below
`plan.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

from textune.config import AdamW, DeepSpeed, TrainSection
from textune.training.sharing.zero import keys

if TYPE_CHECKING:
    from pydantic import JsonValue

    Tree = dict[str, JsonValue]

AUTO = "auto"
"""The value in a JSON file that leaves a choice to textune, or to DeepSpeed where textune has no say."""


@dataclass
class Comparison:
    """Looks values up in the user's file and collects what does not agree."""

    theirs: Tree
    place: str
    problems: list[str] = field(default_factory=list)

    def get(self, path: str) -> JsonValue:
        """The value under a dotted path; None where it is absent or `"auto"`."""
        at: JsonValue = self.theirs
        for name in path.split("."):
            if not isinstance(at, dict) or name not in at:
                return None
            at = at[name]
        return None if at == AUTO else at

    def same(
        self, path: str, our_key: str, our_value: JsonValue, *, equal: Callable[[JsonValue], bool] | None = None
    ) -> None:
        """Require that their value is our value (or `equal` to it)."""
        value = self.get(path)
        if value is not None and not (equal(value) if equal else _equal(value, our_value)):
            self.problems.append(f"{self.said(path)} contradicts {our_key} = {shown(our_value)} of this config")

    def needs(self, path: str, value: JsonValue, reason: str) -> None:
        """Require a value that textune relies on."""
        found = self.get(path)
        if found is not None and not _equal(found, value):
            self.problems.append(f"{self.said(path)} must be {shown(value)} or left out: {reason}")

    def said(self, path: str) -> str:
        """What the file says, and where."""
        return f"{path} = {shown(self.get(path))} in {self.place}"


def compare(
    comparison: Comparison, section: TrainSection, *, world: int, precision: str, steps_per_epoch: int | None
) -> None:
    _compare_batch(comparison, section, world=world)
    _compare_optimizer(comparison, section)
    _compare_schedule(comparison, section, steps_per_epoch=steps_per_epoch)
    _compare_precision(comparison, section, precision)
    _compare_sharding(comparison, section)
    comparison.same("gradient_clipping", "train.max_grad_norm", section.max_grad_norm)
    for path, (value, reason) in keys.NEEDED.items():
        comparison.needs(path, value, reason)
    for path, reason in keys.REFUSED.items():
        value = comparison.get(path)
        enabled = value.get("enabled", True) if isinstance(value, dict) and value else value
        if enabled:
            comparison.problems.append(f"{path} in {comparison.place} is not supported: {reason}")


def _compare_batch(comparison: Comparison, section: TrainSection, *, world: int) -> None:
    """Compare the rows per step, of which the file may give factors; how micro-batches are cut changes nothing."""
    size = section.batch_size
    comparison.same("train_batch_size", "train.batch_size", size)
    micro, accumulation = (
        comparison.get(name) for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    )
    stated = [value for value in (micro, accumulation) if value is not None]
    if not stated:
        return
    named = " and ".join(
        comparison.said(name)
        for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
        if comparison.get(name) is not None
    )
    counts = [value for value in stated if _is_count(value)]
    if len(counts) < len(stated):
        comparison.problems.append(f"{named}: whole numbers above zero are needed")
        return
    rows = world * math.prod(counts)
    if (rows != size) if len(stated) == 2 else size % rows:
        product = f"{rows} rows per step" if len(stated) == 2 else f"a multiple of {rows} rows per step"
        comparison.problems.append(
            f"{named}: with {world} ranks this gives {product}, which contradicts train.batch_size = {size} of this"
            f" config"
        )


def _compare_optimizer(comparison: Comparison, section: TrainSection) -> None:
    optimizer = section.optimizer
    assert isinstance(optimizer, AdamW), "no other has a translation"
    comparison.same(
        "optimizer.type",
        "train.optimizer.kind",
        optimizer.kind,
        equal=lambda value: isinstance(value, str) and value.lower() in keys.OPTIMIZERS[optimizer.kind],
    )
    for name, our_name in (("lr", "lr"), ("eps", "eps"), ("weight_decay", "weight_decay")):
        comparison.same(f"optimizer.params.{name}", f"train.optimizer.{our_name}", getattr(optimizer, our_name))
    comparison.same(
        "optimizer.params.betas",
        "train.optimizer.beta1 and beta2",
        [optimizer.beta1, optimizer.beta2],
        equal=lambda value: isinstance(value, list) and _equal(value, [optimizer.beta1, optimizer.beta2]),
    )
    comparison.same("optimizer.params.max_grad_norm", "train.max_grad_norm", section.max_grad_norm)


def _compare_schedule(comparison: Comparison, section: TrainSection, *, steps_per_epoch: int | None) -> None:
    schedule = section.schedule
    comparison.same(
        "scheduler.type",
        "train.schedule.kind",
        schedule.kind,
        equal=lambda value: value == keys.SCHEDULERS.get(schedule.kind),
    )
    for name in ("warmup_min_lr", "warmup_min_ratio", "cos_min_ratio"):
        comparison.needs(f"scheduler.params.{name}", 0, "textune's schedules start at zero and end at zero")
    comparison.needs("scheduler.params.warmup_type", "linear", "textune's warm-up is linear")
    comparison.needs("scheduler.params.last_batch_iteration", -1, "a resumed run continues from its own step")
    for name in ("warmup_max_lr", "lr"):
        comparison.same(f"scheduler.params.{name}", "train.optimizer.lr", section.optimizer.lr)
    for name, our_key, duration in (
        ("warmup_num_steps", "train.schedule.warmup", schedule.warmup),
        ("total_num_steps", "train.duration", section.duration),
    ):
        in_steps = duration.unit == "steps" or (duration.unit == "%" and section.duration.unit == "steps")
        if in_steps or steps_per_epoch is not None:
            per_epoch = steps_per_epoch or 1
            rounding = section.rounding
            total = section.duration.steps(per_epoch, rounding=rounding)
            steps = duration.steps(per_epoch, total, rounding=rounding)
            said = f"{duration}" if duration.unit == "steps" else f"{duration} ({steps} steps)"
            comparison.same(f"scheduler.params.{name}", our_key, said, equal=partial(_equal, steps))


def _compare_precision(comparison: Comparison, section: TrainSection, precision: str) -> None:
    dtype = comparison.get("torch_autocast.dtype")
    autocast = {
        "bfloat16": "bf16",
        "torch.bfloat16": "bf16",
        "float16": "fp16",
        "torch.float16": "fp16",
        "half": "fp16",
    }
    meant = {
        "fp16": "fp16",
        "bf16": "bf16",
        "bfloat16": "bf16",
        "torch_autocast": autocast.get(str(dtype), dtype or "bf16"),
    }
    enabled = [name for name in meant if comparison.get(f"{name}.enabled") is True]
    here = "" if section.precision == precision else f" (here {precision})"
    for name, their_precision in meant.items():
        value = comparison.get(f"{name}.enabled")
        wrongly_on = value is True and their_precision != precision
        wrongly_off = value is False and their_precision == precision and not enabled
        if wrongly_on or wrongly_off or not isinstance(value, bool | None):
            comparison.problems.append(
                f"{comparison.said(f'{name}.enabled')} contradicts train.precision ="
                f" {shown(section.precision)}{here} of this"
                " config"
            )
    if precision == "fp16":
        comparison.needs("fp16.loss_scale", 0, "textune adapts the loss scale")
        comparison.needs("fp16.hysteresis", 1, "textune halves the loss scale at every overflow")
        for name in ("initial_scale_power", "loss_scale_window", "min_loss_scale"):
            value = comparison.get(f"fp16.{name}")
            if value is not None and not (_is_count(value) or (value == 0 and name != "loss_scale_window")):
                comparison.problems.append(f"{comparison.said(f'fp16.{name}')} is not a whole number")


def _compare_sharding(comparison: Comparison, section: TrainSection) -> None:
    zero = section.distributed
    assert isinstance(zero, DeepSpeed)
    sharding = comparison.theirs.get("zero_optimization")
    if not isinstance(sharding, dict) or "stage" not in sharding:
        comparison.problems.append(
            f"zero_optimization.stage is missing in {comparison.place} (train.distributed.stage = {zero.stage} of"
            f" this config)"
        )
    comparison.same("zero_optimization.stage", "train.distributed.stage", zero.stage)
    offload = "train.distributed.cpu_offload"
    comparison.same("zero_optimization.cpu_offload", offload, zero.cpu_offload)
    comparison.same("zero_optimization.cpu_offload_param", offload, zero.cpu_offload and zero.stage == 3)
    for name, wanted in (
        ("offload_optimizer", zero.cpu_offload),
        ("offload_param", zero.cpu_offload and zero.stage == 3),
    ):
        comparison.same(
            f"zero_optimization.{name}.device",
            offload,
            zero.cpu_offload,
            equal=lambda value, wanted=wanted: value == ("cpu" if wanted else "none"),  # type: ignore[misc]
        )


def _equal(theirs: JsonValue, ours: JsonValue) -> bool:
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_equal, theirs, ours))
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return theirs is ours
    return bool(theirs == ours)


def _is_count(value: JsonValue) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def shown(value: JsonValue) -> str:
    return json.dumps(value, allow_nan=False)
