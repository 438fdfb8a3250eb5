"""`transformers.Trainer` on a causal language model, and a loop that evaluates row after row, for their speed; none of
textune's code."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from bench.machine import best_precision
from bench.worker import Channel, Json, wait_for_device

TOTAL_STEPS = 100_000


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """A batch padded to its longest row; padding is neither attended to nor scored."""
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        "labels": torch.tensor([row + [-100] * (longest - len(row)) for row in rows]),
    }


class Sequential(Trainer):  # type: ignore[misc]
    """A Trainer that takes the rows in their order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Segments(TrainerCallback):  # type: ignore[misc]
    """Replies after the steps that were asked for and waits for the next command."""

    def __init__(self, channel: Channel, scored: np.ndarray, batch_size: int, facts: Json) -> None:
        self.channel, self.scored, self.batch_size, self.facts = channel, scored, batch_size, facts
        self.done = self.asked = self.left = 0
        self.started = 0.0
        self.commands: Iterator[Json] = iter(channel)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say that it is ready."""
        self.channel.reply(threads=torch.get_num_threads(), **self.facts)
        self._await(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reply at the end of a segment."""
        self.done += 1
        self.left -= 1
        if self.left > 0:
            return
        wait_for_device()
        seconds = time.perf_counter() - self.started
        seen = np.arange((self.done - self.asked) * self.batch_size, self.done * self.batch_size) % len(self.scored)
        self.channel.reply(seconds=seconds, tokens=int(self.scored[seen].sum()))
        self._await(control)

    def _await(self, control: Any) -> None:
        command = next(self.commands, None)
        if command is None:
            control.should_training_stop = True
            return
        self.asked = self.left = command["steps"]
        self.started = time.perf_counter()


def segments(channel: Channel, spec: Json) -> Json:
    """Train the rows in the order given, a segment of steps per command; the last reply has the losses logged."""
    file, size = np.load(spec["rows"]), spec["batch_size"]
    ends = np.cumsum(file["lengths"])
    order = spec["order"][: len(spec["order"]) // size * size]
    rows = [file["ids"][ends[row] - file["lengths"][row] : ends[row]].tolist() for row in order]
    precision, on_gpu = best_precision(spec["device"]), spec["device"] == "cuda"
    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    facts = {"precision": precision, "attention": model.config._attn_implementation}
    callback = Segments(channel, np.array([len(row) - 1 for row in rows]), size, facts)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size,
            learning_rate=1e-4,
            weight_decay=0.01,
            warmup_steps=50,
            max_steps=TOTAL_STEPS,
            bf16=precision == "bf16",
            optim="adamw_torch_fused",
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = Sequential(
            model=model, args=arguments, train_dataset=rows, data_collator=padded, callbacks=[callback]
        )
        trainer.train()
    return {"losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]}


def evaluation(channel: Channel, spec: Json) -> Json:
    """Perplexity of the first rows, one at a time, a number of rows per command; the last reply has their nats."""
    torch.set_num_threads(spec["threads"])
    file = np.load(spec["rows"])
    ends = np.cumsum(file["lengths"])
    ids = torch.from_numpy(file["ids"].astype(np.int64))
    rows = [ids[end - size : end] for end, size in zip(ends.tolist(), file["lengths"].tolist(), strict=True)]
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32).eval()
    channel.reply(threads=torch.get_num_threads(), precision="fp32", attention=model.config._attn_implementation)
    nats: dict[int, float] = {}

    def segment(command: Json) -> Json:
        chosen = range(*command["rows"])
        with torch.inference_mode():
            for row in chosen:
                alone = rows[row][None]
                nats[row] = float(model(input_ids=alone, labels=alone).loss) * (len(rows[row]) - 1)
        return {"tokens": sum(len(rows[row]) - 1 for row in chosen)}

    channel.serve(segment)
    return {"nats": [nats[row] for row in sorted(nats)]}
