"""Every sequence classifier of transformers is decided on: packed, and then exactly, or padded, and then for a
reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from kits.backbones import FAMILIES
from kits.further import FURTHER
from kits.models import (
    PACKED,
    TOLERANCE,
    UNEVEN,
    assert_same_gradients,
    build,
    close,
    gradients,
    known,
    lay_out,
    plain_copy,
    plain_inputs,
    random_rows,
    random_types,
    require_kernels,
    without_dropout,
)
from torch.nn import functional
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from textune.model import attention
from textune.model.families import PACKED_FAMILIES, PADDED_FAMILIES


def model_type(family: str) -> str:
    """What a configuration of the family calls itself; some names of transformers' table stand for another's
    configuration."""
    kind = getattr(transformers, CONFIG_MAPPING_NAMES[family])
    return str(kind.model_type)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES))
def test_every_family_of_transformers_is_decided_on(family: str) -> None:
    name = model_type(family)
    assert (name in PACKED_FAMILIES) != (name in PADDED_FAMILIES), name


def test_every_family_that_runs_packed_has_its_twin_test() -> None:
    recipes = {**FURTHER, **{family: FAMILIES[family] for family in [*PACKED, "t5"]}}
    tested = {getattr(transformers, recipes[family].config).model_type for family in known(*recipes)}
    assert tested == {name for name in PACKED_FAMILIES if name in CONFIG_MAPPING_NAMES}
    assert not set(FURTHER) & set(FAMILIES)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.parametrize("family", known(*FURTHER))
def test_further_families_compute_what_plain_transformers_does(
    family: str, compile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and every gradient of a batch in uneven groups with filler, and each row alone."""
    if compile == "on":
        require_kernels()
    built = build(family, tmp_path / "backbone", section={"compile": compile})
    if "this release of transformers" in built.model.reason:
        pytest.skip(built.model.reason)
    assert built.model.layout == "packed", built.model.reason
    built.model.speed_up(0, training=True)
    built.model.train()
    plain = plain_copy(built, tmp_path / "saved")
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built)
    types = random_types(built, rows)
    labels = torch.arange(len(rows)) % 3
    padded = plain(**plain_inputs(built, rows, types)).logits
    theirs = gradients(plain, functional.cross_entropy(padded, labels))
    monkeypatch.setattr(attention, "ROUND_FROM", 1)
    packed = built.model(lay_out(built, rows, UNEVEN, types=types))
    close(packed, padded)
    assert_same_gradients(gradients(built.hf, functional.cross_entropy(packed, labels)), theirs)
    with torch.no_grad():
        for index in (0, 5, 10):
            alone = built.model(lay_out(built, [rows[index]], types=types and [types[index]]))
            torch.testing.assert_close(alone[0], packed[index], atol=TOLERANCE, rtol=TOLERANCE)
