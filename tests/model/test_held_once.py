"""Weights that models have in common are held once: the same memory, the same bits of every answer."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path

import pytest
import torch
from kits.models import COLORS, Built, build, lay_out, random_rows
from test_adapter_folder import saved, with_adapters

from textune.config.adapters import Quantize
from textune.config.schema import ModelSection
from textune.model.adapters import is_adapter, plain_name
from textune.model.backbone import TextModel
from textune.model.device import resolve_device
from textune.model.heldonce import hold_once
from textune.model.loading import load_model
from textune.model.native.copies import WorkingCopy, _copies
from textune.model.recipe import Adapting, Recipe, prepare
from textune.model.tokenizer import load_tokenizer

pytest.importorskip("peft", reason="peft is not installed")

FAMILIES = ["bert", "gpt2", "deberta-v2", "t5"]


def opened(folder: Path, *, precision: str = "fp32", quantize: Quantize | None = None) -> TextModel:
    section = ModelSection(pretrained=str(folder))
    model = load_model(
        section, load_tokenizer(section), label_maps={"label": COLORS}, num_logits=3, seed=9, as_saved=True
    )
    saved = model.files.saved
    adapting = None if saved is None else Adapting(saved.lora, 0)
    device = resolve_device("cpu", precision)  # type: ignore[arg-type]
    prepare(model, Recipe(device, "prediction", adapting=adapting, quantize=quantize))
    return model


def logits(built: Built, model: TextModel) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
        return model(lay_out(built, random_rows(built)))


def frozen(model: TextModel) -> dict[str, torch.Tensor]:
    """What was not trained with the adapters."""
    assert model.files.saved is not None
    trained = model.files.saved.whole
    return {
        name: weight
        for name, weight in model.named_parameters()
        if not is_adapter(name) and plain_name(name.removeprefix("hf.")) not in trained
    }


def spread(folder: Path, family: str = "bert") -> tuple[Built, list[Path]]:
    """Three adapters of one backbone, each with other numbers."""
    folders, built = [], None
    for seed in range(3):
        built = with_adapters(family, folder)
        with torch.no_grad():
            for name, weight in built.model.named_parameters():
                if is_adapter(name) or name.startswith(("hf.classifier", "hf.score")):
                    weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 0.1
        folders.append(saved(built, folder / f"adapter-{seed}"))
    assert built is not None
    return built, folders


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_one_backbone_hold_it_once(family: str, tmp_path: Path) -> None:
    built, folders = spread(tmp_path, family)
    alone = [logits(built, opened(folder)) for folder in folders]
    assert not torch.equal(alone[0], alone[1])
    models = [opened(folder) for folder in folders]
    freed = [hold_once(model, models[:place]) for place, model in enumerate(models)]
    first = frozen(models[0])
    size = sum(weight.nbytes for weight in first.values())
    assert freed[0] == 0 and freed[1] >= size and freed[2] >= size
    for model in models[1:]:
        assert {name: weight.data_ptr() for name, weight in frozen(model).items()} == {
            name: weight.data_ptr() for name, weight in first.items()
        }
    for model, expected in zip(models, alone, strict=True):
        assert torch.equal(logits(built, model), expected)
    assert hold_once(models[2], models[:2]) == 0


def test_what_becomes_of_one_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """As when a server opens one of them again."""
    built, folders = spread(tmp_path)
    models = [opened(folder) for folder in folders]
    expected = [logits(built, model) for model in models]
    for place, model in enumerate(models):
        hold_once(model, models[:place])
    for _ in range(2):
        models[0] = opened(folders[0])
        gc.collect()
        hold_once(models[0], models[1:])
        models.append(models.pop(0))
        folders.append(folders.pop(0))
        expected.append(expected.pop(0))
    for model, known in zip(models, expected, strict=True):
        assert torch.equal(logits(built, model), known)
    places = [{name: weight.data_ptr() for name, weight in frozen(model).items()} for model in models]
    assert places[0] == places[1] == places[2]


def copies_of(model: TextModel) -> dict[tuple[int, ...], WorkingCopy]:
    """Those that kernels make of several weights, by where these stand."""
    own = {id(weight) for weight in model.parameters()}
    return {copy.addresses(): copy for copy in _copies if copy.is_of(own)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_of_the_kernels_are_shared_until_a_weight_changes(dtype: torch.dtype, tmp_path: Path) -> None:
    _, folders = spread(tmp_path)
    one, other = (opened(folder) for folder in folders[:2])
    if not copies_of(one):
        pytest.skip("there are no compiled kernels here")
    hold_once(other, [one])
    shared = {
        places: (copy.get(dtype, with_grad=False), copies_of(other)[places].get(dtype, with_grad=False))
        for places, copy in copies_of(one).items()
        if places in copies_of(other)
    }
    assert any(len(places) > 1 for places in shared)
    assert all(mine.data_ptr() == theirs.data_ptr() for mine, theirs in shared.values())
    places, copy = next((places, copy) for places, copy in copies_of(other).items() if len(places) > 1)
    leader, parameter = copies_of(one)[places], next(w for w in other.parameters() if w.data_ptr() == places[0])
    with torch.no_grad():
        parameter.data = parameter.data + 1.0
    changed, kept = copy.get(dtype, with_grad=False), leader.get(dtype, with_grad=False)
    assert not torch.equal(changed, kept)
    assert torch.equal(changed[: len(parameter)], parameter.to(dtype))


@pytest.mark.every_day(1)
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_few_bits_are_held_once(bits: int, tmp_path: Path) -> None:
    built, folders = spread(tmp_path)
    quantize = Quantize(bits=bits, compute="fp32")  # type: ignore[arg-type]
    models = [opened(folder, quantize=quantize) for folder in folders]
    expected = [logits(built, model) for model in models]
    for place, model in enumerate(models):
        hold_once(model, models[:place])
    held = [
        {
            f"{name}.{kind}": weight.data_ptr()
            for name, layer in model.low_bits.layers.items()
            for kind, weight in layer.held().items()
        }
        for model in models
        if model.low_bits is not None
    ]
    assert len(held) == 3 and held[0] and held[0] == held[1] == held[2]
    for model, known in zip(models, expected, strict=True):
        assert torch.equal(logits(built, model), known)


def test_other_weights_are_left_as_they_are(tmp_path: Path) -> None:
    one, other = (build("bert", tmp_path / name, seed=seed).model for seed, name in enumerate("ab"))
    before = {name: weight.clone() for name, weight in other.named_parameters()}
    hold_once(other, [one])
    theirs = dict(one.named_parameters())
    for name, weight in other.named_parameters():
        assert torch.equal(weight, before[name])
        assert (weight.data_ptr() == theirs[name].data_ptr()) == torch.equal(weight, theirs[name])


def test_zero_is_not_minus_zero(tmp_path: Path) -> None:
    """Equal numbers are not enough: an answer may differ in its bits."""
    one, other = (build("bert", tmp_path / "backbone").model for _ in range(2))
    weights = [dict(model.named_parameters())["hf.bert.encoder.layer.0.output.dense.bias"] for model in (one, other)]
    with torch.no_grad():
        weights[0].fill_(0.0)
        weights[1].fill_(-0.0)
    hold_once(other, [one])
    assert weights[0].data_ptr() != weights[1].data_ptr()
    assert torch.signbit(weights[1]).all()
