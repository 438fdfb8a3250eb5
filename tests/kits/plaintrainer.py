"""Plain training beside which adapters are held: transformers.Trainer, and a bare loop of PyTorch, on a tiny model
without dropout, rows in their order, fp32 on a processor.

As a script under torchrun it is Trainer on several processes: `plaintrainer.py MODEL ROWS.jsonl KIND OUT ARGUMENTS`.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from kits.backbones import tiny_backbone
from kits.runs import BAD, GOOD

MAX_LENGTH = 24
NAMES = ("bad", "fine", "good")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ORDER = {"train_sampling_strategy": "sequential"}
"""Rows as they stand, in Trainer's words."""
CALLER = {"use_cpu": True, "save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
"""What makes a plain run quiet."""


@dataclass(frozen=True)
class Kind:
    """A kind of answers, in the words of transformers."""

    problem: str
    num_labels: int
    names: tuple[str, ...] = ()


KINDS = {
    "multiclass": Kind("single_label_classification", 3, NAMES),
    "multilabel": Kind("multi_label_classification", 3, NAMES),
    "regression": Kind("regression", 1),
}


def rows_of(kind: str, num_rows: int = 80, seed: int = 3) -> list[dict[str, Any]]:
    """Rows of very different lengths, labels in the form that the scripts of transformers read."""
    draw = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        words = draw.choices(["the", "film", "is", "a", "movie", "and", *GOOD, *BAD], k=draw.randint(1, 20))
        label: Any = NAMES[draw.randrange(3)]
        if kind == "multilabel":
            label = [name for name in NAMES if draw.random() < 0.4]
        rows.append({"text": " ".join(words), "label": round(draw.random(), 3) if kind == "regression" else label})
    return rows


def classifier(folder: Path, kind: str, seed: int = 5) -> Path:
    """A tiny BERT with a head, so that everyone starts from the same weights; without dropout."""
    tiny_backbone("bert", folder, **NO_DROPOUT)
    about, names = KINDS[kind], dict(enumerate(KINDS[kind].names))
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}} if names else {}
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=about.num_labels, problem_type=about.problem, **labels
            )
            # A new head is close to zero: 50 steps would hardly tell two ways apart.
            torch.nn.init.normal_(model.classifier.weight, std=0.3)
        model.save_pretrained(folder)
    finally:
        transformers.utils.logging.set_verbosity(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
    return folder


def encode(folder: Path, rows: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Rows as Trainer reads them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def target(label: Any) -> Any:
        if kind == "multilabel":
            return [float(name in label) for name in NAMES]
        return NAMES.index(label) if kind == "multiclass" else float(label)

    ids = [tokenizer(row["text"], truncation=True, max_length=MAX_LENGTH)["input_ids"] for row in rows]
    return [{"input_ids": one, "labels": target(row["label"])} for one, row in zip(ids, rows, strict=True)]


class Listening(Trainer):  # type: ignore[misc]
    """A Trainer whose losses can be read with all their digits: what it logs is rounded, and a mean."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.losses: list[float] = []
        # A model that takes further arguments is believed to divide its loss by the whole batch, which those for
        # classification do not: with accumulation over k batches every loss and gradient were k times too large.
        self.model_accepts_loss_kwargs = False

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        loss = super().training_step(*args, **options)
        if len(self.losses) == self.state.global_step:
            self.losses.append(0.0)
        self.losses[-1] += loss.item()
        return loss


def trainer_losses(
    model: Path, rows: Sequence[Mapping[str, Any]], kind: str, out: Path, **arguments: Any
) -> list[float]:
    """The loss of every optimizer step of transformers.Trainer with these arguments."""
    return trained(model, rows, kind, out, **arguments).losses


def trained(model: Path, rows: Sequence[Mapping[str, Any]], kind: str, out: Path, **arguments: Any) -> Listening:
    """A Trainer that has trained with these arguments."""
    settings = TrainingArguments(output_dir=str(out), **(CALLER | ORDER | arguments))
    plain = AutoModelForSequenceClassification.from_pretrained(model, attn_implementation="eager")
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(model))
    trainer = Listening(plain, settings, train_dataset=encode(model, rows, kind), data_collator=collator)
    trainer.train()
    return trainer


def bare_losses(
    model: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    steps: int,
    lr: float,
    schedule: str,
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
    accumulation: int = 1,
) -> list[float]:
    """The loss of every optimizer step of a bare loop: AdamW without decay of biases and normalisations, transformers'
    schedule, no clipping; the optimizer steps at the end of `accumulation` batches."""
    plain = AutoModelForSequenceClassification.from_pretrained(model, attn_implementation="eager").train()
    collator, examples = (
        DataCollatorWithPadding(AutoTokenizer.from_pretrained(model)),
        encode(model, rows, "multiclass"),
    )
    named = list(plain.named_parameters())
    kept = [value for name, value in named if name.endswith(("bias", "LayerNorm.weight"))]
    decayed = [value for name, value in named if not name.endswith(("bias", "LayerNorm.weight"))]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    rates = transformers.get_scheduler(schedule, optimizer, warmup_steps, steps)
    starts = [start for start in range(0, len(examples), batch_size)]
    losses: list[float] = []
    for step in range(steps):
        losses.append(0.0)
        for part in range(accumulation):
            start = starts[(step * accumulation + part) % len(starts)]
            batch = collator(examples[start : start + batch_size])
            loss = functional.cross_entropy(
                plain(**{key: batch[key] for key in ("input_ids", "attention_mask")}).logits, batch["labels"]
            )
            (loss / accumulation).backward()
            losses[-1] += loss.item() / accumulation
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
    return losses


def main(model: str, rows: str, kind: str, out: str, arguments: str) -> None:
    """Write the losses of this process's share of every step to `OUT/losses-RANK.json`."""
    read = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    losses = trainer_losses(Path(model), read, kind, Path(out), **json.loads(arguments))
    Path(out).mkdir(exist_ok=True)
    (Path(out) / f"losses-{os.environ['RANK']}.json").write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
