"""Every question: its name on the command line, the function that answers it, and the device it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.speed.questions import limits, prediction, training, wholes, within
from bench.speed.questions.common import Settings
from bench.speed.rows import Answer


@dataclass(frozen=True)
class Question:
    """A function from settings to answers; its docstring says what is asked."""

    answer: Callable[[Settings], list[Answer]]
    device: str = "cpu"


QUESTIONS: dict[str, Question] = {
    "train-best": Question(training.train_best),
    "train-padded-bf16": Question(training.train_padded_bf16),
    "train-padded-fp32": Question(training.train_padded_fp32),
    "limit-short": Question(limits.limit_short),
    "limit-long": Question(limits.limit_long),
    "bert-base": Question(training.bert_base),
    "xlmr-base": Question(training.xlmr_base),
    "predict": Question(prediction.predict),
    "epoch": Question(wholes.epoch),
    "loop": Question(within.loop),
    "startup": Question(wholes.startup),
    "switches": Question(within.switches),
    "scaling": Question(within.scaling),
    "gpu-train": Question(training.gpu_train, device="cuda"),
    "gpu-limit": Question(limits.gpu_limit, device="cuda"),
}
