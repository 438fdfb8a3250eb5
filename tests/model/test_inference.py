"""What prediction computes with weights in panels: exact sums of bytes, layers against those that can be trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from modelkit import LEVELS, UNEVEN, build, kernels_of, lay_out, random_rows
from runkit import threads
from torch import nn
from torch.nn import functional

from textune.model.native.calls import PanelCall
from textune.model.native.inference import Int8Linear, Weights, can_multiply, project
from textune.model.native.kernels import Kernels
from textune.model.native.layers import install
from textune.model.quantize import quantize_linears

FUSED = ["bert", "roberta", "electra", "distilbert"]
SHAPES = [(1, 1, 1), (2, 4, 3), (3, 64, 64), (13, 67, 33), (50, 128, 65), (97, 384, 96), (5, 1537, 130)]
"""Rows, inputs, outputs: one row and many, in whole units, tiles and panels or not."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """The kernels share their rows out among threads."""
    torch.manual_seed(0)
    with threads(2):
        yield


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Of every level that this machine has."""
    return kernels_of(request.param)


def largest_weight(kernels: Kernels) -> int:
    shape = PanelCall(kind=2)
    kernels.call("panel", shape)
    return int(shape.largest)


def sums(kernels: Kernels, levels_TI: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
    """The kernels' sums of products of whole numbers: with steps and scales of one they are the result as it is."""
    assert all({0, 255} <= set(row.tolist()) for row in levels_TI)
    weight_OI = torch.cat([weight_OI, torch.full_like(weight_OI[:, :1], largest_weight(kernels))], 1)
    levels_TI = torch.cat([levels_TI, torch.zeros_like(levels_TI[:, :1])], 1)
    return project(kernels, [Weights(kernels, weight_OI.float(), None, torch.int8)], levels_TI.float())


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_bytes_are_exact(kernels: Kernels, shape: tuple[int, int, int]) -> None:
    (rows, inputs, outputs), most = shape, largest_weight(kernels)
    levels = functional.pad(torch.randint(0, 256, (rows, inputs)), (2, 0))
    levels[:, 1] = 255
    weight = torch.randint(-most, most + 1, (outputs, inputs + 2))
    assert torch.equal(sums(kernels, levels, weight), (levels @ weight.T).float())


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_of_bytes_do_not_overflow(kernels: Kernels, sign: int) -> None:
    """All levels 255, all weights the largest: sums of two reach 32,640 where they pass through 16 bits."""
    weight = torch.full((37, 4096), sign * largest_weight(kernels))
    levels = torch.full((9, 4096), 255)
    levels[:, 0] = 0
    assert torch.equal(sums(kernels, levels, weight), (levels @ weight.T).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_floats(kernels: Kernels, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    if not can_multiply(kernels, dtype):
        pytest.skip(f"{kernels.level} has no products of {dtype}")
    rows, inputs, outputs = shape
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    expected = functional.linear(x.to(dtype).float(), weight.to(dtype).float(), bias)
    found = project(kernels, [Weights(kernels, weight, bias, dtype)], x)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


def test_layers_side_by_side(kernels: Kernels) -> None:
    x, linears = torch.randn(21, 30), [nn.Linear(30, outputs) for outputs in (7, 64, 33)]
    for dtype in (torch.float32, torch.int8):
        weights = [Weights(kernels, linear.weight, linear.bias, dtype) for linear in linears]
        together = project(kernels, weights, x)
        assert torch.equal(together, torch.cat([project(kernels, [each], x) for each in weights], 1))


def test_wrong_arguments_are_refused(kernels: Kernels) -> None:
    linear = nn.Linear(4, 3)
    one, other = (Weights(kernels, weight, None, torch.int8) for weight in (linear.weight, torch.randn(3, 5)))
    with pytest.raises(ValueError, match=r"project refused its arguments: a size or a row is out of range"):
        project(kernels, [one, other], torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"a kernel needs torch\.float32 \(2, 4\)"):
        project(kernels, [one], torch.randn(2, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FUSED)
def test_layers_of_prediction_compute_what_those_of_training_do(
    kernels: Kernels, family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    if not can_multiply(kernels, dtype):
        pytest.skip(f"{kernels.level} has no products of {dtype}")
    built = build(family, tmp_path, section={"compile": "off"})
    built.model.accelerator.kernels = kernels
    assert install(built.hf, kernels)
    batch = lay_out(built, random_rows(built), UNEVEN)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        wanted = built.model(batch).detach()
        with torch.no_grad():
            found = built.model(batch)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


def test_changed_weights_are_laid_out_anew(kernels: Kernels, tmp_path: Path) -> None:
    built = build("bert", tmp_path, section={"compile": "off"})
    built.model.accelerator.kernels = kernels
    install(built.hf, kernels)
    batch = lay_out(built, random_rows(built), UNEVEN)
    with torch.no_grad():
        before = built.model(batch)
        built.hf.bert.encoder.layer[0].output.dense.weight *= 1.5
        changed = built.model(batch)
    torch.testing.assert_close(changed, built.model(batch).detach(), atol=1e-5, rtol=1e-5)
    assert not torch.equal(before, changed)


@pytest.mark.parametrize("family", FUSED)
def test_whole_int8_layers_compute_what_their_parts_do(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path, section={"compile": "off"})
    batch = lay_out(built, random_rows(built), UNEVEN)
    with torch.inference_mode():
        quantize_linears(built.model)
        parts = built.model(batch)
        built.model.accelerator.kernels = Kernels()
        assert install(built.hf, Kernels()) == 2
        whole = built.model(batch)
    # Activations differ by 5e-5 before they become levels, so that a few fall on the next one.
    assert not torch.equal(whole, parts)
    torch.testing.assert_close(whole, parts, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows_in_its_own_row_alone(kernels: Kernels, value: float) -> None:
    layer, x = Int8Linear(kernels, torch.randn(20, 40), None), torch.randn(3, 40)
    x[1, 7] = value
    found = layer(x)
    assert not found[1].isfinite().any() and found[[0, 2]].isfinite().all()
