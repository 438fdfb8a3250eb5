"""What is trained: an engine, an update and a sharing, behind one class; between `updates.py` and `loop.py`.

    Engine    micro-batch -> row losses                    engines.py
    Update    gradients -> weights                         updates.py; DeepSpeed's in sharing/zero/update.py
    Sharing   how several ranks share weights and work     sharing/: alone, ddp, fsdp, zero/

The loop knows only the methods of `Learner`, and a checkpoint only `tensors` and `numbers`: whichever sharing wrote
it, any other, on any number of ranks, resumes from it.

To add a way of sharing: write a module in sharing/ with the functions `require` and `share`, and give it a row in
`SHARINGS`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
from collections.abc import Callable, Iterator
from typing import Protocol, final

import torch

from textune.batches import MicroBatch, Tokens
from textune.config import Distributed, TrainSection
from textune.model import Device, TextModel
from textune.ranks import ALONE, Ranks
from textune.tasks import ByHead, Task
from textune.training.engines import OUTPUTS, Engine, Targets, build_engine, require_engine
from textune.training.state import MODEL, OPTIMIZER, Numbers, OptimizerState, Placed, Read, held_weights


class Update(Protocol):
    """Changes the weights by their gradients. `placed` is as of `Weights`."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, the mean over the ranks, to that of the step."""

    def step(self) -> torch.Tensor:
        """Clip the gradients and change the weights; returns the gradients' norm before, float32 []."""

    def zero_grad(self) -> None:
        """Free the gradients."""

    def published(self) -> contextlib.AbstractContextManager[None]:
        """Within it the weights are those that are evaluated and saved, afterwards those that are trained."""

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate of the next step."""

    @property
    def learning_rate(self) -> float:
        """The rate that the optimizer itself holds."""

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What the optimizer holds of each weight, as (WEIGHT/KEY, tensor), in the same order on all ranks."""

    def numbers(self) -> Numbers:
        """The rest of its state."""

    def restore(self, names: set[str], read: Read, numbers: Numbers, placed: Placed) -> None:
        """Take over a state; the weights are restored already."""


class Weights(Protocol):
    """What a rank holds of the weights, against the whole tensors of a checkpoint."""

    @property
    def cut(self) -> bool:
        """Whether a rank holds only pieces of them, so that each forward pass gathers them from all ranks."""

    def settle(self) -> None:
        """Return to the pieces, where an evaluation has left gathered weights in their place."""

    def whole(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """The whole of a tensor, for reading, within the context; all ranks enter it together."""

    def writable(self, tensor: torch.Tensor) -> contextlib.AbstractContextManager[torch.Tensor]:
        """A weight in its whole shape, for writing what `placed` gives, within the context."""

    def placed(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """What this rank holds of a whole tensor that has the shape of the weight `like`."""


class Sharing(Protocol):
    """How the ranks of a run compute the gradient of one step together."""

    lockstep: bool
    """Whether every rank must compute the same number of micro-batches, since each pass exchanges something between
    all."""
    may_redo: bool
    """Whether this rank may repeat the step by itself: no other has seen anything of it yet."""
    weights: Weights

    def exchange(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around forward and backward of a micro-batch; with the `last` of a step the ranks average their
        gradients."""

    def row_losses(self, tokens: Tokens, task: Task, targets: Targets) -> ByHead:
        """The engine's row losses, computed so that the backward pass exchanges what it must."""


Share = Callable[[Engine, TrainSection, Device, Ranks], tuple[Sharing, Update]]
"""The function `share` of a module in `SHARINGS`."""
Require = Callable[[TrainSection, Device, Ranks, int | None], None]
"""Its function `require`: raises early what `share` would find wrong; the last argument is the steps per epoch, once
known."""

SHARINGS = {
    "alone": "textune.training.sharing.alone",
    "ddp": "textune.training.sharing.ddp",
    "fsdp": "textune.training.sharing.fsdp",
    "deepspeed": "textune.training.sharing.zero.sharing",
}
"""`train.distributed.kind` to the module that does it; `alone` is `ddp` without another rank."""


@final
class Learner:
    """A model in training. Where several ranks share it, all of them call every method together."""

    def __init__(self, engine: Engine, update: Update, sharing: Sharing, *, device: Device, ranks: Ranks) -> None:
        self.engine = engine
        self.update = update
        self.sharing = sharing
        self.device = device
        self.ranks = ranks

    @property
    def model(self) -> TextModel:
        """The model that is trained."""
        return self.engine.model

    @property
    def lockstep(self) -> bool:
        """As of `Sharing`."""
        return self.sharing.lockstep

    # --- a step ------------------------------------------------------------------------------------------------------

    def compute(self, micro_batch: MicroBatch, task: Task, shares: ByHead, *, last: bool) -> torch.Tensor:
        """Forward, loss and backward of one micro-batch; returns its loss, float32 [], detached.

        The loss is the sum over heads of sum(shares_B x row losses_B), with shares float32 [B] by head. The gradient
        of a step is the sum over its micro-batches and all ranks; `last` marks the step's last one. Tensors are on the
        device.
        """
        with self.sharing.exchange(last=last):
            losses = self.sharing.row_losses(micro_batch.tokens, task, micro_batch.targets)
            loss = functools.reduce(
                operator.add, [(losses[name] * shares_B).sum() for name, shares_B in shares.items()]
            )
            # Every sharing averages gradients over the ranks; the gradient of a step is their sum.
            self.update.backward(loss if self.ranks.alone else loss * self.ranks.world)
        return loss.detach()

    def step(self) -> torch.Tensor:
        """Clip the gradients and change the weights; returns the gradients' norm before, float32 []."""
        return self.update.step()

    def zero_grad(self) -> None:
        """Free the gradients."""
        self.update.zero_grad()

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate of the next step."""
        self.update.set_learning_rate(lr)

    # --- evaluating and saving ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def published(self) -> Iterator[None]:
        """Around evaluating and saving between two steps: the model is in evaluation mode and has the weights that the
        update rule publishes; then it is as training left it."""
        was_training, weights = self.model.training, self.sharing.weights
        weights.settle()
        with self.update.published():
            self.model.eval()
            try:
                yield
            finally:
                weights.settle()
                self.model.train(was_training)

    def outputs(self, tokens: Tokens) -> torch.Tensor:
        """The model's outputs for a batch on the device, float32 [B, C]; pieces of weights are gathered for it."""
        return self.engine(tokens)[OUTPUTS]

    def model_state(self) -> dict[str, torch.Tensor] | None:
        """The whole state that is saved on the CPU of the first rank, `{}` on the others; None where the
        model itself holds it."""
        weights = self.sharing.weights
        if not weights.cut:
            return None
        weights.settle()
        state: dict[str, torch.Tensor] = {}
        copies: dict[int, torch.Tensor] = {}  # tied weights stay tied
        for name, tensor in self.model.saved_state(keep_vars=True).items():
            if id(tensor) not in copies:
                with weights.whole(tensor) as whole:
                    copies[id(tensor)] = whole.to("cpu", copy=True) if self.ranks.is_first else torch.empty(0)
            if self.ranks.is_first:
                state[name] = copies[id(tensor)]
        return state

    # --- state -------------------------------------------------------------------------------------------------------

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight that a checkpoint holds (`held_weights`) and every tensor of the optimizer, whole, by name;
        each is valid until the next one is asked for.

        The order is the same on all ranks. The weights are the published ones: a checkpoint can be used as a model,
        and what they are in training is part of the optimizer's state.
        """
        weights = self.sharing.weights
        weights.settle()
        with self.update.published():
            for name, tensor in held_weights(self.model).items():
                with weights.whole(tensor) as whole:
                    yield MODEL + name, whole
            for name, tensor in self.update.tensors():
                with weights.whole(tensor) as whole:
                    yield OPTIMIZER + name, whole

    def numbers(self) -> Numbers:
        """The rest of the state, as JSON stores it."""
        return self.update.numbers()

    def restore(self, names: set[str], read: Read, numbers: Numbers) -> None:
        """Take over what `tensors` and `numbers` gave; `names` are all that `read` knows.

        KeyError where a weight is missing, ValueError where one has another shape or is not of this model.
        """
        weights = self.sharing.weights
        weights.settle()
        own = held_weights(self.model)
        # Earlier versions held the frozen weights too; whether these are still the same is settled before.
        known = own.keys() | self.model.frozen_weights.by_name().keys()
        unknown = sorted(name for name in names if name.startswith(MODEL) and name.removeprefix(MODEL) not in known)
        if unknown:
            raise ValueError(f"the model has no {unknown[0].removeprefix(MODEL)}")
        for name, tensor in own.items():
            whole = read(MODEL + name)
            with torch.no_grad(), weights.writable(tensor) as target:
                if whole.shape != target.shape:
                    raise ValueError(f"{name} is {list(whole.shape)} there and {list(target.shape)} here")
                target.copy_(weights.placed(whole, target))
        self.update.restore(names, read, numbers, weights.placed)

    def adopt(self, state: OptimizerState) -> None:
        """Take over what the optimizer of another program knew of these weights, which are there already."""
        self.sharing.weights.settle()
        self.update.restore(state.names, state.read, state.numbers, self.sharing.weights.placed)


def is_sharded(section: Distributed) -> bool:
    """Whether a rank will hold only pieces of the weights, so that each pass gathers them from all ranks."""
    return section.kind == "fsdp" or (section.kind == "deepspeed" and section.stage == 3)


def computes_whole(section: Distributed) -> bool:
    """Whether an example is always computed as a whole: not in parts, of which ranks would have different numbers."""
    return section.kind != "ddp"


def require_learner(
    section: TrainSection, device: Device, ranks: Ranks, *, steps_per_epoch: int | None = None
) -> None:
    """Raise early what `build_learner` would find wrong with `train.engine` and `train.distributed`.

    With `steps_per_epoch`, once it is known, also what a user's own DeepSpeed file says about steps.
    """
    require_engine(section, device, ranks)
    require: Require = importlib.import_module(SHARINGS[sharing_kind(section, ranks)]).require
    require(section, device, ranks, steps_per_epoch)


def build_learner(model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> Learner:
    """The learner that `train.distributed` asks for."""
    return _build(sharing_kind(section, ranks), model, section, device, ranks)


def learner_alone(model: TextModel, section: TrainSection, device: Device) -> Learner:
    """A learner of this process by itself, whatever `train.distributed` says."""
    return _build("alone", model, section, device, ALONE)


def _build(kind: str, model: TextModel, section: TrainSection, device: Device, ranks: Ranks) -> Learner:
    engine = build_engine(model, device, kind=section.engine)
    share: Share = importlib.import_module(SHARINGS[kind]).share
    sharing, update = share(engine, section, device, ranks)
    return Learner(engine, update, sharing, device=device, ranks=ranks)


def sharing_kind(section: TrainSection, ranks: Ranks) -> str:
    """The key in `SHARINGS` of what a run does; checkpoints note it, so these names stay."""
    return "alone" if ranks.alone and section.distributed.kind == "ddp" else section.distributed.kind
