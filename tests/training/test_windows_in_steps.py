"""Steps of texts with windows: memory that runs out, gradients in lower precision, layers that are computed again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import rows_of
from kits.models import assert_same_gradients
from kits.problems import CPU, WORDS, multiclass, multilabel

from textune.batches.assembler import Assembler
from textune.batches.loader import Loader
from textune.batches.plan import Plan
from textune.batches.tokens import TextEncoder
from textune.config.schema import ModelSection, TokensSection, TrainSection
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.recompute import checkpoint_gradients
from textune.model.tokenizer import load_tokenizer
from textune.training.learner import learner_alone
from textune.training.microbatch import gradients_in_memory

NUM_TEXTS = 9
SECTION = TrainSection(order="sequential", batch_size=NUM_TEXTS, prefetch=0)


class Setting:
    """One batch of texts with one to seven windows, and fresh models for it."""

    def __init__(self, folder: Path, problem: Any = multiclass, *, dropout: float = 0.0) -> None:
        self.task, targets = problem(NUM_TEXTS)
        config = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        self.section = ModelSection(pretrained=str(tiny_backbone("bert", folder)), config=config)
        self.tokenizer = load_tokenizer(self.section)
        generator = np.random.default_rng(0)
        texts = [" ".join(generator.choice(WORDS, count)) for count in (3, 60, 5, 20, 8, 9, 31, 2, 44)]
        store = TextEncoder(self.tokenizer, TokensSection(max_length=12, long="windows", stride=2)).encode(texts)
        self.rows = rows_of(store, targets, generator.random(NUM_TEXTS).astype(np.float32))
        self.rows = replace(self.rows, examples=np.arange(NUM_TEXTS))

    def model(self) -> TextModel:
        outputs = self.task.num_outputs
        model = load_model(
            self.section,
            self.tokenizer,
            label_maps=self.task.label_maps,
            num_logits=outputs,
            seed=0,
            pooling="attention",
        )
        return model.train()

    def step(
        self, model: TextModel, max_tokens: int, *, device: Device = CPU
    ) -> tuple[float, dict[str, torch.Tensor], list[str]]:
        """Loss, gradients and notices of the batch."""
        assembler = Assembler("packed", model.pad_id, windows=True)
        loader = Loader(self.rows, Plan.of(SECTION, NUM_TEXTS), assembler, prefetch=0, max_tokens=max_tokens)
        learner = learner_alone(model, SECTION, device)
        loss, notices = gradients_in_memory(learner, self.task, loader, next(iter(loader)), seed=3)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return float(loss), gradients, notices


@pytest.mark.every_day(2)
@pytest.mark.parametrize("problem", [multiclass, multilabel])
@pytest.mark.parametrize("max_tokens", [12, 30, 70])
def test_a_step_is_the_same_in_any_parts(tmp_path: Path, problem: Any, max_tokens: int) -> None:
    setting = Setting(tmp_path, problem)
    whole, wanted, _ = setting.step(setting.model(), 10_000)
    loss, found, _ = setting.step(setting.model(), max_tokens)
    assert loss == pytest.approx(whole, abs=1e-6)
    assert_same_gradients(found, wanted)


class Limited:
    """The vectors of a model, which run out of memory beyond so many tokens at once."""

    def __init__(self, model: TextModel, limit: int) -> None:
        self.limit, self.largest = limit, 0
        self._vectors = model._vectors
        model._vectors = self  # type: ignore[assignment, method-assign]

    def __call__(self, ids_T: torch.Tensor, batch: Any) -> torch.Tensor:
        if len(ids_T) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.largest = max(self.largest, len(ids_T))
        return self._vectors(ids_T, batch)


@pytest.mark.parametrize("limit", [130, 40, 14])
def test_out_of_memory_a_text_is_computed_in_parts(tmp_path: Path, limit: int) -> None:
    setting = Setting(tmp_path)
    whole, wanted, _ = setting.step(setting.model(), 10_000)
    model = setting.model()
    limited = Limited(model, limit)
    loss, found, notices = setting.step(model, 10_000)
    assert notices and all("out of memory" in notice for notice in notices)
    assert 0 < limited.largest <= limit and loss == pytest.approx(whole, abs=1e-6)
    assert_same_gradients(found, wanted)


@pytest.mark.every_day(2)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recompute", [False, True])
def test_parts_go_with_lower_precision_and_with_layers_computed_again(
    tmp_path: Path, precision: Any, recompute: bool
) -> None:
    """Dropout draws in the order of the parts, so a step in parts is compared with the same parts that are kept."""
    setting, device = Setting(tmp_path, dropout=0.2), Device(torch.device("cpu"), precision)
    model = setting.model()
    if recompute:
        checkpoint_gradients(model)
    loss, found, _ = setting.step(model, 30, device=device)
    kept = setting.model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textune.model.backbone.checkpoint", lambda compute, ids_T, use_reentrant: compute(ids_T))
        wanted_loss, wanted, _ = setting.step(kept, 30, device=device)
    assert loss == wanted_loss
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
