"""`show`, the JSON Schema, the reference page and the starter file."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textune.config.explain import show
from textune.config.fields import all_keys
from textune.config.load import Loaded, load_config, load_tree, require_runnable
from textune.config.reference import json_schema, reference_markdown
from textune.config.schema import Experiment
from textune.config.sources import FilesSource
from textune.config.starter import StarterFacts, starter_config
from textune.config.toml import format_value

ROOT = Path(__file__).parents[2]

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
path = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0:\b\t\n\f\r"), min_size=1, max_size=12)
names = st.lists(text, max_size=20)
numbers = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.booleans()
free = st.dictionaries(
    text,
    st.recursive(
        numbers | text | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    ),
    max_size=4,
)
duration = st.integers(1, 10**9).map(lambda n: f"{n} steps") | st.floats(0.001, 1e4).map(lambda n: f"{n:.6f} epochs")


def table(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


rows = {
    "where": st.dictionaries(text, names, max_size=2),
    "rename": st.dictionaries(text, text, max_size=2),
    "replace": st.dictionaries(text, st.dictionaries(text, text, max_size=2), max_size=2),
    "take": st.integers(1, 9),
}
csv = {"files": st.lists(path, max_size=3), "delimiter": st.sampled_from(["\t", ";"]), "column_names": names}
files = st.fixed_dictionaries({"kind": st.just("files")}, optional=csv | rows)
hub = st.fixed_dictionaries({"kind": st.just("hub"), "name": path}, optional=rows)
python = st.fixed_dictionaries({"kind": st.just("python"), "object": st.just("a.b:C")}, optional={"options": free})
source = st.recursive(
    files | hub | python,
    lambda inner: st.fixed_dictionaries(
        {"kind": st.just("concat"), "sources": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=4,
)
weights = st.sampled_from(["balanced", "none"]) | st.dictionaries(text, st.floats(0, 1e9), min_size=1, max_size=3)
configs = table(
    data=table(train=source, validation=source, columns=table(text=text, template=text), labels=table(names=names)),
    task=table(kind=st.sampled_from(["auto", "binary"]), class_weights=weights),
    model=table(pretrained=path.filter(lambda t: not t.startswith("package:")), config=free),
    train=table(duration=duration, optimizer=table(lr=st.floats(1e-12, 1.0)), seed=st.integers(0, 2**31)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=configs, diff=st.booleans())
def test_what_show_prints_loads_to_the_same_experiment(tmp_path: Path, tree: dict[str, Any], diff: bool) -> None:
    experiment = load_tree(tree, base=tmp_path).experiment
    file = tmp_path / "shown.toml"
    file.write_text(show(Loaded(experiment, {}, None), diff=diff), encoding="utf-8")
    assert load_config(file).experiment == experiment


@settings(max_examples=100, deadline=None)
@given(tree=free)
def test_values_survive_the_way_through_toml(tree: dict[str, Any]) -> None:
    assert tomllib.loads(f"value = {format_value(tree)}")["value"] == tree
    assert tomllib.loads(f"value = {format_value(list(tree.values()))}")["value"] == list(tree.values())


def test_show_gives_each_value_its_origin(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[train]\nseed = 3")
    file = tmp_path / "config.toml"
    file.write_text('extends = "base.toml"\n[model.config]\nx = 1')
    # a table that is not set has no keys to show
    tables = [
        "model.lora={}",
        "model.quantize={}",
        "metadata.types=['url']",
        "data.metadata=['a']",
        "track=[{}]",
        "decide.thresholds='f1'",
        "train.soup={}",
    ]
    loaded = load_config(file, ["train.optimizer.lr=3e-5", "model.config.y=2", *tables])
    lines = [re.sub(r"\s+", " ", line) for line in show(loaded).splitlines()]
    assert "config.toml" in lines[0]
    for line in (
        "seed = 3 # base.toml",
        "lr = 3e-5 # command line",
        "batch_size = 32 # default",
        "config.x = 1 # config.toml",
        "config.y = 2 # command line",
        "# text_pair is not set",
    ):
        assert line in lines
    shown = {
        line.split(" ")[0 if line[0] != "#" else 1].split(".")[0] for line in lines[1:] if line and line[0] != "["
    }
    assert shown == {key.place[-1] for key in all_keys() if not key.kind}


def test_diff_shows_only_what_differs_and_from_what() -> None:
    loaded = load_config(
        None, ["train.optimizer.lr=3e-5", "data.columns.weight=w", "data.validation.kind=none", "train.seed=0"]
    )
    body = [line for line in show(loaded, diff=True).splitlines()[1:] if line]
    assert body == [
        "[data.validation]",
        'kind = "none"  # command line, default: "split"',
        "[data.columns]",
        'weight = "w"  # command line, default: not set',
        "[train.optimizer]",
        "lr = 3e-5  # command line, default: 5e-5",
    ]
    assert "Nothing differs" in show(load_config(None), diff=True)


# --- JSON Schema -----------------------------------------------------------------------------------------------------


def fits(value: Any, node: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value satisfies the part of JSON Schema that the schema uses; fails on any other keyword."""
    notes = {"title", "description", "default", "examples", "$schema", "$defs"}
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    checks = {
        "$ref": lambda ref: fits(value, root["$defs"][ref.removeprefix("#/$defs/")], root),
        "anyOf": lambda options: any(fits(value, option, root) for option in options),
        "const": lambda constant: value == constant,
        "enum": lambda members: value in members,
        "type": lambda name: isinstance(value, types[name]) and (name == "boolean") == isinstance(value, bool),
        "required": lambda keys: set(keys) <= set(value),
        "properties": lambda keys: all(fits(value[key], keys[key], root) for key in set(keys) & set(value)),
        "additionalProperties": lambda rest: all(
            rest is not False and (rest is True or fits(value[key], rest, root))
            for key in set(value) - set(node.get("properties", {}))
        ),
        "items": lambda item: all(fits(each, item, root) for each in value),
        "minItems": lambda least: len(value) >= least,
        "minLength": lambda least: len(value) >= least,
        "maxLength": lambda most: len(value) <= most,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
    }
    if "type" in node and not checks["type"](node["type"]):
        return False
    return all(checks[key](wanted) for key, wanted in node.items() if key not in notes)


GOOD = [
    "",
    'extends = ["preset:tiny", "base.toml"]',
    'extends = "base.toml"\n"$schema" = "x.json"\n[train]\nduration = "2 epochs"\nseed = 1',
    '[data.train]\nfiles = "a.csv"\n[data.validation]\nratio = 0.2\n[data.test]\nkind = "files"\nfiles = ["t.csv"]',
    '[data.train]\nkind = "concat"\nsources = [{files = "a"}, {kind = "hub", name = "x/y", take = 3}]',
    '[task]\nlabel_smoothing = 0.1\nclass_weights = { a = 2 }\n[model]\npretrained = "x/y"\nconfig ='
    " { p = 0.1, q = [1] }",
    '[task]\nkind = "regression"\nloss = "smooth_l1"\n[data.train.where]\nsource = "imdb"\nyear = ["1", "2"]',
]
BAD = [
    "extends = 3",
    "[train]\nsede = 1",
    '[train]\nduration = "2"',
    "[train]\nseed = true",
    '[data.validation]\nfiles = "v.csv"',
    '[task]\nloss = "mse"',
    '[task]\nkind = "regresion"',
    '[data.train]\nkind = "hub"\nfiles = "a"',
    "[train.optimizer]\nlr = 0",
    "[task]\nclass_weights = { a = -1 }",
]


@pytest.mark.every_day(5)
@pytest.mark.parametrize("config", GOOD + BAD)
def test_the_json_schema_agrees_with_the_loader(tmp_path: Path, config: str) -> None:
    (tmp_path / "base.toml").write_text("")
    (tmp_path / "config.toml").write_text(config)
    schema = json_schema()
    assert fits(tomllib.loads(config), schema, schema) == (config in GOOD)
    if config in GOOD:
        load_config(tmp_path / "config.toml")
    else:
        with pytest.raises(Exception, match=r"Unknown key|expected|duration is"):
            load_config(tmp_path / "config.toml")


def test_the_json_schema_serves_editors() -> None:
    schema = json_schema()
    assert schema["title"] == "textune configuration"
    assert {"extends", "$schema", *Experiment.model_fields} == set(schema["properties"])
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        assert section["additionalProperties"] is False and "required" not in section
        for name, node in section["properties"].items():
            assert node.get("description") or "$ref" in node, name
    assert "null" not in json.dumps(schema)


# --- the reference page ----------------------------------------------------------------------------------------------


def test_the_page_in_docs_is_the_generated_one() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == reference_markdown(), (
        "run `textune schema --markdown > docs/configuration.md`"
    )


def test_the_page_has_every_key_and_its_links_lead_somewhere() -> None:
    page = reference_markdown()
    for key in all_keys():
        assert key.place[-1] == "kind" or f"\n- **`{key.place[-1]}`** (" in page, key
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.*)$", page)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors
    example = re.search(r"```toml\n(.*?)```", page, re.S)
    assert example is not None
    require_runnable(load_tree(tomllib.loads(example[1]), base=ROOT).experiment)
    assert [line for line in page.splitlines() if len(line) > 119] == []


# --- the starter file ------------------------------------------------------------------------------------------------


def test_the_starter_loads_and_says_what_was_found(tmp_path: Path) -> None:
    facts = StarterFacts(
        files=("reviews.csv",),
        text="review",
        label="stars",
        columns=("id", "review", "stars"),
        options={"delimiter": ";", "encoding": "latin-1"},
        task="multiclass",
        labels=("1", "2", "3"),
        num_labels=3,
        num_rows=33530,
        pretrained="sentence-transformers/all-MiniLM-L6-v2",
    )
    config = starter_config(facts)
    (tmp_path / "config.toml").write_text(config, encoding="utf-8")
    experiment = load_config(tmp_path / "config.toml").experiment
    require_runnable(experiment)
    assert experiment.data.train == FilesSource(
        files=(str(tmp_path / "reviews.csv"),), delimiter=";", encoding="latin-1"
    )
    assert (experiment.data.columns.text, experiment.data.columns.label) == ("review", "stars")
    assert (experiment.task.kind, experiment.model.pretrained) == ("multiclass", facts.pretrained)
    for seen in (
        "33,530 rows",
        "about 3,353",
        "3 distinct: 1, 2, 3",
        "other columns: id",
        "textune train config.toml",
    ):
        assert seen in config


def test_a_starter_without_label_or_backbone_loads_and_asks_for_them(tmp_path: Path) -> None:
    config = starter_config(StarterFacts(files=("a.txt",), text="text"))
    (tmp_path / "config.toml").write_text(config)
    assert load_config(tmp_path / "config.toml").experiment.model.pretrained == ""
    assert "no column looks like labels" in config and "fill in" in config


@settings(max_examples=50, deadline=None)
@given(
    name=text,
    pair=st.none() | text,
    label=st.none() | text,
    columns=st.lists(text, max_size=3),
    labels=st.lists(text, max_size=3),
    delimiter=st.none() | text,
    num_rows=st.none() | st.integers(0, 10**9),
)
def test_odd_names_of_columns_and_labels_cannot_break_the_starter(
    name: str,
    pair: str | None,
    label: str | None,
    columns: list[str],
    labels: list[str],
    delimiter: str | None,
    num_rows: int | None,
) -> None:
    facts = StarterFacts(
        files=("d.csv",),
        text=name,
        text_pair=pair,
        label=label,
        columns=tuple(columns),
        labels=tuple(labels),
        num_labels=len(labels),
        label_delimiter=delimiter,
        num_rows=num_rows,
        config_name=name,
    )
    experiment = load_tree(tomllib.loads(starter_config(facts)), base=ROOT).experiment
    assert experiment.data.columns.text == name
    assert experiment.data.columns.text_pair == pair
    assert experiment.data.columns.label == (label or "label")
    assert experiment.data.labels.delimiter == delimiter


def test_what_is_loaded_already_is_taken_as_it_is_and_its_remarks_are_shown() -> None:
    loaded = replace(load_config({"train": {"seed": 3}}), remarks=("# Made by hand.",))
    assert load_config(loaded) is loaded
    assert show(loaded).splitlines()[1] == "# Made by hand."
    assert show(replace(load_config(None), remarks=("# Made by hand.",)), diff=True).endswith("# Nothing differs.\n")
    again = load_config(loaded, ["train.batch_size=8"])
    assert (again.experiment.train.seed, again.experiment.train.batch_size) == (3, 8)
