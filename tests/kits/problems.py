"""A task of each kind with random targets, and rows and a tiny model for it (fp32, dropout off)."""

from pathlib import Path

import numpy as np
import torch

from kits.batches import rows_of
from textune.batches.rows import TokenRows
from textune.batches.tokens import TextEncoder
from textune.config.schema import ModelSection, TokensSection
from textune.config.taskkinds import MulticlassTask, MultilabelTask, MultitaskTask, RegressionTask
from textune.data.labels.bytask import task_maps
from textune.data.labels.map import LabelMap
from textune.data.labels.values import MISSING
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer
from textune.tasks.task import Task, build_task

WORDS = ["the", "a", "film", "movie", "good", "bad", "very", "boring", "brilliant", "plot"]
CPU = Device(torch.device("cpu"), "fp32")


def multiclass(num_rows: int) -> tuple[Task, np.ndarray]:
    targets = np.random.default_rng(1).integers(0, 3, num_rows)
    return build_task(
        MulticlassTask(class_weights={"b": 4.0}), {"label": LabelMap("multiclass", ("a", "b", "c"))}
    ), targets


def multilabel(num_rows: int) -> tuple[Task, np.ndarray]:
    targets = (np.random.default_rng(1).random((num_rows, 3)) > 0.6).astype(np.float32)
    task = build_task(
        MultilabelTask(class_weights="balanced"),
        {"label": LabelMap("multilabel", ("x", "y", "z"))},
        targets={"label": targets},
    )
    return task, targets


def regression(num_rows: int) -> tuple[Task, np.ndarray]:
    return build_task(RegressionTask(), {"label": LabelMap("regression", ("score",))}), np.random.default_rng(
        1
    ).random(num_rows).astype(np.float32)


def multitask(num_rows: int) -> tuple[Task, dict[str, np.ndarray]]:
    """Three heads; a third of the rows have no label for one of them, and some for none."""
    groups = {"tone": ("neg", "mid", "pos"), "urgent": ("no", "yes"), "topic": ("a", "b", "c", "d")}
    generator = np.random.default_rng(1)
    targets = {}
    for name, classes in groups.items():
        drawn = generator.integers(0, len(classes), num_rows)
        targets[name] = np.where(generator.random(num_rows) < 1 / 3, MISSING, drawn)
    section = MultitaskTask(groups=groups, class_weights={"topic/b": 4.0})
    return build_task(section, task_maps(groups)), targets


def rows_and_model(
    folder: Path, task: Task, targets: np.ndarray | dict[str, np.ndarray], *, layout: str, weighted: bool
) -> tuple[TokenRows, TextModel]:
    """With `weighted`, random weights for the rows; one for each head where there are several."""
    generator = np.random.default_rng(0)
    num_rows = len(next(iter(targets.values())) if isinstance(targets, dict) else targets)
    texts = [" ".join(generator.choice(WORDS, generator.integers(1, 30))) for _ in range(num_rows)]
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    section = ModelSection(pretrained=str(folder), attention=layout, config=dropout)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(section)
    store = TextEncoder(tokenizer, TokensSection(max_length=40)).encode(texts)
    shape = (num_rows, len(targets)) if isinstance(targets, dict) else (num_rows,)
    weights = generator.random(shape).astype(np.float32) if weighted else None
    model = load_model(section, tokenizer, label_maps=task.label_maps, num_logits=task.num_outputs, seed=0)
    return rows_of(store, targets, weights), model
