"""Keys for saving a run and sharing it among devices, never for what is learned; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from textune.config.section import Section
from textune.config.values import Duration, FilePath, Period, Steps, whole_number


class Checkpointing(Section):
    """What is saved during training, so that a run resumes exactly where it stopped."""

    every: Period | Literal["never"] = Duration(1, "epochs")
    """How often to save. A checkpoint that is due while the last is still being written waits for it; training
    continues. `never` saves only at `at_steps`, at the end of the run and when a signal stops it."""
    at_steps: Steps = ()
    """Steps to save at in addition to `every`; these checkpoints are never removed."""
    keep: PositiveInt | Literal["all"] = 1
    """How many of the newest checkpoints to keep."""
    keep_best: Annotated[int, Field(ge=0)] = 0
    """How many of the checkpoints with the best evaluations to keep in addition; a checkpoint is saved at each
    evaluation that is the best so far."""
    save_only_model: bool = False
    """Save models that can be loaded but not resumed: with AdamW, a third of the size. A stop by a signal saves
    everything."""
    background: bool = True
    """Write in a thread while training continues; a step then waits only for a copy in memory."""


class DataParallel(Section):
    """Every device holds the whole model."""

    kind: Literal["ddp"] = "ddp"
    """PyTorch's DistributedDataParallel."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """Processes that `textune train` starts on this machine; `auto`: one per visible GPU, or one without a GPU.
    Launchers such as torchrun start the processes themselves; this key is then ignored."""


class Sharded(Section):
    """Weights, gradients and optimizer state are sharded over the devices."""

    kind: Literal["fsdp"] = "fsdp"
    """PyTorch's `fully_shard` (FSDP2), layer by layer."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """As for `ddp`."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer state in host memory; slower, for models that do not fit on the GPUs."""


class DeepSpeed(Section):
    """DeepSpeed's ZeRO."""

    kind: Literal["deepspeed"] = "deepspeed"
    """The DeepSpeed library (`pip install "textune[deepspeed]"`)."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """As for `ddp`."""
    stage: Annotated[Literal[1, 2, 3], BeforeValidator(whole_number)] = 2
    """What is sharded over the devices: 1: the optimizer state, 2: also the gradients, 3: also the weights."""
    cpu_offload: bool = False
    """Keep the optimizer state (with stage 3 also the weights) in host memory."""
    config: FilePath | None = None
    """Your own DeepSpeed JSON file. Settings that this config does not have are passed on; a value that contradicts
    this config is refused, naming both values; `"auto"` takes the value of this config."""


Distributed = Annotated[DataParallel | Sharded | DeepSpeed, Field(discriminator="kind")]
