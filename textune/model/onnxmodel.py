"""A model in ONNX, computed by ONNX Runtime: batches of tokens in, logits out; made by `exports/onnx.py`.

Rows of similar length are computed together, one group of a packed batch after the other, so little padding is.

The file may come from anybody. Weights beside it are read from its own folder alone, and an operator that ONNX Runtime
does not bring itself is refused; nothing in it is Python.

Shapes: B rows of L tokens, C outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from textune.batches import NO_PADDING, Layout, Padding, TokenBatch, Tokens, WindowedBatch
from textune.config import DeviceName
from textune.errors import ModelError, Setting, Words
from textune.inside import within
from textune.model.exported import INPUTS, OUTPUT, ExportedFiles
from textune.wording import listing

CALL_COST_TOKENS = 32
"""What one more call costs, in computed tokens."""
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_PRECISE = "session.x64quantprecision"
"""ONNX Runtime's switch from products of bytes that may saturate to slower ones that do not."""
_ERRORS_ALONE = 3


class OnnxModel:
    """A session of ONNX Runtime with the face of a model; several threads may call it at once."""

    layout: Final[Layout] = "packed"
    padding: Final[Padding] = NO_PADDING
    pooling: Final = None
    training: Final = False

    def __init__(self, session: Any, files: ExportedFiles) -> None:
        """ModelError where the graph of the session (an `onnxruntime.InferenceSession`) has other inputs and outputs
        than such a model."""
        self._session = session
        self._files = files
        self.pad_id = files.pad_id
        self.inputs = tuple(value.name for value in session.get_inputs())
        _require_face(session, files)

    def group_cost(self, dtype: torch.dtype) -> int:
        """A group is a call of ONNX Runtime."""
        return CALL_COST_TOKENS

    def train(self, mode: bool = True) -> OnnxModel:
        """Nothing: it always computes as in prediction."""
        return self

    def eval(self) -> OnnxModel:
        """Nothing: it always computes as in prediction."""
        return self

    def __call__(self, batch: Tokens) -> torch.Tensor:
        """Logits float32 [B, C] of a batch. MemoryError where memory runs out, ModelError where ONNX Runtime
        cannot compute it."""
        assert not isinstance(batch, WindowedBatch), "windows are not exported"
        with self._explained():
            return torch.from_numpy(np.concatenate([self._logits(group) for group in _by_group(batch)]))

    def _logits(self, group: TokenBatch) -> np.ndarray:
        """float32 [B, C] of rows of one length, padding included."""
        (logits_BC,) = self._session.run([OUTPUT], self._files.feeds(group, self.inputs))
        return logits_BC  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what Python raises where ONNX Runtime finds no memory."""
        try:
            yield
        except Exception as error:  # those of ONNX Runtime have no other class in common
            said = str(error)
            if "allocate memory" in said or "bad_alloc" in said:
                raise MemoryError(said) from error
            raise self._files.refused(f"ONNX Runtime stops in it: {_in_words(error)}") from error


def _by_group(batch: TokenBatch) -> Iterator[TokenBatch]:
    """Each group as a batch of its own."""
    first = start = 0
    for group in batch.groups:
        rows, tokens = slice(first, first + group.rows), slice(start, start + group.rows * group.length)
        yield TokenBatch(
            columns={name: column[tokens] for name, column in batch.columns.items()},
            positions_T=batch.positions_T[tokens],
            lengths_B=batch.lengths_B[rows],
            row_lengths=batch.row_lengths[rows],
            groups=(group,),
            rows=batch.rows[rows],
        )
        first, start = rows.stop, tokens.stop


def open_onnx(files: ExportedFiles, *, device: DeviceName, on_notice: Callable[[str], None]) -> OnnxModel:
    """Open it with as many threads as PyTorch has.

    ModelError where onnxruntime is not installed or lacks the device, where the file is no ONNX model, was cut off or
    names weights outside its folder, or where its operators are not those that the card says.
    """
    _require_runtime(files)
    import onnxruntime

    providers = _providers(device, onnxruntime.get_available_providers())
    path = _checked(files)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ERRORS_ALONE
    options.enable_mem_pattern = False  # it keeps a plan for every shape of a batch
    if files.may_overflow_here():
        options.add_session_config_entry(_PRECISE, "1")
    files.tell_of_bytes(on_notice, overflows=False)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # those of ONNX Runtime have no other class in common
        raise files.refused(f"ONNX Runtime cannot open it: {_in_words(error)}") from error
    return OnnxModel(session, files)


def _require_runtime(files: ExportedFiles) -> None:
    missing = [name for name in ("onnxruntime", "onnx") if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"{files.folder} holds a model in ONNX, and {listing(missing)} is not installed.",
            hint='Run `pip install "textune[onnx]"`.',
            key="exported.kind",
            value=files.kind,
            reason=f"{missing[0]} is not installed",
        )


def _providers(device: DeviceName, available: Sequence[str]) -> list[str]:
    """What computes; ModelError where that is not there."""
    if device != "cuda":
        return [_CPU]
    if _CUDA not in available:
        asked = Setting("device", device)
        raise ModelError(
            Words(asked, f": the installed onnxruntime has no {_CUDA}; it has {listing(available)}."),
            hint=Words("Use ", Setting("device", "auto"), ", or install onnxruntime-gpu in place of onnxruntime."),
            key="device",
            value=device,
            reason=f"no {_CUDA}",
        )
    return [_CUDA, _CPU]


# --- the file, before ONNX Runtime reads it --------------------------------------------------------------------------


def _checked(files: ExportedFiles) -> Path:
    """The path of a file whose weights are in its folder, and whose operators are of the version that the card
    says."""
    import onnx

    try:
        path = within(files.folder, files.file)
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise files.refused("there is no such file") from error
    except (OSError, ValueError) as error:
        raise files.refused(str(error)) from error
    try:
        proto = onnx.load_from_string(data)
    except Exception as error:  # that of protobuf, which is onnx's own affair
        raise files.refused("it is no ONNX model, or was cut off") from error
    try:
        for location in _outside(proto):
            if not within(files.folder, location).is_file():
                raise ValueError(f"its weights are in {location}, which is not there")
    except ValueError as error:
        raise files.refused(str(error)) from error
    found = next((opset.version for opset in proto.opset_import if opset.domain in ("", "ai.onnx")), None)
    if found != files.opset:
        raise files.refused(f"its operators are of opset {found}, and its card says {files.opset}")
    return path


def _outside(proto: Any) -> Iterator[str]:
    """The files that a model names for its tensors (`onnx.ModelProto`), wherever in it these are."""
    for tensor in _tensors([proto.graph]):
        yield from (entry.value for entry in tensor.external_data if entry.key == "location")
    for function in proto.functions:
        for tensor in _tensors_of_nodes(function.node):
            yield from (entry.value for entry in tensor.external_data if entry.key == "location")


def _tensors(graphs: Iterable[Any]) -> Iterator[Any]:
    for graph in graphs:
        yield from graph.initializer
        yield from _sparse(graph.sparse_initializer)
        yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            yield from _sparse([attribute.sparse_tensor, *attribute.sparse_tensors])
            if attribute.HasField("g"):
                yield from _tensors([attribute.g])
            yield from _tensors(attribute.graphs)


def _sparse(tensors: Iterable[Any]) -> Iterator[Any]:
    for tensor in tensors:
        yield from (tensor.values, tensor.indices)


def _require_face(session: Any, files: ExportedFiles) -> None:
    """ModelError where inputs and outputs are not those of an exported classifier."""
    read = {value.name: (value.type, len(value.shape)) for value in session.get_inputs()}
    given = {value.name: value for value in session.get_outputs()}
    known = all(name in INPUTS and kind == ("tensor(int64)", 2) for name, kind in read.items())
    if not known or "input_ids" not in read:
        raise files.refused(f"it reads {listing(read)}, where token ids and their mask were expected")
    shape = given[OUTPUT].shape if OUTPUT in given else []
    if len(shape) != 2 or given[OUTPUT].type != "tensor(float)" or shape[1] != files.num_logits:
        raise files.refused(
            f"it does not give out {files.num_logits} {OUTPUT} for each row, as the labels of its card need"
        )


def _in_words(error: BaseException) -> str:
    """What ONNX Runtime says, on one line and without its own codes."""
    said = " ".join(str(error).split()).rpartition("[ONNXRuntimeError] : ")[2]
    return (said or type(error).__name__)[:200].rstrip(".")
