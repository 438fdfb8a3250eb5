"""Writes a classifier as an OpenVINO model, in fp32 or with weights and activations of bytes; opened by
`textune.model.openvinomodel`.

    model folder --transformers.exporters--> padded forward pass --> model.xml, model.bin

The graph is that of `onnx.py`: the padded forward pass with Hugging Face's own head, for any number of rows of any
length. Ranges of activations are found beforehand, from rows of the model's probe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from textune.batches import Assembler, WindowedBatch
from textune.errors import ExportError
from textune.exports.onnx import NEEDS, explained
from textune.imports import quietly, unreported
from textune.model import TextModel, called_padded, processor
from textune.prediction import ExportNote, Probe, Scorer, load_scorer, read_card, write_card

FILE = "model.xml"
"""The graph; its weights are in `model.bin`."""
MAX_CALIBRATION = 200
"""Most rows from which the ranges of activations are found."""
_EXAMPLE = (3, 7)
"""Rows and tokens of the batch that the exporter sees: no two sizes alike, and none of them 1."""


def write_openvino(model: Path, folder: Path, *, probe: Probe, on_notice: Callable[[str], None]) -> None:
    """Fill `folder` with a model in fp32, its tokenizer, config.json and card; a `Writer` of `textune.exports.table`.

    ExportError where transformers has no exporters, or they cannot write this model.
    """
    _write(model, folder, "openvino", None, on_notice)


def write_openvino_int8(model: Path, folder: Path, *, probe: Probe, on_notice: Callable[[str], None]) -> None:
    """The same with bytes for weights and for what goes into linear layers, whose ranges are found from rows of
    `probe`.

    Where this processor could overflow in sums of products of bytes, half the range of weights stays unused: it may
    also be the one that computes them.
    """
    _write(model, folder, "openvino-int8", probe, on_notice)


def _write(model: Path, folder: Path, kind: str, calibration: Probe | None, on_notice: Callable[[str], None]) -> None:
    scorer = load_scorer(model, device="cpu", precision="fp32", compile="off", on_notice=on_notice)
    text_model = scorer.text_model
    made_on = "" if calibration is None else processor.byte_products()
    with explained(kind, text_model.hf.config.model_type), unreported(), quietly("nncf"), called_padded(text_model):
        quantizer = None if calibration is None else _quantizer(_samples(scorer, calibration), made_on)
        exporter, program = _export(text_model, quantizer)
        exporter.save_program(program, folder / FILE)
    text_model.save_config(folder)
    scorer.save_card(folder, step=scorer.card.step, value=scorer.card.value)
    precision = "fp32" if calibration is None else "int8"
    note = ExportNote(kind=kind, file=FILE, precision=precision, made_on=made_on)
    write_card(read_card(folder).model_copy(update={"exported": note}), folder)


def _export(model: TextModel, quantizer: Any) -> tuple[Any, Any]:
    """The exporter of transformers, and the graph that it makes (an `openvino.Model`)."""
    try:
        from transformers.exporters.configs import OpenVINOConfig
        from transformers.exporters.exporter_openvino import OpenVINOExporter
    except ImportError as error:
        raise ExportError(
            "OpenVINO models are written by transformers.exporters, which transformers"
            f" {transformers.__version__} does not have.",
            hint=f'Run `pip install "transformers>={NEEDS}"`.',
            key="to",
            reason="transformers has no exporters",
        ) from error
    names = ("input_ids", "attention_mask", *(["token_type_ids"] if model.reads_types else []))
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    config = OpenVINOConfig(dynamic_shapes=dict.fromkeys(names, sizes), quantizer=quantizer, stateful=False)
    example = {name: torch.ones(_EXAMPLE, dtype=torch.int64) for name in names}
    exporter = OpenVINOExporter()
    return exporter, exporter.export(model.hf, example, config).program


def _samples(scorer: Scorer, probe: Probe) -> list[dict[str, torch.Tensor]]:
    """The inputs of rows of the probe, each by itself: padding would tell of no row."""
    model, store = scorer.text_model, probe.store(scorer)
    chosen = np.unique(np.linspace(0, len(probe) - 1, min(len(probe), MAX_CALIBRATION)).astype(np.int64))
    cost = model.group_cost(scorer.device.dtype)
    assembler = Assembler(model.layout, model.pad_id, group_cost=cost, padding=model.padding, windows=False)
    found = []
    for row in chosen:
        batch = assembler.tokens(store, np.array([row]), scorer.max_tokens)
        assert not isinstance(batch, WindowedBatch), "windows are not exported"
        inputs = model.padded_inputs(batch)
        zeros_BL = torch.zeros_like(inputs["input_ids"])
        types = {"token_type_ids": inputs.get("token_type_ids", zeros_BL)} if model.reads_types else {}
        found.append(inputs | types)
    return found


def _quantizer(samples: list[dict[str, torch.Tensor]], made_on: str) -> Any:
    import nncf
    from transformers.exporters.quantizers.quantizer_nncf import NNCFOpenVINOQuantizer, NNCFQuantizationConfig

    few_bits = nncf.OverflowFix.ENABLE if processor.bytes_may_saturate(made_on) else nncf.OverflowFix.DISABLE
    config = NNCFQuantizationConfig(
        subset_size=len(samples), advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=few_bits)
    )
    return NNCFOpenVINOQuantizer(config, calibration_dataset=samples)
