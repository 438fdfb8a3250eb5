"""Keys that say how a run is saved and shared among devices, never what is learnt; a part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from textune.config.section import Section
from textune.config.values import Duration, FilePath, Period, whole_number


class Checkpointing(Section):
    """What is saved while training, so that a run resumes exactly where it stopped."""

    every: Period | Literal["never"] = Duration(1, "epochs")
    """How often to save. One that is due while the last is still being written waits for it and training continues. `never`
    leaves only `at_steps`, the end of the run and a stop by a signal."""
    at_steps: tuple[PositiveInt, ...] = ()
    """Steps to save at whatever `every` says; these checkpoints are never removed."""
    keep: PositiveInt | Literal["all"] = 1
    """How many of the newest checkpoints to keep."""
    keep_best: Annotated[int, Field(ge=0)] = 0
    """How many of the checkpoints with the best evaluations to keep beyond those; one is saved at each that is best so far."""
    save_only_model: bool = False
    """Save models that can be loaded but not resumed: a third of the size, for AdamW. A stop by a signal saves all."""
    background: bool = True
    """Write in a thread while training continues; a step then waits for a copy in memory at most."""


class DataParallel(Section):
    """Every device holds the whole model."""

    kind: Literal["ddp"] = "ddp"
    """PyTorch's DistributedDataParallel."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """Processes that `textune train` starts on this machine: `auto` one for each GPU it sees, one without a GPU. torchrun and
    its like start processes themselves; then this key says nothing."""


class Sharded(Section):
    """Weights, gradients and optimizer state are cut over the devices."""

    kind: Literal["fsdp"] = "fsdp"
    """PyTorch's `fully_shard` (FSDP2), layer by layer."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """As for `ddp`."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer state in the computer's memory; slower, for models that no GPU holds."""


class DeepSpeed(Section):
    """DeepSpeed's ZeRO."""

    kind: Literal["deepspeed"] = "deepspeed"
    """The DeepSpeed library (`pip install "textune[deepspeed]"`)."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """As for `ddp`."""
    stage: Annotated[Literal[1, 2, 3], BeforeValidator(whole_number)] = 2
    """What is cut over the devices: 1 the optimizer state, 2 the gradients too, 3 the weights too."""
    cpu_offload: bool = False
    """Keep the optimizer state (with stage 3 the weights too) in the computer's memory."""
    config: FilePath | None = None
    """A DeepSpeed JSON file of your own. What it says beyond this config is taken over; a value that contradicts this config
    is refused with both values; `"auto"` takes this config's."""


Distributed = Annotated[DataParallel | Sharded | DeepSpeed, Field(discriminator="kind")]
