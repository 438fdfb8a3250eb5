"""Worker: ONNX Runtime on the same model, exported here; texts sorted by length, each batch padded to its longest."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bench.speed.protocol import Channel, Skip

NEEDED = ("onnxruntime", "onnx", "onnxscript")


def export(folder: str, tokenizer: Any, path: Path) -> list[str]:
    """Write the model as ONNX with free batch and length; returns the names of its inputs."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    sample = dict(tokenizer(["one short text", "another text, a little longer"], padding=True, return_tensors="pt"))
    batch, length = torch.export.Dim("batch", min=2), torch.export.Dim("length", min=4, max=512)
    torch.onnx.export(
        model,
        kwargs=sample,
        f=str(path),
        input_names=list(sample),
        output_names=["logits"],
        dynamic_shapes={name: {0: batch, 1: length} for name in sample},
        dynamo=True,
        verbose=False,
    )
    return list(sample)


def open_session(path: Path) -> Any:
    """A session with as many threads as torch uses."""
    onnxruntime = importlib.import_module("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait for work would take the processor from whoever's turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Predict the texts of each command."""
    with Channel() as channel, tempfile.TemporaryDirectory() as scratch:
        spec = channel.receive()
        if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
            raise Skip(f"ONNX Runtime is no part of this comparison: pip install {' '.join(missing)}")
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        tokenizer = AutoTokenizer.from_pretrained(spec["model"])
        path = Path(scratch) / "model.onnx"
        inputs = export(spec["model"], tokenizer, path)
        session = open_session(path)
        channel.reply(threads=torch.get_num_threads(), precision="fp32")
        for command in channel:
            started = time.perf_counter()
            texts, size = command["texts"], command["batch_size"]
            order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
            for at in range(0, len(order), size):
                part = [texts[number] for number in order[at : at + size]]
                batch = tokenizer(part, padding=True, truncation=True, max_length=spec["max_length"], return_tensors="np")
                session.run(None, {name: batch[name] for name in inputs})
            channel.reply(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
