"""DeepSpeed itself: imported without its noise, started around an engine, and described as far as textune uses it."""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Protocol

import torch

from textune.batches import Tokens
from textune.errors import ConfigError
from textune.model import Device, is_error
from textune.tasks import ByHead, Task
from textune.training.engines import Targets, TorchEngine
from textune.training.sharing.zero.plan import ZeroPlan, require_deepspeed


class ZeroOptimizer(Protocol):
    """DeepSpeed's optimizer around ours, which holds this rank's partitions."""

    overflow: bool
    """Whether the last step was skipped, since a gradient was not finite."""
    fp32_partitioned_groups_flat: list[torch.Tensor]
    """Stage 3: the flat float32 tensors that the optimizer updates on this rank."""
    single_partition_of_fp32_groups: list[torch.Tensor]
    """Stages 1 and 2: the same."""
    _hp_optimizer_states_linked: bool
    """Stages 1 and 2: whether parameters know where their optimizer state is."""

    def _lazy_init_hp_params_optimizer_state(self) -> None:
        """Let them know."""

    def override_loss_scale(self, scale: float) -> None:
        """Multiply the loss by this."""

    def refresh_fp32_params(self) -> None:
        """Copy the weights that the model computes with into the partitions."""

    def zero_grad(self, set_to_none: bool) -> None:
        """Free the gradients."""


class ZeroEngine(Protocol):
    """What `deepspeed.initialize` returns."""

    optimizer: ZeroOptimizer

    def __call__(self, tokens: Tokens, task: Task, targets: Targets) -> ByHead:
        """Forward pass of the module within."""

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        """Whether the next backward pass completes a step's gradient."""

    def backward(self, loss: torch.Tensor, *, scale_wrt_gas: bool) -> None:
        """Backward pass; gradients become their mean over the ranks."""

    def step(self) -> None:
        """Clip the gradients and change the weights."""

    def get_global_grad_norm(self) -> torch.Tensor | float:
        """The gradients' norm over all ranks, before clipping."""


def start_engine(engine: TorchEngine, optimizer: torch.optim.Optimizer, plan: ZeroPlan, device: Device) -> ZeroEngine:
    """DeepSpeed around an engine and the optimizer of its weights; ConfigError where it refuses the plan."""
    prepare_library(device)
    if "log_level" in plan.config:
        logging.getLogger("DeepSpeed").removeFilter(is_error)
    deepspeed = importlib.import_module("deepspeed")
    parsing = importlib.import_module("deepspeed.runtime.config")
    _forget_former_group()
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)  # takes over the group of `textune.ranks`
    try:
        parsing.DeepSpeedConfig(copy.deepcopy(plan.config))
    except (parsing.DeepSpeedConfigError, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"DeepSpeed does not accept its configuration: {_in_a_line(error)}.",
            hint=f"See {plan.place}." if plan.place else "",
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started: ZeroEngine = deepspeed.initialize(model=engine, optimizer=optimizer, config=plan.config)[0]
    return started


def prepare_library(device: Device) -> None:
    """Import the library for this device and keep it quiet; errors are those of `require_deepspeed`."""
    require_deepspeed()
    # Without this variable DeepSpeed looks for NVIDIA's tools, and takes a GPU wherever it finds one.
    os.environ.setdefault("DS_ACCELERATOR", device.torch.type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("deepspeed")
        ops = importlib.import_module("deepspeed.ops")
        accelerator = importlib.import_module("deepspeed.accelerator")
        if accelerator.get_accelerator().device_name() != device.torch.type:
            # It was imported before, for another device.
            name = {"cpu": "CPU_Accelerator", "cuda": "CUDA_Accelerator"}[device.torch.type]
            kind = importlib.import_module(f"deepspeed.accelerator.{device.torch.type}_accelerator")
            accelerator.set_accelerator(getattr(kind, name)())
    # Its exchange through shared memory between CPU ranks needs a compiler and a minute; gloo is there already.
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It calls functions of torch by names that are deprecated.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)


@contextlib.contextmanager
def gathered(tensor: torch.Tensor, *, changed: bool = False) -> Iterator[torch.Tensor]:
    """A partitioned weight, whole within the context; with `changed`, all ranks take what the first one made of it."""
    if not isinstance(tensor, torch.nn.Parameter):  # a buffer, whole on every rank
        yield tensor
        return
    zero = importlib.import_module("deepspeed").zero
    with zero.GatheredParameters([tensor], modifier_rank=0 if changed else None):
        yield tensor


def _forget_former_group() -> None:
    """A second run in one process has a new group of ranks; DeepSpeed remembers that of the first."""
    groups = importlib.import_module("deepspeed.utils.groups")
    if groups._WORLD_GROUP is None:
        return
    try:
        torch.distributed.get_global_rank(groups._WORLD_GROUP, 0)
    except ValueError:
        groups._release_process_group_references(None)


def _in_a_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines).rstrip(".")
