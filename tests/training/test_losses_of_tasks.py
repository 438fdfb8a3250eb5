"""Loss and gradient of a model of several tasks beside those of plain PyTorch, written out by hand."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of
from kits.problems import CPU, multitask, rows_and_model
from transformers import AutoModelForSequenceClassification

from textune.batches.batch import Batch
from textune.batches.rows import TokenRows
from textune.config.schema import TrainSection
from textune.data.labels.values import MISSING
from textune.training.learner import learner_alone
from textune.training.microbatch import accumulate_gradients

TOPIC_B = 4.0
"""The class weight of `topic/b` in `kits.problems.multitask`."""


def by_hand(plain: Any, rows: TokenRows, chosen: np.ndarray) -> tuple[float, dict[str, torch.Tensor]]:
    """Sum over tasks of weighted cross-entropy / total weight of the task, over the labelled rows of a batch; row by
    row through plain transformers."""
    plain.zero_grad(set_to_none=True)
    sums: dict[str, list[torch.Tensor]] = {"tone": [], "urgent": [], "topic": []}
    totals = dict.fromkeys(sums, 0.0)
    columns = {"tone": slice(0, 3), "urgent": slice(3, 5), "topic": slice(5, 9)}
    for position in chosen.tolist():
        row = int(rows.rows[position])
        start, stop = rows.store.offsets[row : row + 2]
        ids = torch.from_numpy(rows.store.columns["ids"][start:stop].astype(np.int64))[None]
        logits = plain(input_ids=ids).logits[0]
        for index, name in enumerate(sums):
            target = int(rows.targets[name][position])
            if target == MISSING:
                continue
            weight = 1.0 if rows.weights is None else float(rows.weights[position, index])
            weight *= TOPIC_B if (name, target) == ("topic", 1) else 1.0
            own = logits[columns[name]]
            sums[name].append(weight * (torch.logsumexp(own, 0) - own[target]))
            totals[name] += weight
    loss = torch.stack([torch.stack(terms).sum() / totals[name] for name, terms in sums.items() if terms]).sum()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None}


@pytest.mark.every_day(2)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_loss_and_gradients_are_those_written_by_hand(tmp_path: Path, layout: str, weighted: bool) -> None:
    task, targets = multitask(30)
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout=layout, weighted=weighted)
    model.save(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    model.double(), plain.double()  # so that what differs is not rounding
    section = TrainSection(batch_size=12, prefetch=0)

    def gradients(batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        loss = float(accumulate_gradients(learner_alone(model, section, CPU), task, batch))
        return loss, {name: p.grad.clone() for name, p in model.hf.named_parameters() if p.grad is not None}

    def loader(max_tokens: int, **share: int) -> Any:
        return loader_of(rows, section, layout=model.layout, pad_id=model.pad_id, max_tokens=max_tokens, **share)

    whole, cut = loader(10_000), loader(60)
    shared = [loader(60, rank=rank, world=2) for rank in range(2)]
    for batch, pieces, *parts in islice(zip(whole, cut, *shared, strict=False), 3):
        assert len(batch.micro_batches) == 1 < len(pieces.micro_batches)
        wanted, expected = by_hand(plain, rows, batch.chosen)
        ranks = [gradients(part) for part in parts]
        both = {name: sum(found[name] for _, found in ranks) for name in expected}
        for loss, found in (gradients(batch), gradients(pieces), (sum(loss for loss, _ in ranks), both)):
            assert loss == pytest.approx(wanted, abs=1e-6)
            for name, gradient in expected.items():
                assert (found[name] - gradient).abs().max() <= 1e-6, name


def test_a_task_without_a_label_in_a_batch_adds_nothing(tmp_path: Path) -> None:
    task, targets = multitask(8)
    targets["tone"][:] = MISSING
    tiny_backbone("bert", tmp_path)
    rows, model = rows_and_model(tmp_path, task, targets, layout="packed", weighted=False)
    batch = next(iter(loader_of(rows, TrainSection(), layout=model.layout, pad_id=model.pad_id)))
    loss = accumulate_gradients(learner_alone(model, TrainSection(), CPU), task, batch)
    assert torch.isfinite(loss) and loss > 0
    weight = model.hf.classifier.weight.grad
    assert weight is not None and not weight[:3].any() and weight[3:].any()
