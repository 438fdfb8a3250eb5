"""Backbones with a short name: the table, what a name stands for, and how `textune models` lists them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone

import textune
from textune.cli import main
from textune.config import BACKBONES, measured
from textune.config.load import load_config
from textune.errors import ModelError
from textune.model.tokenizer import load_tokenizer


def _listed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["models", *words])
    assert not stopped.value.code
    return capsys.readouterr().out


def test_every_backbone_is_listed_with_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    shown = _listed(capsys)
    for name, row in BACKBONES.items():
        (line,) = [line for line in shown.splitlines() if line.split()[:1] == [name]]
        assert row.license in line and f"{row.megabytes:,}" in line and row.languages in line
        assert f"{name}: {row.good_for} ({row.hub})" in shown
    listed = json.loads(_listed(capsys, "--json"))["models"]
    assert [one["name"] for one in listed] == list(BACKBONES)
    assert listed == json.loads(json.dumps([one.to_dict() for one in textune.models()]))


def test_sizes_agree_with_parameters() -> None:
    """Four bytes a parameter, or two; what else a file holds (a head of pretraining) is at most as large again."""
    for row in BACKBONES.values():
        assert 1.9 < row.megabytes / row.parameters < 6, row.name
        assert row.read_at_most < row.context and len(row.hub.split("/")) == 2


def test_what_was_measured_is_of_the_table() -> None:
    for name, found in measured().items():
        assert name in BACKBONES and set(found.scores) == set(found.training_seconds)
        assert all(0 < score < 1 for score in found.scores.values())
        assert found.prediction_seconds > 0 and found.machine and found.date


def test_a_folder_of_that_name_goes_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tiny_backbone("bert", tmp_path / "mpnet")
    (tmp_path / "config.toml").write_text('[model]\npretrained = "mpnet"\n')
    loaded = load_config("config.toml")
    assert loaded.experiment.model.pretrained == str(folder)
    said = f'model.pretrained = "mpnet" is the folder {folder}, not the backbone of that name in `textune models`.'
    assert loaded.notes == (said,)


def test_an_installed_package_goes_before_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    row = BACKBONES["minilm"]
    if not row.is_installed:
        pytest.skip("the extra `starter` is not installed")
    loaded = load_config(None, ["model.pretrained=minilm"])
    assert Path(loaded.experiment.model.pretrained, "model.safetensors").is_file()
    assert loaded.notes == (f'model.pretrained = "minilm" is {row.hub}, from the installed package {row.pip_name}.',)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    assert load_config(None, ["model.pretrained=minilm"]).experiment.model.pretrained == row.hub


def test_a_misspelt_name_and_one_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.model.pretrained.hub_answers", lambda: False)
    with pytest.raises(ModelError) as error:
        load_tokenizer(load_config(None, ["model.pretrained=mpnett"]).experiment.model)
    assert "Did you mean 'mpnet'? `textune models` lists the names." in error.value.hint
    with pytest.raises(ModelError) as error:
        load_tokenizer(load_config(None, ["model.pretrained=mpnet"]).experiment.model)
    assert f"`{BACKBONES['mpnet'].fetch_command}`" in error.value.hint
