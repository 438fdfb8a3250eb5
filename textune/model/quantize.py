"""Linear layers with int8 weights, for prediction on CPUs: a quarter of the memory, and faster than floats.

The products are those of `native/int8.py`. A quantised model can only predict: it cannot be trained or saved.
"""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from textune.config import DeviceName
from textune.errors import ModelError, Setting, Words
from textune.model.backbone import TextModel
from textune.model.native import Int8Linear, KernelError, Kernels, load_library
from textune.model.own import as_own

_INT8, _AUTO = Setting("precision", "int8"), Setting("precision", "auto")


def require_int8(device: DeviceName) -> None:
    """Raise ModelError if int8 is impossible: on another device, or without compiled kernels."""
    if device == "cuda":
        raise ModelError(
            Words(_INT8, " computes on the CPU, not with ", Setting("device", "cuda"), "."),
            hint=Words("Use ", Setting("device", "cpu"), "."),
            key="device",
            value=device,
        )
    try:
        load_library()
    except KernelError as error:
        raise ModelError(
            Words(_INT8, f" needs textune's compiled kernels, and there are none for this run: {error}."),
            hint=Words(f"{error.hint}, or use ", _AUTO, "."),
            key="precision",
            value="int8",
            reason=str(error),
        ) from error


def quantize_linears(model: TextModel) -> int:
    """Give the backbone's linear layers int8 weights, in place; return their number. The head is unchanged.

    The model must be on the CPU. ModelError if the backbone has no such layers.
    """
    if (own := as_own(model.hf)) is not None:
        raise ModelError(
            Words(_INT8, f": {own.name} is code of its own, which may read the weights of its layers."),
            hint=Words("Use ", _AUTO, "."),
            key="precision",
            value="int8",
        )
    model.requires_grad_(False)
    kernels = Kernels()
    replaced: dict[int, Int8Linear] = {}
    for name, parent in list(model.hf.base_model.named_modules()):
        if "pooler" in name.split("."):
            continue
        for key, child in parent._modules.items():
            # Subclasses may compute something else.
            if type(child) is nn.Linear:
                weight_OI = child.weight
            elif type(child) is Conv1D:
                weight_OI = child.weight.t()
            else:
                continue
            if id(child) not in replaced:
                replaced[id(child)] = Int8Linear(kernels, weight_OI, child.bias)
            parent._modules[key] = replaced[id(child)]
    if not replaced:
        raise ModelError(
            Words(_INT8, f": {model.hf.config.model_type} has no linear layers of PyTorch's own."),
            hint=Words("Use ", _AUTO, "."),
            key="precision",
            value="int8",
        )
    return len(replaced)
