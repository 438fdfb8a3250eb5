"""Worker: `transformers.Trainer`, stopped and started by the pipe after any number of optimizer steps.

Its loop is its own: a callback waits for the next command at the end of the steps that were asked for. The only change is the
order of the rows, drawn by Trainer's own sampler and dealt out by `measure.deal` so that every segment is a fair sample.
"""

from __future__ import annotations

import csv
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from bench.speed.peers.precision import device_memory, resolve, wait_for
from bench.speed.protocol import Channel, Skip

Features = list[dict[str, Any]]


def read_features(spec: dict[str, Any], tokenizer: Any) -> Features:
    """Token ids and labels; padded at once to `max_length`, as run_glue.py does by default, or left for the collator."""
    with Path(spec["rows"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    texts = [[row["text"] for row in rows]]
    if "text_pair" in rows[0]:
        texts.append([row["text_pair"] for row in rows])
    padding = "max_length" if spec["padded"] else False
    encoded = tokenizer(*texts, truncation=True, max_length=spec["max_length"], padding=padding)
    return [
        {**{key: encoded[key][number] for key in encoded}, "label": names.index(row["label"])}
        for number, row in enumerate(rows)
    ]


class Dealt:
    """A sampler over rows in a given order, which may be longer than a pass: the next pass begins where the last one ended."""

    def __init__(self, order: list[int]) -> None:
        self.order = order
        self._pass = len(order)
        self._next = 0

    def __len__(self) -> int:
        """Rows of a pass, as Trainer counts its steps."""
        return self._pass

    def __iter__(self) -> Iterator[int]:
        for _ in range(self._pass):
            row = self.order[self._next % len(self.order)]
            self._next += 1
            yield row


class OrderedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose order can be read, and dealt out anew, before the first step."""

    sampler: Dealt

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # Seeded here, so that two Trainers on the same rows draw the same order.
        torch.manual_seed(self.args.seed)
        self.sampler = Dealt(list(super()._get_train_sampler(train_dataset)))
        return self.sampler


class Segments(TrainerCallback):  # type: ignore[misc]
    """Replies after the steps that were asked for and waits for the next command."""

    def __init__(self, channel: Channel, features: Features, spec: dict[str, Any]) -> None:
        self.channel = channel
        self.lengths = [sum(row["attention_mask"]) for row in features]
        self.spec = spec
        self.trainer: OrderedTrainer
        self.done = self.left = 0
        self.asked = 0
        self.started = 0.0
        self.commands: Iterator[dict[str, Any]] = iter(channel)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer
        self.channel.reply(
            order=trainer.sampler.order,
            num_tokens=sum(self.lengths),
            num_rows=len(self.lengths),
            threads=torch.get_num_threads(),
            precision=self.spec["precision"],
            attention=trainer.model.config._attn_implementation,
        )
        trainer.sampler.order = self.channel.receive()["order"]
        self._await(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.done += 1
        self.left -= 1
        if self.left > 0:
            return
        wait_for(self.spec["device"])
        seconds = time.perf_counter() - self.started
        size, order = self.spec["batch_size"], self.trainer.sampler.order
        seen = range((self.done - self.asked) * size, self.done * size)
        tokens = sum(self.lengths[order[position % len(order)]] for position in seen)
        self.channel.reply(seconds=seconds, rows=len(seen), tokens=tokens)
        self._await(control)

    def _await(self, control: Any) -> None:
        command = next(self.commands, None)
        if command is None:
            control.should_training_stop = True
            return
        self.asked = self.left = command["steps"]
        self.started = time.perf_counter()


def build_arguments(spec: dict[str, Any], folder: str) -> TrainingArguments:
    """The peer's settings in Trainer's words; only what the specification names differs from its defaults."""
    on_gpu = spec["device"] == "cuda"
    options: dict[str, Any] = {"optim": "adamw_torch_fused"} if spec["best"] else {}
    return TrainingArguments(
        output_dir=folder,
        seed=0,
        max_steps=spec["total_steps"],
        per_device_train_batch_size=spec["batch_size"],
        train_sampling_strategy="group_by_length" if spec["grouped"] else "random",
        learning_rate=5e-5,
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type="linear",
        warmup_steps=50,
        bf16=spec["precision"] == "bf16",
        torch_compile=spec.get("compiled", False),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=4 if on_gpu else 0,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        report_to="none",
        **options,
    )


def main() -> None:
    """Train as the specification says, a segment a command."""
    with Channel() as channel:
        spec = channel.receive()
        transformers.utils.logging.disable_progress_bar()
        if importlib.util.find_spec("accelerate") is None:
            raise Skip("transformers.Trainer needs accelerate: pip install accelerate")
        spec["precision"] = resolve(spec["precision"], spec["device"])
        tokenizer = AutoTokenizer.from_pretrained(spec["backbone"])
        features = read_features(spec, tokenizer)
        num_labels = len({row["label"] for row in features})
        transformers.set_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(spec["backbone"], num_labels=num_labels, dtype=torch.float32)
        # Without it Trainer 5 scales the loss of some models wrongly; here it only makes sure of equal work.
        model.accepts_loss_kwargs = False
        segments = Segments(channel, features, spec)
        with tempfile.TemporaryDirectory() as folder:
            trainer = OrderedTrainer(
                model=model,
                args=build_arguments(spec, folder),
                train_dataset=features,
                data_collator=default_data_collator if spec["padded"] else DataCollatorWithPadding(tokenizer),
                processing_class=tokenizer,
                callbacks=[segments],
            )
            segments.trainer = trainer
            trainer.train()
        channel.extra = device_memory(spec["device"])


if __name__ == "__main__":
    main()
