"""Hydra's words, lists of defaults, and YAML files with their lines."""

from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.adapters.hydra.compose import compose, find_config
from textune.adapters.hydra.words import parse_override
from textune.adapters.hydra.yamlfile import read_yaml
from textune.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain text", "plain text"),
        ("a=b", "a=b"),
        ("*.jsonl.gz", "*.jsonl.gz"),
        ("/a/b:c", "/a/b:c"),
        ("1", 1),
        ("-3", -3),
        ("1e-4", 1e-4),
        ("5.", 5.0),
        (".5", 0.5),
        ("-inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("'null'", "null"),
        ('" | "', " | "),
        (r"'it\'s'", "it's"),
        ("'a,b'", "a,b"),
        ("[]", []),
        ("[2,100]", [2, 100]),
        ("[html, 'a b', [1]]", ["html", "a b", [1]]),
        ("{}", {}),
        ("{a:1,b:[x,y],c:{d:null}}", {"a": 1, "b": ["x", "y"], "c": {"d": None}}),
    ],
)
def test_a_value_is_what_hydra_reads(text: str, expected: Any) -> None:
    found = parse_override(f"a.b={text}")
    assert found.key == ("a", "b")
    assert found.value == expected and type(found.value) is type(expected)


@pytest.mark.parametrize("word", ["+a=1", "++a=1", "a=1"])
def test_plus_signs_mean_the_same(word: str) -> None:
    assert (parse_override(word).key, parse_override(word).value) == (("a",), 1)


@pytest.mark.parametrize(
    "word", ["a", "=1", "a..b=1", "a b=1", "a=1,2", "a=[1", "a={b:1", "a={b}", "a='x", "a=[1] 2", "a=${b}"]
)
def test_a_word_that_is_no_override_is_refused(word: str) -> None:
    with refused(ConfigError, value=word, place="command line"):
        parse_override(word)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_words_lie_over_the_file_and_every_value_knows_its_place(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "a: 1\nb:\n  c: 5e-5\n  d: {e: x}\nf: 2\n")
    found = compose(file, ["b.d.g=3", "a=2", "~f", "hydra.run.dir=x"])
    assert found.tree == {"a": 2, "b": {"c": 5e-5, "d": {"e": "x", "g": 3}}}
    assert found.places[("b", "c")] == "c.yaml, line 3"
    assert found.places[("b", "d", "e")] == "c.yaml, line 4"
    assert found.places[("a",)] == "command line"
    assert found.of_hydra == ["hydra.run.dir=x"]


def test_a_list_of_defaults_is_composed_in_its_order(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "a: base\nb: base\n")
    write(tmp_path / "data" / "small.yaml", "rows: 10\n")
    write(tmp_path / "data" / "large.yaml", "rows: 1000\n")
    file = write(tmp_path / "c.yaml", "defaults:\n  - base\n  - data: small\n  - override hydra/launcher: x\na: own\n")
    found = compose(file, [])
    assert found.tree == {"a": "own", "b": "base", "data": {"rows": 10}}
    assert found.places[("data", "rows")] == "small.yaml, line 1"
    assert [path.name for path in found.files] == ["c.yaml", "base.yaml", "small.yaml"]
    assert compose(file, ["data=large"]).tree["data"] == {"rows": 1000}
    assert "data" not in compose(file, ["~data"]).tree
    first = write(tmp_path / "d.yaml", "defaults:\n  - _self_\n  - base\na: own\n")
    assert compose(first, []).tree == {"a": "base", "b": "base"}


def test_a_file_of_the_defaults_that_is_missing_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data" / "small.yaml", "rows: 10\n")
    file = write(tmp_path / "c.yaml", "defaults:\n  - data: smal\n")
    with refused(ConfigError, key="defaults", value="smal", place="c.yaml, line 1"):
        compose(file, [])
    loop = write(tmp_path / "loop.yaml", "defaults:\n  - loop\n")
    with refused(ConfigError, place="loop.yaml"):
        compose(loop, [])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1", "line 1"),
        ("a: 1\nb: 2\na: 3\n", "line 3"),
        ("- a\n", "c.yaml"),
        ("a:\n  b: ${c.d}\n", "line 2"),
        ("a: !!python/object:os.system x\n", "line 1"),
    ],
)
def test_a_yaml_file_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    with refused(ConfigError, place=place):
        read_yaml(write(tmp_path / "c.yaml", text))


def test_a_config_is_looked_for_in_each_folder_and_the_error_names_them(tmp_path: Path) -> None:
    write(tmp_path / "second" / "v2.yaml", "a: 1\n")
    folders = [tmp_path / "first", tmp_path / "second"]
    assert find_config("v2", folders) == tmp_path / "second" / "v2.yaml"
    with refused(ConfigError, key="--config-name", value="v3", place=str(tmp_path / "first")):
        find_config("v3", folders)
