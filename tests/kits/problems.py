"""A task of each kind with random targets, and rows and a tiny model for it (fp32, dropout off)."""

from pathlib import Path

import numpy as np
import torch

from kits.batches import rows_of
from textune.batches.rows import TokenRows
from textune.batches.tokens import TextEncoder
from textune.config.schema import ModelSection, TokensSection
from textune.config.taskkinds import MulticlassTask, MultilabelTask, RegressionTask
from textune.data.labels.map import LabelMap
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


def rows_and_model(
    folder: Path, task: Task, targets: np.ndarray, *, layout: str, weighted: bool
) -> tuple[TokenRows, TextModel]:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(1, 30))) for _ in targets]
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    section = ModelSection(pretrained=str(folder), attention=layout, config=dropout)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(section)
    store = TextEncoder(tokenizer, TokensSection(max_length=40)).encode(texts)
    weights = generator.random(len(texts)).astype(np.float32) if weighted else None
    model = load_model(section, tokenizer, label_maps=task.label_maps, num_logits=task.num_outputs, seed=0)
    return rows_of(store, targets, weights), model
