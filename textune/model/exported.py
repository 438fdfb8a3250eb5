"""Opens a model that is no longer a folder of PyTorch weights: a kind of export and its files in, a `TokenModel` out.

To add a kind that textune opens: write a module with an `Opener`, and give the kind a row in `OPENERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from textune.config import DeviceName, PredictionPrecision, Switch
from textune.errors import Advice, ModelError, Setting, Words
from textune.model.hugging import HuggingConfig
from textune.model.tokenmodel import TokenModel
from textune.wording import listing


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


def open_exported(
    files: ExportedFiles,
    *,
    device: DeviceName,
    precision: PredictionPrecision,
    compile: Switch,
    on_notice: Callable[[str], None],
) -> TokenModel:
    """The model of an export. ModelError for a kind that textune does not open, for options that make no sense for it,
    and as its `Opener`."""
    if files.kind not in OPENERS:
        raise ModelError(
            f"{files.folder} holds an export of the kind {files.kind}, which textune does not open by itself;"
            f" it opens {listing(OPENERS)}.",
            hint="Use it as docs/exports.md says, or the model that it was made of.",
            key="exported.kind",
            value=files.kind,
            place=str(files.folder),
        )
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
