"""Worker: OpenVINO on the exported model in int8; what stays in floats is in the best type that the processor has."""

from __future__ import annotations

import importlib
import importlib.util

import torch

from bench.speed.peers.batching import answer
from bench.speed.peers.precision import resolve
from bench.speed.protocol import Channel, Skip

NEEDED = ("openvino", "nncf", "onnx", "onnxscript")


def main() -> None:
    """Predict the texts of each command."""
    with Channel() as channel:
        spec = channel.receive()
        if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
            raise Skip(f"OpenVINO is no part of this comparison: pip install {' '.join(missing)}")
        openvino = importlib.import_module("openvino")
        # Left to itself it takes bf16 by what the processor has, whatever oneDNN is held to, and then finds no kernels.
        floats = {"bf16": "bf16", "fp32": "f32"}[resolve("best", "cpu")]
        options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": floats}
        model = openvino.Core().compile_model(spec["file"], "CPU", {"PERFORMANCE_HINT": "LATENCY", **options})
        request = model.create_infer_request()
        channel.reply(threads=torch.get_num_threads(), precision="int8")
        names = {name for value in model.inputs for name in value.get_names()}
        answer(channel, spec, names, lambda inputs: request.infer(inputs)[model.output(0)])


if __name__ == "__main__":
    main()
