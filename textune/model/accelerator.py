"""Whether a backbone runs on kernels compiled for this machine, and why or why not; before `backbone.py`."""

from __future__ import annotations

import ctypes
import platform
from typing import Any, Literal

import torch
from torch import nn

from textune.data.batches import Layout
from textune.errors import ModelError
from textune.model.compiled import compile_on_gpu
from textune.model.native import BuildError, FastDropout, Kernels, install
from textune.model.varlen import ADDED_TERMS, describe_attention

WORTH_BUILDING = 2e12
"""Floating-point operations from which `auto` compiles: about ten seconds of a laptop's work. Kernels that lie in the cache
already do not count, so that the same run takes the same way every time."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's `mallopt`."""


class Accelerator:
    """The compiled kernels of one model; `kernels` is None while PyTorch's own operators do the work, `note` says why."""

    def __init__(self, hf: Any, mode: Literal["auto", "on", "off"]) -> None:
        self.kernels: Kernels | None = None
        self.note = 'PyTorch\'s own: model.compile = "off"' if mode == "off" else "PyTorch's own"
        self._hf = hf
        self._mode = mode
        self._forbidden = ""

    def forbid(self, reason: str, *, hint: str) -> None:
        """Compile nothing, neither for a processor nor for a GPU; called before the rest. ModelError where the mode is "on"."""
        self._refuse(reason, hint=hint)
        self._mode, self._forbidden = "off", reason

    def prepare(self, layout: Layout, num_tokens: int, *, training: bool) -> None:
        """Get the kernels where they help and computing `num_tokens` is worth building them.

        ModelError where the mode is "on" and they cannot be had.
        """
        if self.kernels is not None or self._mode == "off":
            return
        if self._hf.device.type != "cpu":
            self.note = "PyTorch's own"
            if not training:  # for training, `compile_steps` follows
                self._refuse("they are for processors, and the model is on a GPU", hint="Leave it out")
        elif layout == "padded":
            self._refuse("they need the packed layout", hint="Choose a backbone that runs packed")
        elif self._mode == "auto" and self._work(num_tokens, training=training) < WORTH_BUILDING:
            self.note = "PyTorch's own: the work is too short to compile others"
        else:
            self._build()

    def compile_steps(self, num_steps: int, dtype: torch.dtype) -> None:
        """Compile layers for a GPU, if the model is on one; `dtype` is that of the run's products. Errors as in `prepare`."""
        if self._hf.device.type == "cuda":
            done = compile_on_gpu(self._hf, dtype=dtype, num_steps=num_steps, mode=self._mode)
            done = f"not compiled: {self._forbidden}" if self._forbidden else done
            self.note = f"{describe_attention(self._hf.device, dtype, self._hf.config)}, {done}"

    def _build(self) -> None:
        try:
            self.kernels = Kernels()
        except BuildError as error:
            self._refuse(str(error), hint=error.hint)
            return
        reuse_freed_memory()
        num_layers = install(self._hf, self.kernels)
        for module in self._hf.modules():
            if type(module) is nn.Dropout:
                # The same module with another way to draw its mask: nothing that is saved changes.
                module.__class__ = FastDropout
                module.kernels = self.kernels  # type: ignore[assignment]
        parts = ["dropout"] if self.has_other_scores else ["attention", "dropout"]
        what = " and ".join([", ".join(parts), f"{num_layers} whole layers"] if num_layers else parts)
        self.note = f"compiled for this processor: {what}"

    @property
    def has_other_scores(self) -> bool:
        """Whether attention does to its scores what the kernels do not compute (Gemma 2 caps them, MPNet adds a bias)."""
        config = self._hf.config.get_text_config()
        return config.model_type in ADDED_TERMS or bool(getattr(config, "attn_logit_softcapping", None))

    def _work(self, num_tokens: int, *, training: bool) -> float:
        """Floating-point operations of the matrix products: 2 a weight and token forward, twice that backward."""
        embedded: int = sum(p.numel() for p in self._hf.get_input_embeddings().parameters())
        weights: int = sum(p.numel() for p in self._hf.parameters()) - embedded
        return (6.0 if training else 2.0) * weights * num_tokens

    def _refuse(self, reason: str, *, hint: str) -> None:
        self.note = f"PyTorch's own: {reason}"
        if self._mode == "on":
            raise ModelError(f'model.compile = "on", but kernels cannot be compiled: {reason}.', hint=f'{hint}, or use "auto".')


def reuse_freed_memory() -> None:
    """Keep freed memory in the process (glibc): each step needs the same again, and fetching pages anew costs as much as
    computing on them."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    # The highest value that glibc takes.
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 25)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_TOP_PAD, 1 << 26)
