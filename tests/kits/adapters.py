"""Models with adapters for tests, and peft's own wrapper that they are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kits.models import Built, plain_copy
from textune.config.adapters import Lora

peft = pytest.importorskip("peft", reason="the extra `lora` is not installed")
SEED = 7


def randomised(model: torch.nn.Module, *, seed: int = SEED) -> None:
    """Give every B, which starts at zero, numbers of its own, so that A has a gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def wrapped_by_peft(built: Built, lora: Lora, folder: Path, *, copy: Callable[[Built, Path], Any] = plain_copy) -> Any:
    """Adapters in the model that was built; returns the same in peft's wrapper around the plain model, every weight
    equal. `copy` makes the plain model."""
    plain = copy(built, folder)
    built.model.adapt(lora, seed=SEED)
    built.model.freeze()
    randomised(built.hf)
    assert built.model.adapters is not None
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS if copy is plain_copy else peft.TaskType.CAUSAL_LM,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias=lora.bias,
        target_modules=list(built.model.adapters.layers),
        fan_in_fan_out=built.family == "gpt2",  # whose layers keep their weights transposed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for a name that transformers is giving up
        wrapper = peft.get_peft_model(plain, config)
    ours = dict(built.hf.named_parameters())
    theirs = {plainly(name): parameter for name, parameter in wrapper.named_parameters() if not is_spare(name)}
    assert ours.keys() == theirs.keys()
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(ours[name])
            # peft knows heads that are called classifier or score, and no other.
            parameter.requires_grad_(parameter.requires_grad or name in built.model._whole)
            assert parameter.requires_grad == ours[name].requires_grad, name
    return wrapper


def plainly(name: str) -> str:
    """What a parameter of the wrapper is called in the model that adapters were injected into."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")


def is_spare(name: str) -> bool:
    """Whether it is the untrained copy that peft keeps of a module that is trained as a whole."""
    return ".original_module." in name


def by_plain_name(gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients of the wrapper by the names of the injected model."""
    return {plainly(name): gradient for name, gradient in gradients.items() if not is_spare(name)}
