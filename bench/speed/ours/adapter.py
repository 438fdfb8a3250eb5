"""What the benchmarks know of textune's insides, in one place: parts from a config, rows in a given order, the loop."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from textune.batches.loader import Batch, TrainingRows
from textune.config.load import load_config
from textune.pipeline.build import gather
from textune.run.header import describe
from textune.run.parts import Ingredients
from textune.run.tracking import SilentTracker
from textune.training.learner import learner_alone
from textune.training.loop import StepResult, steps


def open_parts(spec: dict[str, Any]) -> Ingredients:
    """The parts of a run, from `spec["config"]` and `spec["overrides"]`."""
    experiment = load_config(spec["config"], spec.get("overrides", ())).experiment
    return gather(experiment, tracker=SilentTracker(), audit=False)


def facts(parts: Ingredients) -> dict[str, Any]:
    """For the first reply: threads, and what the run says of itself."""
    rows = parts.parts["train"]
    return {
        "threads": torch.get_num_threads(),
        "precision": parts.device.precision,
        "num_rows": len(rows.part),
        "num_tokens": int(rows.lengths.sum()),
        "header": describe(parts),
    }


def rows_in_order(parts: Ingredients, order: Sequence[int]) -> TrainingRows:
    """The training rows in the given order (`train.order` must be sequential); rows may occur more than once."""
    rows, chosen = parts.training_rows(), np.asarray(order, dtype=np.int64)
    return replace(
        rows,
        indices=rows.indices[chosen],
        targets=rows.targets[chosen],
        weights=None if rows.weights is None else rows.weights[chosen],
    )


def rows_of(parts: Ingredients, lengths: np.ndarray) -> TrainingRows:
    """Rows of the given `lengths` (int64 [N], in tokens), made of the tokens of the run's own rows, in a store of their own."""
    rows = parts.training_rows()
    total = int(lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.resize(np.asarray(rows.store.ids), total)
    store = replace(rows.store, ids=ids, types=None, offsets=offsets, raw_lengths=lengths.astype(np.int32))
    count = len(lengths)
    return TrainingRows(store, np.arange(count), np.resize(rows.targets, count), None)


def stepping(parts: Ingredients, rows: TrainingRows) -> Generator[StepResult]:
    """The training loop as a run drives it; endless for all that is measured here."""
    section = parts.experiment.train
    yield from steps(
        learner_alone(parts.model, section, parts.device),
        parts.task,
        parts.loader(rows),
        section,
        total_steps=parts.total_steps,
        warmup_steps=section.schedule.warmup.steps(parts.steps_per_epoch),
    )


def take_batches(parts: Ingredients, rows: TrainingRows, count: int) -> list[Batch]:
    """The first `count` batches, held in memory."""
    loader = iter(parts.loader(rows))
    batches = [next(loader) for _ in range(count)]
    loader.close()
    return batches


class PlainLoop:
    """The loop that one would write by hand over the same model and batches: forward, backward, clip, fused AdamW."""

    def __init__(self, parts: Ingredients) -> None:
        self.parts = parts
        section = parts.experiment.train.optimizer
        self.trained = [p for p in parts.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in self.trained if p.ndim >= 2], "weight_decay": section.weight_decay},
            {"params": [p for p in self.trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=section.lr, fused=True)

    def step(self, batch: Batch) -> torch.Tensor:
        """One optimizer step; returns the loss."""
        parts = self.parts
        parts.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros(())
        for part in batch.micro_batches:
            with parts.device.autocast():
                logits_BC = parts.model(part.tokens.to(parts.device.torch))
            losses_B = parts.task.head.row_losses(logits_BC, part.targets.to(parts.device.torch))
            loss = losses_B.sum() / batch.num_rows
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, parts.experiment.train.max_grad_norm)
        self.optimizer.step()
        return loss.detach()


def wait_for(parts: Ingredients) -> None:
    """Until all work handed to the device is done."""
    if parts.device.torch.type == "cuda":
        torch.cuda.synchronize()


def device_memory(parts: Ingredients) -> dict[str, float]:
    """Peak memory of the GPU, in MiB; nothing on a CPU."""
    on_gpu = parts.device.torch.type == "cuda"
    return {"gpu_peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20} if on_gpu else {}
