"""Int8 products: exact sums on every level, whole layers against their parts, a text alone and in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kits.models import LEVELS, UNEVEN, Built, build, kernels_of, lay_out, random_rows
from kits.runs import threads
from torch import nn
from torch.nn import functional

from textune.batches.batch import TokenBatch
from textune.model.native.install import install
from textune.model.native.int8 import Int8Linear, PanelCall, Weights, project
from textune.model.native.kernels import Kernels
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
    shape = PanelCall()
    kernels.call("int8_panel", shape)
    return int(shape.largest)


def sums(kernels: Kernels, levels_TI: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
    """The kernels' sums of products of whole numbers: with steps and scales of one they are the result as it is."""
    assert all({0, 255} <= set(row.tolist()) for row in levels_TI)
    weight_OI = torch.cat([weight_OI, torch.full_like(weight_OI[:, :1], largest_weight(kernels))], 1)
    levels_TI = torch.cat([levels_TI, torch.zeros_like(levels_TI[:, :1])], 1)
    return project(kernels, [Weights(kernels, weight_OI.float(), None)], levels_TI.float())


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


def test_layers_side_by_side(kernels: Kernels) -> None:
    x, linears = torch.randn(21, 30), [nn.Linear(30, outputs) for outputs in (7, 64, 33)]
    weights = [Weights(kernels, linear.weight, linear.bias) for linear in linears]
    together = project(kernels, weights, x)
    assert torch.equal(together, torch.cat([project(kernels, [each], x) for each in weights], 1))


def test_wrong_arguments_are_refused(kernels: Kernels) -> None:
    linear = nn.Linear(4, 3)
    one, other = (Weights(kernels, weight, None) for weight in (linear.weight, torch.randn(3, 5)))
    with pytest.raises(ValueError, match=r"int8_project refused its arguments: a size or a row is out of range"):
        project(kernels, [one, other], torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"a kernel needs torch\.float32 \(2, 4\)"):
        project(kernels, [one], torch.randn(2, 5))


def test_weights_that_were_laid_out_for_another_level_are_refused(kernels: Kernels) -> None:
    """A copy of a model, opened on another processor, would read panels of another width, or sums that do not fit."""
    weights = Weights(kernels, torch.randn(8, 8), None)
    for wrong in ({"_panel": weights._panel // 2}, {"_largest": largest_weight(kernels) + 1}):
        other = Weights(kernels, torch.randn(8, 8), None)
        vars(other).update(wrong)
        with pytest.raises(ValueError, match="out of range"):
            project(kernels, [other], torch.randn(3, 8))


@pytest.mark.parametrize("family", FUSED)
def test_whole_layers_compute_what_their_parts_do(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path, section={"compile": "off"})
    batch = lay_out(built, random_rows(built), UNEVEN)
    with torch.inference_mode():
        quantize_linears(built.model)
        parts = built.model(batch)
        whole_layers(built, Kernels())
        whole = built.model(batch)
    # Activations differ by 5e-5 before they become levels, so that a few fall on the next one.
    assert not torch.equal(whole, parts)
    assert float((whole - parts).norm() / parts.norm()) < 0.01


def whole_layers(built: Built, kernels: Kernels) -> None:
    built.model.accelerator.kernels = kernels
    assert install(built.hf, kernels) == 2


@pytest.mark.parametrize("family", FUSED)
def test_a_text_scores_exactly_the_same_alone_and_in_any_batch(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path, section={"compile": "off"})
    quantize_linears(built.model)
    whole_layers(built, Kernels())
    rows = random_rows(built)
    hidden = {}
    with torch.inference_mode():
        for name, batches in {"together": [rows], "alone": [[row] for row in rows]}.items():
            hidden[name] = torch.cat([last_hidden(built, lay_out(built, batch)) for batch in batches])
    assert torch.equal(hidden["together"], hidden["alone"])


def last_hidden(built: Built, batch: TokenBatch) -> torch.Tensor:
    """The first token of each row behind the backbone; heads are plain products of PyTorch's."""
    found = []
    handle = built.hf.base_model.register_forward_hook(lambda _, __, output: found.append(output.last_hidden_state))
    built.model(batch)
    handle.remove()
    starts = torch.cat(
        [torch.zeros(1, dtype=torch.int64), torch.full((len(batch.lengths_B) - 1,), batch.groups[0].length)]
    )
    return found[0].squeeze(0)[starts.cumsum(0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows_in_its_own_row_alone(kernels: Kernels, value: float) -> None:
    layer, x = Int8Linear(kernels, torch.randn(20, 40), None), torch.randn(3, 40)
    x[1, 7] = value
    found = layer(x)
    assert not found[1].isfinite().any() and found[[0, 2]].isfinite().all()
