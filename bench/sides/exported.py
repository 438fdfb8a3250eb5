"""`python -m bench.sides.exported MODEL TEXTS FLOAT BYTES OPENVINO`: the model as ONNX, and in int8 for two runtimes.

Each system's own recipe: ONNX Runtime quantises weights and finds the scales of activations while it runs; OpenVINO's
are found beforehand, from the lines of the file TEXTS. What needs a package that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

CALIBRATION = (10, 32)
"""Batches, and texts in each, from which OpenVINO learns the ranges of activations."""


def export(model: str, tokenizer: Any, path: Path) -> None:
    """Write the model as ONNX with free batch and length."""
    network = AutoModelForSequenceClassification.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    )
    sample = dict(tokenizer(["one short text", "another text, a little longer"], padding=True, return_tensors="pt"))
    free = {0: torch.export.Dim("batch", min=2), 1: torch.export.Dim("length", min=4, max=512)}
    names: dict[str, Any] = {
        "input_names": list(sample),
        "output_names": ["logits"],
        "dynamic_shapes": dict.fromkeys(sample, free),
    }
    torch.onnx.export(network.eval(), kwargs=sample, f=str(path), **names, dynamo=True, verbose=False)


def quantize_for_onnxruntime(source: Path, target: Path) -> None:
    """Bytes instead of floats for the weights of products."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    del graph.graph.value_info[
        :
    ]  # shapes noted by the exporter, which the quantiser takes for those of its own tensors
    onnx.save(graph, target.with_suffix(".bare"))
    quantize_dynamic(target.with_suffix(".bare"), target, weight_type=QuantType.QInt8)


def quantize_for_openvino(source: Path, target: Path, tokenizer: Any, texts: list[str]) -> None:
    """Bytes for weights and activations."""
    import nncf
    import openvino

    batches, size = CALIBRATION
    model = openvino.Core().read_model(source)
    names = {name for value in model.inputs for name in value.get_names()}

    def inputs(part: list[str]) -> dict[str, Any]:
        encoded = tokenizer(part, padding=True, truncation=True, max_length=512, return_tensors="np")
        return {name: value for name, value in encoded.items() if name in names}

    parts = [texts[at : at + size] for at in range(0, min(len(texts), batches * size), size)]
    kind = nncf.ModelType.TRANSFORMER
    quantized = nncf.quantize(model, nncf.Dataset(parts, inputs), model_type=kind, subset_size=len(parts))
    openvino.save_model(quantized, target)


def main(model: str, texts: Path, float_file: Path, byte_file: Path, openvino_file: Path) -> None:
    """Write what the installed packages allow."""

    def has(*names: str) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in names)

    if not has("onnx", "onnxscript"):
        return
    tokenizer = AutoTokenizer.from_pretrained(model)
    export(model, tokenizer, float_file)
    if has("onnxruntime"):
        quantize_for_onnxruntime(float_file, byte_file)
    if has("openvino", "nncf"):
        quantize_for_openvino(float_file, openvino_file, tokenizer, texts.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    main(sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
