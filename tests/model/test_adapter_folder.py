"""Adapter folders: every family's head and adapters are saved, found again, and opened by peft itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kits.further import FURTHER
from kits.models import COLORS, PACKED, PADDED, Built, build, close, known, lay_out, plain_inputs, random_rows
from peft import PeftModel
from test_adapters_merged import adapted
from transformers import AutoConfig, AutoModelForSequenceClassification

from textune.config.schema import ModelSection
from textune.model.adapters import is_adapter
from textune.model.backbone import TextModel
from textune.model.device import resolve_device
from textune.model.loading import load_model
from textune.model.recipe import Adapting, Recipe, prepare
from textune.model.tokenizer import load_tokenizer

# Of peft, on transformers.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

EVERY = known(*FURTHER, *PACKED, *PADDED)


def with_adapters(family: str, folder: Path, **keys: Any) -> Built:
    lora = {"r": 4, "merge": "off", **keys}
    return adapted(build(family, folder / "backbone", section={"lora": lora}), **lora)


def saved(built: Built, folder: Path) -> Path:
    """The folder, with the model's adapters and all that stands beside them."""
    folder.mkdir(parents=True)
    built.model.save(folder)
    built.tokenizer.save_pretrained(folder)
    note = built.model.adapter_note(folder)
    assert note is not None
    (folder / "textune.json").write_text('{"adapters": ' + note.model_dump_json() + "}", encoding="utf-8")
    return folder


def opened(folder: Path) -> TextModel:
    """As `textune.load` opens it."""
    section = ModelSection(pretrained=str(folder))
    model = load_model(
        section, load_tokenizer(section), label_maps={"label": COLORS}, num_logits=3, seed=9, as_saved=True
    )
    assert model.saved is not None
    prepare(model, Recipe(resolve_device("cpu", "fp32"), adapting=Adapting(model.saved.lora, 0), compiled=False))
    return model


def logits(built: Built, model: TextModel) -> torch.Tensor:
    with torch.no_grad():
        return model(lay_out(built, random_rows(built))) if model.layout == "packed" else padded(built, model)


def padded(built: Built, model: TextModel) -> torch.Tensor:
    return torch.cat([model(lay_out(built, [row])) for row in random_rows(built)])


def by_peft(built: Built, folder: Path, **options: Any) -> torch.Tensor:
    """Logits of peft's own wrapper around plain transformers, row by row: not every family pads."""
    plain = AutoModelForSequenceClassification.from_pretrained(built.folder, **options)
    model = PeftModel.from_pretrained(plain, str(folder)).eval()
    with torch.no_grad():
        return torch.cat([model(**plain_inputs(built, [row])).logits for row in random_rows(built)])


@pytest.mark.parametrize("family", EVERY)
def test_a_saved_adapter_gives_the_same_logits_here_and_in_peft(family: str, tmp_path: Path) -> None:
    built = with_adapters(family, tmp_path)
    folder = saved(built, tmp_path / "adapter")
    live = logits(built, built.model)
    assert torch.equal(logits(built, opened(folder)), live)
    close(by_peft(built, folder, config=AutoConfig.from_pretrained(folder)), live)
    (tmp_path / "merged").mkdir()
    built.model.save(tmp_path / "merged", merge=True)
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert not any(is_adapter(name) for name in whole.state_dict())
    with torch.no_grad():
        rows = [whole(**plain_inputs(built, [row])).logits for row in random_rows(built)]
    close(torch.cat(rows), live)
