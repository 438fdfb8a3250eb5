"""Whole layers with adapters: their kernels against the modules of peft, in every family that has whole layers."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.models import (
    LAYERS_FIRST_NORMED,
    LAYERS_LAST_NORMED,
    UNEVEN,
    Built,
    assert_same_gradients,
    build,
    close,
    gradients,
    lay_out,
    random_rows,
    require_kernels,
    without_dropout,
)
from kits.runs import threads
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from textune.config.adapters import Lora
from textune.config.schema import TrainSection
from textune.config.updaterules import Adafactor, AdamW, Lion, Muon, Optimizer, ScheduleFree, Sgd
from textune.model.device import Device
from textune.model.native.adamw import KernelAdamW
from textune.model.native.kernels import Kernels
from textune.model.recompute import checkpoint_gradients
from textune.model.targets import linears
from textune.training.learner import learner_alone
from textune.training.updates import update_weights

pytest.importorskip("peft", reason="the extra `lora` is not installed")

FAMILIES = [*LAYERS_LAST_NORMED, *LAYERS_FIRST_NORMED]
FEW = ["bert", "deberta-v2", "modernbert", "gpt2", "qwen3"]
"""One of each way to write a layer."""
EVERY_SECOND = "every second linear layer"
LORAS = {
    "all linear": Lora(r=3, alpha=7.0),
    "some, with biases": Lora(
        r=2,
        bias="all",
        targets=(EVERY_SECOND,),
        options={"use_rslora": True, "rank_pattern": {".*0.*": 5}, "alpha_pattern": {".*1.*": 3}},
    ),
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """The kernels share their rows out among threads."""
    with threads(2):
        yield


def adapted(family: str, folder: Path, lora: Lora, *, kernels: bool, **keys: Any) -> Built:
    """A tiny model without dropout, whose adapters add something to the weights; the same for every way to compute."""
    if kernels:
        require_kernels()
    built = build(family, folder, section={"compile": "on" if kernels else "off"}, **keys)
    if lora.targets == (EVERY_SECOND,):
        in_head = built.model._whole
        names = [name for name in linears(built.hf) if f"{name}.weight" not in in_head]
        biased = any(built.hf.get_submodule(name).bias is not None for name in names)
        lora = lora.model_copy(update={"targets": tuple(names[::2]), "bias": lora.bias if biased else "none"})
    built.model.adapt(lora, seed=3)
    built.model.freeze()
    with torch.no_grad():  # B starts as zeros; new norms and biases are ones and zeros, which hide mistakes
        for name, parameter in built.hf.named_parameters():
            if "lora_B" in name or parameter.ndim == 1:
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                parameter.add_(noise, alpha=0.1)
    without_dropout(built.model)
    built.model.speed_up(torch.float32, training=True)
    if kernels:
        assert f" {built.hf.config.num_hidden_layers} whole layers; " in built.model.accelerator.note
    return built.model.train() and built


def loss_of(built: Built, groups: tuple[int, ...] | None = UNEVEN) -> torch.Tensor:
    batch = lay_out(built, random_rows(built), groups)
    return functional.cross_entropy(built.model(batch), torch.arange(len(batch.rows)) % 3)


@pytest.mark.every_day(2)
@pytest.mark.parametrize("lora", LORAS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_peft(family: str, lora: str, tmp_path: Path) -> None:
    """Beside its modules in the packed layout, and in the padded forward of transformers."""
    fast, slow = (adapted(family, tmp_path, LORAS[lora], kernels=kernels) for kernels in (True, False))
    loss, packed_loss = loss_of(fast), loss_of(slow)
    ours, theirs = gradients(fast.hf, loss), gradients(slow.hf, packed_loss)
    assert {name for name, p in fast.hf.named_parameters() if p.grad is not None} == {
        name for name, p in slow.hf.named_parameters() if p.grad is not None
    }
    assert loss.item() == pytest.approx(packed_loss.item(), rel=1e-5)
    assert_same_gradients(ours, theirs)
    slow.model.set_layout("padded")
    padded_loss = loss_of(slow, None)
    assert loss.item() == pytest.approx(padded_loss.item(), rel=1e-5)
    assert_same_gradients(ours, gradients(slow.hf, padded_loss))


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_stays_near_fp32(family: str, tmp_path: Path) -> None:
    built = adapted(family, tmp_path, LORAS["all linear"], kernels=True)
    exact = gradients(built.hf, loss_of(built))
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(built)
    low = gradients(built.hf, loss)
    whole = torch.stack([gradient.norm() for gradient in exact.values()]).norm()
    for name, gradient in exact.items():
        assert (low[name] - gradient).norm() < 0.06 * gradient.norm() + 0.01 * whole, name


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", FEW)
def test_weights_after_fifty_steps_are_those_of_pytorch(family: str, tmp_path: Path) -> None:
    """The kernels' layers and optimizer beside PyTorch's; an evaluation between two steps finds the weights of now."""
    runs = []
    for kernels in (True, False):
        built = adapted(family, tmp_path, LORAS["all linear"], kernels=kernels)
        section = TrainSection(optimizer=AdamW(lr=5e-4, eps=1e-4))
        optimizer = learner_alone(built.model, section, Device(torch.device("cpu"), "fp32")).update.optimizer
        assert isinstance(optimizer, KernelAdamW) == kernels
        seen = []
        for step in range(50):
            optimizer.zero_grad()
            loss_of(built).backward()
            update_weights(optimizer, None, max_grad_norm=1.0)
            if step % 10 == 0:
                built.model.eval()
                with torch.inference_mode() if step == 20 else torch.no_grad():
                    seen.append(loss_of(built).item())
                built.model.train()
        runs.append((seen, dict(built.hf.named_parameters())))
    (ours, fast), (theirs, slow) = runs
    assert ours == pytest.approx(theirs, rel=1e-5) and ours[-1] < ours[0]
    start = dict(adapted(family, tmp_path, LORAS["all linear"], kernels=False).hf.named_parameters())
    for name, weight in slow.items():
        assert (fast[name] - weight).abs().max() <= 1e-6, name
        assert torch.equal(weight, start[name]) != weight.requires_grad, name


RULES = (AdamW(lr=1e-2), Adafactor(lr=1e-2), Sgd(lr=0.1), Lion(lr=1e-3), ScheduleFree(lr=1e-2), Muon(lr=1e-2))


@pytest.mark.every_day(2)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_pass_reads_the_weights_of_now_whatever_changed_them(rule: Optimizer, tmp_path: Path) -> None:
    """A step of any rule, what it publishes, a restore: the copies of weights are never those of before."""
    built = adapted("bert", tmp_path, Lora(r=3, bias="all"), kernels=True)
    learner = learner_alone(built.model, TrainSection(optimizer=rule), Device(torch.device("cpu"), "fp32"))
    kernels = built.model.accelerator.kernels

    def evaluated() -> float:
        with learner.published(), torch.inference_mode():
            fast, again = loss_of(built), loss_of(built)
            built.model.accelerator.kernels = None
            close(fast, loss_of(built))
            built.model.accelerator.kernels = kernels
        assert torch.equal(fast, again)
        return fast.item()

    def train(steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            learner.zero_grad()
            loss_of(built).backward()
            learner.step()
            found.append(evaluated())
        return found

    assert len(set(train(2))) == 2
    state, numbers = {name: tensor.clone() for name, tensor in learner.tensors()}, learner.numbers()
    ahead = train(2)
    learner.restore(set(state), state.__getitem__, numbers)
    assert train(2) == ahead, "bit for bit"


class Shapes(TorchDispatchMode):
    """Notes the shapes of all that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.products.append(tuple(result.shape))
        return result


@pytest.mark.parametrize("family", FEW)
def test_no_gradient_of_a_frozen_weight_is_ever_formed(family: str, tmp_path: Path) -> None:
    built = adapted(family, tmp_path, LORAS["all linear"], kernels=True)
    loss = loss_of(built)
    matrices = [p for p in built.hf.parameters() if p.ndim == 2]
    sides = {side for p in matrices if not p.requires_grad for side in p.shape}
    trained = Counter(tuple(p.shape) for p in matrices if p.requires_grad)
    with Shapes() as shapes:
        loss.backward()
    formed = Counter(shape for shape in shapes.products if set(shape) <= sides)
    assert shapes.products and formed <= trained  # of the head, say


@pytest.mark.every_day(2)
@pytest.mark.parametrize("family", FEW)
def test_nothing_runs_below_the_lowest_trained_weight(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings are outside the graph, and so is each layer without adapters below the first that has some."""
    layers = []
    call = Kernels.call

    def counted(self: Kernels, name: str, arguments: Any) -> None:
        layers.extend([name] if name in ("attention_backward", "disentangled_backward") else [])
        call(self, name, arguments)

    monkeypatch.setattr(Kernels, "call", counted)
    names = {
        "bert": "output.dense",
        "deberta-v2": "output.dense",
        "modernbert": "mlp.Wo",
        "gpt2": "mlp.c_proj",
        "qwen3": "mlp.down_proj",
    }
    number = adapted(family, tmp_path, LORAS["all linear"], kernels=True).hf.config.num_hidden_layers
    last = number - 1
    for targets, expected in (
        (("all-linear",), number),
        ((f"*.{last}.*",), 1),
        ((f"*.{last}.{names[family]}",), 0),
        ((f"*.0.{names[family]}",), number - 1),
    ):
        built = adapted(family, tmp_path, Lora(targets=targets), kernels=True)
        outputs: list[torch.Tensor] = []
        embeddings = built.hf.get_input_embeddings()
        embeddings.register_forward_hook(lambda _m, _i, output, kept=outputs: kept.append(output))
        loss = loss_of(built)
        layers.clear()
        loss.backward()
        assert len(layers) == expected, targets
        assert not outputs[0].requires_grad


@pytest.mark.parametrize("family", FEW)
def test_recomputed_layers_and_copies_of_a_model_compute_the_same(family: str, tmp_path: Path) -> None:
    built = adapted(family, tmp_path, LORAS["all linear"], kernels=True)
    theirs = gradients(built.hf, loss_of(built))
    twin = Built(family, tmp_path, built.tokenizer, copy.deepcopy(built.model))
    with torch.no_grad():
        for parameter in built.hf.parameters():
            parameter.mul_(0.5)
    assert_same_gradients(gradients(twin.hf, loss_of(twin)), theirs)
    checkpoint_gradients(twin.model)
    assert_same_gradients(gradients(twin.hf, loss_of(twin)), theirs)


@pytest.mark.parametrize(
    ("lora", "layers"),
    [
        (Lora(dropout=0.1), 0),
        (Lora(options={"use_dora": True}), 0),
        (Lora(options={"lora_bias": True}), 0),
        (Lora(dropout=0.1, targets=("*.1.*",)), 1),
        (Lora(), 2),
    ],
)
def test_of_other_adapters_attention_alone_is_compiled(lora: Lora, layers: int, tmp_path: Path) -> None:
    require_kernels()
    built = build("bert", tmp_path, section={"compile": "on"})
    built.model.adapt(lora, seed=0)
    built.model.speed_up(torch.float32, training=True)
    expected = f"attention, dropout and {layers} whole layers" if layers else "attention and dropout"
    assert built.model.accelerator.note.startswith(f"compiled for {built.model.accelerator.way}: {expected}; ")


def test_an_adapter_that_was_merged_or_switched_off_is_left_to_peft(tmp_path: Path) -> None:
    require_kernels()
    for change in ("merge", "enable_adapters"):
        built = build("bert", tmp_path, section={"compile": "on"})
        built.model.adapt(Lora(), seed=0)
        key = built.hf.bert.encoder.layer[0].attention.self.key
        key.merge() if change == "merge" else key.enable_adapters(False)
        built.model.speed_up(torch.float32, training=True)
        assert " 1 whole layers; " in built.model.accelerator.note
