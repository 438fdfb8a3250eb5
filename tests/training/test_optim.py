"""Update rules: AdamW, and the one that keeps its state in 8 bits."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of, rows_of, store_of

from textune.config.fields import keys_of, variants
from textune.config.schema import ModelSection, TrainSection
from textune.config.taskkinds import MulticlassTask
from textune.config.updaterules import AdamW, AdamW8bit
from textune.data.labels.map import LabelMap
from textune.errors import ModelError
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer
from textune.tasks.task import build_task
from textune.training.learner import learner_alone
from textune.training.loop import steps
from textune.training.rules import UPDATE_RULES, require_optimizer, state_bytes
from textune.training.updates import build_optimizer, set_learning_rate, update_weights

needs_8bit = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
TASK = build_task(MulticlassTask(), {"label": LabelMap("multiclass", ("a", "b", "c"))})


def build_model(folder: Path) -> TextModel:
    section = ModelSection(pretrained=str(folder))
    return load_model(section, load_tokenizer(section), label_maps=TASK.label_maps, num_logits=3, seed=0)


def train(folder: Path, section: AdamW) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """Losses and weights of 50 steps; the words of a row tell its class."""
    generator = np.random.default_rng(0)
    targets = np.arange(64) % 3
    ids = np.concatenate([generator.integers(100 + 20 * target, 120 + 20 * target, 8) for target in targets])
    store = store_of([8] * 64, ids)
    model = build_model(folder)
    keys = TrainSection(batch_size=16, prefetch=0, optimizer=section)
    loader = loader_of(rows_of(store, targets), keys, layout=model.layout, pad_id=model.pad_id)
    device = Device(torch.device("cpu"), "fp32")
    results = list(steps(learner_alone(model, keys, device), TASK, loader, keys, total_steps=50, warmup_steps=5))
    return np.array([float(result.loss) for result in results]), {
        k: v.detach().clone() for k, v in model.state_dict().items()
    }


@needs_8bit
@pytest.mark.parity("TW-14")
def test_8_bits_of_state_train_nearly_the_same(tmp_path: Path) -> None:
    """Losses within 0.01 over 50 steps that bring them to almost nothing; weights within a tenth of the way they
    went."""
    # Every matrix is large enough (4,096 numbers) that bitsandbytes keeps its moments in 8 bits.
    size = {"hidden_size": 64, "intermediate_size": 256, "initializer_range": 0.1}
    folder = tiny_backbone("bert", tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **size)
    start = {name: tensor.detach().clone() for name, tensor in build_model(folder).state_dict().items()}
    losses, weights = train(folder, AdamW(lr=2e-3))
    losses_8bit, weights_8bit = train(folder, AdamW8bit(lr=2e-3))
    assert losses[-5:].mean() < 0.3 * losses[:5].mean()
    assert np.abs(losses - losses_8bit).max() < 0.01
    assert not np.array_equal(losses, losses_8bit)
    way = torch.cat([(weights[name] - start[name]).flatten() for name in weights]).norm()
    apart = torch.cat([(weights[name] - weights_8bit[name]).flatten() for name in weights]).norm()
    assert apart < 0.1 * way


@needs_8bit
def test_the_state_takes_the_bytes_that_are_reckoned_with(tmp_path: Path) -> None:
    model = build_model(tiny_backbone("bert", tmp_path, hidden_size=64, intermediate_size=512))
    for section, more in ((AdamW(), 0.01), (AdamW8bit(), 0.25)):  # scales, and small tensors, which stay in 32 bits
        optimizer = build_optimizer(model, section)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        states = [v for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v)]
        held = sum(tensor.nbytes for tensor in {tensor.data_ptr(): tensor for tensor in states}.values())
        reckoned = state_bytes(section, dict(model.named_parameters()))
        assert reckoned * 0.99 < held < reckoned * (1 + more), section.kind


@needs_8bit
def test_keys_of_the_8_bit_rule_have_an_effect(tmp_path: Path) -> None:
    model = build_model(tiny_backbone("bert", tmp_path))
    section = AdamW8bit(lr=3e-4, weight_decay=0.2, beta1=0.8, beta2=0.95, eps=1e-7)
    decayed, kept = build_optimizer(model, section).param_groups
    assert (decayed["lr"], decayed["betas"], decayed["eps"]) == (3e-4, (0.8, 0.95), 1e-7)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.2, 0.0)


def test_without_a_package_for_8_bits_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_optimizer(AdamW())
    with pytest.raises(ModelError, match=r'kind = "adamw_8bit", but neither bitsandbytes nor torchao') as caught:
        require_optimizer(AdamW8bit())
    assert (caught.value.key, caught.value.value) == ("train.optimizer.kind", "adamw_8bit")
    assert 'pip install "textune[8bit]"' in caught.value.hint
    with pytest.raises(ModelError, match="adamw_8bit"):
        build_optimizer(torch.nn.Linear(2, 2), AdamW8bit())


class TensorRate(torch.optim.SGD):
    """A stand-in of the shape of torchao's rule: the rate is a tensor, since the step is compiled around it."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, lr=torch.tensor(lr))


def test_torchao_is_taken_where_bitsandbytes_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torchao.optim")
    module.AdamW8bit = TensorRate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchao.optim", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    optimizer = build_optimizer(torch.nn.Linear(2, 2), AdamW8bit())
    assert isinstance(optimizer, TensorRate)
    rates = [group["lr"] for group in optimizer.param_groups]
    set_learning_rate(optimizer, 0.125)
    assert [float(rate) for rate in rates] == [0.125, 0.125]  # filled, not replaced
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


def test_the_learning_rate_of_every_group_is_set() -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), AdamW())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_every_kind_of_optimizer_has_its_rule() -> None:
    assert set(UPDATE_RULES) == set(variants(keys_of(TrainSection)["optimizer"]))


@pytest.mark.parametrize("limit", [0.0, 0.5, 1000.0])
@pytest.mark.parity("clipping")
def test_clipping_within_the_update_is_clipping_before_it(limit: float) -> None:
    """Against PyTorch's own two passes, with the gradients' norm below and above the limit."""
    results = []
    for fused in (True, False):
        generator = torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(size, generator=generator)) for size in (7, 33)]
        optimizer = torch.optim.AdamW(weights, lr=0.1, fused=fused)
        norms = []
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            norms.append(update_weights(optimizer, None, max_grad_norm=limit))
        results.append((torch.stack(norms), torch.cat([weight.detach() for weight in weights])))
    (norms, ours), (their_norms, theirs) = results
    torch.testing.assert_close(norms, their_norms)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments(fused: bool, bad: float) -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    weight.grad = torch.ones(4)
    update_weights(optimizer, None, max_grad_norm=1.0)
    before = [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]
    weight.grad = torch.tensor([1.0, bad, 1.0, 1.0])
    norm = update_weights(optimizer, None, max_grad_norm=1.0)
    assert not torch.isfinite(norm)
    after = [weight.detach(), *optimizer.state[weight].values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
