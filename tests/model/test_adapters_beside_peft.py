"""Injected adapters beside peft's own wrapper around the plain model, with the same A and B: padded, packed and with
compiled kernels, loss and every gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kits.adapters import by_plain_name, wrapped_by_peft
from kits.backbones import tiny_backbone, why_no_kernels
from kits.batches import loader_of
from kits.further import FURTHER
from kits.models import (
    ALL,
    TOLERANCE,
    UNEVEN,
    Built,
    assert_same_gradients,
    build,
    gradients,
    known,
    lay_out,
    plain_inputs,
    random_rows,
    random_types,
    without_dropout,
)
from kits.problems import CPU, rows_and_model
from torch.nn import functional
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from textune.config.adapters import Lora
from textune.config.schema import ModelSection, TrainSection
from textune.config.taskkinds import MulticlassTask
from textune.config.updaterules import AdamW, LinearSchedule
from textune.data.labels.map import LabelMap
from textune.model import attention
from textune.model.tokenizer import load_tokenizer
from textune.tasks.task import build_task
from textune.training.learner import learner_alone
from textune.training.loop import steps


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", [*ALL, *known(*FURTHER)])
def test_loss_and_gradients_are_those_of_pefts_wrapper(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of odd lengths and of one token, in uneven groups with filler and padded."""
    built = build(family, tmp_path / "backbone", section={"compile": "off" if why_no_kernels() else "on"})
    if "this release of transformers" in built.model.reason:
        pytest.skip(built.model.reason)
    wrapper = wrapped_by_peft(built, Lora(r=3, alpha=5), tmp_path / "plain")
    for module in (built.model, wrapper):
        without_dropout(module.train())
    rows = random_rows(built)
    types = random_types(built, rows)
    labels = torch.arange(len(rows)) % 3
    loss = wrapper(**plain_inputs(built, rows, types), labels=labels).loss
    theirs = gradients(wrapper, loss)
    monkeypatch.setattr(attention, "ROUND_FROM", 1)
    packs, groups = built.model.layout == "packed", {"padded": None, "packed": UNEVEN}

    def compare() -> None:
        logits = built.model(lay_out(built, rows, groups[built.model.layout], types=types))
        ours = functional.cross_entropy(logits, labels)
        assert ours.item() == pytest.approx(loss.item(), rel=TOLERANCE), built.model.layout
        assert_same_gradients(gradients(built.hf, ours), by_plain_name(theirs))

    built.model.set_layout("padded")
    compare()
    if packs:
        built.model.set_layout("packed")
        compare()
        built.model.speed_up(torch.float32, training=True)
        assert why_no_kernels() or built.model.accelerator.kernels is not None
        compare()


@pytest.mark.slow
def test_fifty_steps_give_the_weights_of_trainer_with_peft(tmp_path: Path) -> None:
    """transformers.Trainer with its own loss and clipping, on padded batches, the last of each epoch smaller; packed
    and in micro-batches here."""
    num_rows, lr = 50, 1e-3
    task = build_task(MulticlassTask(), {"label": LabelMap("multiclass", ("a", "b", "c"))})
    targets = np.random.default_rng(1).integers(0, 3, num_rows)
    tiny_backbone("bert", tmp_path / "backbone")
    rows, model = rows_and_model(tmp_path / "backbone", task, targets, layout="packed", weighted=False)
    tokenizer = load_tokenizer(ModelSection(pretrained=str(tmp_path / "backbone")))
    built = Built("bert", tmp_path / "backbone", tokenizer, model)
    wrapper = wrapped_by_peft(built, Lora(r=4), tmp_path / "plain")
    before = {name: parameter.detach().clone() for name, parameter in built.hf.named_parameters()}
    section = TrainSection(
        batch_size=16,
        max_tokens=100,
        order="sequential",
        optimizer=AdamW(lr=lr, eps=1e-4),
        schedule=LinearSchedule(warmup="5 steps"),  # type: ignore[arg-type]
    )
    loader = loader_of(rows, section, layout="packed", pad_id=model.pad_id)
    done = list(steps(learner_alone(model, section, CPU), task, loader, section, total_steps=50, warmup_steps=5))
    assert len(done) == 50

    examples = [
        {"input_ids": ids.tolist(), "labels": int(target)}
        for ids, target in zip(np.split(rows.store.columns["ids"], rows.store.offsets[1:-1]), targets, strict=True)
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        max_steps=50,
        per_device_train_batch_size=16,
        learning_rate=lr,
        adam_epsilon=1e-4,
        weight_decay=section.optimizer.weight_decay,
        max_grad_norm=section.max_grad_norm,
        warmup_steps=5,
        lr_scheduler_type="linear",
        train_sampling_strategy="sequential",
        optim="adamw_torch",
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        wrapper, arguments, train_dataset=examples, data_collator=DataCollatorWithPadding(built.tokenizer)
    )
    trainer.train()
    theirs_logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [result.loss for result in done] == pytest.approx(theirs_logged, abs=1e-4)
    theirs = by_plain_name(dict(wrapper.named_parameters()))
    for name, parameter in built.hf.named_parameters():
        assert (parameter - theirs[name]).abs().max() <= 1e-6, name
        assert parameter.requires_grad == (not torch.equal(parameter, before[name])), name
