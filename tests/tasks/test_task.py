"""A task of several heads is the sum of its heads; its total weights are those of the whole batch, however it is
cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from textune.batches.batch import Batch, MicroBatch, TokenBatch
from textune.batches.layout import Group
from textune.config.taskkinds import MulticlassTask, RegressionTask
from textune.data.labels.map import LabelMap
from textune.tasks.task import Task, build_task

TOPIC = build_task(MulticlassTask(class_weights={"b": 4.0}), {"label": LabelMap("multiclass", ("a", "b", "c"))}).head
STARS = build_task(RegressionTask(), {"label": LabelMap("regression", ("score",))}).head


def two_heads() -> Task:
    topic, stars = TOPIC, STARS
    return Task((replace(topic, name="topic"), replace(stars, name="stars")))  # type: ignore[type-var]


def test_each_head_reads_its_own_outputs_and_targets() -> None:
    task = two_heads()
    assert task.num_outputs == 4
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    targets = {"topic": torch.tensor([0, 1, 2, 1, 0]), "stars": torch.rand(5)}
    losses, weights, scores = task.row_losses(outputs, targets), task.row_weights(targets, None), task.scores(outputs)
    for head, own in zip(task.heads, (outputs[:, :3], outputs[:, 3:]), strict=True):
        assert torch.equal(losses[head.name], head.row_losses(own, targets[head.name]))
        assert torch.equal(weights[head.name], head.row_weights(targets[head.name], None))
        assert torch.equal(scores[head.name], head.scores(own))
    with pytest.raises(ValueError, match="too many values"):
        _ = task.head


def test_weights_are_those_of_rows_or_of_rows_and_heads() -> None:
    task = two_heads()
    targets = {"topic": torch.tensor([0, 1, 2]), "stars": torch.rand(3)}
    weights_B, weights_BH = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([[0.5, 3.0], [2.0, 0.0], [1.0, 1.0]])
    of_rows, of_both = task.row_weights(targets, weights_B), task.row_weights(targets, weights_BH)
    assert of_rows["topic"].tolist() == of_both["topic"].tolist() == [0.5, 8.0, 1.0]
    assert of_rows["stars"].tolist() == [0.5, 2.0, 1.0] and of_both["stars"].tolist() == [3.0, 0.0, 1.0]


def micro_batch(targets: list[int], weights: list[float] | None) -> MicroBatch:
    num = len(targets)
    ones, lengths = torch.ones(num, dtype=torch.long), np.ones(num, dtype=np.int64)
    tokens = TokenBatch({"ids": ones}, ones - 1, ones, lengths, (Group(num, 1),), np.arange(num))
    return MicroBatch(tokens, {"label": torch.tensor(targets)}, None if weights is None else torch.tensor(weights))


def test_the_total_weight_is_that_of_all_rows_here_and_on_other_ranks() -> None:
    task = Task((TOPIC,))
    parts = (micro_batch([0, 1], [0.5, 2.0]), micro_batch([2], [1.0]))
    batch = Batch(0, parts, 3, chosen=np.arange(3), max_tokens=8)
    assert task.total_weights(batch)["label"].item() == 0.5 + 2 * 4 + 1
    of_all = replace(
        batch, all_targets={"label": torch.tensor([0, 1, 2, 1])}, all_weights=torch.tensor([0.5, 2.0, 1.0, 1.0])
    )
    assert task.total_weights(of_all)["label"].item() == 0.5 + 2 * 4 + 1 + 4
    unweighted = replace(batch, micro_batches=(micro_batch([0, 1], None), micro_batch([2], None)))
    assert task.total_weights(unweighted)["label"].item() == 1 + 4 + 1
