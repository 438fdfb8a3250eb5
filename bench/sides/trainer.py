"""`transformers.Trainer`, for its speed (`segments`) and for its scores (`scores`); none of textune's code.

In `segments` its loop is its own: a callback waits for the next command at the end of the steps that were asked for.
The only change is the order of the rows, drawn by Trainer's own sampler and dealt out so that every segment is a fair
sample.
"""

from __future__ import annotations

import importlib.util
import math
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from bench.machine import best_precision, gpu_name, processor, versions
from bench.sides.examples import (
    Features,
    LabelScheme,
    Tree,
    find_backbone,
    parse_duration,
    read_example,
    read_features,
)
from bench.worker import Channel, Json, Skip, wait_for_device

EVALUATION_BATCH_SIZE = 128
LABEL_THRESHOLD = 0.5
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "scikit-learn")


def training_arguments(example: Tree, num_rows: int, precision: str, **options: Any) -> TrainingArguments:
    """The `[train]` table of a config in Trainer's words, its defaults those of textune; `options` add to them."""
    train = example["train"]
    optimizer, schedule, size = train["optimizer"], train["schedule"], train["batch_size"]
    if optimizer.get("kind", "adamw") != "adamw":
        raise ValueError("the reference knows AdamW only")
    warmup, unit = parse_duration(schedule["warmup"])
    warmup *= 1 if unit == "step" else math.ceil(num_rows / size)
    length, unit = parse_duration(train["duration"])
    options |= {"max_steps": round(length)} if unit == "step" else {"num_train_epochs": length}
    return TrainingArguments(
        per_device_train_batch_size=size,
        learning_rate=optimizer["lr"],
        weight_decay=optimizer.get("weight_decay", 0.01),
        adam_beta1=optimizer.get("beta1", 0.9),
        adam_beta2=optimizer.get("beta2", 0.999),
        adam_epsilon=optimizer.get("eps", 1e-8),
        max_grad_norm=train.get("max_grad_norm", 1.0),
        lr_scheduler_type=schedule.get("kind", "linear"),
        warmup_steps=round(warmup),
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        **options,
    )


def build_model(backbone: str, scheme: LabelScheme, seed: int) -> PreTrainedModel:
    """The backbone with a new head."""
    transformers.utils.logging.disable_progress_bar()
    if importlib.util.find_spec("accelerate") is None:
        raise Skip("transformers.Trainer needs accelerate: pip install accelerate")
    transformers.set_seed(seed)
    names = dict(enumerate(scheme.names))
    labels = {
        "num_labels": len(names),
        "id2label": names,
        "label2id": {name: number for number, name in names.items()},
    }
    options = {"problem_type": scheme.problem, "dtype": torch.float32, **labels}
    model = AutoModelForSequenceClassification.from_pretrained(backbone, **options)
    # Without it Trainer 5 scales the loss of some models wrongly; here it only makes sure of equal work.
    model.accepts_loss_kwargs = False
    return model


def with_adapters(model: PreTrainedModel, lora: Json) -> Any:
    """The model in peft's wrapper, as its guide to sequence classification has it; `lora`: the `[model.lora]` table of
    a config, its defaults those of textune."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,  # the head is trained as a whole
        r=lora.get("r", 8),
        lora_alpha=lora.get("alpha", 16),
        lora_dropout=lora.get("dropout", 0.0),
        bias=lora.get("bias", "none"),
        target_modules="all-linear",
    )
    return get_peft_model(model, config)


# --- speed -----------------------------------------------------------------------------------------------------------


class Dealt:
    """A sampler of rows in an order that may be longer than a pass: the next pass begins where the last one ended."""

    def __init__(self, order: list[int]) -> None:
        self.order, self._length = order, len(order)
        self._rows = (row for _ in count() for row in self.order)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return islice(self._rows, self._length)


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

    def __init__(self, channel: Channel, features: Features, batch_size: int, facts: Json) -> None:
        self.channel = channel
        self.lengths = [sum(row["attention_mask"]) for row in features]
        self.batch_size = batch_size
        self.facts = facts
        self.trainer: OrderedTrainer
        self.done = self.asked = self.left = 0
        self.started = 0.0
        self.commands: Iterator[Json] = iter(channel)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the order and take the one to train in."""
        facts = {"num_tokens": sum(self.lengths), "num_rows": len(self.lengths), "threads": torch.get_num_threads()}
        self.channel.reply(order=self.trainer.sampler.order, **facts, **self.facts)
        self.trainer.sampler.order = self.channel.receive()["order"]
        self._await(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reply at the end of a segment."""
        self.done += 1
        self.left -= 1
        if self.left > 0:
            return
        wait_for_device()
        seconds, order = time.perf_counter() - self.started, self.trainer.sampler.order
        seen = range((self.done - self.asked) * self.batch_size, self.done * self.batch_size)
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


def segments(channel: Channel, spec: Json) -> None:
    """Train as the config says, a segment of steps per command, with a precision and habits of Trainer's own."""
    example, on_gpu = read_example(Path(spec["config"])), spec["device"] == "cuda"
    precision = best_precision(spec["device"]) if spec["precision"] == "best" else spec["precision"]
    backbone = find_backbone(example["model"]["pretrained"])
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    scheme, features = read_features(example, Path(), tokenizer, padded=spec["padded"])
    model, rows = build_model(backbone, scheme, seed=0), features["train"]
    facts: Json = {"precision": precision, "attention": model.config._attn_implementation}
    if "lora" in example["model"]:
        model = with_adapters(model, example["model"]["lora"])
    facts["num_trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    callback = Segments(channel, rows, example["train"]["batch_size"], facts)
    options: dict[str, Any] = {"optim": "adamw_torch_fused"} if spec["fused"] else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(
            example,
            len(rows),
            precision,
            output_dir=folder,
            seed=0,
            train_sampling_strategy="group_by_length" if spec["grouped"] else "random",
            torch_compile=spec["compiled"],
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            dataloader_num_workers=4 if on_gpu else 0,
            eval_strategy="no",
            logging_strategy="no",
            **options,
        )
        callback.trainer = OrderedTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=default_data_collator if spec["padded"] else DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            callbacks=[callback],
        )
        callback.trainer.train()


# --- scores ----------------------------------------------------------------------------------------------------------


def score(problem: str, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Metrics of scikit-learn and scipy; every value is better when higher."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if problem == "regression":
        values = logits.reshape(-1)
        found = {"pearson": pearsonr(values, targets)[0], "spearman": spearmanr(values, targets)[0]}
    elif problem == "multi_label_classification":
        chosen, known = 1 / (1 + np.exp(-logits.astype(np.float64))) >= LABEL_THRESHOLD, targets >= LABEL_THRESHOLD
        found = {
            f"f1_{average}": f1_score(known, chosen, average=average, zero_division=0)
            for average in ("micro", "macro")
        }
        found["subset_accuracy"] = (known == chosen).all(1).mean()
    else:
        chosen = logits.argmax(-1)
        found = {"accuracy": accuracy_score(targets, chosen), "mcc": matthews_corrcoef(targets, chosen)}
        found["f1_macro"] = f1_score(targets, chosen, average="macro", zero_division=0)
        found |= {"f1": f1_score(targets, chosen, zero_division=0)} if logits.shape[1] == 2 else {}
    return {name: float(value) for name, value in found.items()}


def scores(channel: Channel, spec: Json) -> None:
    """Train an example to its end; the first reply is the result: the scores after each epoch, and the times."""
    example, on_gpu = read_example(Path(spec["example"])), torch.cuda.is_available()
    precision, metric = example["train"]["precision"], example["evaluate"]["metric"]
    precision = best_precision("cuda" if on_gpu else "cpu") if precision == "auto" else precision
    if "take" in example["data"]["train"]:
        raise Skip("the reference reads all rows: it cannot draw those of data.train.take")
    backbone = find_backbone(spec["pretrained"] or example["model"]["pretrained"])
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    started = time.perf_counter()
    scheme, features = read_features(example, Path(spec["data_folder"]), tokenizer, max_rows=spec["max_rows"])
    reading_seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=build_model(backbone, scheme, spec["seed"]),
            args=training_arguments(
                example,
                len(features["train"]),
                precision,
                output_dir=scratch,
                seed=spec["seed"],
                per_device_eval_batch_size=EVALUATION_BATCH_SIZE,
                train_sampling_strategy="group_by_length",
                optim="adamw_torch_fused",
                use_cpu=not on_gpu,
                eval_strategy="epoch",
                dataloader_pin_memory=on_gpu,
            ),
            train_dataset=features["train"],
            eval_dataset=features["validation"],
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=lambda output: score(scheme.problem, output.predictions, output.label_ids),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        test = trainer.predict(features["test"]).metrics if "test" in features else {}
    evaluation_seconds = sum(entry["eval_runtime"] for entry in evaluations)
    epochs = [_named(entry) for entry in evaluations]
    channel.reply(
        seed=spec["seed"],
        metric=metric,
        rows={name: len(part) for name, part in features.items()},
        labels=list(scheme.names),
        steps=trainer.state.global_step,
        epochs=epochs,
        best=max(epochs, key=lambda epoch: epoch[metric]),
        last=epochs[-1],
        test_of_last=_named(test) or None,
        train_seconds=round(seconds - evaluation_seconds, 2),
        evaluation_seconds=round(evaluation_seconds, 2),
        reading_seconds=round(reading_seconds, 2),
        precision=precision,
        example=example,
        **_surroundings(trainer),
    )


def _surroundings(trainer: Trainer) -> Json:
    """On what it was computed, with what, and when."""
    return {
        "threads": torch.get_num_threads(),
        "device": str(trainer.args.device),
        "attention": trainer.model.config._attn_implementation,
        "versions": versions(PACKAGES),
        "machine": gpu_name() or processor(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _named(entry: Json) -> Json:
    """Scores of an evaluation without Trainer's prefixes and timings."""
    found = {key.removeprefix("eval_").removeprefix("test_"): value for key, value in entry.items()}
    return {key: found[key] for key in found if key not in {"runtime", "samples_per_second", "steps_per_second"}}
