"""Every question: its name on the command line, the function that answers it, the seconds it wants, and its device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.speed.questions import attention, limits, prediction, training, wholes, within
from bench.speed.questions.common import Settings
from bench.speed.rows import Answer


@dataclass(frozen=True)
class Question:
    """A function from settings to answers; its docstring says what is asked."""

    answer: Callable[[Settings], list[Answer]]
    seconds: float
    """Of a run of ten minutes, start-up counted; a shorter run shares its time out in the same proportions."""
    device: str = "cpu"


# What matters most comes first: where the time is over, the rest is left out.
QUESTIONS: dict[str, Question] = {
    "train-best": Question(training.train_best, 60),
    "train-best-long": Question(training.train_best_long, 70),
    "predict": Question(prediction.predict, 110),
    "bert-base": Question(training.bert_base, 50),
    "xlmr-base": Question(training.xlmr_base, 55),
    "modernbert-base": Question(training.modernbert_base, 60),
    "deberta-small": Question(training.deberta_small, 45),
    "attention": Question(attention.attention, 20),
    "train-padded-fp32": Question(training.train_padded_fp32, 35),
    "train-padded-bf16": Question(training.train_padded_bf16, 25),
    "startup": Question(wholes.startup, 25),
    "epoch": Question(wholes.epoch, 40),
    "loop": Question(within.loop, 20),
    "switches": Question(within.switches, 40),
    "scaling": Question(within.scaling, 30),
    "gpu-train": Question(training.gpu_train, 150, device="cuda"),
    "gpu-limit": Question(limits.gpu_limit, 120, device="cuda"),
}
