"""Rows of different lengths in an ONNX graph: flat values, and where each row begins.

Shapes: N rows, T values, the longest row of M.
"""

from __future__ import annotations

from typing import NamedTuple

from textune.exports.graph import Graph


class Ragged(NamedTuple):
    """Names of values in a graph."""

    flat: str
    """[T] the values of all rows."""
    begins: str
    """int64 [N] where each row begins in them."""
    lengths: str
    """int64 [N]."""

    @classmethod
    def of_splits(cls, graph: Graph, flat: str, splits: str) -> Ragged:
        """From int64 [N + 1] where rows begin, and the last one ends."""
        begins = graph.add("Slice", splits, graph.numbers([0]), graph.numbers([-1]))
        ends = graph.add("Slice", splits, graph.numbers([1]), graph.numbers([1 << 62]))
        return cls(flat, begins, graph.add("Sub", ends, begins))

    @classmethod
    def of_mask(cls, graph: Graph, values: str, mask: str) -> Ragged:
        """From values [N, M] whose rows end with padding, and int64 [N, M] 1 for each that is none."""
        shape = graph.add("Shape", values)
        num = graph.add("Squeeze", graph.add("Slice", shape, graph.numbers([0]), graph.numbers([1])))
        size = graph.add("Slice", shape, graph.numbers([1]), graph.numbers([2]))
        rows = graph.add("Range", graph.numbers(0), num, graph.numbers(1))
        lengths = graph.add("ReduceSum", mask, graph.numbers([1]), keepdims=0)
        return cls(graph.add("Reshape", values, graph.numbers([-1])), graph.add("Mul", rows, size), lengths)

    @staticmethod
    def places(graph: Graph, lengths: str) -> tuple[str, str]:
        """int64 [M] the places of a row, and bool [N, M] which of them rows of these lengths have; M is at least 1."""
        lengths_and_1 = graph.add("Concat", lengths, graph.numbers([1]), axis=0)  # there may be no rows
        longest = graph.add("ReduceMax", lengths_and_1, keepdims=0)
        places = graph.add("Range", graph.numbers(0), longest, graph.numbers(1))
        return places, graph.add("Less", places, graph.add("Unsqueeze", lengths, graph.numbers([1])))
