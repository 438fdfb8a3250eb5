"""Opens a model that is no longer a folder of PyTorch weights: a kind of export and its files in, a `TokenModel` out.

To add a kind that textune opens: write a module with an `Opener`, and give the kind a row in `OPENERS`.

Shapes: B rows of L tokens, C outputs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from textune.batches import TokenBatch
from textune.config import DeviceName, PredictionPrecision, Switch
from textune.errors import Advice, ModelError, Setting, Words
from textune.model import processor
from textune.model.heads import padded_tensors
from textune.model.hugging import HuggingConfig
from textune.model.tokenmodel import TokenModel
from textune.wording import listing

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What a graph reads, int64 [B, L] each; not every family has the last one."""
OUTPUT = "logits"
"""What it gives out, float32 [B, C]."""


@dataclass(frozen=True)
class ExportedFiles:
    """A folder with such a model, and what its card says of it."""

    folder: Path
    kind: str
    """As `textune export --to` names it."""
    file: str
    """The file that holds the model."""
    precision: str
    """Of its weights: `fp32` or `int8`."""
    config: HuggingConfig
    """Of the model that it was."""
    pad_id: int
    num_logits: int
    """Outputs of a row."""
    opset: int | None = None
    """Version of ONNX's operators."""
    made_on: str = ""
    """The processor that it was made and compared on."""

    def refused(self, reason: str, *, hint: str = "Export the model again.") -> ModelError:
        """The error for files that cannot be used."""
        path = self.folder / self.file
        return ModelError(f"{path} cannot be used: {reason}.", hint=hint, place=str(path), reason=reason)

    def feeds(self, batch: TokenBatch, names: Sequence[str]) -> dict[str, np.ndarray]:
        """What a graph with inputs of these names reads of a padded batch, int64 [B, L]."""
        given = padded_tensors(self.config, batch, batch.ids_T, takes_types="token_type_ids" in names)
        zeros_BL = torch.zeros_like(given["input_ids"])
        return {name: given.get(name, zeros_BL).numpy() for name in names}

    def may_overflow_here(self) -> bool:
        """Whether sums of products of its bytes may overflow on this processor: they were not made for one like it."""
        made_for_it = bool(self.made_on) and processor.bytes_may_saturate(self.made_on)
        return self.precision == "int8" and processor.bytes_may_saturate(processor.byte_products()) and not made_for_it

    def tell_of_bytes(self, on_notice: Callable[[str], None], *, overflows: bool) -> None:
        """Say that bytes were compared with their model on another kind of processor, if they were. `overflows`:
        whether what computes them here lets sums overflow where these may."""
        here = processor.byte_products()
        if self.precision != "int8" or here == self.made_on:
            return
        where = f"on {self.made_on}" if self.made_on else "nobody says where"
        what = "may round otherwise: `textune evaluate` says what that changes"
        if overflows and self.may_overflow_here():
            what = (
                "may overflow in sums of their products: `textune evaluate` says what that changes, and an export made"
                " on this machine avoids it"
            )
        on_notice(
            f"{self.folder} has weights of bytes and was compared with its model {where}; this machine computes with"
            f" {here}, which {what}"
        )


class Opener(Protocol):
    """Opens one kind of export; ModelError where its files are broken or the machine lacks what they need."""

    def __call__(
        self, files: ExportedFiles, *, device: DeviceName, on_notice: Callable[[str], None]
    ) -> TokenModel: ...


OPENERS: dict[str, str] = {
    **dict.fromkeys(("onnx", "onnx-int8"), "textune.model.onnxmodel:open_onnx"),
    **dict.fromkeys(("openvino", "openvino-int8"), "textune.model.openvinomodel:open_openvino"),
}
"""Kind of export to its `Opener`, as `module:function`."""


def require_opened(kind: str, folder: Path) -> None:
    """ModelError for an export of a kind that textune does not open."""
    if kind not in OPENERS:
        raise ModelError(
            f"{folder} holds an export of the kind {kind}, which textune does not open by itself; it opens"
            f" {listing(OPENERS)}.",
            hint="Use it as docs/exports.md says, or the model that it was made of.",
            key="exported.kind",
            value=kind,
            place=str(folder),
        )


def open_exported(
    files: ExportedFiles,
    *,
    device: DeviceName,
    precision: PredictionPrecision,
    compile: Switch,
    on_notice: Callable[[str], None],
) -> TokenModel:
    """The model of an export of a kind that `require_opened` has let through. ModelError for options that make no
    sense for it, and as its `Opener`."""
    as_it_is = Setting("precision", "auto")
    if precision not in ("auto", files.precision):
        hint: Advice = Words("Use ", as_it_is, ", or the model that it was made of.")
        if precision == "int8":
            hint = f"Export the model again: `textune export RUN --to {files.kind}-int8 --out FOLDER`."
        raise _refused(files, Setting("precision", precision), f"its weights are {files.precision}", hint)
    if compile == "on":
        hint = Words("Leave ", Setting("compile"), " out.")
        raise _refused(
            files, Setting("compile", compile), "textune's kernels and torch.compile do not compute it", hint
        )
    module, _, name = OPENERS[files.kind].partition(":")
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener(files, device=device, on_notice=on_notice)


def _refused(files: ExportedFiles, asked: Setting, reason: str, hint: Advice) -> ModelError:
    """The error for an option that makes no sense for this export."""
    return ModelError(
        Words(asked, f": {files.folder} is an export ({files.kind}), and {reason}."),
        hint=hint,
        key=asked.key,
        value=asked.value,
        place=str(files.folder),
        reason=reason,
    )
