"""What DeepSpeed gets: this run's configuration and, where it does not contradict that, the user's own JSON file.

Pure functions, without DeepSpeed itself. Every value has one owner. A value of textune's configuration may also be
in the JSON file, but only the same value or `"auto"`; keys that textune has no say in (bucket sizes, monitors, ...)
are passed on.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from textune.config import DeepSpeed, TrainSection
from textune.errors import ConfigError, ModelError
from textune.training.rules import rule_of
from textune.training.sharing.zero import keys
from textune.training.sharing.zero.comparison import AUTO, Comparison, compare, shown
from textune.wording import nearest

if TYPE_CHECKING:
    from pydantic import JsonValue

    Tree = dict[str, JsonValue]

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
    compare(comparison, section, world=world, precision=precision, steps_per_epoch=steps_per_epoch)
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
                f"{path} = {shown(at)} in {place} must be an object.", hint="See DeepSpeed's documentation."
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
