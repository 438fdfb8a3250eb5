"""Losses, weights and scores against torch's own and against their definitions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from textune.config.taskkinds import AutoTask, BinaryTask, MulticlassTask, MultilabelTask, RegressionTask
from textune.data.labels.map import LabelMap
from textune.data.labels.values import MISSING
from textune.errors import ConfigError
from textune.tasks.decision import Decision
from textune.tasks.head import Head
from textune.tasks.task import build_task

MULTICLASS = LabelMap("multiclass", ("a", "b", "c"))
BINARY = LabelMap("binary", ("no", "yes"))
MULTILABEL = LabelMap("multilabel", ("x", "y", "z"))
REGRESSION = LabelMap("regression", ("score",))


def build(section: Any, label_map: LabelMap, **options: Any) -> Any:
    """The head of the task with these labels."""
    if "targets" in options:
        options["targets"] = {"label": options["targets"]}
    return build_task(section, {"label": label_map}, **options).head


@pytest.fixture
def logits_BC() -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * 3


def mean_loss(
    head: Head, logits_BC: torch.Tensor, targets: torch.Tensor, weights_B: torch.Tensor | None = None
) -> torch.Tensor:
    weights = head.row_weights(targets, weights_B)
    return (head.row_losses(logits_BC, targets) * weights).sum() / weights.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parity("TW-05", "TW-07")
def test_multiclass_is_torch_cross_entropy(logits_BC: torch.Tensor, smoothing: float) -> None:
    targets = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    head = build(MulticlassTask(label_smoothing=smoothing), MULTICLASS)
    assert head.num_outputs == 3
    wanted = functional.cross_entropy(logits_BC, targets, label_smoothing=smoothing)
    torch.testing.assert_close(mean_loss(head, logits_BC, targets), wanted)


@pytest.mark.parity("class-weights")
def test_class_weights_are_torchs_weighted_mean(logits_BC: torch.Tensor) -> None:
    targets = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    head = build(MulticlassTask(class_weights={"b": 3.0, "c": 0.5}), MULTICLASS)
    wanted = functional.cross_entropy(logits_BC, targets, weight=torch.tensor([1.0, 3.0, 0.5]))
    torch.testing.assert_close(mean_loss(head, logits_BC, targets), wanted)


@pytest.mark.parity("class-weights")
def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    targets = np.array([0, 0, 0, 0, 1, 2, 2])
    head = build(AutoTask(class_weights="balanced"), MULTICLASS, targets=targets)
    assert head.class_weights is not None
    np.testing.assert_allclose(
        head.class_weights.numpy(), compute_class_weight("balanced", classes=np.arange(3), y=targets), rtol=1e-6
    )


@pytest.mark.parity("TW-08", "class-weights")
def test_row_weights_multiply_class_weights() -> None:
    head = build(MulticlassTask(class_weights={"a": 2.0}), MULTICLASS)
    weights = head.row_weights(torch.tensor([0, 1]), torch.tensor([0.5, 3.0]))
    assert weights.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", ["none", {"a": 2.0, "c": 0.5}])
def test_a_row_without_a_label_counts_nowhere(logits_BC: torch.Tensor, smoothing: float, class_weights: Any) -> None:
    """Its loss, its weight and its gradient are 0; those of the others are as if it were not there."""
    targets = torch.tensor([0, MISSING, 2, 2, MISSING, 0, 1])
    known = targets != MISSING
    for section, label_map, outputs_BC in (
        (MulticlassTask(label_smoothing=smoothing, class_weights=class_weights), MULTICLASS, logits_BC),
        (BinaryTask(num_logits=1, label_smoothing=smoothing), BINARY, logits_BC[:, :1]),
    ):
        head = build(section, label_map)
        outputs_BC, own = outputs_BC.clone().requires_grad_(), targets.clamp(max=len(label_map.names) - 1)
        losses_B, weights_B = head.row_losses(outputs_BC, own), head.row_weights(own, None)
        assert (losses_B[~known] == 0).all() and (weights_B[~known] == 0).all()
        assert torch.equal(losses_B[known], head.row_losses(outputs_BC[known], own[known]))
        assert torch.equal(weights_B[known], head.row_weights(own[known], None))
        (losses_B * weights_B).sum().backward()
        assert outputs_BC.grad is not None and (outputs_BC.grad[~known] == 0).all() and outputs_BC.grad.any()


def test_balanced_weights_count_labelled_rows_alone() -> None:
    targets = np.array([0, 0, MISSING, 1, 2, MISSING, 2])
    head, labelled = (
        build(AutoTask(class_weights="balanced"), MULTICLASS, targets=found)
        for found in (targets, targets[targets != MISSING])
    )
    assert head.class_weights is not None and torch.equal(head.class_weights, labelled.class_weights)


@pytest.mark.parity("TW-05", "TW-07")
def test_multilabel_is_binary_cross_entropy_over_labels(logits_BC: torch.Tensor) -> None:
    targets = (torch.rand(7, 3, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    wanted = functional.binary_cross_entropy_with_logits(logits_BC, targets)
    torch.testing.assert_close(mean_loss(build(MultilabelTask(), MULTILABEL), logits_BC, targets), wanted)

    smoothed = build(MultilabelTask(label_smoothing=0.2), MULTILABEL)
    wanted = functional.binary_cross_entropy_with_logits(logits_BC, targets * 0.8 + 0.1)
    torch.testing.assert_close(mean_loss(smoothed, logits_BC, targets), wanted)

    balanced = build(MultilabelTask(class_weights="balanced"), MULTILABEL, targets=targets.numpy())
    positive = targets.sum(0)
    wanted = functional.binary_cross_entropy_with_logits(logits_BC, targets, pos_weight=(7 - positive) / positive)
    torch.testing.assert_close(mean_loss(balanced, logits_BC, targets), wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parity("TW-05")
def test_one_logit_and_two_agree(smoothing: float) -> None:
    """With logits (0, z), softmax over two is the sigmoid of z; smoothing spreads s/2 to each side in both."""
    z = torch.tensor([[-2.0], [0.3], [4.0]])
    targets = torch.tensor([0, 1, 0])
    one = build(BinaryTask(num_logits=1, label_smoothing=smoothing), BINARY)
    two = build(BinaryTask(num_logits=2, label_smoothing=smoothing), BINARY)
    assert (one.num_outputs, two.num_outputs) == (1, 2)
    pair = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(one.row_losses(z, targets), two.row_losses(pair, targets))
    torch.testing.assert_close(one.scores(z), two.scores(pair))
    assert one.scores(z).sum(dim=1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parity("TW-08")
def test_regression_losses_follow_the_activation() -> None:
    logits = torch.tensor([[0.2], [2.0], [-1.0]])
    targets = torch.tensor([0.5, 0.9, 0.1])
    linear = build(RegressionTask(), REGRESSION)
    torch.testing.assert_close(mean_loss(linear, logits, targets), functional.mse_loss(logits[:, 0], targets))
    sigmoid = build(RegressionTask(loss="smooth_l1", beta=0.3, activation="sigmoid"), REGRESSION)
    values = torch.sigmoid(logits[:, 0])
    torch.testing.assert_close(
        mean_loss(sigmoid, logits, targets), functional.smooth_l1_loss(values, targets, beta=0.3)
    )
    torch.testing.assert_close(sigmoid.scores(logits), values)
    weighted = mean_loss(linear, logits, targets, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(weighted, (logits[0, 0] - targets[0]) ** 2)


def test_targets_that_a_sigmoid_cannot_reach_are_refused() -> None:
    bounded = RegressionTask(activation="sigmoid")
    for targets, range_ in ((np.array([0.0, 4.75, 2.0]), "from 0 to 4.75"), (np.array([-0.5, 1.0]), "from -0.5 to 1")):
        with pytest.raises(ConfigError, match=range_) as caught:
            build(bounded, REGRESSION, targets=targets.astype(np.float32))
        assert 'task.activation = "sigmoid"' in str(caught.value) and '"linear", or scale the labels' in str(
            caught.value
        )
        assert build(RegressionTask(), REGRESSION, targets=targets).num_outputs == 1
    assert build(bounded, REGRESSION, targets=np.array([0.0, 1.0])).section == bounded
    assert build(bounded, REGRESSION).section == bounded  # a saved model has no training targets


def test_wrong_weights_are_sentences() -> None:
    with pytest.raises(
        ConfigError, match=r"the label 'B', which is not among the labels of the data. Did you mean 'b'\?"
    ):
        build(MulticlassTask(class_weights={"B": 1.0}), MULTICLASS)
    with pytest.raises(ConfigError, match="all weights are 0"):
        build(MulticlassTask(class_weights={"a": 0, "b": 0, "c": 0}), MULTICLASS)
    with pytest.raises(ConfigError, match="need classes, but the labels are numbers"):
        build(AutoTask(label_smoothing=0.1), REGRESSION)


def test_decisions() -> None:
    assert build(AutoTask(), BINARY).decide(np.array([[0.2, 0.8], [0.5, 0.5]])).tolist() == [1, 0]
    labels = build(AutoTask(), MULTILABEL)
    scores = np.array([[0.5, 0.49, 0.7], [0.1, 0.2, 0.3]])
    assert labels.decide(scores).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert replace(labels, decision=Decision(thresholds=(0.3,) * 3)).decide(scores).tolist() == [[1, 1, 1], [0, 0, 1]]
    assert build(AutoTask(), REGRESSION).decide(np.array([1.5])).tolist() == [1.5]


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_class_weights_with_smoothing_are_those_of_pytorch(smoothing: float) -> None:
    torch.manual_seed(3)
    names = MULTICLASS.names
    table = {name: float(number) for number, name in enumerate(names, start=1)}
    head = build(MulticlassTask(label_smoothing=smoothing, class_weights=table), MULTICLASS)
    logits_BC, targets = torch.randn(9, len(names)), torch.arange(9) % len(names)
    wanted = torch.nn.CrossEntropyLoss(weight=torch.tensor(list(table.values())), label_smoothing=smoothing)(
        logits_BC, targets
    )
    weights = head.row_weights(targets, None)
    found = (head.row_losses(logits_BC, targets) * weights).sum() / weights.sum()
    torch.testing.assert_close(found, wanted)


def test_one_logit_weighs_smoothed_classes_as_two_do() -> None:
    torch.manual_seed(3)
    options: dict[str, Any] = {"label_smoothing": 0.2, "class_weights": {BINARY.names[0]: 1.0, BINARY.names[1]: 7.0}}
    one, two = (build(BinaryTask(num_logits=number, **options), BINARY) for number in (1, 2))
    z, targets = torch.randn(8, 1), torch.arange(8) % 2
    pair = torch.cat([torch.zeros(8, 1), z], dim=1)
    torch.testing.assert_close(one.row_losses(z, targets), two.row_losses(pair, targets))


def test_a_class_of_weight_zero_counts_for_nothing() -> None:
    table = {MULTICLASS.names[0]: 0.0}
    head = build(MulticlassTask(label_smoothing=0.1, class_weights=table), MULTICLASS)
    targets = torch.zeros(4, dtype=torch.long)
    logits_BC = torch.randn(4, len(MULTICLASS.names))
    assert torch.isfinite(head.row_losses(logits_BC, targets)).all()
    assert head.row_weights(targets, None).sum() == 0
