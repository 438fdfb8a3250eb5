"""Worker: ONNX Runtime on the exported model, in fp32 or int8."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch

from bench.speed.peers.batching import answer
from bench.speed.protocol import Channel, Skip

NEEDED = ("onnxruntime", "onnx", "onnxscript")


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
    with Channel() as channel:
        spec = channel.receive()
        if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
            raise Skip(f"ONNX Runtime is no part of this comparison: pip install {' '.join(missing)}")
        session = open_session(Path(spec["file"]))
        channel.reply(threads=torch.get_num_threads(), precision=spec["precision"])
        names = {value.name for value in session.get_inputs()}
        answer(channel, spec, names, lambda inputs: session.run(None, inputs)[0])


if __name__ == "__main__":
    main()
