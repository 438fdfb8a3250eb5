"""Decides whether a backbone runs on compiled kernels, and reports why; before `backbone.py`."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import torch
from torch import nn

from textune.batches import Layout
from textune.config import Switch
from textune.errors import ModelError
from textune.model.adapters import is_adapter
from textune.model.compiled import compile_on_gpu
from textune.model.hugging import HuggingModel
from textune.model.native import FastDropout, KernelError, Kernels, available_levels, count_known, install
from textune.model.varlen import ADDED_TERMS, describe_attention
from textune.model.ways import Part, Work, compare_ways

PYTORCH = "PyTorch's own"
"""`Accelerator.way` without kernels; it is part of checkpoints."""
DISENTANGLED = "deberta-v2"
"""The family whose terms for distances the kernels compute."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's `mallopt`."""


class Accelerator:
    """The compiled kernels of one model; `kernels` is None while PyTorch's own operators are used, and `note` says
    why.
    """

    def __init__(self, hf: HuggingModel, mode: Switch) -> None:
        self.kernels: Kernels | None = None
        self.note = 'PyTorch\'s own: model.compile = "off"' if mode == "off" else "PyTorch's own"
        self._hf = hf
        self._mode = mode
        self._forbidden = ""

    def forbid(self, reason: str, *, hint: str) -> None:
        """Compile nothing, neither for a CPU nor for a GPU; called before the other methods. ModelError if the mode
        is "on".
        """
        self._refuse(reason, hint=hint)
        self._mode, self._forbidden = "off", reason

    def prepare(
        self,
        layout: Layout,
        dtype: torch.dtype,
        *,
        training: bool,
        lengths: np.ndarray | None = None,
        earlier: str | None = None,
    ) -> None:
        """Load the kernels if they can be used and are faster for rows of these `lengths` in products of `dtype`.

        `earlier` is the `way` of a run before it was stopped, which the resumed run keeps. ModelError if the mode is
        "on" and the kernels cannot be used.
        """
        if self.kernels is not None or self._mode == "off":
            return
        if self._hf.device.type != "cpu":
            self.note = "PyTorch's own"
            if not training:  # for training, `compile_steps` follows
                self._refuse("they are for CPUs, and the model is on a GPU", hint="Leave it out")
        elif dtype == torch.float16:
            self._refuse("they compute in fp32 and bf16, not in fp16", hint="Choose another precision")
        elif layout == "padded":
            self._refuse("they need the packed layout", hint="Choose a backbone that runs packed")
        elif earlier == PYTORCH and self._mode == "auto":
            self.note = "PyTorch's own, as before the run stopped"
        else:
            self._choose(dtype, "training" if training else "prediction", lengths, earlier)

    def compile_steps(self, num_steps: int, dtype: torch.dtype) -> None:
        """Compile layers for a GPU, if the model is on one; `dtype` is that of the run's products. Errors as in
        `prepare`.
        """
        if self._hf.device.type == "cuda":
            done = compile_on_gpu(self._hf, dtype=dtype, num_steps=num_steps, mode=self._mode)
            done = f"not compiled: {self._forbidden}" if self._forbidden else done
            self.note = f"{describe_attention(self._hf.device, dtype, self._hf.config)}, {done}"

    def _choose(self, dtype: torch.dtype, work: Work, lengths: np.ndarray | None, earlier: str | None) -> None:
        try:
            known = earlier in available_levels()
            kernels = Kernels(earlier if known else None)
        except KernelError as error:
            self._refuse(str(error), hint=error.hint)
            return
        if self.has_other_attention:  # the kernels only draw dropout masks, which is faster everywhere
            self._install(kernels)
            return
        if self._hf.config.model_type == DISENTANGLED:  # it has its own kernels, which were not measured
            self._install(kernels)
            self.note = f"{self.note}; not measured for {DISENTANGLED}"
            return
        part: Part = "layers" if count_known(self._hf) else "attention"
        found = compare_ways(kernels.level, dtype, part, work, lengths)
        adapted = any(is_adapter(name) for name, _ in self._hf.named_parameters())
        comparison = f"{found}, without adapters" if adapted and found.speedup is not None else str(found)
        if found.kernels_are_slower and self._mode == "auto" and not known:
            self.note = f"PyTorch's own: {kernels.level} is {comparison}"
        else:
            self._install(kernels)
            self.note = f"{self.note}; {comparison}"

    def _install(self, kernels: Kernels) -> None:
        self.kernels = kernels
        reuse_freed_memory()
        num_layers = install(self._hf, self.kernels)
        for module in self._hf.modules():
            if type(module) is nn.Dropout:
                # The same module, which only draws its mask in another way: nothing that is saved changes.
                module.__class__ = FastDropout
                module.kernels = self.kernels  # type: ignore[assignment]
        parts = ["dropout"] if self.has_other_attention else ["attention", "dropout"]
        what = " and ".join([", ".join(parts), f"{num_layers} whole layers"] if num_layers else parts)
        self.note = f"compiled for {self.kernels.level}: {what}"

    @property
    def way(self) -> str:
        """The level of the kernels, or `PYTORCH`; on a GPU, the note. It determines the last bits and is kept in
        checkpoints.
        """
        if self.kernels is not None:
            return self.kernels.level
        return PYTORCH if self._hf.device.type == "cpu" else self.note

    @property
    def has_other_attention(self) -> bool:
        """Whether the kernels cannot compute the attention: Gemma 2 caps its scores, MPNet adds a bias, DeepSeek's
        values are narrower than its keys.
        """
        config = self._hf.config.get_text_config()
        other = getattr(config, "attn_logit_softcapping", None) or getattr(config, "v_head_dim", None)
        return config.model_type in ADDED_TERMS.keys() - {DISENTANGLED} or bool(other)

    def _refuse(self, reason: str, *, hint: str) -> None:
        self.note = f"PyTorch's own: {reason}"
        if self._mode == "on":
            raise ModelError(
                f'model.compile = "on", but there are no compiled kernels for this run: {reason}.',
                hint=f'{hint}, or use "auto".',
            )


def reuse_freed_memory() -> None:
    """Keep freed memory in the process (glibc): each step needs the same memory again, and getting new pages costs as
    much as computing on them.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    # The highest value that glibc accepts.
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_TOP_PAD, 1 << 26)
