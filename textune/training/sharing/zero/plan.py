"""What DeepSpeed gets: this run's configuration and, where it does not contradict that, the user's own JSON file.

Pure functions, without DeepSpeed itself. Every value has one owner. A value of textune's configuration may also be
in the JSON file, but only the same value or `"auto"`; keys that textune has no say in (bucket sizes, monitors, ...)
are passed on.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from textune.config import AdamW, DeepSpeed, TrainSection
from textune.errors import ConfigError, ModelError
from textune.training.rules import rule_of
from textune.training.sharing.zero import keys
from textune.wording import nearest

if TYPE_CHECKING:
    from pydantic import JsonValue

    Tree = dict[str, JsonValue]

AUTO = "auto"
"""The value in a JSON file that leaves a choice to textune, or to DeepSpeed where textune has no say."""

LARGEST_BUCKET = 500_000_000
"""Numbers that DeepSpeed reduces at once; it allocates a buffer of this size even for a smaller model."""
OLDEST = (0, 19, 8)
"""The first DeepSpeed that detects gradients that are not finite in every precision, and skips such a step."""


@dataclass(frozen=True)
class ZeroPlan:
    """What `deepspeed.initialize` gets, and the loss scale of the JSON file, which textune applies itself."""

    config: Tree
    place: str = ""
    """The user's file; empty without one."""
    initial_scale: float = 2.0**16
    scale_interval: int = 2000
    """Good steps after which the scale is doubled."""
    min_scale: float = 0.0


def require_deepspeed() -> None:
    """ModelError where the library is missing or too old; it is not imported to find out."""
    if importlib.util.find_spec("deepspeed") is None:
        raise ModelError(
            'train.distributed.kind = "deepspeed", but DeepSpeed is not installed.',
            hint='Run `pip install "textune[deepspeed]"`, or use "fsdp".',
        )
    found = importlib.metadata.version("deepspeed")
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < OLDEST:
        raise ModelError(
            f"DeepSpeed {found} is installed, and textune needs {'.'.join(map(str, OLDEST))} or later.",
            hint='Run `pip install --upgrade "textune[deepspeed]"`.',
        )


def plan_zero(
    section: TrainSection, *, world: int, precision: str, num_trained: int, steps_per_epoch: int | None = None
) -> ZeroPlan:
    """The plan for `world` ranks that compute in `precision` (fp32, bf16, fp16) and train `num_trained` numbers.

    `steps_per_epoch` makes durations in epochs comparable with the step counts of a scheduler in the file; without it,
    only durations in steps are compared. ConfigError names every contradiction, with both values and both places.
    """
    zero = section.distributed
    assert isinstance(zero, DeepSpeed)
    if not rule_of(section.optimizer).moments:
        raise ConfigError(
            f'train.optimizer.kind = "{section.optimizer.kind}" cannot be combined with train.distributed.kind ='
            ' "deepspeed": its state has no translation to ZeRO\'s partitions.',
            hint='Use "adamw" (its state is divided by the number of devices), or train.distributed.kind = "ddp".',
            key="train.optimizer.kind",
            value=section.optimizer.kind,
        )
    ours = _own_config(section, world=world, num_trained=num_trained)
    if zero.config is None:
        return ZeroPlan(ours)
    place = Path(zero.config).name
    theirs = read_json(Path(zero.config))
    _refuse_unknown(theirs, place)
    comparison = Comparison(theirs, place)
    _compare(comparison, section, world=world, precision=precision, steps_per_epoch=steps_per_epoch)
    if comparison.problems:
        raise ConfigError(
            "; ".join(comparison.problems) + ".",
            hint=f'Make each pair agree, or write "auto" in {place}, which takes the value of this config.',
        )
    return _with_loss_scale(ZeroPlan(_merged(ours, theirs), place), comparison)


def read_json(path: Path) -> Tree:
    """A DeepSpeed configuration file; ConfigError where it is missing, not a JSON object, or has a key twice."""

    def unique(pairs: list[tuple[str, JsonValue]]) -> Tree:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f'{path} has the key "{twice}" twice in one object.', hint="Remove one of them.")
        return found

    def refuse(constant: str) -> JsonValue:
        raise ConfigError(
            f"{path} has the value {constant}, which is not a JSON number.", hint="Write a finite number."
        )

    try:
        found: JsonValue = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique, parse_constant=refuse
        )
    except OSError as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else (error.strerror or str(error))
        raise ConfigError(f"train.distributed.config = {path} cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}, line {error.lineno}: not valid JSON: {error.msg}.", hint="Fix the file."
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a JSON object.", hint='A DeepSpeed configuration begins with "{".')
    return found


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
            self.problems.append(f"{self.said(path)} contradicts {our_key} = {_shown(our_value)} of this config")

    def needs(self, path: str, value: JsonValue, reason: str) -> None:
        """Require a value that textune relies on."""
        found = self.get(path)
        if found is not None and not _equal(found, value):
            self.problems.append(f"{self.said(path)} must be {_shown(value)} or left out: {reason}")

    def said(self, path: str) -> str:
        """What the file says, and where."""
        return f"{path} = {_shown(self.get(path))} in {self.place}"


def _own_config(section: TrainSection, *, world: int, num_trained: int) -> Tree:
    zero = section.distributed
    assert isinstance(zero, DeepSpeed)
    sharding: Tree = {"stage": zero.stage, "reduce_bucket_size": min(max(1, num_trained), LARGEST_BUCKET)}
    if zero.cpu_offload:
        sharding["offload_optimizer"] = {"device": "cpu"}
        if zero.stage == 3:
            sharding["offload_param"] = {"device": "cpu"}
    return {
        # Rows are counted by textune, which cuts batches by tokens and says which micro-batch is the last of a step.
        "train_batch_size": world,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": section.max_grad_norm,
        "zero_optimization": sharding,
        "zero_force_ds_cpu_optimizer": False,
    }


def _compare(
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
            steps = duration.steps(per_epoch, section.duration.steps(per_epoch))
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
                f" {_shown(section.precision)}{here} of this"
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


def _with_loss_scale(plan: ZeroPlan, comparison: Comparison) -> ZeroPlan:
    power, window, least = (
        comparison.get(f"fp16.{name}") for name in ("initial_scale_power", "loss_scale_window", "min_loss_scale")
    )
    return replace(
        plan,
        initial_scale=2.0**power if isinstance(power, int) else plan.initial_scale,
        scale_interval=window if isinstance(window, int) else plan.scale_interval,
        min_scale=float(least) if isinstance(least, int) else plan.min_scale,
    )


def _refuse_unknown(theirs: Tree, place: str) -> None:
    """ConfigError for a key that DeepSpeed does not know, with the nearest one that it does."""
    for path, known in keys.KNOWN.items():
        at: JsonValue = theirs
        for name in path.split(".") if path else []:
            at = at.get(name) if isinstance(at, dict) else None
        if at is None or at == AUTO:
            continue
        if not isinstance(at, dict):
            raise ConfigError(
                f"{path} = {_shown(at)} in {place} must be an object.", hint="See DeepSpeed's documentation."
            )
        for name in at:
            if name not in known:
                near = nearest(name, sorted(known))
                raise ConfigError(
                    f"{place} has the key {f'{path}.' if path else ''}{name}, which DeepSpeed does not know.",
                    hint=f'Did you mean "{near}"?' if near else "Remove it.",
                )


def _merged(ours: Tree, theirs: Tree) -> Tree:
    """Ours, and the keys that only the file has."""
    passed = {name: value for name, value in theirs.items() if name not in keys.OWNED}
    return _over(ours, _without_auto(passed))


def _without_auto(tree: Tree) -> Tree:
    def items() -> Iterator[tuple[str, JsonValue]]:
        for name, value in tree.items():
            if value != AUTO:
                yield name, _without_auto(value) if isinstance(value, dict) else value

    return dict(items())


def _over(ours: Tree, theirs: Tree) -> Tree:
    """Theirs over ours, object by object; they agree where both have a key."""
    result = dict(ours)
    for name, value in theirs.items():
        if name in keys.OLD_OFFLOAD:
            continue
        mine = ours.get(name)
        result[name] = _over(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result


def _equal(theirs: JsonValue, ours: JsonValue) -> bool:
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_equal, theirs, ours))
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return theirs is ours
    return bool(theirs == ours)


def _is_count(value: JsonValue) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _shown(value: JsonValue) -> str:
    return json.dumps(value, allow_nan=False)
