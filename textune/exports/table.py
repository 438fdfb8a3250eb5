"""What a model can be exported as: `textune export RUN --to KIND`.

To add a kind: write a module in this room with a function as `Writer` says, and where textune cannot open what that
writes, one as `Asker` says; give the kind a row in `KINDS`. Whatever it writes passes the gate (`parity.py`), or is
gone. Where textune itself opens the folder, it finds a `ModelCard` with an `ExportNote` there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from textune.errors import ExportError, RunError
from textune.prediction import ModelCard, Probe, Scores
from textune.wording import listing, nearest

Trait: TypeAlias = Literal["windows", "own code", "a language model"]
"""What not every kind of export can hold."""


class Writer(Protocol):
    """Makes an export of a plain model folder. ExportError where it cannot."""

    def __call__(
        self, model: Path, folder: Path, *, probe: Probe, on_notice: Callable[[str], None], **options: Any
    ) -> None:
        """Fill `folder`, which is empty and is renamed later: no file may name it.

        `model`: a complete folder with whole weights and its card; it may be the user's own, and is only read.
        `probe`: rows that the gate will ask, with fp32 scores, such as for a calibration.
        """


class Asker(Protocol):
    """Opens what was written, in a process that has nothing else open."""

    def __call__(self, folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
        """What it says of the rows, by head: float64 [N, K] or [N], in their order and uncalibrated; each row by
        itself where `alone`, else in batches. `code`: classes of the user's own that may be imported."""


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from the model."""

    score: float = 1e-4
    """The largest difference of a probability; of a number, relative to it where that is more than 1."""
    labels: float = 0.0
    """The largest share of rows whose answer may be another one."""
    mean: float = 1e-4
    """The largest mean over the rows of what `score` limits for each."""
    lost: float = 1.0
    """Accuracy that may be lost on rows whose labels are known, within what `labels` allows: right answers of the
    model, less those of the export, as a share of the rows."""


BYTES = Tolerance(score=0.35, labels=0.05, mean=0.03, lost=0.02)
"""Of weights of bytes. A fine-tuned MiniLM is 0.015 off on average, and 0.22 where the model itself is in doubt; the
largest of N rows grows with N, so the mean is what tells a good export from a bad one."""


@dataclass(frozen=True)
class AskedBy:
    """What opens an export in the gate."""

    name: str
    """As messages say it: `textune`."""
    function: str
    """An `Asker`, as `module:function`."""
    suits: Callable[[ModelCard], bool] = lambda card: True
    """Whether it can open the export of a model with this card."""


@dataclass(frozen=True)
class ExportKind:
    """A row of `KINDS`."""

    said: str
    """What it makes, for a reader."""
    writer: str = ""
    """A `Writer`, as `module:function`; empty where the plain folder itself is what is wanted."""
    asked_by: tuple[AskedBy, ...] = (AskedBy("textune", "textune.exports.askers:by_textune"),)
    """What opens it in the gate, one after the other."""
    tolerance: Tolerance = Tolerance()
    takes: frozenset[Trait] = frozenset()
    """What it can hold beyond a classifier of texts of one row each."""
    of_texts: bool = False
    """Whether what opens it takes texts: without a probe it is asked generated texts, not rows of tokens."""
    packages: tuple[str, ...] = ()
    """What has to be installed, by the names that Python imports."""
    extra: str = ""
    """The extra of textune that brings these."""
    instead: str = "Choose --to hf."
    """What to choose where the gate refuses it."""

    def write(self) -> Writer:
        """Its writer, imported."""
        return _function(self.writer)  # type: ignore[no-any-return]


def _transformers_open(card: ModelCard) -> bool:
    """Whether plain transformers opens a plain folder: windows are pooled by textune alone, and adapters stand beside
    a backbone."""
    return card.model is None and card.adapters is None and card.long != "windows" and not card.is_language_model


KINDS: dict[str, ExportKind] = {
    "hf": ExportKind(
        "a plain Hugging Face folder, which transformers opens",
        asked_by=(
            AskedBy("textune", "textune.exports.askers:by_textune"),
            AskedBy("transformers", "textune.exports.askers:by_transformers", _transformers_open),
        ),
        takes=frozenset({"windows", "own code", "a language model"}),
        instead="The files of the model may have changed since it was saved: export a checkpoint of the run, or"
        " restore them from a copy.",
    ),
    "onnx": ExportKind(
        "the padded forward pass in ONNX, which ONNX Runtime computes",
        writer="textune.exports.onnx:write_onnx",
        packages=("onnx", "onnxruntime", "onnxscript"),
        extra="onnx",
    ),
    "onnx-int8": ExportKind(
        "the same with int8 weights",
        writer="textune.exports.onnx:write_onnx_int8",
        tolerance=BYTES,
        packages=("onnx", "onnxruntime", "onnxscript"),
        extra="onnx",
        instead="Choose --to onnx.",
    ),
    "mlflow": ExportKind(
        "a folder of MLflow, with textune's own code in it",
        writer="textune.exports.mlflow:write",
        asked_by=(AskedBy("MLflow", "textune.exports.mlflow:by_mlflow"),),
        takes=frozenset({"windows"}),
        of_texts=True,
        packages=("mlflow",),
        extra="mlflow",
    ),
    "text": ExportKind(
        "tokenizer, model and decision in one ONNX file, which takes strings",
        writer="textune.exports.text:write_text_model",
        asked_by=(AskedBy("ONNX Runtime", "textune.exports.text:by_onnxruntime"),),
        of_texts=True,
        packages=("onnx", "onnxruntime", "onnxscript", "onnxruntime_extensions"),
        extra="text",
        instead="Choose --to onnx.",
    ),
    "openvino": ExportKind(
        "the padded forward pass in OpenVINO's form, which its runtime computes",
        writer="textune.exports.openvino:write_openvino",
        packages=("openvino",),
        extra="openvino",
    ),
    "openvino-int8": ExportKind(
        "the same with bytes for weights and activations",
        writer="textune.exports.openvino:write_openvino_int8",
        tolerance=BYTES,
        packages=("openvino", "nncf"),
        extra="openvino",
        instead="Choose --to openvino.",
    ),
}
"""By the word after `--to`."""


def kind_of(name: str) -> ExportKind:
    """The kind of this name, whose packages are installed; RunError says which there are, ExportError what pip has to
    install."""
    kind = KINDS.get(name)
    if kind is None:
        close = nearest(name, list(KINDS))
        raise RunError(
            f"--to {name}: there is no such kind of export; there are {listing(KINDS)}.",
            hint=f"Did you mean {close}?" if close else "",
            key="to",
            value=name,
        )
    missing = [package for package in kind.packages if find_spec(package) is None]
    if missing:
        raise ExportError(
            f"--to {name} needs {listing(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            hint=f'Run `pip install "textune[{kind.extra}]"`.',
            key="to",
            value=name,
            reason=f"{missing[0]} is not installed",
        )
    return kind


def require_held(name: str, card: ModelCard) -> None:
    """ExportError where a kind of export cannot hold a model with this card."""
    traits: dict[Trait, bool] = {
        "windows": card.long == "windows",
        "own code": bool(card.code),
        "a language model": card.is_language_model,
    }
    takes = KINDS[name].takes
    lacking = [trait for trait, has in traits.items() if has and trait not in takes]
    if not lacking:
        return
    why = {
        "windows": 'long texts are read in windows (tokens.long = "windows"), which textune pools',
        "own code": f"it is made of code of its own ({listing(card.code)})",
        "a language model": "it is a language model",
    }[lacking[0]]
    able = [other for other, kind in KINDS.items() if lacking[0] in kind.takes]
    raise ExportError(
        f"--to {name} cannot hold this model: {why}.",
        hint=f"Choose --to {listing(able)}.",
        key="to",
        value=name,
        reason=lacking[0],
    )


def _function(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def asker_of(path: str) -> Asker:
    """An asker, imported."""
    return _function(path)  # type: ignore[no-any-return]
