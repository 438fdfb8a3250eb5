"""Config files of ours as TOML, JSON or YAML: the same values, and errors that name the line."""

import json
import math
from pathlib import Path

import pytest
from kits.errors import refused

from textune.config.load import load_config
from textune.config.trees import read_tree
from textune.errors import ConfigError

TOML = """
[data.train]
files = "rows.csv"
[model]
pretrained = "backbone"
compile = "on"
[train]
batch_size = 16
[train.optimizer]
lr = 5e-5
"""
YAML = """
data: {train: {files: rows.csv}}
model:
  pretrained: backbone
  compile: on
train:
  batch_size: 16
  optimizer:
    lr: 5e-5
"""
TREE = {
    "data": {"train": {"files": "rows.csv"}},
    "model": {"pretrained": "backbone", "compile": "on"},
    "train": {"batch_size": 16, "optimizer": {"lr": 5e-5}},
}


@pytest.mark.parametrize(
    ("name", "text"), [("c.yaml", YAML), ("c.yml", YAML), ("c.json", json.dumps(TREE))], ids=["yaml", "yml", "json"]
)
def test_the_same_keys_are_the_same_configuration(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "c.toml").write_text(TOML)
    (tmp_path / name).write_text(text)
    one, other = (load_config(tmp_path / file) for file in ("c.toml", name))
    assert other.experiment == one.experiment and other.name == "c"
    assert other.origins["train.optimizer.lr"] == name


def test_a_file_of_one_kind_builds_on_one_of_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(YAML)
    (tmp_path / "c.toml").write_text('extends = "base.yaml"\n[train]\nbatch_size = 8\n')
    train = load_config(tmp_path / "c.toml").experiment.train
    assert (train.batch_size, train.optimizer.lr) == (8, 5e-5)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("1e-3", 1e-3),
        ("007", "007"),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-3", -3),
        ("0x10", 16),
        ("'5'", "5"),
    ],
)
def test_plain_values_of_yaml(tmp_path: Path, written: str, value: object) -> None:
    (tmp_path / "c.yaml").write_text(f"key: {written}\n")
    found = read_tree(tmp_path / "c.yaml", shown="c.yaml")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("c.json", '{"train": {"seed": 1,}}', "c.json, line 1"),
        ("c.json", '{"train": {},\n\t"train": {}}', "c.json, line 2"),
        ("c.json", '{"a\\ud800": 1, "a\\ud800": 2}', "c.json"),
        ("c.json", "[1, 2]", "c.json"),
        ("c.json", "[" * 100_000, "c.json"),
        ("c.yaml", "train: {seed: 1\n", "c.yaml, line 2"),
        ("c.yaml", "train:\n  seed: 1\n  seed: 2\n", "c.yaml, line 3"),
        ("c.yaml", "- 1\n", "c.yaml"),
        ("c.yaml", "a: 1\n---\nb: 2\n", "c.yaml, line 2"),
        ("c.yaml", "train: !!python/object/apply:os.getcwd []\n", "c.yaml, line 1"),
        ("c.yaml", "train: !!int x\n", "c.yaml"),
        ("c.yaml", "a: 1\nb: !!binary aGk=\n", "c.yaml, line 2"),
        ("c.yaml", "a: 1\n? [b]\n: 2\n", "c.yaml, line 2"),
        ("c.yaml", "a: 1\nb: \x01\n", "c.yaml, line 2"),
    ],
    ids=[
        *("comma", "twice", "twice-odd", "list", "deep"),
        *("open", "twice-yaml", "list-yaml", "documents", "object", "tag", "binary", "list-key", "character"),
    ],
)
def test_what_is_no_table_is_a_sentence_with_its_line(tmp_path: Path, name: str, text: str, place: str) -> None:
    (tmp_path / name).write_text(text)
    with refused(ConfigError, place=place):
        read_tree(tmp_path / name, shown=name)


def test_keys_of_yaml_are_text_as_in_the_other_forms(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("weights: {0: 1, on: 2, null: 3}\nmore: {<<: {1: 2}, 3: 4}\n")
    assert read_tree(tmp_path / "c.yaml", shown="c.yaml") == {
        "weights": {"0": 1, "on": 2, "null": 3},
        "more": {"1": 2, "3": 4},
    }


def test_an_empty_yaml_file_has_no_keys(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert read_tree(tmp_path / "c.yaml", shown="c.yaml") == {}
