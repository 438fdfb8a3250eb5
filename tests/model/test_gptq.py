"""Backbones whose files hold weights of few bits in the form of GPTQ: read exactly, and trained beside as the same
weights in fp32 are."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.gptq import rounded, write_gptq
from kits.models import (
    COLORS,
    UNEVEN,
    Built,
    assert_same_gradients,
    gradients,
    lay_out,
    random_rows,
    random_types,
    without_dropout,
)
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from textune.config.adapters import Lora, Quantize
from textune.config.schema import ModelSection
from textune.errors import ConfigError, ModelError
from textune.model.loading import load_model, require_backbone
from textune.model.lowbitforms import Groups
from textune.model.lowbits import LowBitLinear
from textune.model.tokenizer import load_tokenizer

pytest.importorskip("peft", reason="peft is not installed")

FORMS = [
    (2, 16, False, 1),
    (4, 16, False, 1),
    (4, 16, True, 1),
    (4, 32, True, 2),
    (8, 64, False, 1),
    (4, 24, False, 2),
]
"""Bits, inputs that share a scale, whether these are mixed, and the version of the form."""


def tensors_of(bits: int, size: int, mixed: bool, version: int) -> dict[str, torch.Tensor]:
    weight_OI = torch.randn(48, 64, generator=torch.Generator().manual_seed(bits)) * 0.05
    return rounded(weight_OI, bits=bits, size=size, mixed=mixed, version=version)


def held_of(parts: dict[str, torch.Tensor], bits: int, version: int) -> dict[str, torch.Tensor]:
    """As `textune.model.gptq` keeps them."""
    less = sum(1 << place for place in range(0, 32, bits)) if version == 1 else 0
    names = {"weight": "qweight", "scales": "scales", "groups": "g_idx"}
    return {name: parts[part] for name, part in names.items()} | {"zeros": parts["qzeros"] + less}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_weights_are_read_back_as_written_out_by_hand(form: tuple[int, int, bool, int]) -> None:
    bits, _, _, version = form
    parts = tensors_of(*form)
    expected = torch.zeros(48, 64)
    each, mask = 32 // bits, 2**bits - 1
    for out in range(48):
        for at in range(64):
            group = int(parts["g_idx"][at])
            number = (int(parts["qweight"][at // each, out]) >> (bits * (at % each))) & mask
            zero = (int(parts["qzeros"][group, out // each]) >> (bits * (out % each))) & mask
            expected[out, at] = (number - zero - (version == 1)) * float(parts["scales"][group, out])
    found = Groups(bits).read_back(held_of(parts, bits, version), (48, 64), torch.float32)
    assert torch.equal(found, expected) and expected.norm() > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="gptqmodel is not installed")
@pytest.mark.parametrize("form", [form for form in FORMS if form[1] != 24], ids=str)
@pytest.mark.parity("TW-18")
def test_weights_are_those_of_gptqmodel(form: tuple[int, int, bool, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GPTQ_TORCH_TRITON_DEQUANT", "0")
    linear = importlib.import_module("gptqmodel.nn_modules.qlinear.torch").TorchLinear
    to_version_2 = importlib.import_module("gptqmodel.utils.model").convert_gptq_v1_to_v2_format_module
    bits, size, mixed, version = form
    parts = tensors_of(*form)
    theirs = linear(bits=bits, group_size=size, sym=False, desc_act=mixed, in_features=64, out_features=48, bias=False)
    for name, tensor in parts.items():
        getattr(theirs, name).copy_(tensor)
    if version == 1:
        to_version_2(theirs, bits=bits, pack_dtype=torch.int32)
    found = Groups(bits).read_back(held_of(parts, bits, version), (48, 64), torch.float32)
    for training in (True, False):
        theirs.train(training)
        # It rounds each weight to fp16.
        assert torch.equal(found.half(), theirs.dequantize_weight().t())


def adapted(family: str, folder: Path, *, form: dict[str, Any]) -> tuple[Built, Built]:
    """A model beneath adapters that are no longer zero: as its files have it, and with the same weights in fp32."""
    plain = tiny_backbone(family, folder / "plain")
    packed = write_gptq(plain, folder / "packed", **form)
    models = []
    for keeps in (True, False):
        section = ModelSection(pretrained=str(packed), compile="off", lora=Lora(r=2, alpha=6))
        tokenizer = load_tokenizer(section)
        model = load_model(section, tokenizer, label_maps={"label": COLORS}, num_logits=3, seed=1).eval()
        if keeps:
            model.keep_few_bits(torch.float32)
        assert section.lora is not None
        model.adapt(section.lora, seed=3)
        generator = torch.Generator().manual_seed(4)
        for name, parameter in model.hf.named_parameters():
            if ".lora_B." in name:
                nn.init.normal_(parameter, std=0.1, generator=generator)
        models.append(without_dropout_in(Built(family, packed, tokenizer, model)))
    return models[0], models[1]


def without_dropout_in(built: Built) -> Built:
    without_dropout(built.model)
    return built


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("llama", {"mixed": True}),
        ("bert", {"version": 2}),
        ("gpt2", {"bits": 8}),
        ("modernbert", {"bits": 2, "size": 8}),
    ],
)
def test_adapters_learn_as_beside_the_same_weights_in_fp32(family: str, form: dict[str, Any], tmp_path: Path) -> None:
    low, plain = adapted(family, tmp_path, form=form)
    bits = low.model.low_bits
    assert bits is not None and bits.bits == form.get("bits", 4) and plain.model.low_bits is None
    assert all(isinstance(low.hf.get_submodule(name).base_layer, LowBitLinear) for name in bits.layers)
    assert low.model.num_parameters == plain.model.num_parameters
    assert low.model.num_bytes < plain.model.num_bytes
    rows = random_rows(low)
    batch = lay_out(low, rows, UNEVEN, types=random_types(low, rows))
    labels = torch.arange(len(rows)) % 3
    found = []
    for built in (low, plain):
        loss = functional.cross_entropy(built.model(batch), labels)
        trained = {name for name, parameter in built.hf.named_parameters() if parameter.requires_grad}
        found.append({name: g for name, g in gradients(built.hf, loss).items() if name in trained})
    assert any(".lora_A." in name and gradient.norm() > 0 for name, gradient in found[0].items())
    assert any("lora" not in name and gradient.norm() > 0 for name, gradient in found[0].items())
    assert_same_gradients(*found)
    # Whole again: merged into fp32 weights, as the model without few bits is.
    for built, name in ((low, "low"), (plain, "whole")):
        (tmp_path / name).mkdir()
        built.model.save(tmp_path / name, merge=True)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("low", "whole"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("noted", "reason"),
    [
        ({"quant_method": "bitsandbytes"}, "bitsandbytes"),
        ({"quant_method": "awq"}, "awq"),
        ({"checkpoint_format": "marlin"}, "marlin"),
        ({"rotation": "hadamard"}, "rotation"),
    ],
)
def test_other_forms_are_named(noted: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = write_gptq(tiny_backbone("bert", tmp_path / "plain"), tmp_path / "packed", **noted)
    section = ModelSection(pretrained=str(folder), lora=Lora())
    with refused(ModelError, key="model.pretrained", value=str(folder), reason=reason):
        require_backbone(section)


@pytest.mark.parametrize(
    ("keys", "key"), [({}, "model.pretrained"), ({"lora": Lora(), "quantize": Quantize()}, "model.quantize")]
)
def test_their_weights_are_not_trained_and_not_rounded_again(keys: dict[str, Any], key: str, tmp_path: Path) -> None:
    folder = write_gptq(tiny_backbone("bert", tmp_path / "plain"), tmp_path / "packed")
    with refused(ConfigError, key=key):
        require_backbone(ModelSection(pretrained=str(folder), **keys))


@pytest.mark.parametrize("damage", ["gone", "type", "groups"])
def test_damaged_files_are_named(damage: str, tmp_path: Path) -> None:
    folder = write_gptq(tiny_backbone("bert", tmp_path / "plain"), tmp_path / "packed")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(".g_idx" if damage == "groups" else ".qzeros"))
    if damage == "gone":
        del tensors[name]
    else:
        tensors[name] = tensors[name].short() if damage == "type" else tensors[name] + 100
    save_file(tensors, path, metadata={"format": "pt"})
    section = ModelSection(pretrained=str(folder), lora=Lora())
    with pytest.raises(ModelError, match=name.removesuffix(".g_idx")):
        load_model(section, load_tokenizer(section), label_maps={"label": COLORS}, num_logits=3, seed=1)
