"""A learner's parts: any engine with row losses trains; evaluation leaves a learner as it was; names in checkpoints
stay."""

from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of
from kits.problems import CPU, multiclass, rows_and_model
from torch import nn

from textune.batches.batch import MicroBatch, TokenBatch
from textune.config.schema import TrainSection
from textune.config.sharing import DataParallel, DeepSpeed, Sharded
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.ranks import ALONE, Ranks
from textune.tasks.task import ByHead, Task
from textune.training.engines import OUTPUTS
from textune.training.learner import SHARINGS, Learner, is_sharded, learner_alone, sharing_kind
from textune.training.sharing.alone import Alone
from textune.training.state import weights_of
from textune.training.updates import build_update


@pytest.fixture
def work(tmp_path: Path) -> tuple[TextModel, Task, MicroBatch]:
    task, targets = multiclass(6)
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
    (part,) = next(iter(loader_of(rows, TrainSection(), layout=model.layout, pad_id=model.pad_id))).micro_batches
    return model, task, part


def gradients(
    learner: Learner, task: Task, part: MicroBatch, shares: ByHead
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    learner.zero_grad()
    loss = learner.compute(part, task, shares, last=True)
    return loss, {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}


def test_the_loss_and_its_gradient_are_those_of_the_shares(work: Any) -> None:
    model, task, part = work
    shares = {"label": torch.rand(6)}
    loss, found = gradients(learner_alone(model, TrainSection(), CPU), task, part, shares)
    model.zero_grad()
    expected = (task.row_losses(model(part.tokens), part.targets)["label"] * shares["label"]).sum()
    expected.backward()
    assert torch.equal(loss, expected.detach()) and not loss.requires_grad
    assert found.keys() == {name for name, p in model.named_parameters() if p.grad is not None}
    for name, gradient in found.items():
        assert torch.equal(gradient, model.get_parameter(name).grad), name  # type: ignore[arg-type]


class Runtime:
    """Stands for a runtime without autograd: it is given the rows, and then asked for gradients of its own weights."""

    def __init__(self, model: TextModel) -> None:
        self.model = model
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def losses(self, tokens: TokenBatch, task: Task, targets: ByHead) -> torch.Tensor:
        with torch.no_grad():
            return task.row_losses(self.model(tokens), targets)["label"]

    def gradients(self, tokens: TokenBatch, task: Task, targets: ByHead, shares_B: torch.Tensor) -> list[Any]:
        with torch.enable_grad():
            losses_B = task.row_losses(self.model(tokens), targets)["label"]
            return list(torch.autograd.grad(losses_B, self.trained, shares_B, allow_unused=True))


class Foreign(torch.autograd.Function):
    """Its backward pass is the runtime's."""

    @staticmethod
    def forward(
        ctx: Any, runtime: Runtime, tokens: TokenBatch, task: Task, targets: ByHead, *_: torch.Tensor
    ) -> torch.Tensor:
        ctx.call = (runtime, tokens, task, targets)
        return runtime.losses(tokens, task, targets)

    @staticmethod
    def backward(ctx: Any, shares_B: torch.Tensor) -> Any:  # type: ignore[override]
        runtime, *call = ctx.call
        return (None, None, None, None, *runtime.gradients(*call, shares_B))


class ForeignEngine(nn.Module):
    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model
        self._runtime = Runtime(model)

    def forward(self, tokens: TokenBatch, task: Task | None = None, targets: ByHead | None = None) -> ByHead:
        if task is None or targets is None:
            return {OUTPUTS: self.model(tokens)}
        return {"label": Foreign.apply(self._runtime, tokens, task, targets, *self._runtime.trained)}


def test_an_engine_without_autograd_fits(work: Any) -> None:
    model, task, part = work
    shares = {"label": torch.rand(6)}
    loss, expected = gradients(learner_alone(model, TrainSection(), CPU), task, part, shares)
    engine = ForeignEngine(model)
    learner = Learner(engine, build_update(model, TrainSection(), CPU), Alone(engine), device=CPU, ranks=ALONE)
    other_loss, found = gradients(learner, task, part, shares)
    torch.testing.assert_close(loss, other_loss)
    torch.testing.assert_close(found, expected)
    before = {name: tensor.clone() for name, tensor in weights_of(model).items()}
    learner.step()
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights_of(model).items())


def test_outputs_are_the_models_and_losses_are_not_reduced_in_low_precision(work: Any) -> None:
    model, task, part = work
    learner = learner_alone(model, TrainSection(), Device(torch.device("cpu"), "bf16"))
    with learner.published(), torch.no_grad():
        outputs = learner.outputs(part.tokens)
        with learner.device.autocast():
            assert torch.equal(outputs, model(part.tokens))
        losses = learner.engine(part.tokens, task, part.targets)
    assert losses["label"].dtype == outputs.dtype == torch.float32


def test_evaluating_and_saving_leave_the_model_as_training_had_it(work: Any) -> None:
    model, _, _ = work
    learner = learner_alone(model, TrainSection(), CPU)
    model.train()
    with learner.published():
        assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.modules())
    with pytest.raises(KeyError), learner.published():
        raise KeyError("an evaluation that fails")
    assert model.training
    model.eval()
    with learner.published():
        pass
    assert not model.training


def test_checkpoints_name_weights_by_the_models_own_names(work: Any) -> None:
    model, task, part = work
    learner = learner_alone(model, TrainSection(), CPU)
    learner.compute(part, task, {"label": torch.rand(6)}, last=True)
    learner.step()
    names = [name for name, _ in learner.tensors()]
    assert {name.removeprefix("model/") for name in names if name.startswith("model/")} == weights_of(model).keys()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {name for name in names if name.startswith("optimizer/")} == {
        f"optimizer/{name}/{key}" for name in trained for key in ("exp_avg", "exp_avg_sq", "step")
    }


def test_a_state_that_does_not_fit_is_refused(work: Any) -> None:
    learner = learner_alone(work[0], TrainSection(), CPU)
    tensors = {name: tensor.clone() for name, tensor in learner.tensors()}
    name = next(iter(tensors))

    def restore(changed: dict[str, torch.Tensor]) -> None:
        learner.restore(set(changed), changed.__getitem__, {"optimizer": {}})

    restore(tensors)
    with pytest.raises(ValueError, match=r"hf\.other"):
        restore(tensors | {"model/hf.other": torch.ones(1)})
    with pytest.raises(ValueError, match=name.removeprefix("model/")):
        restore(tensors | {name: torch.ones(1)})
    del tensors[name]
    with pytest.raises(KeyError):
        restore(tensors)


def test_the_names_that_checkpoints_note_stay() -> None:
    two = Ranks(world=2)
    found = [sharing_kind(TrainSection(distributed=kind), two) for kind in (DataParallel(), Sharded(), DeepSpeed())]
    assert [sharing_kind(TrainSection(), ALONE), *found] == ["alone", "ddp", "fsdp", "deepspeed"] == list(SHARINGS)


def test_which_sharing_cuts_the_weights() -> None:
    assert is_sharded(Sharded()) and is_sharded(DeepSpeed(stage=3))
    assert not is_sharded(DeepSpeed(stage=2)) and not is_sharded(TrainSection().distributed)
