"""What a model says of texts, in the terms that several shapes share: labels with numbers, and which are answered.

- Numbers are calibrated probabilities. Where a model predicts a number, the one label is the name of its value.
- Of several tasks, labels are written `task/label`, task after task.
- Where the card's rule is not the usual one, each item says by `answer` whether it is (part of) the answer: a
  threshold, costs or abstention may answer another label than the most probable one, or none.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from textune.prediction import Predictor
from textune.serving.waiting import Scored
from textune.tasks import Decision, Head, as_logits, as_logits_of_classes, shown, sigmoid

Numbers = Literal["probabilities", "logits", "softmax", "sigmoid"]
"""Which numbers stand beside labels: those of `predict`, the model's outputs, or a function of these divided by the
temperature of the card."""


class Item(BaseModel):
    """A label with its number."""

    label: str = Field(examples=["pos"])
    score: float = Field(examples=[0.98])
    answer: bool | None = Field(
        default=None, description="Whether it is answered; only where the model decides by a rule of its own."
    )


Row = list[dict[str, str | float | bool]]
"""The items of a text, as JSON."""


def label_rows(
    predictor: Predictor, scored: Scored, numbers: Numbers = "probabilities", top_k: int | None = None
) -> list[Row]:
    """For each of n texts every label with its number, or the `top_k` highest, the highest first; head after head, of
    several."""
    heads = predictor.scorer.task.heads
    rows: list[Row] = [[] for _ in scored.num_tokens]
    start = 0
    for head in heads:
        outputs = scored.outputs[:, start : start + head.num_outputs]
        start += head.num_outputs
        names = [name if len(heads) == 1 else f"{head.name}/{name}" for name in head.labels]
        answers, _, probabilities = shown(head, scored.scores[head.name])
        values = probabilities if numbers == "probabilities" else _of_outputs(head, outputs, probabilities, numbers)
        marks = _decides(head.decision)
        for row, answer, of_row in zip(rows, answers, values.reshape(len(rows), len(names)).tolist(), strict=True):
            given = {answer} if isinstance(answer, str) else set(answer) if isinstance(answer, tuple) else set()
            for index in sorted(range(len(names)), key=lambda index: -of_row[index])[:top_k]:
                item: dict[str, str | float | bool] = {"label": names[index], "score": of_row[index]}
                row.append(item | {"answer": head.labels[index] in given} if marks else item)
    return rows


def _decides(decision: Decision) -> bool:
    """Whether the highest score, or 0.5, does not tell the answer."""
    return any(one is not None for one in (decision.thresholds, decision.costs, decision.abstain_below))


def _of_outputs(head: Head, outputs_NC: np.ndarray, probabilities: np.ndarray, numbers: Numbers) -> np.ndarray:
    """Numbers [N, K] made of the model's outputs; those of a head that is not one for each label are as they are."""
    num_labels = len(head.labels)
    if not head.label_map.choices:
        return outputs_NC if numbers == "logits" else probabilities
    if outputs_NC.shape[1] == 1 and num_labels == 2:  # one output tells two classes apart
        outputs_NC = np.concatenate([np.zeros_like(outputs_NC), outputs_NC], axis=1)
    are_labels = outputs_NC.shape[1] == num_labels
    if numbers == "logits":
        return outputs_NC if are_labels else as_logits(probabilities)
    if are_labels and head.decision.platt is None:
        logits = outputs_NC / head.decision.temperature
    elif head.label_map.exclusive and numbers == "softmax":
        logits = as_logits_of_classes(probabilities)
    else:
        logits = as_logits(probabilities)  # which are calibrated already
    if numbers == "sigmoid":
        return sigmoid(logits)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
