"""The losses of a run between two logged steps, and what it means when one of them is not finite."""

from __future__ import annotations

import math

import torch

from textune.data import choices_of
from textune.errors import ModelError
from textune.run.setup import Setup
from textune.run.state import Progress
from textune.training import StepResult


class Losses:
    """Keeps losses and gradient norms on the device until somebody needs them: reading them holds a GPU up."""

    def __init__(self, setup: Setup, progress: Progress) -> None:
        self._setup = setup
        self._progress = progress
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []

    def add(self, result: StepResult) -> None:
        """Take those of a step, which `progress` has counted; ModelError if training diverged, as far as that shows at
        once."""
        self._losses.append(result.loss)
        if (
            self._setup.learner.device.precision == "fp16"
        ):  # whose scaler leaves out the steps that overflow, as it should
            return
        self._norms.append(result.grad_norm)
        # On a GPU nobody asks after each step; the step changed no weight, and `read` finds it.
        if result.grad_norm.device.type == "cpu" and not torch.isfinite(result.grad_norm):
            self.read()

    def read(self) -> None:
        """Bring the losses to the host, summed over the ranks, each of which holds its own share.

        ModelError where a loss, or the norm of a gradient, is not finite. The norm is that of all ranks, so all of
        them stop.
        """
        if not self._losses:
            return
        losses = self._setup.learner.ranks.sum(torch.stack(self._losses)).tolist()
        norms = torch.stack(self._norms).tolist() if self._norms else [0.0] * len(losses)
        first = self._progress.step - len(losses) + 1
        self._progress.losses += losses
        self._losses, self._norms = [], []
        for step, loss, norm in zip(range(first, first + len(losses)), losses, norms, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._divergence(loss, norm, step)

    def _divergence(self, loss: float, norm: float, step: int) -> ModelError:
        found = f"the loss is {loss} at step {step}"
        if math.isfinite(loss):
            found = f"the loss is {loss:.4g} at step {step}, but the norm of its gradient is {norm}"
        is_exact = self._setup.learner.device.precision == "fp32"
        if step == 1:
            parts = self._setup.parts
            has_own_code = parts.model.own is not None or any(known.own for known in parts.data.label_maps.values())
            suspect = "It comes from your own code" if has_own_code else "The weights of the backbone are damaged"
            return ModelError(
                f"{found}, before any weight was changed.",
                hint=suspect
                + (", or a target is too large" if not choices_of(parts.data.label_maps) else "")
                + ("." if is_exact else ', or exceed what the precision holds: use train.precision = "fp32".'),
            )
        unchanged = " That step changed no weight." if math.isfinite(loss) else ""
        kept = " Checkpoints from before are in the run folder." if self._setup.keeper.last_step else ""
        return ModelError(
            f"{found}: training diverged.{unchanged}",
            hint="Lower train.optimizer.lr, lengthen train.schedule.warmup"
            + ("." if is_exact else ', or use train.precision = "fp32".')
            + kept,
        )
