"""Language models beside plain transformers: the nats of every row and every gradient, in every family that runs
packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kits.languages import (
    PACKED_LANGUAGES,
    build_language,
    masked_batch,
    masks_of,
    model_type,
    num_scored,
    plain_nats,
    saved_copy,
)
from kits.models import (
    UNEVEN,
    assert_same_gradients,
    gradients,
    random_rows,
    require_kernels,
    without_dropout,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from textune.model import attention
from textune.model.families import PACKED_FAMILIES
from textune.model.projections import PROJECTIONS

TOLERANCE = 1e-6


def test_every_family_that_runs_packed_has_its_twin_test() -> None:
    decoders = {name for name in PROJECTIONS if name in PACKED_FAMILIES and name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert {model_type(family) for family in PACKED_LANGUAGES} == decoders


@pytest.mark.parametrize("layout, compile", [("packed", "off"), ("packed", "on"), ("padded", "off")])
@pytest.mark.parametrize("family", PACKED_LANGUAGES)
def test_rows_and_gradients_are_those_of_plain_transformers(
    family: str, layout: str, compile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compile == "on":
        require_kernels()
    built = build_language(family, tmp_path / "model", section={"attention": layout, "compile": compile})
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
