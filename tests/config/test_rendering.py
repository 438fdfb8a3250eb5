"""Keys of `metadata` that contradict each other or the data: each is named, with its value."""

from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.load import load_tree, require_renderable
from textune.config.schema import Experiment
from textune.errors import ConfigError


def experiment(metadata: dict[str, Any] | None, **sections: Any) -> Experiment:
    tree: dict[str, Any] = {"data": {"train": {"kind": "files", "files": "a.jsonl"}}} | sections
    tree |= {} if metadata is None else {"metadata": {"types": ["html", "title", "url"]} | metadata}
    return load_tree(tree, base=Path("/here")).experiment


def test_a_section_that_agrees_with_itself_is_fine() -> None:
    sampling = {
        "kind": "uniform",
        "weights": {"title": 2, "url": 1},
        "html_rate": 0.2,
        "curriculum": [[0, 1], [0.9, 0]],
    }
    require_renderable(experiment({"wraps": {"html": ["<", ">"]}, "priority": ["url"], "sampling": sampling}))


@pytest.mark.parametrize(
    ("metadata", "key", "value"),
    [
        (None, "metadata", None),
        ({"types": ["url", "title", "url"]}, "metadata.types", "url"),
        ({"wraps": {"htm": ["<", ">"]}}, "metadata.wraps", "htm"),
        ({"type_tokens": {"entity": "E"}}, "metadata.type_tokens", "entity"),
        ({"priority": ["url", "entity"]}, "metadata.priority", "entity"),
        ({"sampling": {"kind": "uniform", "weights": {"entity": 1}}}, "metadata.sampling.weights", "entity"),
        ({"sampling": {"kind": "independent", "rates": {"tilte": 1}}}, "metadata.sampling.rates", "tilte"),
        ({"types": ["url"], "sampling": {"html_rate": 0.5}}, "metadata.sampling.html_rate", 0.5),
    ],
)
def test_what_contradicts_is_named(metadata: dict[str, Any] | None, key: str, value: Any) -> None:
    with refused(ConfigError, key=key, value=value):
        require_renderable(experiment(metadata))


def test_a_curriculum_needs_the_length_of_the_run() -> None:
    sampling = {"curriculum": [[0, 1.0], [0.9, 0.0]]}
    stream = {"kind": "stream", "files": "a.jsonl"}
    with refused(ConfigError, key="data.train.num_rows"):
        require_renderable(experiment({"sampling": sampling}, data={"train": stream}))
    require_renderable(experiment({"sampling": sampling}, data={"train": stream | {"num_rows": 10}}))
    require_renderable(experiment({"sampling": sampling}, data={"train": stream}, train={"duration": "100 steps"}))


@pytest.mark.parametrize("curriculum", [[[0.5, 1.0], [0.2, 0.0]], [[0, 1.0], [0, 0.5]]])
def test_a_curriculum_goes_forward(curriculum: Any) -> None:
    with refused(ConfigError, key="metadata.sampling.curriculum"):
        experiment({"sampling": {"curriculum": curriculum}})


def test_rows_are_needed() -> None:
    with refused(ConfigError, key="data.train.files"):
        require_renderable(experiment({}, data={"train": {"kind": "files"}}))
