"""`data.metadata`: its short form, and what it cannot go with."""

from __future__ import annotations

from typing import Any

import pytest

from textune.config.load import load_config, require_runnable
from textune.config.reference import json_schema
from textune.config.sources import MetadataPrefix
from textune.errors import ConfigError


def loaded(metadata: object, *overrides: str, **data: Any) -> MetadataPrefix:
    found = load_config({"data": {"metadata": metadata, **data}}, overrides).experiment.data.metadata
    assert found is not None
    return found


def test_a_list_of_columns_is_a_table_with_defaults() -> None:
    prefix = loaded(["source", "date"])
    assert prefix == MetadataPrefix(columns=("source", "date"))
    assert (prefix.separator, prefix.key_value_separator, prefix.prefix_separator) == (" | ", ": ", " |||")
    assert loaded("source").columns == loaded({"columns": "source"}).columns == ("source",)
    assert not prefix.drops and load_config(None).experiment.data.metadata is None


def test_a_list_laid_over_a_table_replaces_the_columns_alone() -> None:
    prefix = loaded({"columns": ["a"], "dropout": 0.2}, 'data.metadata=["b", "c"]')
    assert (prefix.columns, prefix.dropout) == (("b", "c"), 0.2)
    assert loaded(MetadataPrefix(columns=("a",), dropout=0.1), "data.metadata.dropout=0.5").dropout == 0.5


def test_the_origin_of_the_columns_is_where_the_list_stands() -> None:
    found = load_config({"data": {"metadata": ["a"]}}, ['data.metadata=["b"]']).origins
    assert found["data.metadata.columns"] == "command line" and found["data.metadata.dropout"] == "default"


def test_an_editor_knows_both_forms() -> None:
    schema = json_schema()
    options = schema["$defs"]["DataSection"]["properties"]["metadata"]["anyOf"]
    assert options == [
        {"$ref": "#/$defs/MetadataPrefix"},
        {"type": "string"},
        {"items": {"type": "string"}, "type": "array"},
    ]
    assert schema["$defs"]["MetadataPrefix"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("metadata", "key", "value"),
    [
        ([], "data.metadata.columns", []),
        ({"dropout": 0.5}, "data.metadata.columns", None),
        ({"columns": ["a"], "dropout": 1}, "data.metadata.dropout", 1),
        ({"columns": ["a"], "dropout": {"a": -0.1}}, "data.metadata.dropout.a", -0.1),
        ({"columns": ["a"], "prefix_separator": ""}, "data.metadata.prefix_separator", ""),
        ({"columns": ["a"], "drop": 0.1}, "data.metadata.drop", None),
    ],
)
def test_what_is_no_prefix_is_refused(metadata: object, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(metadata)
    assert caught.value.key == key and caught.value.value == value


@pytest.mark.parametrize(
    ("metadata", "more", "key", "value"),
    [
        (["text"], {}, "data.metadata.columns", "text"),
        (["a", "label"], {}, "data.metadata.columns", "label"),
        (["b"], {"data.columns.labels": ["b", "c"]}, "data.metadata.columns", "b"),
        (["b"], {"data.columns.text_pair": "b"}, "data.metadata.columns", "b"),
        (["w"], {"data.columns.weight": "w"}, "data.metadata.columns", "w"),
        (["a", "b", "a"], {}, "data.metadata.columns", "a"),
        ({"columns": ["a"], "dropout": {"b": 0.1}}, {}, "data.metadata.dropout.b", "b"),
        ({"columns": ["a"], "allow_leak": ["b"]}, {}, "data.metadata.allow_leak", "b"),
        (["a"], {"tokens.long": "windows"}, "tokens.long", "windows"),
    ],
)
def test_what_cannot_go_together_is_refused(metadata: object, more: dict[str, Any], key: str, value: object) -> None:
    config = {"data": {"metadata": metadata, "train": {"files": "a.csv"}}, "model": {"pretrained": "m"}}
    with pytest.raises(ConfigError) as caught:
        require_runnable(load_config(config, more).experiment)
    assert caught.value.key == key and caught.value.value == value


def test_a_column_of_the_template_may_stand_before_the_text_too() -> None:
    config = {"data": {"metadata": ["text"], "train": {"files": "a.csv"}}, "model": {"pretrained": "m"}}
    require_runnable(load_config(config, {"data.columns.template": "{title}: {text}"}).experiment)
