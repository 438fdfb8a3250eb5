"""What `accelerate config` wrote, as lines: another system's configuration leaves to it how several devices share the
work, and in which precision they compute.

A setting counts where the system's own configuration has no value for it; where both have one and they differ, nothing
is changed here, and training refuses the run with both values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from textune.adapters.foreign import BatchLine, Foreign, Line
from textune.config import is_true, settings_of
from textune.errors import ConfigError
from textune.jsontext import parse_json

_PRECISION = "ACCELERATE_MIXED_PRECISION"
_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
_FILE = "ACCELERATE_DEEPSPEED_CONFIG_FILE"
_CONFIG_FILE = "train.distributed.config"


def as_accelerated(foreign: Foreign, environment: Mapping[str, str]) -> Foreign:
    """The configuration with the lines that accelerate's settings in this environment add to it."""
    settings = settings_of(environment)
    own = {line.key: line for line in foreign.lines}
    added = {line.key: line for line in _lines(settings) if line.key not in own or _is_default(own[line.key])}
    if any(key.startswith("train.distributed.") and not _is_default(own[key]) for key in own):
        added = {key: line for key, line in added.items() if not key.startswith("train.distributed.")}
    lines = [added.pop(line.key, line) for line in foreign.lines]
    settled = {_ACCUMULATION} & settings.keys() if _accumulates_alike(foreign, settings) else set()
    if settings.get(_FILE) in foreign.source:
        settled.add(_FILE)
    return replace(foreign, lines=(*lines, *added.values()), settled=frozenset(settled))


def _is_default(line: Line) -> bool:
    """Whether the other system's configuration did not say it: all that the line was made of are defaults."""
    return all("default" in part for part in line.origin.split("), "))


def _accumulates_alike(foreign: Foreign, settings: Mapping[str, str]) -> bool:
    """Whether the rows of a step were counted with accelerate's own steps of accumulation."""
    steps = settings.get(_ACCUMULATION, "auto")
    batches = [line for line in foreign.lines if isinstance(line, BatchLine)]
    return any(steps in ("auto", str(line.accumulation)) for line in batches)


def _lines(settings: Mapping[str, str]) -> Iterator[Line]:
    """One for each setting that textune has a key for and that is not accelerate's default."""
    precision = settings.get(_PRECISION, "no").lower()
    if precision in ("fp16", "bf16"):
        yield Line("train.precision", precision, "mixed_precision of accelerate")
    if is_true(settings.get("ACCELERATE_USE_CPU", "")):
        yield Line("train.device", "cpu", "use_cpu of accelerate")
    if is_true(settings.get("ACCELERATE_USE_DEEPSPEED", "")):
        yield from _deepspeed(settings)
    elif is_true(settings.get("ACCELERATE_USE_FSDP", "")):
        yield from _sharded(settings)


def _sharded(settings: Mapping[str, str]) -> Iterator[Line]:
    yield Line("train.distributed.kind", "fsdp", "distributed_type: FSDP of accelerate")
    if is_true(settings.get("FSDP_OFFLOAD_PARAMS", "")):
        yield Line("train.distributed.cpu_offload", True, "fsdp_offload_params of accelerate")
    if is_true(settings.get("FSDP_ACTIVATION_CHECKPOINTING", "")):
        yield Line("train.gradient_checkpointing", True, "fsdp_activation_checkpointing of accelerate")


def _deepspeed(settings: Mapping[str, str]) -> Iterator[Line]:
    yield Line("train.distributed.kind", "deepspeed", "distributed_type: DEEPSPEED of accelerate")
    file = settings.get(_FILE, "none")
    if file.lower() not in ("none", ""):
        yield Line(_CONFIG_FILE, file, "deepspeed_config_file of accelerate")
        zero = _zero_of(Path(file))
        stage, devices = str(zero.get("stage", "")), [_device_of(zero, "optimizer"), _device_of(zero, "param")]
    else:
        stage = settings.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        devices = [settings.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE", "") for what in ("OPTIMIZER", "PARAM")]
    if stage in ("1", "2", "3"):
        yield Line("train.distributed.stage", int(stage), "zero_stage of accelerate")
    if "cpu" in devices:
        yield Line(
            "train.distributed.cpu_offload", True, "offload_optimizer_device and offload_param_device of accelerate"
        )
    clipping = settings.get("ACCELERATE_GRADIENT_CLIPPING", "none").lower()
    if clipping not in ("none", "auto", ""):
        yield Line("train.max_grad_norm", float(clipping), "gradient_clipping of accelerate")


def _zero_of(file: Path) -> dict[str, Any]:
    """`zero_optimization` of a DeepSpeed file; what is wrong with the rest is found where training reads it."""
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = f"it is no JSON: {error}"
    else:
        zero = found.get("zero_optimization") if isinstance(found, dict) else None
        return zero if isinstance(zero, dict) else {}
    raise ConfigError(
        f"{file}, the deepspeed_config_file of accelerate's configuration, cannot be read: {reason}.",
        hint="Give a path that can be read from the current folder.",
        key="deepspeed_config_file",
        value=str(file),
        place=str(file),
        reason=reason,
    )


def _device_of(zero: Mapping[str, Any], what: str) -> str:
    table = zero.get(f"offload_{what}")
    return str(table.get("device", "")) if isinstance(table, dict) else ""
