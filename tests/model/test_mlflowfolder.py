"""Folders of MLflow as `model.pretrained`: the plain model inside, and a tokenizer that lies apart from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.models import COLORS

from textune.config import ModelSection
from textune.errors import ModelError, RunError
from textune.model import load_model, load_tokenizer, mlflow_model
from textune.prediction import find_model

TRANSFORMERS = "flavors: {transformers: {model_binary: model, components: [tokenizer]}, python_function: {}}"
OLD_TRANSFORMERS = "flavors: {transformers: {task: text-classification}}"
AZURE = "flavors: {hftransformersv2: {}, python_function: {data: data}}"
OURS = "flavors: {python_function: {artifacts: {model: {path: artifacts/model, uri: x}}}}"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "backbone"
    tiny_backbone("bert", folder)
    return folder


def laid_out(backbone: Path, folder: Path, mlmodel: str, *, model: str, tokenizer: str) -> Path:
    shutil.copytree(backbone, folder / model)
    if tokenizer != model:
        (folder / tokenizer).mkdir(parents=True)
        for path in (folder / model).glob("tokenizer*"):
            path.rename(folder / tokenizer / path.name)
    (folder / "MLmodel").write_text(mlmodel, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("mlmodel", "model", "tokenizer"),
    [
        pytest.param(TRANSFORMERS, "model", "components/tokenizer", id="transformers"),
        pytest.param(OLD_TRANSFORMERS, "model", "components/tokenizer", id="transformers without a place"),
        pytest.param(AZURE, "data/model", "data/tokenizer", id="hftransformers"),
        pytest.param(AZURE, "data/model", "data/model", id="hftransformers with both in one"),
        pytest.param(OURS, "artifacts/model", "artifacts/model", id="textune"),
    ],
)
@pytest.mark.parity("AZ-23")
def test_a_run_starts_from_the_model_inside(
    backbone: Path, tmp_path: Path, mlmodel: str, model: str, tokenizer: str
) -> None:
    folder = laid_out(backbone, tmp_path / "folder", mlmodel, model=model, tokenizer=tokenizer)
    assert mlflow_model(folder) == folder / model
    inside, plain = (ModelSection(pretrained=str(one)) for one in (folder, backbone))
    assert load_tokenizer(inside).get_vocab() == load_tokenizer(plain).get_vocab()
    found, wanted = (
        load_model(section, load_tokenizer(plain), label_maps={"label": COLORS}, num_logits=3, seed=1)
        for section in (inside, plain)
    )
    for (name, tensor), other in zip(found.hf.named_parameters(), wanted.hf.parameters(), strict=True):
        assert tensor.equal(other), name


def test_a_tokenizer_of_its_own_counts_more(backbone: Path, tmp_path: Path) -> None:
    folder = laid_out(backbone, tmp_path / "folder", TRANSFORMERS, model="model", tokenizer="components/tokenizer")
    (folder / "components" / "tokenizer" / "tokenizer.json").unlink()
    assert load_tokenizer(ModelSection(pretrained=str(folder), tokenizer=str(backbone))).is_fast
    with pytest.raises(ModelError, match=r"components.tokenizer has no tokenizer"):
        load_tokenizer(ModelSection(pretrained=str(folder)))


@pytest.mark.parametrize(
    ("mlmodel", "match"),
    [
        pytest.param("flavors: {sklearn: {}, python_function: {loader_module: x}}", "sklearn, python", id="a pickle"),
        pytest.param("flavors: {transformers: {model_binary: ../x}}", "leads out of the folder", id="outside"),
        pytest.param("flavors: [", "not what MLflow writes", id="broken"),
        pytest.param("a: b", "not what MLflow writes", id="no flavours"),
        pytest.param("!!python/object/apply:os.getcwd []", "not what MLflow writes", id="a trap"),
    ],
)
def test_other_folders_are_refused(backbone: Path, tmp_path: Path, mlmodel: str, match: str) -> None:
    folder = laid_out(backbone, tmp_path / "folder", mlmodel, model="model", tokenizer="model")
    with pytest.raises(ModelError, match=match):
        load_tokenizer(ModelSection(pretrained=str(folder)))


def test_a_link_out_of_the_folder_is_not_followed(backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model").symlink_to(backbone)
    (tmp_path / "folder" / "MLmodel").write_text(TRANSFORMERS, encoding="utf-8")
    with pytest.raises(ModelError, match="link that leads out"):
        mlflow_model(tmp_path / "folder")


def test_a_model_of_others_is_not_predicted_with(backbone: Path, tmp_path: Path) -> None:
    folder = laid_out(backbone, tmp_path / "folder", TRANSFORMERS, model="model", tokenizer="components/tokenizer")
    with pytest.raises(RunError, match=r"Train from it: model\.pretrained"):
        find_model(folder)
