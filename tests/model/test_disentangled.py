"""DeBERTa-v2 and v3 packed: the loss and every gradient of plain transformers' padded forward, in every
configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.models import (
    Built,
    build,
    gradients,
    lay_out,
    plain_copy,
    plain_inputs,
    random_rows,
    random_types,
    require_kernels,
    without_dropout,
)
from kits.runs import threads
from torch.nn import functional

from textune.model import attention
from textune.model.distances import count_distances

TOLERANCE = 1e-5

VARIANTS: dict[str, dict[str, Any]] = {
    "v3": {},
    "c2p alone": {"pos_att_type": ["c2p"]},
    "p2c alone": {"pos_att_type": ["p2c"]},
    "written as text": {"pos_att_type": "p2c|c2p"},
    "no term": {"pos_att_type": []},
    "no distances": {"relative_attention": False},
    "own projections": {"share_att_key": False},
    "own projections, c2p alone": {"share_att_key": False, "pos_att_type": ["c2p"]},
    "own projections, p2c alone": {"share_att_key": False, "pos_att_type": ["p2c"]},
    "every distance a row": {"position_buckets": -1},
    "short reach": {"position_buckets": -1, "max_relative_positions": 7},
    "buckets and reach": {"position_buckets": 6, "max_relative_positions": 24},
    "table not normed": {"norm_rel_ebd": "none"},
    "places in the input": {"position_biased_input": True},
    "types": {"type_vocab_size": 2},
    "narrow embeddings": {"embedding_size": 16},
    "convolution": {"conv_kernel_size": 3, "conv_act": "gelu"},
    "wide convolution": {"conv_kernel_size": 5},
    "v2-xlarge": {"conv_kernel_size": 3, "conv_act": "gelu", "share_att_key": True, "position_buckets": 8},
    "layers that the kernels do not know": {"hidden_act": "silu"},
    "odd heads": {"hidden_size": 36, "pooler_hidden_size": 36, "num_attention_heads": 3},
}
WITH_GAPS = (2, 3, 4, 2)
LENGTHS = (1, 1, 2, 3, 3, 5, 7, 8, 9, 13, 37)
"""The longest beyond all of its buckets (16 in the table of the tests' own backbone)."""


@pytest.fixture(params=["off", "on"])
def compile_mode(request: pytest.FixtureRequest) -> str:
    """PyTorch's own operators and the compiled kernels."""
    if request.param == "on":
        require_kernels()
    return str(request.param)


def built_with(folder: Path, compile_mode: str, **keys: Any) -> Built:
    built = build("deberta-v2", folder, section={"compile": compile_mode}, **keys)
    assert built.model.layout == "packed", built.model.reason
    built.model.speed_up(torch.float32, training=True)
    return built


def assert_same_gradients(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float = TOLERANCE
) -> None:
    """Relative to each tensor's own gradient, and, for what cancels to nothing (the keys' bias), to the whole one."""
    assert ours.keys() == theirs.keys()
    whole = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    assert whole > 0
    for name, gradient in theirs.items():
        difference = (ours[name] - gradient).norm()
        assert difference <= tolerance * gradient.norm() + 1e-2 * tolerance * whole, (
            name,
            difference,
            gradient.norm(),
        )


@pytest.mark.every_day(5)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_configuration_has_the_loss_and_gradients_of_plain_transformers(
    variant: str, tmp_path: Path, compile_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = built_with(tmp_path / "backbone", compile_mode, **VARIANTS[variant])
    built.model.train()
    plain = plain_copy(built, tmp_path / "saved")
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built, LENGTHS)
    types = random_types(built, rows)
    labels = torch.arange(len(rows)) % 3
    padded_loss = functional.cross_entropy(plain(**plain_inputs(built, rows, types)).logits, labels)
    theirs = gradients(plain, padded_loss)
    for groups, round_from in ((WITH_GAPS, 1000), ((1,) * len(rows), 1)):
        monkeypatch.setattr(attention, "ROUND_FROM", round_from)
        loss = functional.cross_entropy(built.model(lay_out(built, rows, groups, types=types)), labels)
        assert loss.item() == pytest.approx(padded_loss.item(), rel=TOLERANCE)
        assert_same_gradients(gradients(built.hf, loss), theirs)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("lengths", [(1,), (1, 1), (2,), (31, 32, 33), (64, 65), (150, 151)], ids=str)
def test_rows_of_any_length_and_micro_batches(lengths: Sequence[int], tmp_path: Path, compile_mode: str) -> None:
    built = built_with(tmp_path / "backbone", compile_mode)
    plain = plain_copy(built, tmp_path / "saved")
    rows = random_rows(built, lengths)
    labels = torch.arange(len(rows)) % 3
    theirs = gradients(plain, functional.cross_entropy(plain(**plain_inputs(built, rows)).logits, labels))
    ours = gradients(built.hf, functional.cross_entropy(built.model(lay_out(built, rows)), labels))
    assert_same_gradients(ours, theirs)
    # The same batch in parts: each has other distances, hence other rows of the table.
    built.hf.zero_grad()
    for row, label in zip(rows, labels, strict=True):
        (functional.cross_entropy(built.model(lay_out(built, [row])), label[None]) / len(rows)).backward()
    parts = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in built.hf.named_parameters()}
    assert_same_gradients(parts, theirs)


@pytest.mark.parametrize("keys", [{}, {"share_att_key": False}], ids=["v3", "own projections"])
def test_bf16_is_near_fp32(keys: dict[str, Any], tmp_path: Path, compile_mode: str) -> None:
    built = built_with(tmp_path, compile_mode, **keys)
    rows = random_rows(built, LENGTHS)
    batch, labels = lay_out(built, rows, WITH_GAPS), torch.arange(len(rows)) % 3
    exact = gradients(built.hf, functional.cross_entropy(built.model(batch), labels))
    with torch.autocast("cpu", torch.bfloat16):
        logits = built.model(batch)
    assert logits.dtype == torch.float32
    assert_same_gradients(gradients(built.hf, functional.cross_entropy(logits, labels)), exact, tolerance=0.08)


def test_dropout_is_drawn_from_the_seed_alone(tmp_path: Path, compile_mode: str) -> None:
    with threads(2):
        built = built_with(tmp_path, compile_mode)
        batch = lay_out(built, random_rows(built, LENGTHS), WITH_GAPS)
        still = built.model(batch)
        built.model.train()
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(gradients(built.hf, built.model(batch).square().sum()))
        again = built.model.eval()(batch)
    assert all(torch.equal(found[0][name], gradient) for name, gradient in found[1].items())
    assert not torch.equal(found[0]["classifier.weight"], found[2]["classifier.weight"])
    assert torch.equal(again, still)


@pytest.mark.every_day(2)
@pytest.mark.parametrize("part", ["attention_probs_dropout_prob", "hidden_dropout_prob"])
def test_under_dropout_the_gradient_is_that_of_what_is_computed(part: str, tmp_path: Path, compile_mode: str) -> None:
    """With fixed masks the model is a smooth function of each weight: its difference quotient is its gradient."""
    off = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    built = built_with(tmp_path, compile_mode, share_att_key=False, **{**off, part: 0.3})
    batch = lay_out(built, random_rows(built, LENGTHS), WITH_GAPS)
    still = built.model(batch)
    built.model.train()

    def loss() -> torch.Tensor:
        torch.manual_seed(5)
        return functional.cross_entropy(built.model(batch), torch.arange(len(batch.rows)) % 3)

    assert (built.model(batch) - still).abs().max() > 1e-3
    theirs = gradients(built.hf, loss())
    for name, parameter in built.hf.named_parameters():
        size = theirs[name].norm()
        if size < 1e-3:
            continue
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(theirs[name] / size, alpha=sign * 1e-2)
                ends.append(loss().item())
                parameter.sub_(theirs[name] / size, alpha=sign * 1e-2)
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(size.item(), rel=0.03, abs=2e-4), name


def test_a_saved_model_is_plain_and_training_goes_on_packed(tmp_path: Path, compile_mode: str) -> None:
    built = built_with(tmp_path / "backbone", compile_mode)
    before = set(built.hf.state_dict())
    plain = plain_copy(built, tmp_path / "saved")
    assert set(plain.state_dict()) == before
    assert "textune" not in (tmp_path / "saved" / "config.json").read_text()
    rows = random_rows(built, LENGTHS)
    with torch.no_grad():
        theirs = plain(**plain_inputs(built, rows)).logits
        torch.testing.assert_close(
            built.model(lay_out(built, rows, WITH_GAPS)), theirs, atol=TOLERANCE, rtol=TOLERANCE
        )
        built.model.set_layout("padded")
        assert not any("forward" in vars(layer.attention.self) for layer in built.hf.deberta.encoder.layer)
        torch.testing.assert_close(built.model(lay_out(built, rows)), theirs, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(
    ("buckets", "limit", "span"), [(16, 512, 16), (256, 512, 256), (6, 24, 6), (-1, 7, 7), (-1, 512, 512)]
)
@pytest.mark.parametrize("length", [1, 2, 9, 150, 700])
def test_distances_are_those_of_transformers(length: int, buckets: int, limit: int, span: int) -> None:
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    tokens = torch.empty(1, length, 1)
    theirs = build_relative_position(tokens, tokens, bucket_size=buckets, max_position=limit)[0]
    distances = count_distances(length, buckets, limit, span)
    places = torch.arange(length)
    rows_D = torch.from_numpy(distances.rows_D)
    ours = rows_D[places[None, :] - places[:, None] + distances.reach] + distances.first
    assert torch.equal(ours, (theirs + span).clamp(0, 2 * span - 1))
    # What the padded p2c term looks up for key j and query i, by its own formula.
    assert torch.equal(ours, (-theirs.T + span).clamp(0, 2 * span - 1))
    assert distances.num_rows <= min(2 * length - 1, 2 * span)


def test_no_more_of_the_table_is_projected_than_the_longest_row_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = built_with(tmp_path, "off")
    projected = []
    projection = built.hf.deberta.encoder.layer[0].attention.self.key_proj
    handle = projection.register_forward_hook(lambda _module, inputs, _output: projected.append(len(inputs[0])))
    batch = lay_out(built, random_rows(built, (2, 3)))
    built.model(batch)
    handle.remove()
    assert projected == [6, 5]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parity("gpu")
def test_a_gpu_computes_the_same(dtype: torch.dtype, tmp_path: Path) -> None:
    built = built_with(tmp_path, "off")
    rows = random_rows(built, LENGTHS)
    batch, labels = lay_out(built, rows, WITH_GAPS), torch.arange(len(rows)) % 3
    exact = gradients(built.hf, functional.cross_entropy(built.model(batch), labels))
    built.model.to("cuda")
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        logits = built.model(batch.to(torch.device("cuda")))
    ours = gradients(built.hf, functional.cross_entropy(logits, labels.to("cuda")))
    moved = {name: gradient.cpu() for name, gradient in ours.items()}
    assert_same_gradients(moved, exact, tolerance=1e-3 if dtype == torch.float32 else 0.08)
