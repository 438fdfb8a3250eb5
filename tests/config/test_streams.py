"""A stream's keys: what it cannot go with, each in a sentence with the key to change."""

from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.load import load_config, load_tree, require_runnable
from textune.config.schema import Experiment
from textune.config.schema import Experiment as Root
from textune.config.sources import StreamSource
from textune.config.streams import stream_problems
from textune.errors import ConfigError

BASE: dict[str, Any] = {
    "data": {
        "train": {"kind": "stream", "files": ["a.jsonl", "s3://bucket/*.parquet"], "num_rows": 1000},
        "validation": {"kind": "files", "files": "v.jsonl"},
        "labels": {"names": ["neg", "pos"]},
    },
    "task": {"kind": "binary"},
    "model": {"pretrained": "some/backbone"},
}


def merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(tree)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(result.get(key), dict) and "kind" not in value
        result[key] = merged(result[key], value) if inner else value
    return {key: value for key, value in result.items() if value is not None}


def experiment(changes: dict[str, Any] | None = None) -> Experiment:
    return load_tree(merged(BASE, changes or {}), base=Path("/here")).experiment


def test_a_stream_with_all_it_needs_is_runnable() -> None:
    fine = experiment()
    require_runnable(fine)
    assert fine.data.train == StreamSource(files=("/here/a.jsonl", "s3://bucket/*.parquet"), num_rows=1000)
    regression = {"task": {"kind": "regression"}, "data": {"labels": {"names": None}, "validation": {"kind": "none"}}}
    require_runnable(experiment(regression))
    assert stream_problems(Root()) == []


STEPS = {"duration": "50 steps", "evaluate_every": "10 steps", "schedule": {"warmup": "5 steps"}}


def test_without_a_number_of_rows_durations_are_in_steps() -> None:
    unknown = {"data": {"train": {"num_rows": None}}}
    require_runnable(experiment(unknown | {"train": STEPS}))
    without_validation = {"data": {"train": {"num_rows": None}, "validation": {"kind": "none"}}}
    require_runnable(experiment(without_validation | {"train": STEPS | {"evaluate_every": "1 epochs"}}))
    require_runnable(experiment(unknown | {"train": STEPS | {"schedule": {"warmup": "0 epochs"}}}))
    with pytest.raises(ConfigError) as error:
        require_runnable(experiment(unknown))
    for words in (
        'train.duration = "3 epochs"',
        'train.schedule.warmup = "0.1 epochs"',
        'train.evaluate_every = "1 epoch',
    ):
        assert words in str(error.value)
    assert "Set data.train.num_rows" in error.value.hint
    with refused(ConfigError, key="data.train.num_rows"):
        require_runnable(experiment(unknown | {"train": STEPS | {"log_every": "1 epoch"}}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"train": {"files": []}}}, "data.train.files is not set"),
        (
            {"data": {"validation": {"kind": "split"}}},
            "data.validation is a share of the training rows, but they are streamed",
        ),
        ({"data": {"test": {"kind": "split"}}}, "data.test is a share of the training rows"),
        ({"data": {"labels": {"names": None}}}, "data.labels.names is not set"),
        ({"task": {"kind": "auto"}}, 'task.kind = "auto" decides from the labels of all rows'),
        (
            {"task": {"class_weights": "balanced"}},
            'task.class_weights = "balanced" needs the number of rows of each class',
        ),
        ({"train": {"compact_vocabulary": "on"}}, 'train.compact_vocabulary = "on" needs the tokens of all rows'),
        ({"train": {"max_tokens": 100}}, "train.max_tokens = 100 is less than the 256 tokens"),
    ],
)
def test_what_a_stream_cannot_go_with(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        require_runnable(experiment(changes))
    assert words in str(error.value) and error.value.hint
    assert "problems" not in str(error.value)


def test_orders_that_need_all_rows_are_refused() -> None:
    fine = experiment()
    for order, num in (("shuffle", 0), ("sequential", 0), ("bucket", 1), ("weighted", 1)):
        changed = fine.model_copy(update={"train": fine.train.model_copy(update={"order": order})})
        assert len(stream_problems(changed)) == num


def test_a_share_of_the_run_needs_no_length_of_an_epoch() -> None:
    unknown = {"data": {"train": {"kind": "stream", "files": ["a.jsonl"]}, "labels": {"names": ["a", "b"]}}}
    shares = {"log_every": "1 %", "evaluate_every": "5 %", "schedule": {"warmup": "6 %"}}
    require_runnable(experiment(unknown | {"train": {"duration": "500 steps", **shares}}))


def test_short_rows_allow_a_small_bound() -> None:
    require_runnable(experiment({"train": {"max_tokens": 100}, "tokens": {"drop_longer": 90}}))


def test_only_training_rows_are_streamed() -> None:
    for place in ("data.validation", "data.test"):
        with refused(ConfigError, key=f"{place}.kind"):
            load_config(None, [f"{place}.kind=stream"])
    with pytest.raises(ConfigError, match=r"sources"):
        load_config(None, ["data.train.kind=concat", 'data.train.sources=[{kind = "stream", files = "a.jsonl"}]'])


def test_streamed_rows_are_not_cut_into_folds() -> None:
    with refused(ConfigError, key="data.validation"):
        require_runnable(experiment({"data": {"validation": {"kind": "fold", "fold": 1}}}))
