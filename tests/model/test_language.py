"""Language models beside plain transformers: the nats of every row and every gradient, in every family that runs
packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.language_ranks import CPU, chunks
from kits.languages import (
    PACKED_LANGUAGES,
    PADDED_LANGUAGES,
    build_language,
    labels_of,
    masked_batch,
    masks_of,
    model_type,
    num_scored,
    open_language,
    padded_on_the_right,
    plain_nats,
    saved_copy,
    tiny_language_model,
)
from kits.models import (
    LAYERS_FIRST_NORMED,
    UNEVEN,
    assert_same_gradients,
    gradients,
    lay_out,
    random_rows,
    require_kernels,
    without_dropout,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from textune.config.schema import ModelSection
from textune.errors import ConfigError, ModelError
from textune.model import attention, nats
from textune.model.budget import measure_budget
from textune.model.faces import scored_tokens
from textune.model.families import PACKED_FAMILIES
from textune.model.language import load_language_model, require_language_model
from textune.model.projections import PROJECTIONS
from textune.model.quantize import quantize_linears
from textune.model.tokenizer import load_tokenizer
from textune.training.ort.graph import PaddedModel

TOLERANCE = 1e-6


def test_every_family_that_runs_packed_has_its_twin_test() -> None:
    decoders = {name for name in PROJECTIONS if name in PACKED_FAMILIES and name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert {model_type(family) for family in PACKED_LANGUAGES} == decoders


@pytest.mark.every_day(5)
@pytest.mark.parametrize("layout, compile", [("packed", "off"), ("packed", "on"), ("padded", "off")])
@pytest.mark.parametrize("family", PACKED_LANGUAGES)
def test_rows_and_gradients_are_those_of_plain_transformers(
    family: str, layout: str, compile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compile == "on":
        require_kernels()
    built = build_language(family, tmp_path / "model", section={"attention": layout, "compile": compile})
    if "this release of transformers" in built.model.reason:
        pytest.skip(built.model.reason)
    assert built.model.layout == layout, built.model.reason
    built.model.speed_up(torch.float32, training=True)
    built.model.train()
    plain = saved_copy(built, tmp_path / "saved").train()
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built)
    masks = masks_of(rows)
    nats_B = plain_nats(plain, built, rows, masks)
    weights_B = torch.linspace(0.5, 2.0, len(rows))
    theirs = gradients(plain, (nats_B * weights_B).sum() / num_scored(masks))
    monkeypatch.setattr(attention, "ROUND_FROM", 1)
    ours_B1 = built.model(masked_batch(built, rows, masks, UNEVEN if layout == "packed" else None))
    assert ours_B1.dtype == torch.float32 and ours_B1.shape == (len(rows), 1)
    torch.testing.assert_close(ours_B1.squeeze(1), nats_B, rtol=TOLERANCE, atol=TOLERANCE)
    assert_same_gradients(gradients(built.hf, (ours_B1.squeeze(1) * weights_B).sum() / num_scored(masks)), theirs)


def test_the_mean_over_scored_tokens_is_the_loss_of_transformers(tmp_path: Path) -> None:
    built = build_language("gpt2", tmp_path / "model")
    plain = saved_copy(built, tmp_path / "saved")
    rows = random_rows(built)
    masks = masks_of(rows)
    with torch.no_grad():
        ours = built.model(masked_batch(built, rows, masks, UNEVEN)).sum() / num_scored(masks)
        theirs = plain(**padded_on_the_right(built, rows), labels=labels_of(rows, masks)).loss
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_rows_without_a_scored_token_give_zero_and_no_gradient(layout: str, tmp_path: Path) -> None:
    built = build_language("llama", tmp_path / "model", section={"attention": layout})
    rows = random_rows(built, (1, 4, 9))
    outputs = built.model(masked_batch(built, rows, [[0], [0, 1, 1, 1], [1] * 9]))
    assert not outputs.any() and outputs.requires_grad
    assert not any(gradient.any() for gradient in gradients(built.hf, outputs.sum()).values())
    assert all(p.grad is not None for p in built.hf.parameters()), "ranks wait for every gradient"


def test_what_is_scored_is_what_mask_and_place_say(tmp_path: Path) -> None:
    """Ids M M a b c d e f g x, attention 1 x 9 0, metadata 1 x 2 0 x 8: the targets of training are a to g."""
    built = build_language("gpt2", tmp_path / "model")
    ids = random_rows(built, (9,))[0]
    batch = masked_batch(built, [ids[:3], ids], [[1, 1, 0], [1, 1, 0, 0, 0, 0, 0, 0, 0]])  # padded to 9
    assert scored_tokens(batch).view(2, 9).int().tolist() == [[0, 0, 1, 0, 0, 0, 0, 0, 0], [0, 0, *[1] * 7]]
    assert scored_tokens(masked_batch(built, [ids], [[0] * 9])).int().tolist() == [0, *[1] * 8]
    assert scored_tokens(lay_out(built, [ids])).int().tolist() == [0, *[1] * 8], "without masks all are scored"


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_lower_precision_is_that_of_plain_transformers(family: str, precision: torch.dtype, tmp_path: Path) -> None:
    built = build_language(family, tmp_path / "model")
    plain = saved_copy(built, tmp_path / "saved")
    rows = random_rows(built)
    masks = masks_of(rows)
    exact = plain_nats(plain, built, rows, masks)
    with torch.no_grad(), torch.autocast("cpu", dtype=precision):
        theirs = plain_nats(plain, built, rows, masks)
        ours = built.model(masked_batch(built, rows, masks, UNEVEN)).squeeze(1)
    assert ours.dtype == torch.float32
    assert (ours - exact).norm() <= 2 * (theirs - exact).norm()


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "eurobert", "deberta-v2", "t5"])
def test_encoders_are_refused_before_their_weights_are_read(family: str, tmp_path: Path) -> None:
    folder = tiny_backbone(family, tmp_path)
    section = ModelSection(pretrained=str(folder))
    with refused(ModelError, key="model.pretrained", value=str(folder)):
        require_language_model(section)
    (folder / "model.safetensors").unlink()
    with refused(ModelError, key="model.pretrained", value=str(folder)):
        load_language_model(section, load_tokenizer(section), seed=1)


def test_a_family_that_reads_both_ways_is_found_out(tmp_path: Path) -> None:
    tiny_language_model("xlnet", tmp_path)
    with refused(ModelError, key="model.pretrained", reason="encoder"):
        open_language(tmp_path)


def test_an_encoder_that_is_told_to_be_a_decoder_is_refused_for_its_head(tmp_path: Path) -> None:
    tiny_language_model("bert", tmp_path, is_decoder=True)
    with refused(ModelError, key="model.pretrained", value="bert"):
        open_language(tmp_path)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", PADDED_LANGUAGES)
def test_families_that_do_not_run_packed_are_plain_transformers_too(family: str, tmp_path: Path) -> None:
    built = build_language(PADDED_LANGUAGES[family], tmp_path / "model")
    assert built.model.layout == "padded"
    built.model.train()
    plain = saved_copy(built, tmp_path / "saved").train()
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built)
    masks = masks_of(rows)
    nats_B = plain_nats(plain, built, rows, masks)
    theirs = gradients(plain, nats_B.mean())
    ours_B1 = built.model(masked_batch(built, rows, masks))
    torch.testing.assert_close(ours_B1.squeeze(1), nats_B, rtol=TOLERANCE, atol=10 * TOLERANCE)
    assert_same_gradients(gradients(built.hf, ours_B1.mean()), theirs)


def test_a_family_with_a_form_of_its_own_that_nobody_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_language_model(PADDED_LANGUAGES["granite"], tmp_path)
    monkeypatch.delitem(PROJECTIONS, "granite")
    with refused(ModelError, key="model.pretrained", value="granite"):
        open_language(tmp_path)


def test_a_language_model_has_no_windows_and_no_compact_vocabulary(tmp_path: Path) -> None:
    built = build_language("llama", tmp_path, tie_word_embeddings=False)
    with refused(ModelError, key="tokens.long", value="windows"):
        built.model.pool_windows("mean")
    said = built.model.compact_vocabulary([np.array([5, 6])], mode="auto")
    assert said == "full table: a language model predicts every token of its vocabulary"
    with refused(ConfigError):
        built.model.compact_vocabulary([np.array([5, 6])], mode="on")


def test_onnx_runtime_trains_no_language_model(tmp_path: Path) -> None:
    built = build_language("gpt2", tmp_path, section={"attention": "padded"})
    with refused(ModelError, key="train.engine", value="onnxruntime"):
        PaddedModel(built.model)


def test_int8_is_close(tmp_path: Path) -> None:
    require_kernels()
    built = build_language("gpt2", tmp_path)
    rows = random_rows(built)
    batch = masked_batch(built, rows, masks_of(rows), UNEVEN)
    with torch.no_grad():
        exact = built.model(batch)
        quantize_linears(built.model)
        built.model.speed_up(torch.int8, training=False)
        found = built.model(batch)
    assert 0 < (found - exact).norm() < 0.02 * exact.norm()


def test_the_budget_leaves_room_for_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of one size holds fewer tokens beside larger pieces of logits."""
    built = build_language("gpt2", tmp_path)
    rows, found = chunks(20), []
    for piece_bytes in (1 << 12, 1 << 20):
        monkeypatch.setitem(nats.PIECE_BYTES, "cpu", piece_bytes)
        assert built.model.face.working_bytes() >= nats.COPIES * piece_bytes // 2
        options = {"store": rows.store, "indices": rows.rows, "to_come": 0, "available": 12 << 20}
        found.append(measure_budget(built.model, CPU, **options).max_tokens)  # type: ignore[arg-type]
    assert found[0] > found[1] > 0


@pytest.mark.parametrize("family", [family for family in LAYERS_FIRST_NORMED if family in PACKED_LANGUAGES])
def test_whole_layers_are_computed_by_kernels(family: str, tmp_path: Path) -> None:
    require_kernels()
    built = build_language(family, tmp_path, section={"compile": "on"})
    built.model.speed_up(torch.float32, training=True)
    assert f"{built.hf.config.num_hidden_layers} whole layers" in built.model.accelerator.note


def test_the_loss_that_balances_experts_is_not_added(tmp_path: Path) -> None:
    built = build_language("mixtral", tmp_path / "model", output_router_logits=True)
    plain = saved_copy(built, tmp_path / "saved")
    rows = random_rows(built)
    masks = masks_of(rows)
    with torch.no_grad():
        theirs = plain(**padded_on_the_right(built, rows), labels=labels_of(rows, masks)).loss
        ours = built.model(masked_batch(built, rows, masks, UNEVEN)).squeeze(1)
        torch.testing.assert_close(ours, plain_nats(plain, built, rows, masks), rtol=TOLERANCE, atol=TOLERANCE)
    assert float(theirs) > float(ours.sum() / num_scored(masks)) + 1e-4
