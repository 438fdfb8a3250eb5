"""A foreign configuration as a file in another folder: every path means there what it means here."""

import os
import tomllib
from pathlib import Path

import pytest

from textune.adapters.foreign import Foreign, Line
from textune.adapters.written import as_toml
from textune.config import load_config


def test_every_path_of_the_schema_is_seen_from_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("copy", "configs"):
        Path(folder).mkdir()
    given: dict[str, object] = {
        "data.train.files": ("rows/*.csv", "/elsewhere/more.csv"),
        "data.validation.kind": "hub",
        "data.validation.name": "nyu-mll/glue",
        "data.evaluations.mismatched.kind": "hub",
        "data.evaluations.mismatched.name": "copy",
        "data.labels.names_file": "names.txt",
        "tokens.cache": "cache",
        "model.pretrained": "google-bert/bert-base-uncased",
        "train.seed": 3,
    }
    foreign = Foreign("other", (), tuple(Line(key, value, "said") for key, value in given.items()))
    Path("configs", "c.toml").write_text(as_toml(foreign, Path("configs")), encoding="utf-8")
    Path("c.toml").write_text(as_toml(foreign), encoding="utf-8")
    moved, here = (load_config(path).experiment for path in ("configs/c.toml", "c.toml"))
    assert moved == here
    assert moved.data.labels.names_file == os.fspath(tmp_path / "names.txt")
    written = tomllib.loads(Path("configs", "c.toml").read_text(encoding="utf-8"))
    assert written["data"]["evaluations"]["mismatched"]["name"] == "../copy"
    assert written["data"]["validation"]["name"] == "nyu-mll/glue"
