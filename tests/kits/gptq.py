"""Folders in the form of GPTQ, written by hand: weights rounded group by group, several of them in a whole number of
32 bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

HEADS = ("classifier", "score", "pooler")


def packed(numbers_RC: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 [R * bits / 32, C]: the numbers of each column, the first in the lowest bits."""
    each = 32 // bits
    words_WC = torch.zeros(len(numbers_RC) // each, numbers_RC.shape[1], dtype=torch.int64)
    for place in range(each):
        words_WC |= numbers_RC[place::each].long() << (bits * place)
    return torch.where(words_WC >= 2**31, words_WC - 2**32, words_WC).int()


def rounded(weight_OI: torch.Tensor, *, bits: int, size: int, mixed: bool, version: int) -> dict[str, torch.Tensor]:
    """The tensors of a layer whose weights have few bits; `size` inputs share a scale. `mixed`: those of a group do
    not stand side by side. Version 1 of the form keeps zero points one too small."""
    inputs = weight_OI.shape[1]
    group_I = torch.arange(inputs) // size
    if mixed:
        group_I = group_I[torch.randperm(inputs, generator=torch.Generator().manual_seed(inputs))]
    scales, zeros = [], []
    for group in range(-(-inputs // size)):
        part = weight_OI[:, group_I == group]
        low, high = part.amin(1).clamp(max=-1e-4), part.amax(1).clamp(min=1e-4)
        scales.append(((high - low) / (2**bits - 1)).half())
        zeros.append((-low / scales[-1].float()).round().clamp(1, 2**bits - 1))
    scales_GO, zeros_GO = torch.stack(scales), torch.stack(zeros)
    numbers_IO = (weight_OI.t() / scales_GO[group_I].float() + zeros_GO[group_I]).round().clamp(0, 2**bits - 1)
    return {
        "qweight": packed(numbers_IO, bits),
        "qzeros": packed((zeros_GO - int(version == 1)).t(), bits).t().contiguous(),
        "scales": scales_GO,
        "g_idx": group_I.int(),
    }


def write_gptq(
    plain: Path, folder: Path, *, bits: int = 4, size: int = 16, mixed: bool = False, version: int = 1, **noted: Any
) -> Path:
    """The backbone of the folder `plain` once more, with the weights of its linear layers rounded; `noted` goes into
    `quantization_config`."""
    folder.mkdir()
    for path in plain.iterdir():
        if path.suffix == ".json" or "tokenizer" in path.name:
            (folder / path.name).write_bytes(path.read_bytes())
    hf = AutoModelForSequenceClassification.from_pretrained(plain)
    turned = {
        f"{name}.weight": isinstance(module, Conv1D)
        for name, module in hf.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not set(HEADS) & set(name.split("."))
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        place = name if name in turned else f"{hf.base_model_prefix}.{name}"
        if place not in turned:
            tensors[name] = tensor
            continue
        weight_OI = tensor.t() if turned[place] else tensor
        parts = rounded(weight_OI.float(), bits=bits, size=size, mixed=mixed, version=version)
        tensors |= {f"{name.removesuffix('.weight')}.{part}": held for part, held in parts.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {
        **{"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": mixed, "sym": False},
        **{"checkpoint_format": "gptq" if version == 1 else "gptq_v2"},
        **noted,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
