"""textune's side of training a language model on rows of tokens."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from bench.worker import Channel, Json
from textune.batches.assembler import Assembler
from textune.batches.loader import Loader
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.schema import ModelSection, TrainSection
from textune.config.taskkinds import ConditionalLmTask
from textune.config.updaterules import AdamW, LinearSchedule
from textune.data.labels.map import LABEL, LANGUAGE
from textune.model.backbone import TextModel
from textune.model.budget import choose_budget
from textune.model.device import Device, resolve_device
from textune.model.language import load_language_model
from textune.model.recipe import FullTable, Recipe, prepare
from textune.model.tokenizer import load_tokenizer
from textune.ranks import ALONE
from textune.tasks.task import build_task
from textune.training.learner import learner_alone
from textune.training.loop import steps
from textune.training.rules import state_bytes

TOTAL_STEPS = 100_000
"""That the schedule is told."""


def training(channel: Channel, spec: Json) -> Json:
    """A segment of optimizer steps per command; the last reply has the losses of all steps."""
    section = TrainSection(
        batch_size=spec["batch_size"],
        order="sequential",
        optimizer=AdamW(lr=1e-4),
        schedule=LinearSchedule(warmup="50 steps"),  # type: ignore[arg-type]
    )
    device, rows = resolve_device(spec["device"], "auto"), _rows(spec)
    model, max_tokens, header = _prepared(spec["model"], device, rows, section)
    assembler = Assembler(model.layout, model.pad_id, group_cost=model.group_cost(device.dtype))
    loader = Loader(rows, Plan.of(section, len(rows)), assembler, prefetch=2, max_tokens=max_tokens)
    task, learner = build_task(ConditionalLmTask(), {LABEL: LANGUAGE}), learner_alone(model, section, device)
    run = steps(learner, task, loader, section, total_steps=TOTAL_STEPS, warmup_steps=50)
    channel.reply(threads=torch.get_num_threads(), precision=device.precision, header=header)
    losses: list[float] = []
    scored, size = rows.lengths - 1, section.batch_size

    def segment(command: Json) -> Json:
        before = len(losses)
        losses.extend(float(next(run).loss) for _ in range(command["steps"]))
        seen = np.arange(before * size, len(losses) * size) % (len(rows) // size * size)
        return {"tokens": int(scored[seen].sum())}

    channel.serve(segment)
    return {"losses": losses}


def _prepared(folder: str, device: Device, rows: TokenRows, section: TrainSection) -> tuple[TextModel, int, str]:
    """The model as a run prepares it, the tokens it computes at once, and what is to be said of both."""
    of_model = ModelSection(pretrained=folder)
    model = load_language_model(of_model, load_tokenizer(of_model), seed=0)
    measure = partial(
        choose_budget,
        device=device,
        train=rows,
        configured="auto",
        earlier=None,
        state_bytes=partial(state_bytes, section.optimizer),
        ranks=ALONE,
    )
    full = FullTable(model.face.vocabulary_obstacle())
    recipe = Recipe(device, "training", vocabulary=full, lengths=rows.lengths, num_steps=TOTAL_STEPS)
    budget = prepare(model, recipe, measure=measure).budget
    assert budget is not None
    said = f"{model.reason}; {model.accelerator.note}; {budget.max_tokens:,} tokens at once ({budget.reason})"
    return model, budget.max_tokens, said


def _rows(spec: Json) -> TokenRows:
    """The rows in the order of both sides, a whole number of batches."""
    file = np.load(spec["rows"])
    order = np.array(spec["order"])[: len(spec["order"]) // spec["batch_size"] * spec["batch_size"]]
    offsets = np.concatenate([[0], np.cumsum(file["lengths"])]).astype(np.int64)
    store = TokenStore({"ids": file["ids"]}, offsets, file["lengths"].astype(np.int32), np.arange(len(offsets) - 1))
    targets = np.zeros((len(store), 3), np.int64)
    targets[:, 0] = file["lengths"] - 1
    return TokenRows(store, order, {LABEL: targets}, None)
