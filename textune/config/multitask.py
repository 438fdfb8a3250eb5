"""Several tasks in one model (`task.kind = "multitask"`): their names and classes, and what such a section cannot
say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.sources import Columns
from textune.config.taskkinds import MultitaskTask, Task
from textune.config.toml import format_key, format_value
from textune.wording import count, listing, nearest, repeated_names

Groups = Mapping[str, tuple[str, ...]]
"""The classes of each task, by its name, in the order of the model's outputs."""

_EXAMPLE = 'task.groups = { tone = ["neg", "mid", "pos"], urgent = ["no", "yes"] }'


def groups_of(task: Task, columns: Columns) -> dict[str, tuple[str, ...]]:
    """The classes of each task, by its name; empty for a section of one task.

    Tasks of `group_sizes` are called like the columns of their labels, or `group_0`, `group_1`, ...; their classes
    `0`, `1`, ...
    """
    if not isinstance(task, MultitaskTask):
        return {}
    if task.groups:
        return dict(task.groups)
    numbered = tuple(f"group_{index}" for index in range(len(task.group_sizes)))
    named = columns.labels if len(columns.labels) == len(numbered) else numbered
    return {name: tuple(map(str, range(size))) for name, size in zip(named, task.group_sizes, strict=True)}


def columns_of_tasks(columns: Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    """The column of each task: the one of its name or, where no column has the name of a task, in the same order.

    ValueError, which says why, where they do not match.
    """
    if len(columns) != len(tasks):
        raise ValueError(
            f"names {count(len(columns), 'column')} ({listing(columns, 8)}), but there are"
            f" {count(len(tasks), 'task')} ({listing(tasks, 8)})"
        )
    if twice := repeated_names(columns):
        raise ValueError(f"names {listing(map(repr, twice), 8)} more than once")
    if set(columns) == set(tasks):
        return tuple(tasks)
    shared = [name for name in columns if name in set(tasks)]
    if shared and any(column != task for column, task in zip(columns, tasks, strict=True) if column in shared):
        raise ValueError(
            f"names the columns {listing(columns, 8)} for the tasks {listing(tasks, 8)}: {shared[0]} is the name of a"
            " task, but stands in the place of another"
        )
    return tuple(columns)


def multitask_problems(experiment: Experiment) -> list[Problem]:
    """What is wrong with a section of several tasks, alone and beside the columns and names of the labels."""
    task, data = experiment.task, experiment.data
    if not isinstance(task, MultitaskTask):
        return []
    problems = list(_section_problems(task))
    if problems:
        return problems
    groups = groups_of(task, data.columns)
    problems += [*_name_problems(task, groups), *_weight_problems(task, groups)]
    if data.columns.labels:
        try:
            columns_of_tasks(data.columns.labels, tuple(groups))
        except ValueError as error:
            hint = "Name one column for each task, in their order."
            place = ("data", "columns", "labels")
            problems.append(Problem(place, f"data.columns.labels {error}.", hint, value=data.columns.labels))
    for key in ("names", "names_file"):
        if value := getattr(data.labels, key):
            message = f"data.labels.{key} is set, but each task has classes of its own, which task.groups names."
            problems.append(Problem(("data", "labels", key), message, f"Remove it; write {_EXAMPLE}.", value=value))
    return problems


def _section_problems(task: MultitaskTask) -> Iterator[Problem]:
    if task.groups and task.group_sizes:
        message = "task.groups and task.group_sizes are both set."
        yield Problem(("task", "group_sizes"), message, "Keep task.groups, which also names the classes.")
    elif not task.groups and not task.group_sizes:
        message = 'task.kind = "multitask" needs the classes of each task, but task.groups is not set.'
        yield Problem(("task", "groups"), message, f"Write {_EXAMPLE}, or task.group_sizes = [3, 2].")
    elif len(task.groups or task.group_sizes) == 1:
        key = "groups" if task.groups else "group_sizes"
        message = f'task.{key} has only one task, and task.kind = "multitask" is for several.'
        yield Problem(("task", key), message, 'Set task.kind = "multiclass" (or "binary").', value=getattr(task, key))
    for index, size in enumerate(task.group_sizes):
        if size < 2:
            message = f"task.group_sizes = {format_value(task.group_sizes, one_line=True)}: task {index} has"
            message += f" {count(size, 'class', 'classes')}, and there is nothing to tell apart in fewer than two."
            yield Problem(("task", "group_sizes"), message, "Leave the task out.", value=size)


def _name_problems(task: MultitaskTask, groups: Groups) -> Iterator[Problem]:
    for name, classes in groups.items():
        key = ("task", "groups", name) if task.groups else ("data", "columns", "labels")
        where = format_key(*key)
        if "/" in name or not name.strip() or name != name.strip():
            message = f"{where}: {name!r} cannot name a task: outputs are called TASK/CLASS, such as tone/neg."
            hint = "Choose a name without a slash and without spaces around it."
            yield Problem(key, message, hint if task.groups else f"Name the tasks: {_EXAMPLE}.", value=name)
        if len(classes) < 2:
            message = f"{where} has {count(len(classes), 'class', 'classes')}, and there is nothing to tell apart in"
            message += " fewer than two."
            yield Problem(key, message, "Name all its classes, or leave the task out.", value=classes)
        if twice := repeated_names(one.strip() for one in classes):
            message = f"{where} names {listing(map(repr, twice), 6)} more than once."
            yield Problem(key, message, "Name each class once.", value=classes)
        if any(not one.strip() for one in classes):
            message = f"{where} has a class without a name."
            yield Problem(key, message, "An empty cell means that a row has no label for the task.", value=classes)


def _weight_problems(task: MultitaskTask, groups: Groups) -> Iterator[Problem]:
    """Names in a table of class weights that no output has."""
    if not isinstance(task.class_weights, Mapping):
        return
    outputs = [f"{name}/{one}" for name, classes in groups.items() for one in classes]
    for name in task.class_weights:
        if name not in outputs:
            near = nearest(name, outputs)
            hint = f"Did you mean {near!r}?" if near else f"Write the task with the class: {listing(outputs, 8)}."
            message = f"task.class_weights names {name!r}, which is not a class of any task."
            yield Problem(("task", "class_weights"), message, hint, value=name)
