"""`train.distributed`, of TrainingArguments' `fsdp` and `deepspeed`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textune.adapters.foreign import Line
from textune.adapters.shown import shown
from textune.adapters.trainer.given import Values
from textune.adapters.trainer.updates import table_of
from textune.jsontext import parse_json

_SHARDINGS = ("full_shard", "shard_grad_op", "hybrid_shard", "hybrid_shard_zero2")
_FSDP_WORDS = (*_SHARDINGS, "offload", "auto_wrap", "true")


def sharing_lines(values: Values) -> Iterator[Line]:
    """How several devices share the work; nothing where neither is set, which is DDP."""
    if values["deepspeed"]:
        yield from _deepspeed_lines(values)
        if values["fsdp"]:
            values.refuse("fsdp", "deepspeed is set too.", "Leave one of them out.")
        return
    words = _fsdp_words(values)
    if not words:
        values.leave_out("fsdp_config", "fsdp is not set")
        return
    for word in words:
        if word not in _FSDP_WORDS:
            values.refuse("fsdp", f"{word} is not known.", 'Write "full_shard", "full_shard offload" or leave it out.')
    yield Line("train.distributed.kind", "fsdp", values.origin("fsdp"))
    if "offload" in words:
        yield Line("train.distributed.cpu_offload", True, values.origin("fsdp"))
    if set(words) & set(_SHARDINGS[1:]):
        values.notes.append(f"{values.origin('fsdp')}: weights are sharded too (full_shard), with the same result.")
    values.leave_out("fsdp_config", "layers are sharded one by one, with the same result")


def _fsdp_words(values: Values) -> list[str]:
    found = values["fsdp"]
    if isinstance(found, bool):
        return ["true"] if found else []
    return list(found) if isinstance(found, list) else (found or "").lower().split()


def _deepspeed_lines(values: Values) -> Iterator[Line]:
    origin = values.origin("deepspeed")
    if values["auto_find_batch_size"]:
        hint = "Leave auto_find_batch_size out: a batch is cut into parts that fit into memory."
        values.refuse("auto_find_batch_size", "it does not go with deepspeed.", hint)
    file = values["deepspeed"] if isinstance(values["deepspeed"], str) else None
    is_file = file is not None and not file.lstrip().startswith("{")
    table = _read(values, Path(str(file))) if is_file else table_of(values, "deepspeed")
    zero = _part(values, table, "zero_optimization")
    stage = zero.get("stage", 0)
    if stage not in (0, 1, 2, 3):
        values.refuse("deepspeed", f"zero_optimization.stage = {shown(stage)} is none of 0, 1, 2 and 3.")
    if stage == 0:
        values.notes.append(f"{origin}: it has no ZeRO stage, so that every device holds the whole model.")
        yield Line("train.distributed.kind", "ddp", origin)
        return
    yield Line("train.distributed.kind", "deepspeed", origin)
    yield Line("train.distributed.stage", stage, f"zero_optimization.stage of {origin}")
    if any(_part(values, zero, key).get("device") == "cpu" for key in ("offload_optimizer", "offload_param")):
        yield Line("train.distributed.cpu_offload", True, f"zero_optimization of {origin}")
    if is_file:
        yield Line("train.distributed.config", file, origin)
    else:
        rest = sorted(set(table) - {"zero_optimization", "fp16", "bf16", "optimizer", "scheduler"})
        own = [key for key in rest if table[key] != "auto"]
        if own:
            hint = "Put the table into a JSON file and name that file."
            values.refuse("deepspeed", f"{', '.join(own)} of a table written in place cannot be kept.", hint)


def _part(values: Values, table: dict[str, Any], key: str) -> dict[str, Any]:
    """A table within another; empty where it is not there."""
    found = table.get(key) or {}
    if not isinstance(found, dict):
        values.refuse("deepspeed", f"{key} = {shown(found)} is no table.")
    return found


def _read(values: Values, file: Path) -> dict[str, Any]:
    try:
        found = parse_json(file.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        values.refuse("deepspeed", f"the file cannot be read: {error.strerror}.")
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError) as error:
        values.refuse("deepspeed", f"the file is no JSON: {error}.")
    if not isinstance(found, dict):
        values.refuse("deepspeed", "the file holds no table.")
    return dict(found)
