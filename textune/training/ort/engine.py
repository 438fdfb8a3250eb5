"""ONNX Runtime as an engine: row losses whose gradients it computes; for those who know its results, not for speed.

    tokens --TextModel.padded_inputs--> GradientGraph.forward --> outputs --Task--> row losses
    weights <-- GradientGraph.backward <-- gradient of the outputs <-- row losses

What a step makes of gradients (clipping, optimizer, checkpoints) is that of every engine, since they end in the
parameters. Evaluation and prediction are PyTorch's.

Shapes: B rows of L tokens, C outputs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import torch
from torch import nn

from textune.batches import Tokens, WindowedBatch
from textune.config import TrainSection
from textune.errors import ModelError
from textune.model import Device, TextModel
from textune.ranks import Ranks
from textune.tasks import ByHead, Task
from textune.training.engines import OUTPUTS, Targets
from textune.training.ort.graph import GradientGraph, Pass

PACKAGE = "onnxruntime-training-cpu"
_PLAIN = "onnxruntime"
_INSTALL = 'pip install "textune[ort-training]"'
_PYTHONS = "Python 3.11 or 3.12, since its last release has no wheels for later ones"
TOLERANCE = 1e-4
"""How far the first gradient of a weight may be from PyTorch's, as a part of its largest number ..."""
SMALLEST = 1e-2
"""... or of this part of the largest of all weights: some gradients are zero but for rounding."""


def require(section: TrainSection, device: Device, ranks: Ranks) -> None:
    """ModelError where this installation or this machine cannot run the engine."""
    installed = {one for one in (PACKAGE, _PLAIN) if _is_installed(one)}
    if _PLAIN in installed:
        raise _refused(
            f"{_PLAIN} is installed, which cannot live in one environment with {PACKAGE}",
            f'Run `{_INSTALL}` in a new environment ({_PYTHONS}), or use train.engine = "torch".',
        )
    missing = [] if PACKAGE in installed else [PACKAGE]
    missing += [name for name in ("onnxscript",) if importlib.util.find_spec(name) is None]
    if missing:
        raise _refused(
            f"{missing[0]} is not installed",
            f'Run `{_INSTALL}` ({_PYTHONS}), or use train.engine = "torch".',
        )
    if not ranks.alone:
        raise _refused(
            f"it computes in one process, and there are {ranks.world}",
            'Start one process, or use train.engine = "torch".',
        )


def build(model: TextModel, device: Device) -> OrtEngine:
    """The engine; errors are those of `GradientGraph`."""
    return OrtEngine(model)


class OrtEngine(nn.Module):
    """A model whose forward and backward pass in training are ONNX Runtime's."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model
        self._graph = GradientGraph(model)
        self._is_compared = False

    def forward(self, tokens: Tokens, task: Task | None = None, targets: Targets | None = None) -> ByHead:
        """As `Engine`. ModelError where the first gradients are not PyTorch's."""
        if task is None or targets is None:
            outputs: torch.Tensor = self.model(tokens)
            return {OUTPUTS: outputs}
        if not self._is_compared:
            self._compare(tokens, task, targets)
            self._is_compared = True
        return task.row_losses(self._outputs(tokens, dropout=self.model.training), targets)

    def _outputs(self, tokens: Tokens, *, dropout: bool) -> torch.Tensor:
        """Outputs float32 [B, C], through which gradients reach the weights."""
        assert not isinstance(tokens, WindowedBatch), "windows are computed packed"
        given = self.model.padded_inputs(tokens)
        zeros_BL = torch.zeros_like(given["input_ids"])
        inputs = {name: given.get(name, zeros_BL) for name in self._graph.inputs}
        weights = [self._graph.parameters[name] for name in self._graph.trained]
        outputs_BC: torch.Tensor = _Outputs.apply(self._graph, inputs, dropout, *weights)
        return outputs_BC

    def _compare(self, tokens: Tokens, task: Task, targets: Targets) -> None:
        """Compute the gradients of a batch without dropout here and by PyTorch; ModelError for the largest difference
        beyond rounding."""
        weights = {name: p for name, p in self._graph.parameters.items() if p.requires_grad}
        was_training = self.model.training
        self.model.eval()
        try:
            pair = [
                _gradients(task.row_losses(outputs_BC, targets), weights)
                for outputs_BC in (self.model(tokens), self._outputs(tokens, dropout=False))
            ]
        finally:
            self.model.train(was_training)
        require_equal(*pair)


class _Outputs(torch.autograd.Function):
    """The two halves of a pass as one operator of autograd."""

    @staticmethod
    def forward(
        ctx: Any, graph: GradientGraph, inputs: dict[str, torch.Tensor], dropout: bool, *weights: torch.Tensor
    ) -> torch.Tensor:
        """`weights` are those in `graph.trained`, so that autograd asks for their gradients."""
        found: Pass = graph.forward(inputs, dropout=dropout)
        ctx.graph, ctx.state = graph, found.state
        return found.outputs

    @staticmethod
    def backward(ctx: Any, gradient_BC: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """A pass has one backward pass, and what it kept is freed with it."""
        gradients = ctx.graph.backward(ctx.state, gradient_BC)
        ctx.state = None
        return (None, None, None, *gradients)


Gradients = dict[str, torch.Tensor | None]
"""By the name of a weight; None where the loss does not depend on it."""


def _gradients(losses: ByHead, weights: dict[str, nn.Parameter]) -> Gradients:
    loss = torch.stack([losses_B.sum() for losses_B in losses.values()]).sum()
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return dict(zip(weights, found, strict=True))


def require_equal(expected: Gradients, found: Gradients) -> None:
    """ModelError where a gradient differs from the one expected by more than `TOLERANCE`, or one of the two is not
    there."""
    largest = max((float(one.abs().max()) for one in expected.values() if one is not None), default=0.0)
    worst, where = max(_differences(expected, found, SMALLEST * largest))
    if not worst <= TOLERANCE:
        raise _refused(
            f"the gradient of {where} differs from PyTorch's by {worst:.2g} of its size (at most {TOLERANCE:g})",
            'Use train.engine = "torch".',
        )


def _differences(expected: Gradients, found: Gradients, smallest: float) -> Iterator[tuple[float, str]]:
    """The largest difference of each weight, relative to its largest number or `smallest`, and its name."""
    for name, gradient in expected.items():
        other = found[name]
        if gradient is None or other is None:
            missing = (gradient is None) != (other is None)
            yield float("inf") if missing else 0.0, name
            continue
        size = max(float(gradient.abs().max()), smallest, torch.finfo(torch.float32).tiny)
        difference = float((other - gradient).abs().max()) / size
        yield difference if difference == difference else float("inf"), name


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _refused(reason: str, hint: str) -> ModelError:
    return ModelError(
        f'train.engine = "onnxruntime", but {reason}.',
        hint=hint,
        key="train.engine",
        value="onnxruntime",
        reason=reason,
    )
