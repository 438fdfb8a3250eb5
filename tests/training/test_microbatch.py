"""Micro-batches of any size train the same weights as whole batches (fp32, dropout off)."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of
from kits.patience import every_day
from kits.problems import CPU, multiclass, multilabel, multitask, regression, rows_and_model

from textune.batches.batch import Batch
from textune.config.schema import ModelSection, TrainSection
from textune.config.updaterules import AdamW, LinearSchedule
from textune.data.labels.map import LABEL
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer
from textune.training.learner import learner_alone
from textune.training.loop import steps
from textune.training.microbatch import accumulate_gradients

PROBLEMS = (multiclass, multilabel, regression, multitask)
GRID = [(layout, problem) for layout in ("packed", "padded") for problem in PROBLEMS]
EVERY_DAY = [("packed", multiclass), ("padded", multilabel), ("packed", multitask)]


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("layout", "problem"), every_day(GRID, EVERY_DAY))
@pytest.mark.parity("TW-14")
def test_fifty_steps_of_micro_batches_give_the_weights_of_whole_batches(
    tmp_path: Path, layout: str, problem: object
) -> None:
    """R5: uneven last batch and groups, class weights, row weights, multilabel, several heads."""
    task, targets = problem(50)  # type: ignore[operator]
    tiny_backbone("bert", tmp_path)
    trained = {}
    for max_tokens in (40, 100, 10_000):
        section = TrainSection(
            batch_size=16,
            max_tokens=max_tokens,
            optimizer=AdamW(lr=1e-3, eps=1e-4),
            schedule=LinearSchedule(warmup="5 steps"),  # type: ignore[arg-type]
        )
        rows, model = rows_and_model(tmp_path, task, targets, layout=layout, weighted=True)
        loader = loader_of(rows, section, layout=model.layout, pad_id=model.pad_id)
        results = list(
            steps(learner_alone(model, section, CPU), task, loader, section, total_steps=50, warmup_steps=5)
        )
        assert len(results) == 50
        trained[max_tokens] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if max_tokens == 40:
            counts = {len(batch.micro_batches) for batch in islice(iter(loader), 4) if batch.num_rows == 16}
            assert min(counts) > 1
    for name, whole in trained[10_000].items():
        for max_tokens in (40, 100):
            assert (trained[max_tokens][name] - whole).abs().max() <= 1e-6, (name, max_tokens)


def test_a_batch_without_weight_has_no_gradient(tmp_path: Path) -> None:
    task, targets = multiclass(4)
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
    nothing = replace(rows, example_weights=np.zeros(4, dtype=np.float32))
    batch = next(iter(loader_of(nothing, TrainSection(), layout=model.layout, pad_id=model.pad_id)))
    loss = accumulate_gradients(learner_alone(model, TrainSection(), CPU), task, batch)
    assert float(loss) == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.every_day(5)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("world", "max_tokens", "lockstep"), [(2, 10_000, False), (4, 60, False), (4, 60, True)])
def test_the_gradients_of_all_ranks_add_up_to_that_of_the_whole_batch(
    tmp_path: Path, problem: object, world: int, max_tokens: int, lockstep: bool
) -> None:
    """Uneven last batch with fewer rows than four ranks, class weights, row weights, multilabel, several heads."""
    task, targets = problem(19)  # type: ignore[operator]
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=True)
    section = TrainSection(batch_size=8, max_tokens=max_tokens, prefetch=0)

    def gradients(batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        loss = float(accumulate_gradients(learner_alone(model, TrainSection(), CPU), task, batch))
        return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    alone = loader_of(rows, section, layout=model.layout, pad_id=model.pad_id)
    shared = [
        loader_of(rows, section, layout=model.layout, pad_id=model.pad_id, rank=rank, world=world, lockstep=lockstep)
        for rank in range(world)
    ]
    idle = 0
    for whole, *parts in islice(zip(alone, *shared, strict=False), 3):
        loss, expected = gradients(whole)
        ranks = [gradients(batch) for batch in parts]
        assert sum(part_loss for part_loss, _ in ranks) == pytest.approx(loss, abs=1e-6)
        for name, gradient in expected.items():
            total = torch.stack([found[name] for _, found in ranks]).sum(dim=0)
            # The loss is a sum over heads, and so are its gradients and their rounding.
            assert (total - gradient).abs().max() <= 1e-6 * len(task.heads), name
        for batch, (part_loss, found) in zip(parts, ranks, strict=True):
            if not any(part.counts for part in batch.micro_batches):
                # It takes part in the exchange, so every parameter has a gradient, and it adds nothing.
                idle += 1
                assert part_loss == 0 and found.keys() == expected.keys()
                assert not any(gradient.any() for gradient in found.values())
    assert (idle > 0) == (world == 4)


def test_ranks_whose_rows_weigh_nothing_have_no_gradient(tmp_path: Path) -> None:
    task, targets = multiclass(4)
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
    nothing = replace(rows, example_weights=np.zeros(4, dtype=np.float32))
    for rank in range(2):
        loader = loader_of(nothing, TrainSection(), layout=model.layout, pad_id=model.pad_id, rank=rank, world=2)
        assert float(accumulate_gradients(learner_alone(model, TrainSection(), CPU), task, next(iter(loader)))) == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_the_loss_of_a_step_is_the_weighted_mean_over_its_rows(tmp_path: Path) -> None:
    task, targets = multiclass(12)
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=True)
    batch = next(iter(loader_of(rows, TrainSection(max_tokens=40), layout=model.layout, pad_id=model.pad_id)))
    model.eval()
    losses, weights = [], []
    with torch.no_grad():
        for part in batch.micro_batches:
            losses.append(task.head.row_losses(model(part.tokens), part.targets[LABEL]))
            weights.append(task.head.row_weights(part.targets[LABEL], part.weights))
    loss, weight = torch.cat(losses), torch.cat(weights)
    torch.testing.assert_close(
        accumulate_gradients(learner_alone(model, TrainSection(), CPU), task, batch),
        (loss * weight).sum() / weight.sum(),
    )


def test_a_step_depends_on_seed_and_step_not_on_what_ran_before(tmp_path: Path) -> None:
    task, targets = multiclass(20)
    tiny_backbone("bert", tmp_path)
    section = TrainSection(batch_size=8)
    losses = []
    for disturb in (False, True):
        rows, _ = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
        plain = ModelSection(pretrained=str(tmp_path))  # dropout as the backbone has it
        model = load_model(plain, load_tokenizer(plain), label_maps=task.label_maps, num_logits=3, seed=0)
        loader = loader_of(rows, section, layout=model.layout, pad_id=model.pad_id)
        run = []
        for result in steps(learner_alone(model, section, CPU), task, loader, section, total_steps=6, warmup_steps=0):
            run.append(float(result.loss))
            if disturb:
                torch.rand(100)
        losses.append(run)
    assert losses[0] == losses[1]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parity("TW-14", "HF-17")
def test_lower_precision_learns_too(tmp_path: Path, precision: str) -> None:
    task, targets = multiclass(32)
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
    section = TrainSection(batch_size=32, optimizer=AdamW(lr=5e-3))
    device = Device(torch.device("cpu"), precision)  # type: ignore[arg-type]
    loader = loader_of(rows, section, layout=model.layout, pad_id=model.pad_id)
    losses = [
        float(r.loss)
        for r in steps(learner_alone(model, section, device), task, loader, section, total_steps=30, warmup_steps=0)
    ]
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parity("TW-14", "AZ-10")
def test_decay_leaves_biases_and_norms_alone(tmp_path: Path) -> None:
    from textune.training.updates import build_optimizer

    task, targets = multiclass(4)
    tiny_backbone("bert", tmp_path)
    _, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, AdamW(weight_decay=0.1))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert (group["weight_decay"] == 0.0) == (name.endswith("bias") or "LayerNorm" in name), name
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
