"""Injected adapters beside peft's own wrapper around the plain model, with the same A and B: packed and padded, loss
and every gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kits.adapters import by_plain_name, wrapped_by_peft
from kits.further import FURTHER
from kits.models import (
    ALL,
    TOLERANCE,
    UNEVEN,
    assert_same_gradients,
    build,
    gradients,
    known,
    lay_out,
    plain_inputs,
    random_rows,
    random_types,
    without_dropout,
)
from torch.nn import functional

from textune.config.adapters import Lora
from textune.model import backbone


@pytest.mark.parametrize("family", [*ALL, *known(*FURTHER)])
def test_loss_and_gradients_are_those_of_pefts_wrapper(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of odd lengths and of one token, in uneven groups with filler and padded."""
    built = build(family, tmp_path / "backbone", section={"compile": "off"})
    if "this release of transformers" in built.model.reason:
        pytest.skip(built.model.reason)
    wrapper = wrapped_by_peft(built, Lora(r=3, alpha=5), tmp_path / "plain")
    for module in (built.model, wrapper):
        without_dropout(module.train())
    rows = random_rows(built)
    types = random_types(built, rows)
    labels = torch.arange(len(rows)) % 3
    loss = wrapper(**plain_inputs(built, rows, types), labels=labels).loss
    theirs = gradients(wrapper, loss)
    monkeypatch.setattr(backbone, "ROUND_FROM", 1)
    layouts = {"packed": UNEVEN, "padded": None}
    for layout in ["padded"] if built.model.layout == "padded" else ["packed", "padded"]:
        built.model.set_layout(layout)  # type: ignore[arg-type]
        logits = built.model(lay_out(built, rows, layouts[layout], types=types))
        ours = functional.cross_entropy(logits, labels)
        assert ours.item() == pytest.approx(loss.item(), rel=TOLERANCE), layout
        assert_same_gradients(gradients(built.hf, ours), by_plain_name(theirs))
