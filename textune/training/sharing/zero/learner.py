"""Optimizer state, gradients and weights cut over the ranks by DeepSpeed's ZeRO (arXiv:1910.02054); beside `learner.py`.

DeepSpeed cuts, gathers, adds up gradients and clips them. The mathematics stay those of `Learner`: fp32 weights computed with
under autocast, the AdamW of `optim.py` on each rank's partition (also where that lies in the computer's memory), its loss scale
and its learning rate. Because of that no operator of DeepSpeed's own has to be compiled.

    Learner.tensors / numbers  <-- whole tensors by name -->  ZeroLearner of any stage, on any number of ranks
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from textune.batches import TokenBatch
from textune.config import DeepSpeed, TrainSection
from textune.errors import ConfigError, ModelError, RunError
from textune.model import Device, TextModel, is_error, is_out_of_memory
from textune.ranks import Ranks
from textune.training.learner import MODEL, OPTIMIZER, Learner, Read, weights_of
from textune.training.sharing.zero.lossscale import LossScale
from textune.training.sharing.zero.plan import ZeroPlan, plan_zero, require_deepspeed

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's tensors of the shape of a weight; `step` is one number."""


class ZeroLearner(Learner):
    """Several ranks that each update a part of the model; stage 3 gathers weights from the others in every pass."""

    def __init__(self, model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> None:
        """ModelError where DeepSpeed is not installed or too old, ConfigError where its own JSON file contradicts `section`."""
        assert isinstance(section.distributed, DeepSpeed)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        plan = plan_zero(section, world=ranks.world, precision=device.precision, num_trained=trained)
        super().__init__(model, section, device, ranks)
        self.scaler = None
        self.scale = LossScale(plan.initial_scale, plan.scale_interval, plan.min_scale) if device.precision == "fp16" else None
        self.stage = section.distributed.stage
        # From stage 2 on the ranks exchange in every backward pass, in stage 3 in every forward pass too.
        self.lockstep = self.stage >= 2
        self._names = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._deepspeed = import_deepspeed(device)
        os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))  # it insists on that, even for a process alone
        self._engine = _start_engine(self._deepspeed, model, self.optimizer, plan, device)
        self._begin_moments(0)

    # --- a step -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def part(self, *, last: bool) -> Iterator[None]:
        """ModelError where memory runs out: what the ranks have exchanged cannot be taken back."""
        self._engine.set_gradient_accumulation_boundary(last)
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise ModelError(
                    "memory does not suffice for a micro-batch, and with DeepSpeed a step cannot be done again.",
                    hint="Lower train.max_tokens, set train.gradient_checkpointing = true, or use a higher stage.",
                ) from error
            raise

    def logits(self, tokens: TokenBatch) -> torch.Tensor:
        """Logits float32 [B, C] of a batch on the device."""
        logits_BC: torch.Tensor = self._engine(tokens)
        return logits_BC

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of this rank's share; DeepSpeed takes the mean over the ranks, textune's shares want the sum."""
        if self.scale is not None:
            # With the factor below, this rank's gradients are scaled as in one process, and overflow where they would there.
            self._zero.override_loss_scale(self.scale.value / self.ranks.world)
        self._engine.backward(loss * self.ranks.world, scale_wrt_gas=False)

    def update(self) -> torch.Tensor:
        """Clip the gradients and change the weights; ModelError where a gradient is not finite and no loss scale did that."""
        self._engine.step()
        # DeepSpeed writes past autograd's count of changes, by which copies of weights are known to be out of date.
        torch.autograd.graph.increment_version(list(self.model.parameters()))
        overflow = bool(self._zero.overflow)
        if self.scale is not None:
            self.scale.update(overflow=overflow)
        elif overflow:
            raise ModelError(
                "the gradient is not finite: training diverged.",
                hint="Lower train.optimizer.lr, lengthen train.schedule.warmup"
                + (', or use train.precision = "fp32".' if self.device.precision != "fp32" else "."),
            )
        grad_norm = torch.as_tensor(self._engine.get_global_grad_norm(), dtype=torch.float32)
        return grad_norm.detach().to(self.device.torch)

    def zero_grad(self) -> None:
        """Free the gradients."""
        self._zero.zero_grad(set_to_none=True)

    # --- state --------------------------------------------------------------------------------------------------------

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """As of `Learner`; each tensor is put together by all ranks."""
        for name, tensor in weights_of(self.model).items():
            with self._whole(tensor):
                yield MODEL + name, tensor.detach()
        steps = {float(self.optimizer.state[partition]["step"]) for partition in self._partitions()}
        assert len(steps) == 1, f"partitions have taken {sorted(steps)} steps"
        step = torch.tensor(steps.pop())
        for name, parameter in self._names.items() if step > 0 else ():
            for key in MOMENTS:
                yield f"{OPTIMIZER}{name}/{key}", self._deepspeed.utils.safe_get_full_optimizer_state(parameter, key)
            yield f"{OPTIMIZER}{name}/step", step

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as JSON holds it."""
        return {"optimizer": {}, "scaler": None if self.scale is None else self.scale.state_dict()}

    def restore(self, names: set[str], read: Read, numbers: dict[str, Any]) -> None:
        """As of `Learner`; RunError where weights have taken unequal numbers of steps, of which ZeRO has one count."""
        with torch.no_grad():
            for name, tensor in weights_of(self.model).items():
                with self._whole(tensor, changed=True):
                    tensor.copy_(read(MODEL + name))
        torch.autograd.graph.increment_version(list(self.model.parameters()))
        # The optimizer's own copies follow the weights that the model computes with.
        self._zero.refresh_fp32_params()
        self._restore_optimizer(names, read)
        if self.scale is not None and numbers.get("scaler"):
            self.scale.load_state_dict(numbers["scaler"])

    def model_state(self) -> dict[str, torch.Tensor] | None:
        """Float32 on the CPU, on the first rank; the others help and have nothing. None below stage 3."""
        if self.stage < 3:
            return None
        state: dict[str, torch.Tensor] = {}
        copies: dict[int, torch.Tensor] = {}
        for name, tensor in self.model.hf.state_dict(keep_vars=True).items():
            with self._whole(tensor):
                # Weights that share memory go on sharing it.
                if self.ranks.is_first:
                    state[name] = copies.setdefault(id(tensor), tensor.detach().to("cpu", torch.float32, copy=True))
        return state

    # --- DeepSpeed's side ---------------------------------------------------------------------------------------------

    @property
    def _zero(self) -> Any:
        """DeepSpeed's optimizer around ours, which holds the partitions."""
        return self._engine.optimizer

    def _whole(self, tensor: torch.Tensor, *, changed: bool = False) -> Any:
        """While this lasts the weight is there as a whole; with `changed` what the first rank made of it is everyone's."""
        if not isinstance(tensor, torch.nn.Parameter):
            return contextlib.nullcontext()
        return self._deepspeed.zero.GatheredParameters([tensor], modifier_rank=0 if changed else None)

    def _partitions(self) -> list[torch.Tensor]:
        """The flat float32 tensors that the optimizer updates on this rank."""
        partitions: list[torch.Tensor] = (
            self._zero.fp32_partitioned_groups_flat if self.stage == 3 else self._zero.single_partition_of_fp32_groups
        )
        return partitions

    def _begin_moments(self, step: float) -> None:
        """Moments of zero after `step` updates. Made by AdamW in its first one, they would be found for one group only."""
        self.optimizer.state.clear()
        for partition in self._partitions():
            count = torch.tensor(float(step), device=partition.device)
            self.optimizer.state[partition] = {"step": count} | {key: torch.zeros_like(partition.data) for key in MOMENTS}
        if self.stage < 3:
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _restore_optimizer(self, names: set[str], read: Read) -> None:
        done = {name: read(key) for name in self._names if (key := f"{OPTIMIZER}{name}/step") in names}
        counts = {float(count) for count in done.values()}
        if len(counts) > 1:
            raise RunError(
                f"the checkpoint's weights have taken between {min(counts):.0f} and {max(counts):.0f} steps; DeepSpeed counts"
                " them for all weights together.",
                hint='Use train.distributed.kind = "ddp".',
            )
        self._begin_moments(*counts or (0,))
        for name, parameter in self._names.items():
            for key in MOMENTS if name in done else ():
                self._set_moment(parameter, read(f"{OPTIMIZER}{name}/{key}"), key)

    def _set_moment(self, parameter: torch.nn.Parameter, value: torch.Tensor, key: str) -> None:
        utils = self._deepspeed.utils
        if self.stage < 3:
            utils.safe_set_full_optimizer_state(parameter, value, key)
            return
        # The whole tensor is not accepted where it cannot be divided by the number of ranks.
        size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
        padded = torch.nn.functional.pad(value.flatten(), (0, size * self.ranks.world - value.numel()))
        utils.safe_set_local_optimizer_state(parameter, padded.narrow(0, size * self.ranks.rank, size), key)


def import_deepspeed(device: Device) -> Any:
    """The library, told to be quiet; errors as `require_deepspeed`."""
    require_deepspeed()
    # Without it DeepSpeed asks after NVIDIA's tools; it takes a GPU wherever it finds one.
    os.environ.setdefault("DS_ACCELERATOR", device.torch.type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deepspeed = importlib.import_module("deepspeed")
        ops = importlib.import_module("deepspeed.ops")
        accelerator = importlib.import_module("deepspeed.accelerator")
        if accelerator.get_accelerator().device_name() != device.torch.type:
            # Someone else imported it first, with another device in mind.
            name = {"cpu": "CPU_Accelerator", "cuda": "CUDA_Accelerator"}[device.torch.type]
            kind = importlib.import_module(f"deepspeed.accelerator.{device.torch.type}_accelerator")
            accelerator.set_accelerator(getattr(kind, name)())
    # Its exchange through shared memory between CPU ranks takes a compiler and a minute; gloo is there already.
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It calls functions of torch by names that have newer ones.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    return deepspeed


def _start_engine(deepspeed: Any, model: TextModel, optimizer: torch.optim.Optimizer, plan: ZeroPlan, device: Device) -> Any:
    if "log_level" in plan.config:
        logging.getLogger("DeepSpeed").removeFilter(is_error)
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
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=plan.config)
    _around_forward(model, device)  # behind DeepSpeed's own hooks
    return engine


def _forget_former_group() -> None:
    """A second run in one process has a new group of ranks; DeepSpeed remembers that of the first."""
    groups = importlib.import_module("deepspeed.utils.groups")
    if groups._WORLD_GROUP is None:
        return
    try:
        torch.distributed.get_global_rank(groups._WORLD_GROUP, 0)
    except ValueError:
        groups._release_process_group_references(None)


def _around_forward(model: TextModel, device: Device) -> None:
    """Two things around the model's forward and all hooks of DeepSpeed, which must be inside of its engine.

    Autocast, since the engine ends one around it; and no inference mode, since weights that are gathered in it could not be
    trained with afterwards. Gradients stay off where that mode was.
    """
    open_contexts: list[contextlib.ExitStack] = []

    def enter(*_: Any) -> None:
        stack = contextlib.ExitStack()
        open_contexts.append(stack)
        stack.enter_context(device.autocast())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())

    def leave(*_: Any) -> None:
        if open_contexts:
            open_contexts.pop().close()

    model.register_forward_pre_hook(enter, prepend=True)
    model.register_forward_hook(leave, always_call=True)


def _in_a_line(error: BaseException) -> str:
    lines: Iterable[str] = str(error).splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines).rstrip(".")
