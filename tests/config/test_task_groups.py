"""A section of several tasks: what the tasks and their classes are called, and what it cannot say."""

from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.load import load_tree, require_runnable
from textune.config.multitask import columns_of_tasks, groups_of
from textune.config.schema import Experiment
from textune.errors import ConfigError

GROUPS = {"tone": ["neg", "mid", "pos"], "urgent": ["no", "yes"]}


def experiment(task: dict[str, Any], data: dict[str, Any] | None = None) -> Experiment:
    tree = {
        "data": {"train": {"files": "a.jsonl"}} | (data or {}),
        "task": {"kind": "multitask"} | task,
        "model": {"pretrained": "some/backbone"},
    }
    return load_tree(tree, base=Path("/here")).experiment


def test_tasks_and_their_classes_have_names() -> None:
    named = experiment({"groups": GROUPS})
    require_runnable(named)
    assert groups_of(named.task, named.data.columns) == {"tone": ("neg", "mid", "pos"), "urgent": ("no", "yes")}
    sized = experiment({"group_sizes": [3, 2]})
    require_runnable(sized)
    assert groups_of(sized.task, sized.data.columns) == {"group_0": ("0", "1", "2"), "group_1": ("0", "1")}
    beside = experiment({"group_sizes": [3, 2]}, {"columns": {"labels": ["tone", "urgent"]}})
    require_runnable(beside)
    assert groups_of(beside.task, beside.data.columns) == {"tone": ("0", "1", "2"), "urgent": ("0", "1")}
    assert groups_of(Experiment().task, Experiment().data.columns) == {}


def test_columns_belong_to_tasks_by_name_or_in_order() -> None:
    tasks = ("tone", "urgent")
    assert columns_of_tasks(("urgent", "tone"), tasks) == ("tone", "urgent")
    assert columns_of_tasks(("a", "b"), tasks) == ("a", "b")
    assert columns_of_tasks(("tone", "b"), tasks) == ("tone", "b")
    for columns in (("urgent", "b"), ("a", "tone"), ("a", "a"), ("tone",), ("tone", "urgent", "c")):
        with pytest.raises(ValueError, match="names"):
            columns_of_tasks(columns, tasks)


@pytest.mark.parametrize(
    ("task", "data", "key", "value"),
    [
        ({}, {}, "task.groups", None),
        ({"groups": GROUPS, "group_sizes": [3, 2]}, {}, "task.group_sizes", None),
        ({"groups": {"tone": ["neg", "pos"]}}, {}, "task.groups", {"tone": ("neg", "pos")}),
        ({"group_sizes": [3]}, {}, "task.group_sizes", (3,)),
        ({"group_sizes": [3, 1]}, {}, "task.group_sizes", 1),
        ({"groups": {**GROUPS, "topic": ["one"]}}, {}, "task.groups.topic", ("one",)),
        ({"groups": {**GROUPS, "topic": []}}, {}, "task.groups.topic", ()),
        ({"groups": {**GROUPS, "a/b": ["x", "y"]}}, {}, 'task.groups."a/b"', "a/b"),
        ({"groups": {**GROUPS, " tone": ["x", "y"]}}, {}, 'task.groups." tone"', " tone"),
        ({"groups": {**GROUPS, "topic": ["x", "y", "x "]}}, {}, "task.groups.topic", ("x", "y", "x ")),
        ({"groups": {**GROUPS, "topic": ["x", ""]}}, {}, "task.groups.topic", ("x", "")),
        ({"groups": GROUPS, "class_weights": {"tone/nge": 2}}, {}, "task.class_weights", "tone/nge"),
        ({"groups": GROUPS}, {"labels": {"names": ["a", "b"]}}, "data.labels.names", ("a", "b")),
        ({"groups": GROUPS}, {"columns": {"labels": ["a", "b", "c"]}}, "data.columns.labels", ("a", "b", "c")),
        ({"group_sizes": [3, 2]}, {"columns": {"labels": ["a", "b", "c"]}}, "data.columns.labels", ("a", "b", "c")),
        ({"groups": GROUPS}, {"columns": {"labels": ["urgent", "mood"]}}, "data.columns.labels", ("urgent", "mood")),
        ({"group_sizes": [3, 2]}, {"columns": {"labels": ["a/b", "c"]}}, "data.columns.labels", "a/b"),
    ],
)
def test_what_cannot_be_said_is_refused(task: dict[str, Any], data: dict[str, Any], key: str, value: object) -> None:
    with refused(ConfigError, key=key, value=value):
        require_runnable(experiment(task, data))


def test_a_doubled_task_is_no_toml(tmp_path: Path) -> None:
    from textune.config.load import load_config

    file = tmp_path / "config.toml"
    file.write_text('[task]\nkind = "multitask"\ngroups = { tone = ["a", "b"], tone = ["c", "d"] }\n')
    with refused(ConfigError):
        load_config(file)


def test_a_stream_needs_no_other_names_and_no_balance() -> None:
    stream = {
        "train": {"kind": "stream", "files": ["a.jsonl"], "num_rows": 100},
        "validation": {"kind": "files", "files": "v.jsonl"},
    }
    require_runnable(experiment({"groups": GROUPS}, stream))
    with refused(ConfigError, key="task.class_weights"):
        require_runnable(experiment({"groups": GROUPS, "class_weights": "balanced"}, stream))
