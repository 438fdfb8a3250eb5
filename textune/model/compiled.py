"""torch.compile on a GPU: each layer in place, once for any number of tokens; called when the model is on its device.

Layers of the same shape share one compilation, which takes a fraction of the time for the whole backbone, and the
code around them (masks, poolers, another release of transformers) cannot break the graph. CUDA graphs are not used:
gradients would be in memory that the next micro-batch overwrites.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import nn
from transformers import AttentionInterface

from textune.config import Switch
from textune.errors import ModelError
from textune.model.attention import PACKED, packed_attention
from textune.model.hugging import FamilyModule, HuggingModel
from textune.model.varlen import attention_obstacle

MIN_STEPS = 2_000
"""In a shorter run compiling does not pay off: it takes about ten seconds and saves a few milliseconds per step."""

MAX_VARIANTS = 32
"""Compilations of a layer's code before PyTorch gives up. transformers shares that code among layers of all kinds,
and each kind counts, in training and in evaluation; PyTorch's default of 8 is too low for T5."""

BACKEND = "inductor"


def compile_on_gpu(hf: HuggingModel, *, dtype: torch.dtype, num_steps: int, mode: Switch) -> str:
    """Compile the layers of a Hugging Face model on its GPU; return what was done, for the header of a run.

    `dtype` is that of the run's matrix products, `num_steps` the predicted length of the run, `mode` the key
    `model.compile`. Compilation happens in the first steps; names in the state dictionary do not change. ModelError
    if `mode` is "on" and this machine cannot compile.
    """
    if mode == "off":
        return "not compiled"
    if mode == "auto" and num_steps < MIN_STEPS:
        return f"not compiled: it pays from {MIN_STEPS:,} steps on"
    device = next(hf.parameters()).device
    in_groups = hf.config._attn_implementation == PACKED and bool(attention_obstacle(device, dtype, hf.config))
    if mode == "auto" and in_groups:
        return "not compiled: attention goes group by group"
    # fp32 stays fp32 on purpose.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
    obstacle = compiler_obstacle(device)
    if obstacle and mode == "on":
        raise ModelError(
            f'model.compile = "on", but nothing can be compiled here: {obstacle}.',
            hint='Use "auto", or install a C compiler and the Triton that belongs to this PyTorch.',
        )
    if obstacle:
        return f"not compiled: {obstacle}"
    if in_groups:
        # Every batch has other groups, and a graph that contains them would be recompiled each time.
        AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))
    torch._dynamo.config.recompile_limit = max(MAX_VARIANTS, torch._dynamo.config.recompile_limit)
    layers = list(_layers(hf.base_model)) or [hf.base_model]
    for layer in layers:
        layer.compile(dynamic=True, backend=BACKEND)
    return f"{len(layers)} layers compiled" + (", attention left out" if in_groups else "")


def compiler_obstacle(device: torch.device) -> str:
    """Why nothing can be compiled for `device`; empty if it can. It tries to compile, which takes a few seconds."""
    try:
        torch.compile(_probe, backend=BACKEND)(torch.ones(8, device=device))
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(getattr(error, "inner_exception", error)).strip() or type(error).__name__
        return reason.splitlines()[0].partition(". ")[0].rstrip(".")
    return ""


def _probe(numbers: torch.Tensor) -> torch.Tensor:
    return torch.sin(numbers) + 1


def _layers(module: FamilyModule) -> Iterator[FamilyModule]:
    """The members of every outermost list of modules: the layers of an encoder or decoder."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)
