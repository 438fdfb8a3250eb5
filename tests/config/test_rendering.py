"""Documents with metadata: what they cannot be made of, and names that `metadata.types` does not have."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.load import load_tree, require_renderable, require_runnable
from textune.errors import ConfigError

_DATA = {"train": {"files": "a.jsonl"}}
_METADATA = {"types": ["html", "title", "url"]}


def renderable(**sections: Any) -> None:
    tree = {"data": _DATA, "metadata": _METADATA} | sections
    section = require_renderable(load_tree(tree, base=Path("/here")).experiment)
    assert section.types == ("html", "title", "url")


def test_no_model_task_or_label_is_needed() -> None:
    renderable()
    renderable(metadata=_METADATA | {"priority": ["url"], "wraps": {"html": ["<", ">"]}})
    renderable(metadata=_METADATA | {"type_tokens": {"html": "H"}, "types_in_prefix": True})
    renderable(metadata=_METADATA | {"compat": "bsmetadata", "begin_token": "never", "end_token": "never"})
    renderable(metadata=_METADATA | {"html": {"keep": ["td"], "drop_all_lengths": [0, 0]}})
    renderable(metadata=_METADATA | {"sampling": {"kind": "uniform", "weights": {"url": 2.0}}})


def test_a_classifier_is_not_trained_on_them() -> None:
    tree = {"data": _DATA, "metadata": _METADATA, "model": {"pretrained": "some/backbone"}}
    with refused(ConfigError, key="metadata"):
        require_runnable(load_tree(tree, base=Path("/here")).experiment)


_WRONG: list[tuple[str, dict[str, Any]]] = [
    ("metadata", {"metadata": None}),
    ("metadata.types", {"metadata": {"types": ["url", "html", "url"]}}),
    ("metadata.priority", {"metadata": _METADATA | {"priority": ["titel"]}}),
    ("metadata.reopen_tags", {"metadata": _METADATA | {"reopen_tags": True, "compat": "bsmetadata"}}),
    ("metadata.compat", {"metadata": _METADATA | {"compat": "bsmetadata"}, "data": _DATA | {"chunks": "fixed"}}),
    ("metadata.end_token", {"metadata": _METADATA | {"end_token": "never"}, "data": _DATA | {"chunks": "fixed"}}),
    ("metadata.reopen_tags", {"metadata": _METADATA | {"reopen_tags": True}, "data": _DATA | {"chunks": "fixed"}}),
    ("metadata.position", {"metadata": _METADATA | {"position": "suffix", "compat": "bsmetadata"}}),
    ("metadata.position", {"metadata": _METADATA | {"position": "suffix"}, "task": {"kind": "conditional_lm"}}),
    ("metadata.score_inline", {"metadata": {"score_inline": True, "end_token": "never"}}),
    ("metadata.sampling", {"metadata": {"sampling": {"probability": 0.5}}}),
    ("task.metadata_loss", {"metadata": {}, "task": {"kind": "conditional_lm", "metadata_loss": True}}),
    ("tokens.drop_longer", {"tokens": {"drop_longer": 9}}),
    ("tokens.long", {"tokens": {"long": "windows"}}),
    ("tokens.truncate", {"tokens": {"truncate": "error"}}),
    ("data.metadata", {"data": _DATA | {"metadata": {"columns": ["source"]}}}),
    (
        "metadata.sampling.rates",
        {"metadata": _METADATA | {"sampling": {"kind": "independent", "rates": {"html": 1.0}, "html_rate": 0.5}}},
    ),
    ("metadata.type_tokens", {"metadata": _METADATA | {"type_tokens": {"entity": "e"}}}),
    ("metadata.wraps", {"metadata": _METADATA | {"wraps": {"entity": ["<", ">"]}}}),
    (
        "metadata.sampling.weights",
        {"metadata": _METADATA | {"sampling": {"kind": "uniform", "weights": {"entity": 1.0}}}},
    ),
    (
        "metadata.sampling.rates",
        {"metadata": _METADATA | {"sampling": {"kind": "independent", "rates": {"entity": 1.0}}}},
    ),
    (
        "metadata.sampling.curriculum",
        {"metadata": _METADATA | {"sampling": {"curriculum": [[0.5, 1.0], [0.2, 0.0]]}}},
    ),
    ("metadata.sampling.curriculum", {"metadata": _METADATA | {"sampling": {"curriculum": [[0, 1.0], [0, 0.5]]}}}),
    ("metadata.sampling.html_rate", {"metadata": {"types": ["url"], "sampling": {"html_rate": 0.5}}}),
    ("metadata.type_tokens", {"metadata": _METADATA | {"type_tokens": {"html": "H"}}}),
    ("metadata.html.keep", {"metadata": _METADATA | {"html": {"keep": ["td"]}}}),
    ("metadata.priority", {"metadata": _METADATA | {"priority": ["url", "html", "url"]}}),
    *(
        (f"metadata.{key}", {"metadata": _METADATA | {"compat": "bsmetadata", key: value}})
        for key, value in (
            ("priority", ["url"]),
            ("prefix_share", 0.25),
            ("reopen_tags", True),
            ("begin_token", "always"),
            ("end_token", "always"),
        )
    ),
    ("metadata.wraps.html", {"metadata": _METADATA | {"wraps": {"html": []}}}),
    ("metadata.wraps.html", {"metadata": _METADATA | {"wraps": {"html": ["<"]}}}),
    ("metadata.wraps.html", {"metadata": _METADATA | {"wraps": {"html": ["<", ">", "!"]}}}),
    ("metadata.html.drop_all_lengths", {"metadata": _METADATA | {"html": {"drop_all_lengths": [0]}}}),
    ("metadata.html.drop_lengths.p", {"metadata": _METADATA | {"html": {"drop_lengths": {"p": [0]}}}}),
    ("metadata.sampling.curriculum[0]", {"metadata": _METADATA | {"sampling": {"curriculum": [[0.5]]}}}),
    ("metadata.html.drop_all_lengths", {"metadata": _METADATA | {"html": {"drop_all_lengths": [2, 1]}}}),
    ("metadata.html.drop_lengths.p[0]", {"metadata": _METADATA | {"html": {"drop_lengths": {"p": [-1, 1]}}}}),
    ("data.columns.template", {"data": _DATA | {"columns": {"template": "{a}: {b}"}}}),
    ("data.columns.text_pair", {"data": _DATA | {"columns": {"text_pair": "b"}}}),
    ("data.train.files", {"data": {}}),
    ("data.evaluations.news.files", {"data": _DATA | {"evaluations": {"news": {"kind": "files"}}}}),
    ("data.validation", {"data": {"train": {"kind": "stream", "files": "a.jsonl"}}}),
]


@pytest.mark.parametrize(("key", "sections"), _WRONG, ids=[key for key, _ in _WRONG])
def test_what_contradicts_is_refused_by_its_key(key: str, sections: dict[str, Any]) -> None:
    with refused(ConfigError, key=key):
        renderable(**sections)


@pytest.mark.parametrize(
    "metadata", [{}, {"min_tokens": 3, "end_token": "always"}, {"types": [], "position": "suffix"}]
)
def test_documents_may_be_texts_alone(metadata: dict[str, Any]) -> None:
    """Also in one of several runs, whose other keys stay as they are."""
    task = {"kind": "conditional_lm", "metadata_loss": "types" in metadata}
    tree = {"data": _DATA, "metadata": metadata, "task": task}
    assert require_renderable(load_tree(tree, base=Path("/here")).experiment).types == ()


def test_a_curriculum_needs_the_length_of_the_run() -> None:
    metadata = _METADATA | {"sampling": {"curriculum": [[0, 1.0], [0.9, 0.0]]}}
    stream = {"kind": "stream", "files": "a.jsonl"}
    data = {"train": stream, "validation": {"kind": "none"}}
    with refused(ConfigError, key="data.train.num_rows"):
        renderable(metadata=metadata, data=data)
    renderable(metadata=metadata, data=data, train={"duration": "100 steps"})
    renderable(metadata=metadata, data=data | {"train": stream | {"num_rows": 10}})
    renderable(metadata=metadata)


def _held_out(**keys: Any) -> dict[str, Any]:
    return {"kind": "files", "files": "b.jsonl", **keys}


def test_sets_by_type_are_of_held_out_rows_as_a_whole() -> None:
    renderable(data=_DATA | {"validation": _held_out(by_type=["url", "title"], by_type_rows=5)})
    renderable(data=_DATA | {"evaluations": {"news": _held_out(by_type="url")}})
    with refused(ConfigError, key="data.train.by_type"):
        renderable(data={"train": {"files": "a.jsonl", "by_type": ["url"]}})
    nested = {"kind": "concat", "sources": [_held_out(), _held_out(by_type=["url"])]}
    with refused(ConfigError, key="data.validation.sources[1].by_type"):
        renderable(data=_DATA | {"validation": nested})


def test_sets_by_type_are_of_types_that_are_named_once() -> None:
    with refused(ConfigError, key="data.validation.by_type", value="entity"):
        renderable(data=_DATA | {"validation": _held_out(by_type=["url", "entity"])})
    with refused(ConfigError, key="data.validation.by_type"):
        renderable(data=_DATA | {"validation": _held_out(by_type=["url", "url"])})


@pytest.mark.parametrize("name", ["validation-url", "validation-no-metadata"])
def test_a_set_by_type_has_a_name_of_its_own(name: str) -> None:
    data = _DATA | {"validation": _held_out(by_type=["url"]), "evaluations": {name: _held_out()}}
    with refused(ConfigError, key="data.validation.by_type"):
        renderable(data=data)


def test_a_classifier_has_no_sets_by_type() -> None:
    tree = {
        "data": _DATA | {"validation": _held_out(by_type=["url"])},
        "model": {"pretrained": "some/backbone"},
    }
    with refused(ConfigError, key="data.validation.by_type"):
        require_runnable(load_tree(tree, base=Path("/here")).experiment)


def test_the_configuration_at_the_head_of_the_page_can_be_rendered() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metadata.md").read_text(encoding="utf-8")
    tree = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])
    assert require_renderable(load_tree(tree, base=Path("/here")).experiment).types[0] == "html"
