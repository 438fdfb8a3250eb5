"""`train` of a script: what its arguments of TrainingArguments, or those of its bare loop, become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from textune.adapters.flags import Flags
from textune.adapters.huggingface.scripts import Script, own_flags
from textune.adapters.trainer import FIELDS, OLDER, Arguments, read_arguments

_LOOP: Mapping[str, str] = {
    "max_train_steps": "max_steps",
    "num_warmup_steps": "warmup_steps",
    "per_device_train_batch_size": "per_device_train_batch_size",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "num_train_epochs": "num_train_epochs",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "lr_scheduler_type": "lr_scheduler_type",
    "seed": "seed",
}
"""Flags of the bare loop, by what TrainingArguments calls them."""
_AS_CODED: Mapping[str, object] = {
    "seed": 0,
    "max_grad_norm": 0.0,
    "logging_strategy": "epoch",
    "eval_strategy": "epoch",
    "save_strategy": "no",
}
"""What the bare loop does without a flag for it."""


def training_of(script: Script, flags: Flags, *, processes: int, has_validation: bool) -> Arguments:
    """The lines of `train`; ConfigError for what cannot be done."""
    if script == "run_glue_no_trainer":
        return _bare_loop(flags, processes, has_validation)
    own = own_flags(script)
    given = {
        name: value for name, value in flags.values.items() if name not in own and (name in FIELDS or name in OLDER)
    }
    return read_arguments(given, where=flags.where, processes=processes, has_validation=has_validation)


def _bare_loop(flags: Flags, processes: int, has_validation: bool) -> Arguments:
    places = {_LOOP.get(name, name): flags.where(name) for name in flags.values}
    given: dict[str, object] = {_LOOP[name]: flags.values[name] for name in flags.values if name in _LOOP}
    every = flags.values.get("checkpointing_steps")
    called = {theirs: name for name, theirs in _LOOP.items()}
    if every is not None:
        key = "save_strategy" if every == "epoch" else "save_steps"
        given[key], called[key], places[key] = every, "checkpointing_steps", flags.where("checkpointing_steps")
        given.setdefault("save_strategy", "steps")
        called["save_strategy"], places["save_strategy"] = "checkpointing_steps", flags.where("checkpointing_steps")
    if flags.values.get("with_tracking") in (True, "True", "true"):
        given["report_to"] = flags.values.get("report_to", "all")
    found = read_arguments(
        given,
        where=lambda key: places.get(key, f"--{called.get(key, key)}"),
        defaults=_AS_CODED,
        called=called,
        processes=processes,
        has_validation=has_validation,
    )
    notes = [*found.notes, "Gradients are not clipped, as there; Trainer clips them at 1."]
    if found.values["seed"] == 0 and "seed" not in given:
        notes.append("No seed is given: there every run differs; here the seed is 0.")
    if processes > 1:
        notes.append("The learning rate follows the steps of the run; there several processes make it fall too fast.")
    if int(str(found.values["gradient_accumulation_steps"])) > 1:
        notes.append(
            "A step comes at the end of its rows; there it comes at their start, and the last are never used."
        )
    return replace(found, notes=tuple(notes))
