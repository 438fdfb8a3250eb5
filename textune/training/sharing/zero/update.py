"""DeepSpeed's step on this rank's partitions, and the optimizer's state by weight; beside `training/updates.py`."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

import torch

from textune.errors import ModelError, RunError
from textune.model import Device, TextModel
from textune.ranks import Ranks
from textune.training.sharing.zero.library import ZeroEngine
from textune.training.sharing.zero.lossscale import LossScale
from textune.training.state import OPTIMIZER, Numbers, Placed, Read, trained_in
from textune.training.updates import rate_held, set_learning_rate


class ZeroUpdate:
    """The AdamW of `training/updates.py` over partitions, stepped and clipped by DeepSpeed, with textune's loss
    scale."""

    def __init__(
        self,
        engine: ZeroEngine,
        model: TextModel,
        optimizer: torch.optim.Optimizer,
        *,
        moments: tuple[str, ...],
        stage: int,
        scale: LossScale | None,
        device: Device,
        ranks: Ranks,
    ) -> None:
        """`optimizer` is the one that `engine` was started with; `moments` are the keys of its tensors of the shape of
        a weight, beside `step`, which is one number."""
        self.scale = scale
        self._engine = engine
        self._model = model
        self._optimizer = optimizer
        self._trained = trained_in(model)
        self._moments = moments
        self._stage = stage
        self._device = device
        self._ranks = ranks
        self._begin_moments(0)

    # --- a step ------------------------------------------------------------------------------------------------------

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, the mean over the ranks, to that of the step."""
        if self.scale is not None:
            # The loss comes times the number of ranks. This scale makes a rank's gradients those of one process, which
            # overflow where they would there.
            self._engine.optimizer.override_loss_scale(self.scale.value / self._ranks.world)
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> torch.Tensor:
        """Clip the gradients and change the weights; returns the gradients' norm before, float32 [].

        ModelError where a gradient is not finite and no loss scale explains it.
        """
        self._engine.step()
        self._count_change()
        overflow = bool(self._engine.optimizer.overflow)
        if self.scale is not None:
            self.scale.update(overflow=overflow)
        elif overflow:
            raise ModelError(
                "the gradient is not finite: training diverged.",
                hint="Lower train.optimizer.lr, lengthen train.schedule.warmup"
                + (', or use train.precision = "fp32".' if self._device.precision != "fp32" else "."),
            )
        grad_norm = torch.as_tensor(self._engine.get_global_grad_norm(), dtype=torch.float32)
        return grad_norm.detach().to(self._device.torch)

    def zero_grad(self) -> None:
        """Free the gradients."""
        self._engine.optimizer.zero_grad(set_to_none=True)

    def published(self) -> contextlib.AbstractContextManager[None]:
        """The weights are those that are evaluated: `plan.py` takes no optimizer that has others."""
        return contextlib.nullcontext()

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate of the next step."""
        set_learning_rate(self._optimizer, lr)

    @property
    def learning_rate(self) -> float:
        """The rate that the optimizer itself holds for weights whose factor is 1."""
        return rate_held(self._optimizer)

    def _count_change(self) -> None:
        """DeepSpeed writes past autograd's count of changes, which tells when copies of weights are out of date."""
        torch.autograd.graph.increment_version(list(self._model.parameters()))

    # --- state -------------------------------------------------------------------------------------------------------

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The optimizer's tensors as (WEIGHT/KEY, whole tensor); all ranks gather each together."""
        utils = importlib.import_module("deepspeed.utils")
        steps = {float(self._optimizer.state[partition]["step"]) for partition in self._partitions()}
        assert len(steps) == 1, f"partitions have taken {sorted(steps)} steps"
        step = torch.tensor(steps.pop())
        for name, parameter in self._trained.items() if step > 0 else ():
            for key in self._moments:
                yield f"{name}/{key}", utils.safe_get_full_optimizer_state(parameter, key)
            yield f"{name}/step", step

    def numbers(self) -> Numbers:
        """The loss scale."""
        return {"optimizer": {}, "scaler": None if self.scale is None else self.scale.state_dict()}

    def restore(self, names: set[str], read: Read, numbers: Numbers, placed: Placed) -> None:
        """Take over a state; RunError where weights have taken unequal numbers of steps, since ZeRO counts them
        once."""
        self._count_change()
        # The partitions follow the weights that the model computes with.
        self._engine.optimizer.refresh_fp32_params()
        done = {name: read(key) for name in self._trained if (key := f"{OPTIMIZER}{name}/step") in names}
        counts = {float(count) for count in done.values()}
        if len(counts) > 1:
            raise RunError(
                f"the checkpoint's weights have taken between {min(counts):.0f} and {max(counts):.0f} steps;"
                f" DeepSpeed counts"
                " steps for all weights together.",
                hint='Use train.distributed.kind = "ddp".',
            )
        self._begin_moments(*counts or (0,))
        for name, parameter in self._trained.items():
            for key in self._moments if name in done else ():
                self._set_moment(parameter, read(f"{OPTIMIZER}{name}/{key}"), key)
        if self.scale is not None and (saved := numbers.get("scaler")):
            self.scale.load_state_dict(saved)

    def _partitions(self) -> list[torch.Tensor]:
        """The flat float32 tensors that the optimizer updates on this rank."""
        zero = self._engine.optimizer
        return zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups

    def _begin_moments(self, step: float) -> None:
        """Moments of zero after `step` updates. Made by AdamW in its first one, they would be found for one group
        only."""
        self._optimizer.state.clear()
        for partition in self._partitions():
            count = torch.tensor(float(step), device=partition.device)
            self._optimizer.state[partition] = {"step": count} | {
                key: torch.zeros_like(partition.data) for key in self._moments
            }
        if self._stage < 3:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _set_moment(self, parameter: torch.nn.Parameter, value: torch.Tensor, key: str) -> None:
        utils = importlib.import_module("deepspeed.utils")
        if self._stage < 3:
            utils.safe_set_full_optimizer_state(parameter, value, key)
            return
        # DeepSpeed does not accept a whole tensor whose size is not divisible by the number of ranks.
        size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
        padded = torch.nn.functional.pad(value.flatten(), (0, size * self._ranks.world - value.numel()))
        utils.safe_set_local_optimizer_state(parameter, padded.narrow(0, size * self._ranks.rank, size), key)
