"""Paths become absolute from where they were written; hub names stay, packages are found."""

import os
from pathlib import Path

import pytest
from kits.errors import refused

from textune.config.load import load_config
from textune.config.schema import Experiment
from textune.config.sources import ConcatSource, FilesSource, HubSource
from textune.errors import ConfigError


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def override(*overrides: str, unset: tuple[str, ...] = (), file: str | None = None) -> Experiment:
    return load_config(file, overrides, unset).experiment


def test_paths_start_where_they_were_written(folder: Path) -> None:
    write("conf/base.toml", '[data.labels]\nnames_file = "labels.txt"\n[tokens]\ncache = "../cache"')
    write("conf/deep/config.toml", 'extends = "../base.toml"\n[data.train]\nfiles = ["train/*.csv", "/abs/x.csv"]')
    experiment = override("data.train.label_files=here.txt", file="conf/deep/config.toml")
    assert experiment.data.labels.names_file == str(folder / "conf/labels.txt")
    assert experiment.tokens.cache == str(folder / "cache")
    assert isinstance(experiment.data.train, FilesSource)
    assert experiment.data.train.files == (str(folder / "conf/deep/train/*.csv"), "/abs/x.csv")
    assert experiment.data.train.label_files == (str(folder / "here.txt"),)


def test_data_folder_is_the_start_of_paths_under_data(folder: Path) -> None:
    write("conf/base.toml", '[data]\nfolder = "sets"')
    write("config.toml", 'extends = "conf/base.toml"\n[tokens]\ncache = "c"\n[data.labels]\nnames_file = "names"')
    experiment = override(
        "data.validation.kind=concat",
        'data.validation.sources=[{files = "v.csv"}, {kind = "concat", sources = [{kind = "saved", folder = "s"}]}]',
        "data.train.files=t.csv",
        file="config.toml",
    )
    sets = folder / "conf/sets"
    assert experiment.data.folder == str(sets)
    assert experiment.data.labels.names_file == str(sets / "names")
    assert experiment.data.train == FilesSource(files=(str(sets / "t.csv"),))
    assert isinstance(experiment.data.validation, ConcatSource)
    first, second = experiment.data.validation.sources
    assert first == FilesSource(files=(str(sets / "v.csv"),))
    assert isinstance(second, ConcatSource) and second.sources[0].folder == str(sets / "s")
    assert experiment.tokens.cache == str(folder / "c")


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert override("data.train.files=~/a.csv").data.train == FilesSource(files=(str(tmp_path / "home" / "a.csv"),))


def test_a_link_in_the_way_up_is_followed(folder: Path) -> None:
    (folder / "real/inner").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "real/inner")
    write("real/inner/config.toml", '[data.train]\nfiles = ["../t.csv"]')
    (folder / "real/t.csv").write_text("x")
    train = override(file="link/config.toml").data.train
    assert isinstance(train, FilesSource) and Path(train.files[0]).read_text() == "x"


@pytest.mark.parametrize("key", ["model.pretrained", "model.tokenizer"])
def test_backbones_are_folders_or_hub_names(folder: Path, key: str) -> None:
    (folder / "models/mine").mkdir(parents=True)

    def found(text: str) -> object:
        return getattr(override(f"{key}={text}").model, key.split(".")[1])

    assert found("models/mine") == str(folder / "models/mine")
    assert found("bert-base-uncased") == "bert-base-uncased"
    assert found("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"
    assert found("./absent") == str(folder / "absent")
    assert found("a/b/c") == str(folder / "a/b/c")
    assert found("/abs/model") == "/abs/model"
    assert found("~/m") == os.path.expanduser("~/m")


def test_hub_data_stays_a_name_unless_the_folder_exists(folder: Path) -> None:
    (folder / "local").mkdir()
    assert override("data.train={kind = 'hub', name = 'nyu-mll/glue'}").data.train == HubSource(name="nyu-mll/glue")
    assert override("data.train={kind = 'hub', name = 'local'}").data.train == HubSource(name=str(folder / "local"))


def test_files_inside_an_installed_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("site/some_reviews/data/r.csv", "text,label\n")
    write("site/some_reviews/__init__.py", "raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(folder / "site"))
    experiment = override(
        "data.train.files=package:some_reviews/data/r.csv", "model.pretrained=package:some-reviews/data"
    )
    assert experiment.data.train == FilesSource(files=(str(folder / "site/some_reviews/data/r.csv"),))
    assert experiment.model.pretrained == str(folder / "site/some_reviews/data")


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        override("data.train.files=package:no_such_reviews/r.csv")
    message = str(caught.value)
    assert "data.train.files (command line)" in message
    assert "no_such_reviews is not installed" in message and "pip install no-such-reviews" in message
    with refused(ConfigError, key="model.pretrained", value="package:"):
        override("model.pretrained=package:")


def test_paths_that_stand_behind_evaluation_sets_start_there_too(folder: Path) -> None:
    write(
        "conf/c.toml",
        'data.labels.names_file = "names"\ndata.corrections = "c.jsonl"\n'
        '[data.evaluations]\nnews = { kind = "files", files = "n.csv" }\nweb = { kind = "hub", name = "x/y" }',
    )
    data = override(file="conf/c.toml").data
    assert data.labels.names_file == str(folder / "conf" / "names")
    assert data.corrections == str(folder / "conf" / "c.jsonl")
    assert data.evaluations["news"] == FilesSource(files=(str(folder / "conf" / "n.csv"),))
