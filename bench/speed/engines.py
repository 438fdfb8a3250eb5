"""Training by ONNX Runtime beside textune's own ways: in the environment that has its training package."""

from __future__ import annotations

import importlib.util

from bench.rows import Row, compared
from bench.speed.race import TEXTUNE, Plan, race
from bench.speed.work import BATCH_SIZE, Settings, short_task
from bench.worker import Skip

ENGINE = ["train.engine=onnxruntime"]
EAGER = ["model.attention=padded", "model.compile=off", "train.precision=fp32"]


def onnxruntime(settings: Settings) -> list[Row]:
    """Beside the eager padded loop in fp32, which does the same products, and beside what a run does by default."""
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxruntime.training") is None:
        raise Skip("onnxruntime-training-cpu is not in this environment: make bench-ort")
    task = short_task(settings)
    config = {"config": str(task.write(settings))}
    changes = {"onnxruntime": ENGINE, "eager": EAGER, "default": list[str]()}
    sides = {name: (TEXTUNE, {**config, "overrides": words}) for name, words in changes.items()}
    result = race(settings, task, sides, Plan(warm_up=4))
    question = f"training by ONNX Runtime, MiniLM-L6, short texts, batch {BATCH_SIZE}"
    peers = {"eager": "textune, PyTorch's operators, padded, fp32", "default": "textune, by default"}
    return [
        compared(f"onnxruntime-{name}", question, result.comparison(name), result.details(), unit="rows/s", peer=peer)
        for name, peer in peers.items()
    ]
