"""Prediction by others: `transformers.pipeline`, sentence-transformers, and the exported model by ONNX Runtime and
OpenVINO."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from bench.machine import best_precision
from bench.worker import Channel, Json, Skip

Forward = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Token ids and masks [batch, length] to logits [batch, labels]."""


def pipeline(channel: Channel, spec: Json) -> None:
    """`transformers.pipeline`, batched, with texts as they come or sorted by hand."""
    transformers.utils.logging.disable_progress_bar()
    precision = best_precision(spec["device"])
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    files = {"model": spec["model"], "tokenizer": spec["model"]}
    pipe = transformers.pipeline("text-classification", **files, device=spec["device"], dtype=dtype)
    channel.reply(threads=torch.get_num_threads(), precision=precision)

    def answer(command: Json) -> Json:
        texts = command["texts"]
        order = by_length(texts) if command["by_length"] else list(range(len(texts)))
        options = {"batch_size": command["batch_size"], "truncation": True, "max_length": spec["max_length"]}
        found = pipe([texts[number] for number in order], **options)
        labels = dict(zip(order, (prediction["label"] for prediction in found), strict=True))
        return {"labels": [labels[number] for number in range(len(texts))]}

    channel.serve(answer)


def sentence(channel: Channel, spec: Json) -> None:
    """`SentenceTransformer.encode`, which sorts by length itself; embeddings instead of labels, from the same
    backbone."""
    _require("sentence-transformers", "sentence_transformers")
    from sentence_transformers import SentenceTransformer

    precision = best_precision(spec["device"])
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = SentenceTransformer(spec["model"], device=spec["device"], model_kwargs={"dtype": dtype})
    model.max_seq_length = spec["max_length"]
    channel.reply(threads=torch.get_num_threads(), precision=precision)

    def answer(command: Json) -> Json:
        options = {"batch_size": command["batch_size"], "show_progress_bar": False, "convert_to_tensor": True}
        model.encode(command["texts"], **options)
        return {}

    channel.serve(answer)


def onnx(channel: Channel, spec: Json) -> None:
    """ONNX Runtime on the exported model, in fp32 or int8."""
    _require("ONNX Runtime", "onnxruntime", "onnx", "onnxscript")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait for work would take the processor from whoever's turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(spec["file"], options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    channel.reply(threads=torch.get_num_threads(), precision=spec["precision"])
    channel.serve(_by_hand(spec, names, lambda inputs: session.run(None, inputs)[0]))


def openvino(channel: Channel, spec: Json) -> None:
    """OpenVINO on the exported model in int8; what stays in floats is in the best type that the processor has."""
    _require("OpenVINO", "openvino", "nncf", "onnx", "onnxscript")
    runtime = importlib.import_module("openvino")
    # Left to itself it takes bf16 by what the processor has, whatever oneDNN is held to, and then finds no kernels.
    floats = {"bf16": "bf16", "fp32": "f32"}[best_precision()]
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": floats}
    model = runtime.Core().compile_model(spec["file"], "CPU", {"PERFORMANCE_HINT": "LATENCY", **options})
    request = model.create_infer_request()
    names = {name for value in model.inputs for name in value.get_names()}
    channel.reply(threads=torch.get_num_threads(), precision="int8")
    channel.serve(_by_hand(spec, names, lambda inputs: request.infer(inputs)[model.output(0)]))


def _by_hand(spec: Json, names: set[str], forward: Forward) -> Callable[[Json], Json]:
    """As one writes it by hand over any runtime: texts sorted by length, each batch padded to its longest."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec["model"])
    id2label = json.loads((Path(spec["model"]) / "config.json").read_text(encoding="utf-8"))["id2label"]
    options: dict[str, Any] = {
        "padding": True,
        "truncation": True,
        "max_length": spec["max_length"],
        "return_tensors": "np",
    }

    def answer(command: Json) -> Json:
        texts, size = command["texts"], command["batch_size"]
        labels, order = [""] * len(texts), by_length(texts)
        for part in (order[at : at + size] for at in range(0, len(order), size)):
            encoded = tokenizer([texts[number] for number in part], **options)
            logits = forward({name: value for name, value in encoded.items() if name in names})
            for number, best in zip(part, logits.argmax(axis=-1), strict=True):
                labels[number] = id2label[str(int(best))]
        return {"labels": labels}

    return answer


def by_length(texts: list[str]) -> list[int]:
    """Numbers of the texts, those of similar length together."""
    return sorted(range(len(texts)), key=lambda number: len(texts[number]))


def _require(system: str, *packages: str) -> None:
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        names = " ".join(missing).replace("_", "-")
        raise Skip(f"{system} is no part of this comparison: pip install {names}")
