"""Focal loss: the formula of the paper, cross-entropy at gamma 0, weights, smoothing, and numbers at the edge."""

from typing import Any

import pytest
import torch
from kits.errors import refused
from torch.nn import functional

from textune.config.load import load_config
from textune.config.taskkinds import AutoTask, BinaryTask, MulticlassTask, MultilabelTask, MultitaskTask
from textune.data.labels.map import LABEL, LabelMap
from textune.data.labels.values import MISSING
from textune.errors import ConfigError
from textune.tasks.focal import focal_classes, focal_labels
from textune.tasks.task import build_task

THREE, TWO = LabelMap("multiclass", ("a", "b", "c")), LabelMap("binary", ("no", "yes"))
SETS, NUMBER = LabelMap("multilabel", ("x", "y", "z")), LabelMap("regression", ("score",))
TARGETS = torch.tensor([0, 1, 2, 2, 1, 0, 0])
GIVEN = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]])
GAMMAS = [0.5, 1.0, 2.0, 5.0]


def build(section: Any, label_map: LabelMap) -> Any:
    """The head of the task with these labels."""
    return build_task(section, {LABEL: label_map}).head


def logits(*, scale: float = 3.0) -> torch.Tensor:
    """float32 [7, 3]."""
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("gamma", GAMMAS)
def test_one_class_of_several_is_the_formula_of_the_paper(gamma: float) -> None:
    """FL(p) = -(1 - p)^gamma log p, where p is the probability of the row's class."""
    p = torch.softmax(logits().double(), dim=1)[torch.arange(7), TARGETS]
    wanted = -((1 - p) ** gamma) * p.log()
    head = build(MulticlassTask(loss="focal", gamma=gamma), THREE)
    torch.testing.assert_close(head.row_losses(logits(), TARGETS).double(), wanted, rtol=1e-5, atol=1e-7)
    assert head.row_weights(TARGETS, None).tolist() == [1.0] * 7


@pytest.mark.parametrize("gamma", GAMMAS)
def test_labels_have_the_formula_for_sigmoids(gamma: float) -> None:
    """With alpha as the weight of the positive term; the mean over the labels."""
    p, alpha = torch.sigmoid(logits().double()), torch.tensor([1.0, 3.0, 0.5])
    wanted = -(GIVEN * alpha * (1 - p) ** gamma * p.log() + (1 - GIVEN) * p**gamma * (1 - p).log()).mean(dim=1)
    table = {"x": 1.0, "y": 3.0, "z": 0.5}
    head = build(MultilabelTask(loss="focal", gamma=gamma, class_weights=table), SETS)
    torch.testing.assert_close(head.row_losses(logits(), GIVEN).double(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", {"no": 1.0, "yes": 7.0}])
def test_one_logit_and_two_agree(smoothing: float, weights: Any) -> None:
    options: dict[str, Any] = {"loss": "focal", "label_smoothing": smoothing, "class_weights": weights}
    one, two = (build(BinaryTask(num_logits=number, **options), TWO) for number in (1, 2))
    z, targets = logits()[:, :1], TARGETS % 2
    pair = torch.cat([torch.zeros(7, 1), z], dim=1)
    torch.testing.assert_close(one.row_losses(z, targets), two.row_losses(pair, targets))
    p = torch.sigmoid(z[:, 0].double())
    if not smoothing:
        p_true = torch.where(targets == 1, p, 1 - p)
        torch.testing.assert_close(one.row_losses(z, targets).double(), -((1 - p_true) ** 2) * p_true.log())


def test_without_gamma_it_is_cross_entropy() -> None:
    """The head's to the last bit; the formula itself within 1e-7, gradients and smoothing and weights included."""
    for section, label_map, targets in (
        (MulticlassTask, THREE, TARGETS),
        (MultilabelTask, SETS, GIVEN),
    ):
        plain, focal = (
            build(section(label_smoothing=0.1, class_weights={label_map.names[1]: 3.0}, **more), label_map)
            for more in ({}, {"loss": "focal", "gamma": 0.0})
        )
        assert torch.equal(plain.row_losses(logits(), targets), focal.row_losses(logits(), targets))
    weights = torch.tensor([1.0, 3.0, 0.5])
    ours, theirs = logits().requires_grad_(), logits().requires_grad_()
    found = focal_classes(ours, TARGETS, gamma=0.0, smoothing=0.1, weights_K=weights)
    wanted = functional.cross_entropy(theirs, TARGETS, weight=weights, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    found.sum().backward(), wanted.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)
    shares = GIVEN * 0.9 + 0.05
    torch.testing.assert_close(
        focal_labels(logits(), shares, gamma=0.0, weights_K=weights),
        functional.binary_cross_entropy_with_logits(logits(), shares, pos_weight=weights, reduction="none"),
    )


def test_weights_of_classes_multiply_the_row() -> None:
    """As with cross-entropy: their mean is weighted by the class."""
    heads = [
        build(MulticlassTask(loss="focal", class_weights=table), THREE)
        for table in ("none", {"a": 1.0, "b": 4.0, "c": 0.0})
    ]
    plain, weighted = heads
    weights = weighted.row_weights(TARGETS, None)
    assert weights.tolist() == [1.0, 4.0, 0.0, 0.0, 4.0, 1.0, 1.0]
    losses = weighted.row_losses(logits(), TARGETS) * weights
    torch.testing.assert_close(losses, plain.row_losses(logits(), TARGETS) * weights)
    assert torch.isfinite(losses).all()


@pytest.mark.parametrize("gamma", [0.01, *GAMMAS])
def test_gradients_are_the_derivative_and_finite_where_the_model_is_certain(gamma: float) -> None:
    inputs = logits().double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: focal_classes(x, TARGETS, gamma=gamma, smoothing=0.1, weights_K=None), inputs
    )
    for sure in (40.0, 200.0, 1e4):
        for sign in (1.0, -1.0):
            edge = torch.tensor([[sign * sure, 0.0, 0.0]], requires_grad=True)
            loss = focal_classes(edge, torch.tensor([0]), gamma=gamma, smoothing=0.0, weights_K=None).sum()
            loss = loss + focal_labels(edge, torch.tensor([[1.0, 0.0, 1.0]]), gamma=gamma, weights_K=None).sum()
            loss.backward()
            assert torch.isfinite(loss) and edge.grad is not None and torch.isfinite(edge.grad).all()


def test_a_row_without_a_label_has_no_loss() -> None:
    head = build(MulticlassTask(loss="focal", class_weights={"c": 3.0}), THREE)
    inputs = logits().requires_grad_()
    targets = torch.where(torch.arange(7) % 2 == 0, MISSING, TARGETS)
    losses = head.row_losses(inputs, targets)
    losses.sum().backward()
    assert losses[::2].tolist() == [0.0] * 4 and inputs.grad is not None and not inputs.grad[::2].any()
    assert torch.equal(losses[1::2], head.row_losses(logits(), TARGETS)[1::2])


def test_each_of_several_heads_has_it() -> None:
    section = MultitaskTask(groups={"tone": ("a", "b", "c"), "kind": ("x", "y", "z")}, loss="focal", gamma=1.5)
    task = build_task(section, {name: LabelMap("multiclass", labels) for name, labels in section.groups.items()})
    alone = build(MulticlassTask(loss="focal", gamma=1.5), THREE)
    outputs = torch.cat([logits(), logits(scale=1.0)], dim=1)
    losses = task.row_losses(outputs, {"tone": TARGETS, "kind": TARGETS})
    assert torch.equal(losses["tone"], alone.row_losses(logits(), TARGETS))
    assert torch.equal(losses["kind"], alone.row_losses(logits(scale=1.0), TARGETS))


def test_a_regression_has_no_focal_loss() -> None:
    with pytest.raises(ConfigError, match="need classes, but the labels are numbers"):
        build(AutoTask(loss="focal"), NUMBER)
    with refused(ConfigError, key="task.loss", value="focal"):
        load_config(None, ["task.kind=regression", "task.loss=focal"])
    with refused(ConfigError, key="task.gamma", value="-1"):
        load_config(None, ["task.loss=focal", "task.gamma=-1"])
