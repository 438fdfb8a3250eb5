"""ONNX nodes in the making: names of values come out, so that a graph reads as the computation it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

EXTENSIONS = "ai.onnx.contrib"
"""The operators of onnxruntime_extensions."""
CLASSIC = "ai.onnx.ml"


class Graph:
    """Nodes and constants, in the order in which they are computed."""

    def __init__(self, prefix: str) -> None:
        """`prefix` keeps its names apart from those of other graphs."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix = prefix

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The value that an operator makes of others."""
        return self.add_all(operator, *inputs, num=1, domain=domain, **attributes)[0]

    def add_all(self, operator: str, *inputs: str, num: int, domain: str = "", **attributes: Any) -> list[str]:
        """The `num` values that it makes."""
        from onnx import helper

        name = f"{self._prefix}/{len(self.nodes)}_{operator}"
        outputs = [f"{name}_{number}" for number in range(num)]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name, domain=domain, **attributes))
        return outputs

    def output(self, value: str, name: str) -> None:
        """Let others know a value by this name."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name], f"{self._prefix}/{name}"))

    def extension(self, operator: str, *inputs: str, num: int = 1, **attributes: Any) -> list[str]:
        """The values that an operator of onnxruntime_extensions makes."""
        return self.add_all(operator, *inputs, num=num, domain=EXTENSIONS, **attributes)

    def zeros_unless(self, bad: str, reason: str) -> str:
        """int64 [N] 0; running the graph is an error where any of bool [N] is true, whose message names `reason` as a
        node."""
        from onnx import helper

        place = self.add("Cast", bad, to=7)  # a place 1 among one number is the error
        name = f"{self._prefix}/{reason}"
        self.nodes.append(helper.make_node("Gather", [self.numbers([0]), place], [name], name))
        return name

    def numbers(self, values: Sequence[float] | Sequence[Sequence[float]] | float, kind: type = np.int64) -> str:
        """A constant, of whole numbers unless `kind` says otherwise."""
        from onnx import numpy_helper

        return self._constant(numpy_helper.from_array(np.array(values, dtype=kind)))

    def texts(self, values: Sequence[str]) -> str:
        """A constant of strings."""
        from onnx import TensorProto, helper

        return self._constant(
            helper.make_tensor("", TensorProto.STRING, [len(values)], [value.encode() for value in values])
        )

    def _constant(self, tensor: Any) -> str:
        tensor.name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(tensor)
        return str(tensor.name)
