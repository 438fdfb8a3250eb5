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
        ("${b.c}", "${b.c}"),
        ("{a:${b},c:[${d},1]}", {"a": "${b}", "c": ["${d}", 1]}),
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


@pytest.mark.parametrize("word", ["a", "=1", "a..b=1", "a b=1", "a=1,2", "a=[1", "a={b:1", "a={b}", "a='x", "a=[1] 2"])
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


def test_a_word_adds_a_group_and_one_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "module" / "optim" / "sgd.yaml", "lr: 0.1\n")
    write(tmp_path / "module" / "optim" / "adamw.yaml", "lr: 0.2\n")
    file = write(tmp_path / "c.yaml", "defaults:\n  - module/optim: adamw\na: 1\n")
    assert compose(file, ["module/optim=sgd"]).tree == {"a": 1, "module": {"optim": {"lr": 0.1}}}
    bare = write(tmp_path / "d.yaml", "a: 1\n")
    assert compose(bare, ["+module/optim=sgd", "a=2"]).tree == {"a": 2, "module": {"optim": {"lr": 0.1}}}
    with refused(ConfigError, key="module/optim", value="sdg", place="module/optim=sdg") as caught:
        compose(file, ["module/optim=sdg"])
    assert "Did you mean sgd?" in str(caught.value)
    with refused(ConfigError, key="modul/optim", value="sgd", place="command line"):
        compose(file, ["modul/optim=sgd"])


def test_a_group_is_looked_for_in_further_folders(tmp_path: Path) -> None:
    write(tmp_path / "shipped" / "trainer" / "cpu.yaml", "devices: 1\n")
    named = write(tmp_path / "named" / "trainer" / "gpu.yaml", "devices: 8\n")
    search = f"hydra:\n  searchpath:\n    - file://{named.parent.parent}\n"
    file = write(tmp_path / "own" / "c.yaml", "defaults:\n  - trainer: cpu\n" + search)
    assert compose(file, [], folders=[tmp_path / "shipped"]).tree == {"trainer": {"devices": 1}}
    assert compose(file, ["trainer=gpu"], folders=[tmp_path / "shipped"]).tree == {"trainer": {"devices": 8}}


def test_files_say_where_their_values_go_and_override_the_options_of_others(tmp_path: Path) -> None:
    write(tmp_path / "trainer" / "cpu.yaml", "device: cpu\nepochs: 1\n")
    write(tmp_path / "trainer" / "gpu.yaml", "defaults:\n  - cpu\ndevice: gpu\n")
    write(tmp_path / "sizes" / "large.yaml", "# one of several\n# @package _global_\nrows: 9\n")
    write(tmp_path / "plan" / "big.yaml", "# @package _global_\ndefaults:\n  - override /trainer: gpu\na: 2\n")
    entries = "defaults:\n  - trainer: cpu\n  - trainer@second: cpu\n  - sizes: large\n  - plan: big\n"
    found = compose(write(tmp_path / "c.yaml", entries), [])
    trainer = {"device": "gpu", "epochs": 1}
    assert found.tree == {"trainer": trainer, "second": trainer, "rows": 9, "a": 2}


def test_a_value_may_be_that_of_another_key(tmp_path: Path) -> None:
    text = "a: {b: 3, c: '${.b}', d: ['${a.b}', x]}\ne: '${a}'\nf: 'runs/${g}-${a.b}'\ng: '${h}'\nh: name\n"
    found = compose(write(tmp_path / "c.yaml", text), ["h=other", "i=${a.d[1]}"])
    inner = {"b": 3, "c": 3, "d": [3, "x"]}
    assert found.tree == {"a": inner, "e": inner, "f": "runs/other-3", "g": "other", "h": "other", "i": "x"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("${a.x}", "there is no key a.x. Did you mean ${a.y}?"),
        ("${a.b}", "it leads back to itself"),
        ("${a}", "it is a part of what it refers to"),
        ("${oc.env:HOME}", 'functions are not called here. Write the value: a.b="$HOME".'),
        ("x${", "its brackets do not match"),
    ],
)
def test_a_reference_without_a_target_is_refused(tmp_path: Path, value: str, said: str) -> None:
    file = write(tmp_path / "c.yaml", f"a:\n  b: '{value}'\n  y: 1\n")
    with refused(ConfigError, key="a.b", value=value, place="c.yaml, line 2") as caught:
        compose(file, [])
    assert said in f"{caught.value.message} {caught.value.hint}"
