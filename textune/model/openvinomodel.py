"""A model in OpenVINO's form, computed by its runtime: padded batches of tokens in, logits out; made by
`exports/openvino.py`.

The files may come from anybody. They are read from their own folder alone, and nothing in them is Python.

Shapes: B rows of L tokens, C outputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from textune.batches import GROUP_COST_TOKENS, NO_PADDING, Layout, Padding, Tokens, WindowedBatch
from textune.config import DeviceName
from textune.errors import ModelError, Setting, Words
from textune.imports import unreported
from textune.inside import within
from textune.model.exported import INPUTS, OUTPUT, ExportedFiles
from textune.wording import listing


class OpenVinoModel:
    """A compiled model with the face that prediction knows; several threads may call it at once."""

    layout: Final[Layout] = "padded"
    padding: Final[Padding] = NO_PADDING
    pooling: Final = None
    training: Final = False

    def __init__(self, compiled: Any, files: ExportedFiles) -> None:
        """ModelError where the graph (an `openvino.CompiledModel`) has other inputs and outputs than such a model."""
        self._compiled = compiled
        self._files = files
        self._own = threading.local()
        self.pad_id = files.pad_id
        self.inputs = _inputs(compiled, files)

    def group_cost(self, dtype: torch.dtype) -> int:
        """A padded batch is one group."""
        return GROUP_COST_TOKENS

    def train(self, mode: bool = True) -> OpenVinoModel:
        """Nothing: it always computes as in prediction."""
        return self

    def eval(self) -> OpenVinoModel:
        """Nothing: it always computes as in prediction."""
        return self

    def __call__(self, batch: Tokens) -> torch.Tensor:
        """Logits float32 [B, C] of a padded batch. MemoryError where memory runs out, ModelError where OpenVINO cannot
        compute it."""
        assert not isinstance(batch, WindowedBatch), "windows are not exported"
        feeds = self._files.feeds(batch, self.inputs)
        try:
            found = self._request().infer(feeds)
        except Exception as error:  # those of OpenVINO have no other class in common
            said = str(error)
            if "bad_alloc" in said or "allocate memory" in said:
                raise MemoryError(said) from error
            raise self._files.refused(f"OpenVINO stops in it: {_in_words(error)}") from error
        return torch.from_numpy(found[OUTPUT].copy())  # the request writes there again

    def _request(self) -> Any:
        """Each thread has one: it holds inputs and outputs."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        return self._own.request


def open_openvino(files: ExportedFiles, *, device: DeviceName, on_notice: Callable[[str], None]) -> OpenVinoModel:
    """Open it on the processor, with as many threads as PyTorch has.

    ModelError where openvino is not installed, for another device, and where the files are none of OpenVINO's or were
    cut off.
    """
    _require_runtime(files, device)
    with unreported():
        import openvino

    files.tell_of_bytes(on_notice, overflows=True)
    # By itself it computes in bf16 or fp16 where the processor can, which is not what was compared.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    graph, weights = _paths(files)
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(graph), str(weights)), "CPU", settings)
    except Exception as error:  # those of OpenVINO have no other class in common
        raise files.refused(f"OpenVINO cannot open it: {_in_words(error)}") from error
    return OpenVinoModel(compiled, files)


def _require_runtime(files: ExportedFiles, device: DeviceName) -> None:
    if find_spec("openvino") is None:
        raise ModelError(
            f"{files.folder} holds a model of OpenVINO, and openvino is not installed.",
            hint='Run `pip install "textune[openvino]"`.',
            key="exported.kind",
            value=files.kind,
            reason="openvino is not installed",
        )
    if device == "cuda":
        asked = Setting("device", device)
        raise ModelError(
            Words(asked, f": {files.folder} is a model of OpenVINO, which computes on the processor."),
            hint=Words("Use ", Setting("device", "auto"), ", or the model that it was made of."),
            key="device",
            value=device,
            reason="OpenVINO computes on the processor",
        )


def _paths(files: ExportedFiles) -> tuple[Path, Path]:
    """The graph and its weights, both in the folder."""
    found = []
    for name in (files.file, f"{files.file.removesuffix('.xml')}.bin"):
        try:
            path = within(files.folder, name)
        except (OSError, ValueError) as error:
            raise files.refused(str(error)) from error
        if not path.is_file():
            raise files.refused(f"there is no {name}")
        found.append(path)
    return found[0], found[1]


def _inputs(compiled: Any, files: ExportedFiles) -> tuple[str, ...]:
    """The names of what the graph reads; ModelError where inputs and outputs are not those of an exported
    classifier."""
    named = {name: port for port in compiled.inputs for name in port.get_names() if name in INPUTS}
    known = len(named) == len(compiled.inputs) and "input_ids" in named
    if not known or any(port.get_element_type().get_type_name() != "i64" for port in named.values()):
        read = [name for port in compiled.inputs for name in port.get_names()]
        raise files.refused(f"it reads {listing(read)}, where token ids and their mask were expected")
    [shape] = [port.get_partial_shape() for port in compiled.outputs if OUTPUT in port.get_names()] or [None]
    width = None if shape is None or shape.rank.is_dynamic or len(shape) != 2 else shape[1]
    if width is None or (width.is_static and width.get_length() != files.num_logits):
        raise files.refused(
            f"it does not give out {files.num_logits} {OUTPUT} for each row, as the labels of its card need"
        )
    return tuple(named)


def _in_words(error: BaseException) -> str:
    """What OpenVINO says, on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
