"""Kernels are left out where something forbids them, and the header says why."""

from pathlib import Path

import pytest
import torch
from kits.backbones import tiny_backbone

from textune.config.schema import ModelSection
from textune.data.labels.map import LabelMap
from textune.errors import ModelError
from textune.model.backbone import TextModel
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer


def model(folder: Path, mode: str) -> TextModel:
    tiny_backbone("bert", folder)
    section = ModelSection(pretrained=str(folder), compile=mode)  # type: ignore[arg-type]
    labels = LabelMap("binary", ("bad", "good"))
    return load_model(section, load_tokenizer(section), label_maps={"label": labels}, num_logits=2, seed=0)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_forbidden_kernels_are_not_built_however_long_the_run(tmp_path: Path, mode: str) -> None:
    forbidden = model(tmp_path, mode)
    forbidden.accelerator.forbid("weights are elsewhere", hint="Bring them")
    forbidden.speed_up(torch.float32, training=True)
    assert forbidden.accelerator.kernels is None
    assert forbidden.accelerator.note == "PyTorch's own: weights are elsewhere"


def test_kernels_that_are_asked_for_and_forbidden_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'model\.compile = "on".*weights are elsewhere.*Bring them, or use "auto"'):
        model(tmp_path, "on").accelerator.forbid("weights are elsewhere", hint="Bring them")
