"""What a head says of logits as an ONNX graph: scores, calibrated probabilities and answers, in float64 as in
`textune/tasks`.

Shapes: N rows, C outputs, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from textune.exports.graph import Graph
from textune.tasks import USUAL_THRESHOLD, Head

DOUBLE, FLOAT, INT64, STRING, BOOL = 11, 1, 7, 8, 9
"""Of onnx.TensorProto."""


class Output(NamedTuple):
    """One output of the graph."""

    name: str
    element: int
    """Its type, as onnx.TensorProto says it."""
    columns: int | None
    """K of [N, K]; None where it has one value for a row."""


def names_of(head: Head, *, alone: bool) -> Mapping[str, str]:
    """What its outputs are called, by what they are."""
    before = "" if alone else f"{head.name}_"
    return {what: f"{before}{what}" for what in ("scores", "probabilities", "label", "labels", "value")}


def add_answers(graph: Graph, logits: str, heads: Sequence[Head]) -> list[Output]:
    """The outputs of every head, from logits float32 [N, C] of all of them side by side."""
    outputs: list[Output] = []
    start, doubles = 0, graph.add("Cast", logits, to=DOUBLE)
    for head in heads:
        stop = start + head.num_outputs
        of_head = graph.add("Slice", doubles, graph.numbers([start]), graph.numbers([stop]), graph.numbers([1]))
        outputs += _of_head(graph, of_head, head, names_of(head, alone=len(heads) == 1))
        start = stop
    return outputs


def _of_head(graph: Graph, logits: str, head: Head, names: Mapping[str, str]) -> list[Output]:
    if not head.label_map.choices:
        graph.output(graph.add("Squeeze", logits, graph.numbers([1])), names["value"])
        return [Output(names["value"], DOUBLE, None)]
    size = len(head.labels)
    scores = _scores(graph, logits, head)
    probabilities = _calibrated(graph, scores, head)
    outputs = [Output(names["scores"], DOUBLE, size), Output(names["probabilities"], DOUBLE, size)]
    graph.output(scores, names["scores"])
    graph.output(probabilities, names["probabilities"])
    if head.label_map.exclusive:
        graph.output(_label(graph, scores, probabilities, head), names["label"])
        return [*outputs, Output(names["label"], STRING, None)]
    graph.output(_given(graph, scores, probabilities, head), names["labels"])
    return [*outputs, Output(names["labels"], BOOL, size)]


def _scores(graph: Graph, logits: str, head: Head) -> str:
    """[N, K] what the model says, before any decision."""
    if not head.label_map.exclusive:
        return graph.add("Sigmoid", logits)
    if head.num_outputs > 1:
        return graph.add("Softmax", logits, axis=1)
    second = graph.add("Sigmoid", logits)
    return graph.add("Concat", graph.add("Sub", graph.numbers(1, np.float64), second), second, axis=1)


def _calibrated(graph: Graph, scores: str, head: Head) -> str:
    """[N, K] as `Decision.calibrated_classes` and `calibrated_labels`."""
    decision = head.decision
    if not decision.moves_scores:
        return scores
    if not head.label_map.exclusive:
        return _moved(graph, scores, head)
    if len(head.labels) == 2:
        second = graph.add("Slice", scores, graph.numbers([1]), graph.numbers([2]), graph.numbers([1]))
        second = _moved(graph, second, head)
        return graph.add("Concat", graph.add("Sub", graph.numbers(1, np.float64), second), second, axis=1)
    tiny = graph.numbers(float(np.finfo(np.float64).tiny), np.float64)
    logits = graph.add("Log", graph.add("Max", scores, tiny))
    softened = graph.add("Div", logits, graph.numbers(decision.temperature, np.float64))
    return graph.add("Softmax", softened, axis=1)


def _moved(graph: Graph, scores: str, head: Head) -> str:
    """sigmoid(logit / temperature), or sigmoid(slope * logit + shift), of probabilities."""
    near = float(np.finfo(np.float64).eps) / 2
    kept = graph.add("Max", scores, graph.numbers(near, np.float64))
    kept = graph.add("Min", kept, graph.numbers(1 - near, np.float64))
    rest = graph.add("Sub", graph.numbers(1, np.float64), kept)
    logits = graph.add("Sub", graph.add("Log", kept), graph.add("Log", rest))
    if head.decision.platt is None:
        return graph.add("Sigmoid", graph.add("Div", logits, graph.numbers(head.decision.temperature, np.float64)))
    slopes, shifts = zip(*head.decision.platt, strict=True)
    moved = graph.add("Mul", logits, graph.numbers(slopes, np.float64))
    return graph.add("Sigmoid", graph.add("Add", moved, graph.numbers(shifts, np.float64)))


def _label(graph: Graph, scores: str, probabilities: str, head: Head) -> str:
    """Strings [N]: the name of the class that is answered, empty where the answer is withheld."""
    decision = head.decision
    if decision.costs is not None:
        costs = graph.add("MatMul", probabilities, graph.numbers([list(row) for row in decision.costs], np.float64))
        best = graph.add("ArgMin", costs, axis=1, keepdims=0)
    elif decision.thresholds is not None:
        second = graph.add("Gather", probabilities, graph.numbers(1), axis=1)
        reached = graph.add("GreaterOrEqual", second, graph.numbers(decision.thresholds[0], np.float64))
        best = graph.add("Cast", reached, to=INT64)
    else:
        best = graph.add("ArgMax", scores, axis=1, keepdims=0)
    if decision.abstain_below is not None:
        place = graph.add("Unsqueeze", best, graph.numbers([1]))
        sure = graph.add("Squeeze", graph.add("GatherElements", probabilities, place, axis=1), graph.numbers([1]))
        bounds = graph.numbers(np.broadcast_to(decision.abstain_below, len(head.labels)).tolist(), np.float64)
        withheld = graph.add("Less", sure, graph.add("Gather", bounds, best))
        best = graph.add("Where", withheld, graph.numbers(len(head.labels)), best)
    return graph.add("Gather", graph.texts([*head.label_map.names, ""]), best)


def _given(graph: Graph, scores: str, probabilities: str, head: Head) -> str:
    """bool [N, K] which labels are given."""
    decision = head.decision
    if decision.costs is not None:
        true = probabilities
        untrue = graph.add("Sub", graph.numbers(1, np.float64), true)
        given, withheld = (
            graph.add(
                "Add",
                graph.add("Mul", untrue, graph.numbers(decision.costs[0][answer], np.float64)),
                graph.add("Mul", true, graph.numbers(decision.costs[1][answer], np.float64)),
            )
            for answer in (1, 0)
        )
        return graph.add("Less", given, withheld)
    if decision.thresholds is not None:
        return graph.add("GreaterOrEqual", probabilities, graph.numbers(decision.thresholds, np.float64))
    return graph.add("GreaterOrEqual", scores, graph.numbers(USUAL_THRESHOLD, np.float64))
