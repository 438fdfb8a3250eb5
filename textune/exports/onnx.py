"""Writes a classifier as an ONNX model, in fp32 or with int8 weights; opened by `textune.model.onnxmodel`.

    model folder --transformers.exporters--> padded forward pass --> model.onnx, model.onnx.data

The graph is the padded forward pass of the model with Hugging Face's own head, for any number of rows of any length.
It replaces token ids without an embedding as textune does, so whoever has the tokenizer needs nothing else.

Shapes: B rows of L tokens, C outputs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from textune.errors import ExportError
from textune.imports import quietly
from textune.model import TextModel, called_padded, processor, quiet_transformers
from textune.prediction import ExportNote, Probe, load_scorer, read_card, write_card

if TYPE_CHECKING:
    from transformers.exporters.base import ExportedModel

FILE = "model.onnx"
OPSET = 18
"""The version of operators that the exporter itself is written in."""
OPSETS = range(18, 24)
"""What it can write: older ones lack operators, and ONNX Runtime reads newer ones only in its latest releases."""
NEEDS = "5.23"
"""The first release of transformers whose exporters write these models."""
_EXAMPLE = (3, 7)
"""Rows and tokens of the batch that the exporter sees: no two sizes alike, and none of them 1."""


def write_onnx(
    model: Path,
    folder: Path,
    *,
    probe: Probe,
    on_notice: Callable[[str], None],
    opset: int = OPSET,
    kind: str = "onnx",
) -> None:
    """Fill `folder` with a model in fp32, its tokenizer, config.json and card; a `Writer` of `textune.exports.table`.

    `kind`: what messages say was asked for. ExportError where transformers has no exporters, or they cannot write this
    model.
    """
    _write(model, folder, kind=kind, int8=False, opset=opset, on_notice=on_notice)


def write_onnx_int8(
    model: Path,
    folder: Path,
    *,
    probe: Probe,
    on_notice: Callable[[str], None],
    opset: int = OPSET,
) -> None:
    """The same with int8 weights, a scale for each output of a layer; the inputs of layers become bytes when they are
    computed, by the largest of the batch.

    Weights have 7 bits where this processor could overflow in sums of products of 8: it may also be the one that
    computes them.
    """
    _write(model, folder, kind="onnx-int8", int8=True, opset=opset, on_notice=on_notice)


def _write(model: Path, folder: Path, *, kind: str, int8: bool, opset: int, on_notice: Callable[[str], None]) -> None:
    require_opset(opset, kind, OPSETS, default=OPSET)
    scorer = load_scorer(model, device="cpu", precision="fp32", compile="off", on_notice=on_notice)
    text_model = scorer.text_model
    made_on = processor.byte_products() if int8 else ""
    exported = _export(text_model, kind, opset, few_bits=processor.bytes_may_saturate(made_on) if int8 else None)
    with explained(kind, text_model.hf.config.model_type):
        _exporter()().save_program(exported.program, folder / FILE)
    text_model.save_config(folder)
    scorer.save_card(folder, step=scorer.card.step, value=scorer.card.value)
    note = ExportNote(
        kind=kind,
        file=FILE,
        opset=exported.program.opset_imports[""],
        precision="int8" if int8 else "fp32",
        made_on=made_on,
    )
    write_card(read_card(folder).model_copy(update={"exported": note}), folder)


def require_opset(opset: int, kind: str, opsets: range, *, default: int) -> None:
    """ExportError for a version of operators that is none of these."""
    if opset not in opsets:
        raise ExportError(
            f"--to {kind}: opset {opset} cannot be written.",
            hint=f"Choose one from {opsets[0]} to {opsets[-1]}; {default} is the default.",
            key="opset",
            value=opset,
        )


def _exporter() -> Callable[[], Any]:
    """The exporter of transformers, a class; ExportError for a release without."""
    try:
        from transformers.exporters.exporter_onnx import OnnxExporter
    except ImportError as error:
        raise ExportError(
            f"ONNX models are written by transformers.exporters, which transformers {transformers.__version__} does"
            " not have.",
            hint=f'Run `pip install "transformers>={NEEDS}"`.',
            key="to",
            reason="transformers has no exporters",
        ) from error
    return OnnxExporter  # type: ignore[no-any-return]


def _export(model: TextModel, kind: str, opset: int, *, few_bits: bool | None) -> ExportedModel:
    """The graph of a model; with int8 weights where `few_bits` says whether these have 7 bits instead of 8."""
    exporter = _exporter()
    from transformers.exporters.configs import OnnxConfig

    names = ("input_ids", "attention_mask", *(["token_type_ids"] if model.reads_types else []))
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    config = OnnxConfig(
        dynamic_shapes=dict.fromkeys(names, sizes),
        opset_version=opset,
        quantizer=None if few_bits is None else _quantizer(few_bits),
    )
    example = {name: torch.ones(_EXAMPLE, dtype=torch.int64) for name in names}
    with explained(kind, model.hf.config.model_type), called_padded(model):
        return exporter().export(model.hf, example, config)


def _quantizer(few_bits: bool) -> Any:
    """Linear layers alone: token embeddings are read, not multiplied, and have one scale for the whole table."""
    from onnxruntime.quantization import QuantType
    from transformers.exporters.quantizers import OnnxRuntimeQuantizer
    from transformers.exporters.quantizers.quantizer_onnxruntime import OnnxRuntimeDynamicConfig

    return OnnxRuntimeQuantizer(
        OnnxRuntimeDynamicConfig(
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=few_bits,
            weight_type=QuantType.QInt8,
        )
    )


@contextlib.contextmanager
def explained(kind: str, family: str) -> Iterator[None]:
    """Say in one line why a model cannot be exported, and nothing else that the exporter says of itself."""
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            quiet_transformers(),
            quietly("torch.onnx"),
            quietly("onnxscript"),
            quietly("root"),  # onnxruntime's quantizer advises to prepare a graph, which the exporter has done
            torch.random.fork_rng(devices=[]),
        ):
            yield
    except (ExportError, MemoryError, OSError):
        raise
    except Exception as error:  # those of the exporter have no other class in common
        while error.__cause__ is not None and isinstance(error.__cause__, Exception):
            error = error.__cause__
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(
            f"--to {kind}: a model of type {family} cannot be exported: {said.rstrip('.')}.",
            hint="Choose --to hf.",
            key="to",
            value=kind,
            reason=said,
        ) from error
