"""What a client may ask for instead of probabilities: sigmoid and softmax of calibrated logits, and logits."""

from __future__ import annotations

import numpy as np
import pytest

from textune.config import AutoTask
from textune.data import LabelMap
from textune.serving.answers import _of_outputs
from textune.tasks import Decision, Head, build_task, with_decision

RANDOM = np.random.default_rng(0)


def head_of(problem: str, names: tuple[str, ...], decision: Decision) -> Head:
    head = build_task(AutoTask(), {"label": LabelMap(problem, names)}).head  # type: ignore[arg-type]
    return with_decision(head, decision)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logits)))


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "decision", [Decision(temperature=2.0), Decision(platt=((0.5, -1.0), (2.0, 1.0), (1.0, 0.0)))], ids=["T", "platt"]
)
def test_the_sigmoid_of_labels_is_their_probability(decision: Decision) -> None:
    logits = RANDOM.normal(size=(20, 3))
    head = head_of("multilabel", ("a", "b", "c"), decision)
    probabilities = head.calibrated(sigmoid(logits))
    np.testing.assert_allclose(_of_outputs(head, logits, probabilities, "sigmoid"), probabilities, rtol=1e-9)
    np.testing.assert_array_equal(_of_outputs(head, logits, probabilities, "logits"), logits)


@pytest.mark.parametrize("decision", [Decision(temperature=0.4), Decision(platt=((0.5, -1.0),))], ids=["T", "platt"])
def test_the_softmax_of_two_classes_is_their_probability(decision: Decision) -> None:
    logits = RANDOM.normal(size=(20, 2))
    head = head_of("binary", ("no", "yes"), decision)
    probabilities = head.calibrated(softmax(logits))
    np.testing.assert_allclose(_of_outputs(head, logits, probabilities, "softmax"), probabilities, rtol=1e-9)
    one = logits[:, 1:] - logits[:, :1]  # one output that tells them apart
    np.testing.assert_allclose(_of_outputs(head, one, probabilities, "softmax"), probabilities, rtol=1e-9)


def test_the_softmax_of_outputs_that_are_not_one_for_each_class_is_their_probability() -> None:
    head = head_of("multiclass", ("a", "b", "c"), Decision(temperature=3.0))
    probabilities = head.calibrated(softmax(RANDOM.normal(size=(20, 3))))
    shown = _of_outputs(head, RANDOM.normal(size=(20, 5)), probabilities, "softmax")
    np.testing.assert_allclose(shown, probabilities, rtol=1e-9)
