"""Where a run of torchrecipes computes, and how its processes share the work."""

from __future__ import annotations

import os
from dataclasses import dataclass

from textune.adapters.foreign import LeftOut, Line
from textune.adapters.torchrecipes.given import Settings
from textune.config import Problem, parse_key, refuse
from textune.wording import listing, nearest

_GPU = ("gpu", "cuda")
_STRATEGIES: dict[str, tuple[tuple[str, object], ...]] = {
    "ddp": (("kind", "ddp"),),
    "ddp_spawn": (("kind", "ddp"),),
    "ddp_fork": (("kind", "ddp"),),
    "ddp_notebook": (("kind", "ddp"),),
    "ddp_find_unused_parameters_false": (("kind", "ddp"),),
    "ddp_find_unused_parameters_true": (("kind", "ddp"),),
    "fsdp": (("kind", "fsdp"),),
    "fsdp_native": (("kind", "fsdp"),),
    "fsdp_cpu_offload": (("kind", "fsdp"), ("cpu_offload", True)),
    "ddp_fully_sharded": (("kind", "fsdp"),),
    "ddp_fully_sharded_not_reshard": (("kind", "fsdp"),),
    "ddp_fully_sharded_cpu_offload": (("kind", "fsdp"), ("cpu_offload", True)),
    "ddp_sharded": (("kind", "deepspeed"), ("stage", 2)),
    "ddp_sharded_spawn": (("kind", "deepspeed"), ("stage", 2)),
    "deepspeed": (("kind", "deepspeed"), ("stage", 2)),
    "deepspeed_stage_1": (("kind", "deepspeed"), ("stage", 1)),
    "deepspeed_stage_2": (("kind", "deepspeed"), ("stage", 2)),
    "deepspeed_stage_2_offload": (("kind", "deepspeed"), ("stage", 2), ("cpu_offload", True)),
    "deepspeed_stage_3": (("kind", "deepspeed"), ("stage", 3)),
    "deepspeed_stage_3_offload": (("kind", "deepspeed"), ("stage", 3), ("cpu_offload", True)),
    "auto": (("kind", "ddp"),),
    "single_device": (("kind", "ddp"),),
}
"""Lightning's names of strategies, and the recipe's short names of plugins."""
_SAME_HERE = {
    "ddp_find_unused_parameters_false": "no weight is looked for that has no gradient",
    "ddp_find_unused_parameters_true": "no weight is looked for that has no gradient",
    "ddp_fully_sharded_not_reshard": "whole weights are given up after the forward pass of each layer",
    "ddp_sharded": "fairscale's sharding is DeepSpeed's stage 2",
    "ddp_sharded_spawn": "fairscale's sharding is DeepSpeed's stage 2",
}
_REFUSED = {
    "ddp_fp16_compress": "gradients travel in the precision of training: trainer.precision=16 halves them",
    "dp": "one process would feed several GPUs, slower than a process for each: write ddp",
    "ddp2": "one process would feed several GPUs, slower than a process for each: write ddp",
    "horovod": "processes share the work by PyTorch: write ddp",
    "bagua": "processes share the work by PyTorch: write ddp",
}


@dataclass(frozen=True)
class Devices:
    """Where to compute, and on how many processes."""

    processes: int
    """Those that share a batch."""
    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...] = ()


def devices_of(settings: Settings, *, started: int | None, gpus_here: int) -> Devices:
    """`started`: processes that a launcher started. `gpus_here`: GPUs of this machine, for `devices = -1`.

    ConfigError for numbers that contradict each other, and for a way to share that cannot be had.
    """
    key, asked = _asked(settings)
    accelerator = settings["trainer.accelerator"]
    wants_gpu = accelerator in _GPU or (accelerator in (None, "auto", "ddp") and key == "trainer.gpus" and asked != 0)
    device = "cuda" if wants_gpu else "cpu" if accelerator in (None, "cpu") else "auto"
    _require_device(settings)
    number = _number(settings, key, asked, gpus_here if wants_gpu or device == "auto" else os.cpu_count() or 1)
    if started is not None:
        number = started
    origin = settings.origin("trainer.accelerator") if accelerator or not wants_gpu else settings.origin(key)
    lines = [Line("train.device", device, origin)]
    left: list[LeftOut] = []
    ways = _ways(settings, left)
    lines += [Line(f"train.distributed.{name}", value, said) for name, value, said in ways]
    said = "the processes that were started" if started is not None else settings.origin(key)
    lines.append(Line("train.distributed.devices", number, said))
    return Devices(number, tuple(lines), tuple(left))


def _asked(settings: Settings) -> tuple[str, object]:
    """The key that says how many devices there are, and what it says: the one on the command line, of several."""
    names = ("trainer.gpus", "trainer.devices", "trainer.num_processes")
    given = [name for name in names if settings[name] is not None]
    if not given:
        return "trainer.devices", None
    latest = [name for name in given if settings.place(name) == "command line"] or given
    values = {str(settings[name]) for name in latest}
    if len(values) > 1:
        both = " and ".join(settings.said(name) for name in latest)
        message = f"{both} disagree: how many devices are there?"
        refuse([Problem(parse_key(latest[0]), message, "Keep one of them.", settings[latest[0]])])
    return latest[0], settings[latest[0]]


def _require_device(settings: Settings) -> None:
    key = "trainer.accelerator"
    known = ("cpu", "gpu", "cuda", "auto", "ddp", "ddp_cpu")
    if settings[key] is not None and settings[key] not in known:
        near = nearest(str(settings[key]), known)
        hint = f"Did you mean {near}?" if near else "Write cpu or gpu."
        refuse([settings.problem(key, "there is no such device here", hint)])


def _number(settings: Settings, key: str, asked: object, here: int) -> int:
    """How many processes a number, a list or -1 means."""
    if asked is None:
        return 1
    if isinstance(asked, list):
        wanted = ",".join(map(str, asked))
        if asked != list(range(len(asked))):
            hint = f"Set CUDA_VISIBLE_DEVICES={wanted} in the environment, and {key}={len(asked)}."
            refuse([settings.problem(key, "a run takes the first GPUs that it sees", hint)])
        return len(asked)
    text = str(asked).strip()
    if text in ("-1", "auto"):
        return max(1, here)
    if not text.isdigit():
        refuse([settings.problem(key, "it is no number of devices", "Write a number, or -1 for all of them.")])
    return max(1, int(text))


def _ways(settings: Settings, left: list[LeftOut]) -> list[tuple[str, object, str]]:
    """How the processes share the work: the last that says more than `ddp`, of a strategy and short names."""
    plugins = settings["trainer.plugins"] or []
    named = [("trainer.plugins", name) for name in ([plugins] if isinstance(plugins, str) else plugins)]
    if settings["trainer.strategy"] is not None:
        named.insert(0, ("trainer.strategy", settings["trainer.strategy"]))
    elif settings["trainer.accelerator"] in ("ddp", "ddp_cpu"):
        named.insert(0, ("trainer.accelerator", "ddp"))
    chosen: dict[str, tuple[str, str]] = {}
    for key, name in named:
        if name not in _STRATEGIES:
            near = nearest(name, _STRATEGIES)
            reason = _REFUSED.get(name, f"there is no such way; known are {listing(_STRATEGIES)}")
            refuse([settings.problem(key, f"{name}: {reason}", f"Did you mean {near}?" if near else "")])
        if name in _SAME_HERE:
            left.append(LeftOut(f"{key} = {name}", _SAME_HERE[name]))
        kind = str(dict(_STRATEGIES[name])["kind"])
        chosen[kind] = (key, name)
    sharing = [kind for kind in chosen if kind != "ddp"]
    if len(sharing) > 1:
        reason = f"{sharing[0]} and {sharing[1]} both share the weights"
        refuse([settings.problem("trainer.plugins", reason, "Keep one of them.")])
    if not chosen:
        return [("kind", "ddp", "no strategy: processes hold the whole model")]
    key, name = chosen[sharing[0] if sharing else "ddp"]
    return [(ours, value, f"{key} = {name}") for ours, value in _STRATEGIES[name]]
