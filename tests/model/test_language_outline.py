"""An outline of a language model has the names and shapes of the model that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kits.languages import PACKED_LANGUAGES, open_language, tiny_language_model

from textune.config.adapters import Lora
from textune.config.schema import ModelSection
from textune.model.outline import outline

ADDED = ("<HTML>", "</HTML>")


def shapes(hf: Any) -> dict[str, Any]:
    return {name: (weight.shape, weight.requires_grad) for name, weight in hf.named_parameters()}


OTHERS: list[tuple[str, dict[str, Any]]] = [("gpt2", {}), ("llama", {}), ("gpt2", {"freeze": ("*.0.*",)})]


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("family", "keys"), [*((family, {"added_tokens": ADDED}) for family in PACKED_LANGUAGES), *OTHERS]
)
def test_an_outline_is_that_of_the_model(family: str, keys: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_language_model(family, tmp_path)
    built = open_language(folder, **keys)
    built.model.freeze()
    drawn = outline(ModelSection(pretrained=str(folder), **keys), num_outputs=None, language=True)
    assert shapes(drawn.model.hf) == shapes(built.hf)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_adapters_are_where_they_would_be(family: str, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    folder, lora = tiny_language_model(family, tmp_path), Lora(r=3)
    built = open_language(folder, lora=lora, added_tokens=ADDED)
    built.model.adapt(lora, seed=1)
    section = ModelSection(pretrained=str(folder), lora=lora, added_tokens=ADDED)
    drawn = outline(section, num_outputs=None, lora=lora, language=True)
    assert shapes(drawn.model.hf) == shapes(built.hf)
    assert built.model.adapters is not None and drawn.adaptable == built.model.adapters.layers
