"""`train.optimizer`, `train.schedule` and what else changes weights, of TrainingArguments."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from textune.adapters.foreign import Line
from textune.adapters.shown import shown
from textune.adapters.trainer.given import Values
from textune.jsontext import parse_json
from textune.wording import listing

_KINDS: Mapping[str, str] = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "adamw_apex_fused": "adamw",
    "adamw_torch_xla": "adamw",
    "adamw_torch_npu_fused": "adamw",
    "paged_adamw_32bit": "adamw",
    "paged_adamw": "adamw",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
    "adamw_torch_8bit": "adamw_8bit",
    "paged_adamw_8bit": "adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "lion_32bit": "lion",
    "paged_lion_32bit": "lion",
    "lion_8bit": "lion",
    "paged_lion_8bit": "lion",
    "schedule_free_adamw": "schedule_free",
}
"""Names of `optim`; those of earlier versions among them."""
_SAID: Mapping[str, str] = {
    "adamw_hf": "optim = adamw_hf: epsilon is added as PyTorch's AdamW adds it, after the second moment is corrected"
    " for its start; transformers' own AdamW of that name added it before: a larger epsilon in the first steps.",
    "lion_8bit": "optim = lion_8bit: Lion keeps its running mean in fp32 here, which is more exact.",
    "paged_lion_8bit": "optim = paged_lion_8bit: Lion keeps its running mean in fp32 here, which is more exact.",
}
_OPTIONS: Mapping[str, Mapping[str, tuple[str, type]]] = {
    "sgd": {"momentum": ("momentum", float), "nesterov": ("nesterov", bool), "weight_decay": ("weight_decay", float)},
    "adafactor": {"scale_parameter": ("scale_parameter", bool)},
}
"""Keys of `optim_args` by kind: ours, and their type."""
_BETAS = {"beta1": "adam_beta1", "beta2": "adam_beta2"}
_ADAM = {**_BETAS, "eps": "adam_epsilon"}
_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "adamw": _ADAM,
    "adamw_8bit": _ADAM,
    "schedule_free": _ADAM,
    "lion": _BETAS,
}
"""Keys of an optimizer by kind, and the arguments that they are made of."""
_FIXED: Mapping[str, Mapping[str, object]] = {"sgd": {"momentum": 0.0}}
"""Keys by kind that Trainer has no argument for."""
_FLAT = frozenset({"constant", "constant_with_warmup"})
"""Schedules that stay at the peak."""
_NO_WARMUP = frozenset({"constant"})
"""Those without a warm-up in transformers."""
_NO_SCHEDULE: Mapping[str, str] = {
    "reduce_lr_on_plateau": "Write linear or cosine, which reach zero at the end of the run.",
    "cosine_with_min_lr": "Write polynomial with lr_scheduler_kwargs = {power = 1.0, lr_end = ...}, or cosine.",
    "cosine_warmup_with_min_lr": "Write polynomial with lr_scheduler_kwargs = {power = 1.0, lr_end = ...}, or cosine.",
    "warmup_stable_decay": "Write linear, or constant_with_warmup.",
    "greedy": "Write linear or cosine.",
}
_SHAPES: Mapping[str, Mapping[str, tuple[str, object]]] = {
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {"num_cycles": ("num_cycles", 1)},
    "polynomial": {"power": ("power", 1.0), "lr_end": ("lr_end", 1e-7)},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": ("timescale", None)},
}
"""Schedules, with the keys of `lr_scheduler_kwargs`: ours, and transformers' default."""


def optimizer_lines(values: Values) -> Iterator[Line]:
    """The update rule, clipping, smoothing."""
    optim = str(values["optim"])
    kind = _KINDS.get(optim)
    if kind is None:
        known = listing(sorted(set(_KINDS)))
        values.refuse("optim", "textune has no such optimizer.", f"Write one of {known}.")
    if optim in _SAID:
        values.notes.append(_SAID[optim])
    yield Line("train.optimizer.kind", kind, values.origin("optim"))
    yield Line("train.optimizer.lr", values["learning_rate"], values.origin("learning_rate"))
    options = dict(_options_of_optimizer(values, kind))
    if "weight_decay" not in options:
        yield Line("train.optimizer.weight_decay", values["weight_decay"], values.origin("weight_decay"))
    for name, key in _ARGUMENTS.get(kind, {}).items():
        yield Line(f"train.optimizer.{name}", values[key], values.origin(key))
    for name, value in _FIXED.get(kind, {}).items():
        if name not in options:
            yield Line(f"train.optimizer.{name}", value, f"as Trainer's {optim} has it")
    for name, value in options.items():
        yield Line(f"train.optimizer.{name}", value, values.origin("optim_args"))
    yield Line("train.max_grad_norm", values["max_grad_norm"] or 0.0, values.origin("max_grad_norm"))


def _options_of_optimizer(values: Values, kind: str) -> Iterator[tuple[str, object]]:
    """`optim_args`, such as `momentum=0.9,nesterov=true`."""
    known = _OPTIONS.get(kind, {})
    for word in filter(None, (values["optim_args"] or "").replace(" ", "").split(",")):
        name, _, text = word.partition("=")
        if name not in known:
            hint = f"Known ones are {listing(known)}." if known else "Leave it out."
            values.refuse("optim_args", f"{kind} takes no {name} here.", hint)
        ours, takes = known[name]
        try:
            yield ours, text.lower() in ("true", "1", "yes") if takes is bool else float(text)
        except ValueError:
            values.refuse("optim_args", f"{name} is no number.", "Write it such as momentum=0.9.")


def schedule_lines(values: Values) -> Iterator[Line]:
    """The learning rate over time, and its warm-up."""
    kind = str(values["lr_scheduler_type"])
    if kind not in _SHAPES:
        hint = _NO_SCHEDULE.get(kind, f"Write one of {listing(_SHAPES)}.")
        values.refuse("lr_scheduler_type", "textune has no such schedule.", hint)
    if values["optim"] == "schedule_free_adamw" and kind not in _FLAT:
        hint = "Write lr_scheduler_type = constant."
        values.refuse("lr_scheduler_type", "schedule_free_adamw goes with a constant rate alone.", hint)
    yield Line("train.schedule.kind", kind, values.origin("lr_scheduler_type"))
    unused = kind in _NO_WARMUP and values["optim"] != "schedule_free_adamw"
    if unused and values["warmup_steps"]:
        values.leave_out("warmup_steps", "lr_scheduler_type = constant has no warm-up in transformers")
    yield _warmup_line(values, "0 steps" if unused else None)
    given = table_of(values, "lr_scheduler_kwargs")
    for name in given:
        if name not in _SHAPES[kind]:
            known = _SHAPES[kind]
            hint = f"Known ones are {listing(known)}." if known else "Leave it out."
            values.refuse("lr_scheduler_kwargs", f"{kind} takes no {name} here.", hint)
    for name, (ours, usual) in _SHAPES[kind].items():
        value = given.get(name, usual)
        if value is not None:
            origin = values.origin("lr_scheduler_kwargs") if name in given else f"{name} = {shown(value)} in Trainer"
            yield Line(f"train.schedule.{ours}", value, origin)


def _warmup_line(values: Values, fixed: str | None) -> Line:
    """Steps, or a share of the run, which Trainer rounds up."""
    origin = values.origin("warmup_steps")
    amount, total = float(values["warmup_steps"]), values["max_steps"]
    if fixed is not None:
        return Line("train.schedule.warmup", fixed, origin)
    if amount < 0:
        values.refuse("warmup_steps", "a warm-up is not below 0.", "Write a number of steps, or a share such as 0.06.")
    whole = amount >= 1
    if values.names.get("warmup_steps") == "warmup_ratio":
        if amount > 1:
            values.refuse("warmup_steps", "a share of the run is at most 1.", "Write it such as 0.06.")
        whole = False
    if not whole and total > 0:
        return Line("train.schedule.warmup", steps(math.ceil(total * amount)), origin)
    if not whole and amount > 0:
        return Line("train.schedule.warmup", share(amount), origin)
    return Line("train.schedule.warmup", steps(int(amount)), origin)


def table_of(values: Values, key: str) -> dict[str, Any]:
    """A table that may be written as JSON text."""
    found = values[key]
    if not found:
        return {}
    if isinstance(found, dict):
        return found
    try:
        table = parse_json(found)
    except (json.JSONDecodeError, ValueError) as error:
        values.refuse(key, f"it is no JSON: {error}.", 'Write a table, such as {"power": 2.0}.')
    if not isinstance(table, dict):
        values.refuse(key, "it is no table.", 'Write a table, such as {"power": 2.0}.')
    return dict(table)


def steps(number: float) -> str:
    """A number of steps as a duration."""
    whole = int(number)
    return f"{whole} step" if whole == 1 else f"{whole} steps"


def share(ratio: float) -> str:
    """A share of the run as a duration."""
    return f"{plain(Decimal(repr(ratio)) * 100)} %"


def plain(number: Decimal) -> str:
    """All its digits, without an exponent."""
    return format(number.normalize(), "f")
