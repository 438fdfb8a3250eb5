"""Weights of 4 or 8 bits beneath adapters: read back as written out by hand, and trained as the same weights in fp32
are."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.models import (
    ALL,
    PACKED,
    UNEVEN,
    Built,
    assert_same_gradients,
    build,
    close,
    gradients,
    lay_out,
    plain_copy,
    plain_inputs,
    random_rows,
    random_types,
    require_kernels,
    without_dropout,
)
from torch import nn
from torch.nn import functional

from textune.config.adapters import Lora, Quantize
from textune.config.load import load_tree, require_runnable
from textune.errors import ConfigError, ModelError
from textune.model import lowbits
from textune.model.device import Device
from textune.model.lowbitforms import EightBits, FourBits
from textune.model.lowbits import LowBitLinear, require_low_bits

bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
pytest.importorskip("peft", reason="peft is not installed")

NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]
"""Appendix E of arXiv:2305.14314."""
FP4 = [0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12]
FP4 = [*FP4, *(-value for value in FP4)]
"""A sign, two bits of exponent and one of mantissa; the largest is 1."""
CPU = torch.device("cpu")
SECTIONS = [
    *(Quantize(kind=kind, double=double, compute="fp32") for kind in ("nf4", "fp4") for double in (True, False)),
    Quantize(bits=8, compute="fp32"),
]
SHAPES = [(8, 16), (5, 32), (64, 96), (33, 100), (128, 64), (7, 31), (3, 50), (312, 312), (1, 2), (1, 1)]
"""Widths of whole blocks of 64, of less than one, and of parts of one."""


def described(section: Quantize) -> str:
    return f"{section.kind}{' double' if section.double else ''}" if section.bits == 4 else "8 bits"


def layer_of(shape: tuple[int, int], section: Quantize, *, bias: bool = True) -> tuple[LowBitLinear, torch.Tensor]:
    """A layer and the weight that it was made from."""
    generator = torch.Generator().manual_seed(sum(shape))
    weight_OI = torch.randn(shape, generator=generator) * 0.05
    bias_O = nn.Parameter(torch.randn(shape[0], generator=generator)) if bias else None
    compute = {"fp32": torch.float32, "bf16": torch.bfloat16}[section.compute]
    form = FourBits(section) if section.bits == 4 else EightBits()
    return LowBitLinear(form, form.pack(weight_OI), bias_O, shape=shape, compute=compute), weight_OI


def by_hand(layer: LowBitLinear, section: Quantize) -> torch.Tensor:
    """The weight from its bytes, one number after the other."""
    held = layer.held()
    if section.bits == 8:
        rows = [
            [int(number) * float(scale) for number in row]
            for row, scale in zip(layer.weight, held["scale_O"], strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)
    scales = held["absmax"].double()
    if section.double:
        second = held["nested_absmax"].double().repeat_interleave(256)[: len(scales)]
        scales = held["nested_code"].double()[held["absmax"].long()] * second + held["offset"].double()
    table = torch.tensor(NF4 if section.kind == "nf4" else FP4, dtype=torch.float64)
    numbers = []
    for place in range(layer.out_features * layer.in_features):
        byte = int(layer.weight.view(-1)[place // 2])
        numbers.append(table[byte >> 4 if place % 2 == 0 else byte & 15] * scales[place // 64])
    return torch.stack(numbers).view(layer.out_features, layer.in_features)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("section", SECTIONS, ids=described)
@pytest.mark.parametrize("shape", SHAPES[:-3] + SHAPES[-2:], ids=str)
def test_weights_are_read_back_as_written_out_by_hand(shape: tuple[int, int], section: Quantize) -> None:
    layer, weight_OI = layer_of(shape, section)
    expected = by_hand(layer, section)
    torch.testing.assert_close(layer.read_back(torch.float32).double(), expected, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(layer.read_back(torch.bfloat16).double(), expected, atol=1e-4, rtol=2**-7)
    # The farthest two neighbours of the values are 0.34 of the largest apart; double scales are themselves rounded.
    furthest = float((expected - weight_OI).abs().max() / weight_OI.abs().max())
    assert furthest < (0.01 if section.bits == 8 else 0.2)


@pytest.mark.parametrize("section", SECTIONS[:4], ids=described)
@pytest.mark.parity("TW-18")
def test_weights_and_products_are_those_of_bitsandbytes_own_layer(section: Quantize) -> None:
    """In widths of whole blocks, and in training, where its layer can be relied on."""
    layer, weight_OI = layer_of((96, 128), section)
    theirs = bitsandbytes.nn.Linear4bit(
        128, 96, compute_dtype=torch.float32, compress_statistics=section.double, quant_type=section.kind
    )
    theirs.weight = bitsandbytes.nn.Params4bit(
        weight_OI, compress_statistics=section.double, quant_type=section.kind, module=theirs
    )
    theirs.bias = layer.bias
    theirs = theirs.to("cpu").train()
    assert torch.equal(theirs.weight.data, layer.weight.data)
    x = torch.randn(3, 5, 128, requires_grad=True)
    close(layer(x), theirs(x))


@pytest.mark.parametrize("section", SECTIONS, ids=described)
@pytest.mark.parametrize("shape", [(64, 96), (7, 31), (96, 128)], ids=str)
def test_products_and_gradients_are_those_of_plain_weights(shape: tuple[int, int], section: Quantize) -> None:
    layer, _ = layer_of(shape, section)
    weight_OI = layer.read_back(torch.float32)
    x = torch.randn(2, 5, shape[1], requires_grad=True)
    seed = torch.randn(2, 5, shape[0])
    ours = torch.autograd.grad((layer(x) * seed).sum(), [x, layer.bias])
    plain = functional.linear(x, weight_OI, layer.bias)
    theirs = torch.autograd.grad((plain * seed).sum(), [x, layer.bias])
    close(layer(x), plain)
    for mine, other in zip(ours, theirs, strict=True):
        close(mine, other)
    assert not layer.weight.requires_grad
    assert {name for name, parameter in layer.named_parameters() if parameter.requires_grad} == {"bias"}


@pytest.mark.parametrize("bits", [4, 8])
def test_products_have_the_type_that_a_plain_layer_gives_them(bits: Any) -> None:
    layer, _ = layer_of((16, 64), Quantize(bits=bits, compute="fp32"))
    low, _ = layer_of((16, 64), Quantize(bits=bits, compute="bf16"))
    x = torch.randn(4, 64)
    exact = functional.linear(x, layer.read_back(torch.float32), layer.bias)
    rounded = functional.linear(
        x.bfloat16(), low.read_back(torch.bfloat16), None if low.bias is None else low.bias.bfloat16()
    )
    assert layer(x).dtype == low(x).dtype == torch.float32 and low.bias.dtype == torch.float32
    close(layer(x), exact)
    close(low(x), rounded.float())
    with torch.autocast("cpu", torch.bfloat16):
        # `compute` decides, whatever the run's own precision is.
        assert layer(x).dtype == torch.bfloat16
        close(layer(x), exact.bfloat16())


def adapted(family: str, folder: Path, section: Quantize, *, layout: str = "auto") -> tuple[Built, Built]:
    """A model with weights of few bits and adapters that are no longer zero, and the same with fp32 weights."""
    models = []
    for name in ("low", "plain"):
        built = build(family, folder / name, section={"compile": "off", "attention": layout})
        without_dropout(built.model)
        if name == "low":
            built.model.quantize(section, torch.float32)
        has_biases = any(n.endswith(".bias") and n not in built.model._whole for n, _ in built.hf.named_parameters())
        built.model.adapt(Lora(r=2, alpha=6, bias="all" if has_biases else "none"), seed=3)
        generator = torch.Generator().manual_seed(4)
        for parameter_name, parameter in built.hf.named_parameters():
            if ".lora_B." in parameter_name:
                nn.init.normal_(parameter, std=0.1, generator=generator)
        models.append(built)
    low, plain = models
    assert low.model.low_bits is not None
    with torch.no_grad():
        for name, layer in low.model.low_bits.layers.items():
            weight_OI = layer.read_back(torch.float32)
            plain.hf.get_submodule(name).weight.copy_(
                weight_OI.t() if name in low.model.low_bits.turned else weight_OI
            )
    return low, plain


@pytest.mark.every_day(2)
@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("family", PACKED)
def test_adapters_learn_as_beside_the_same_weights_in_fp32(family: str, layout: str, tmp_path: Path) -> None:
    low, plain = adapted(family, tmp_path, Quantize(compute="fp32"), layout=layout)
    rows = random_rows(low)
    batch = lay_out(low, rows, UNEVEN if layout == "packed" else None, types=random_types(low, rows))
    labels = torch.arange(len(rows)) % 3
    found = []
    for built in (low, plain):
        built.model.train()
        loss = functional.cross_entropy(built.model(batch), labels)
        trained = {name for name, parameter in built.hf.named_parameters() if parameter.requires_grad}
        found.append({name: g for name, g in gradients(built.hf, loss).items() if name in trained})
    assert any(".lora_A." in name and gradient.norm() > 0 for name, gradient in found[0].items())
    assert_same_gradients(*found)


@pytest.mark.every_day(3)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "bart"])
@pytest.mark.parametrize("bits", [4, 8])
def test_gradients_in_bf16_are_those_of_fp32_within_its_rounding(family: str, bits: Any, tmp_path: Path) -> None:
    low, plain = adapted(family, tmp_path, Quantize(bits=bits, compute="bf16"))
    rows = random_rows(low)
    batch = lay_out(low, rows, UNEVEN if low.model.layout == "packed" else None, types=random_types(low, rows))
    labels = torch.arange(len(rows)) % 3
    whole = []
    for built in (low, plain):
        found = gradients(built.hf, functional.cross_entropy(built.model(batch), labels))
        whole.append(torch.cat([g.flatten() for name, g in found.items() if ".lora_" in name]))
    difference = (whole[0] - whole[1]).norm() / whole[1].norm()
    assert 1e-6 < difference < 0.05


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("family", "section"),
    [*((family, SECTIONS[0]) for family in ALL), *((family, SECTIONS[-1]) for family in ("bert", "gpt2", "llama"))],
)
def test_a_saved_model_has_fp32_weights_and_gives_the_same_logits(
    family: str, section: Quantize, tmp_path: Path
) -> None:
    low, unchanged = adapted(family, tmp_path, section)
    rows = random_rows(low)
    types = random_types(low, rows)
    low.model.eval()
    plain = plain_copy(low, tmp_path / "saved")
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    assert low.model.num_parameters == unchanged.model.num_parameters == sum(p.numel() for p in plain.parameters())
    with torch.no_grad():
        ours = low.model(lay_out(low, rows, UNEVEN if low.model.layout == "packed" else None, types=types))
        close(ours, plain(**plain_inputs(low, rows, types)).logits)


def test_weights_take_half_a_byte_and_their_scales_little(tmp_path: Path) -> None:
    sizes = {}
    for section in (Quantize(), Quantize(double=False), Quantize(bits=8)):
        built = build("bert", tmp_path, hidden_size=256, intermediate_size=1024)
        before = sum(p.nbytes for p in built.hf.parameters())
        built.model.quantize(section, torch.float32)
        low = built.model.low_bits
        assert low is not None
        held = sum(parameter.nbytes for parameter in built.hf.parameters())
        assert held == before - 4 * low.num_weights + low.num_bytes
        tables = 4 * (16 + 256 + 1) * len(low.layers)
        sizes[described(section)] = (low.num_bytes - tables) / low.num_weights
    # Half a byte, with one byte or four for each 64, and four for each 256 of those.
    assert sizes["nf4 double"] == pytest.approx(0.5 + 1 / 64, abs=0.002)
    assert sizes["nf4"] == pytest.approx(0.5 + 4 / 64, abs=0.01)
    assert sizes["8 bits"] == pytest.approx(1.0, abs=0.02)


def test_layers_are_copied_and_moved_with_their_scales() -> None:
    layer, _ = layer_of((8, 64), Quantize(compute="fp32"))
    other = copy.deepcopy(layer)
    assert torch.equal(other.read_back(torch.float32), layer.read_back(torch.float32))
    other.weight.data.zero_()
    assert not torch.equal(other.read_back(torch.float32), layer.read_back(torch.float32))
    moved = layer.to("meta")
    assert {tensor.device.type for tensor in moved.parameters()} == {"meta"}


def test_an_evaluation_between_two_steps_changes_nothing(tmp_path: Path) -> None:
    low, _ = adapted("bert", tmp_path, Quantize(compute="bf16"))
    batch = lay_out(low, random_rows(low), UNEVEN)
    before = gradients(low.hf, low.model.train()(batch).sum())
    with torch.no_grad():
        low.model.eval()(batch)
    after = gradients(low.hf, low.model.train()(batch).sum())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_kernels_compute_attention_and_leave_such_layers_alone(tmp_path: Path) -> None:
    require_kernels()
    low, plain = adapted("bert", tmp_path, Quantize(compute="fp32"))
    batch = lay_out(low, random_rows(low), UNEVEN)
    expected = plain.model(batch)
    low.model.accelerator._mode = "on"
    low.model.speed_up(torch.float32, training=True)
    assert low.model.accelerator.kernels is not None
    assert "whole layers" not in low.model.accelerator.note
    close(low.model(batch), expected)


def test_nothing_is_drawn(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    state = torch.get_rng_state()
    built.model.quantize(Quantize(), torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_trained_and_what_must_be_exact_keeps_its_weights(tmp_path: Path) -> None:
    built = build("t5", tmp_path)
    built.model.quantize(Quantize(), torch.float32)
    low = {name for name, module in built.hf.named_modules() if isinstance(module, LowBitLinear)}
    left = {name for name, module in built.hf.named_modules() if type(module) is nn.Linear}
    # T5 reads the type of the weight `wo` to choose that of its input.
    assert low and {name.rpartition(".")[2] for name in left if not name.startswith("classification_head")} == {"wo"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("section", SECTIONS, ids=described)
def test_a_gpu_reads_the_same_weights_and_learns_the_same(section: Quantize, tmp_path: Path) -> None:
    low, _ = adapted("bert", tmp_path, section)
    assert low.model.low_bits is not None
    layers = low.model.low_bits.layers
    weights = {name: layer.read_back(torch.float32) for name, layer in layers.items()}
    batch = lay_out(low, random_rows(low), UNEVEN)
    expected = gradients(low.hf, low.model(batch).square().sum())
    low.model.to("cuda")
    for name, layer in layers.items():
        torch.testing.assert_close(layer.read_back(torch.float32).cpu(), weights[name], atol=1e-7, rtol=1e-6)
    found = gradients(low.hf, low.model(batch.to(torch.device("cuda"))).square().sum())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name].cpu(), gradient, atol=1e-4, rtol=1e-3)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "key", "value"),
    [
        ({"quantize": {}}, "model.quantize", Quantize().model_dump()),
        ({"quantize": {"bits": 8, "kind": "fp4"}, "lora": {}}, "model.quantize.kind", "fp4"),
        ({"quantize": {"bits": 8, "double": False}, "lora": {}}, "model.quantize.double", False),
        ({"quantize": {"bits": 3}, "lora": {}}, "model.quantize.bits", 3),
        ({"quantize": {"kind": "int4"}, "lora": {}}, "model.quantize.kind", "int4"),
        ({"quantize": {}, "lora": {"options": {"use_dora": True}}}, "model.lora.options", {"use_dora": True}),
        ({"quantize": {}, "lora": {}, "distributed": {"kind": "fsdp"}}, "train.distributed.kind", "fsdp"),
        ({"quantize": {}, "lora": {}, "distributed": {"kind": "deepspeed"}}, "train.distributed.kind", "deepspeed"),
        ({"quantize": {}, "lora": {}, "engine": "onnxruntime"}, "train.engine", "onnxruntime"),
    ],
)
def test_what_few_bits_cannot_go_with_is_refused(keys: dict[str, Any], key: str, value: Any, tmp_path: Path) -> None:
    of_model = {name: keys[name] for name in ("quantize", "lora") if name in keys}
    tree = {
        "model": {"pretrained": "backbone", **of_model},
        "data": {"train": {"files": ["a.csv"]}},
        "train": {name: value for name, value in keys.items() if name not in of_model},
    }
    with pytest.raises(ConfigError) as caught:
        require_runnable(load_tree(tree, base=tmp_path).experiment)
    assert (caught.value.key, caught.value.value) == (key, value)
    assert caught.value.hint or "expected one of" in str(caught.value)


def test_what_the_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(CPU, "fp32")
    require_low_bits(Quantize(compute="fp32"), device)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        require_low_bits(Quantize(), device)
    assert caught.value.key == "model.quantize" and 'pip install "textune[qlora]"' in str(caught.value.hint)
    with pytest.raises(ModelError) as caught:
        require_low_bits(Quantize(), device, folder=Path("runs/x/best"))
    assert "model.quantize" not in str(caught.value) and 'pip install "textune[qlora]"' in str(caught.value.hint)
    monkeypatch.undo()

    def lacks(device: str, precision: str) -> Device:
        raise ModelError("no")

    monkeypatch.setattr(lowbits, "resolve_device", lacks)
    with pytest.raises(ModelError) as caught:
        require_low_bits(Quantize(compute="bf16"), device)
    assert (caught.value.key, caught.value.value) == ("model.quantize.compute", "bf16")


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    with pytest.raises(ConfigError) as caught:
        lowbits.quantize_beneath(
            built.hf, Quantize(), whole=[name for name, _ in built.hf.named_parameters()], dtype=torch.float32
        )
    assert caught.value.key == "model.quantize"


@pytest.mark.parametrize(
    ("bits", "number", "advice"),
    [
        (8, 65_505.0, "bits = 4"),
        (8, -1e6, "bits = 4"),
        (8, float("nan"), "damaged"),
        (4, float("inf"), "damaged"),
        (4, float("nan"), "damaged"),
    ],
)
def test_a_number_that_few_bits_cannot_be_made_of_is_refused(
    bits: Any, number: float, advice: str, tmp_path: Path
) -> None:
    """bitsandbytes would make NaN of it, or anything."""
    built = build("gpt2", tmp_path)
    name = "transformer.h.1.mlp.c_proj.weight"
    with torch.no_grad():
        built.hf.get_parameter(name)[3, 5] = number
    with pytest.raises(ModelError) as caught:
        lowbits.quantize_beneath(built.hf, Quantize(bits=bits), whole=(), dtype=torch.float32)
    found = caught.value
    assert (found.key, found.reason) == ("model.quantize", name) and advice in found.hint
    assert found.value == abs(number) or number != number


@pytest.mark.parametrize(("bits", "largest"), [(8, 65_504.0), (4, 1e30)])
def test_the_largest_number_is_kept(bits: Any, largest: float) -> None:
    form = FourBits(Quantize()) if bits == 4 else EightBits()
    weight_OI = torch.full((2, 64), 1.0)
    weight_OI[1, 7] = -largest
    found = form.read_back(form.pack(weight_OI), (2, 64), torch.float32)
    assert torch.isfinite(found).all() and abs(float(found[1, 7]) / -largest - 1) < 0.01


@pytest.mark.slow
def test_the_library_is_imported_without_a_word() -> None:
    code = "from textune.imports import import_quietly; import_quietly('bitsandbytes')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
