"""`task`, `model` and `tokens` of a run of training-wizard: what its `wizard_module` trains, from which weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.adapters.foreign import Line
from textune.adapters.trainingwizard.classes import class_named, is_own, own_object
from textune.adapters.trainingwizard.given import Given, Table, given_at, read_table
from textune.adapters.trainingwizard.keys import MODULES, OWN_MODULE, TRANSFORMER
from textune.adapters.trainingwizard.sources import Remarks
from textune.adapters.trainingwizard.specfile import SpecFile
from textune.config import absolute, format_key

_PLACE = ("wizard_module",)


@dataclass(frozen=True)
class Module:
    """A `wizard_module` with its `transformer_spec`."""

    name: str
    """Of its class; the dotted path of one of the user's own."""
    table: Table
    transformer: Table

    @property
    def weight(self) -> str:
        """The column of weights that it reads, if any."""
        return {"SequenceRegressionModule": "sample_weight", "MultiTaskSequenceClassifierModule": "weight"}.get(
            self.name, ""
        )

    @property
    def saves_plots(self) -> Given:
        """Whether plots are drawn."""
        place = format_key(*_PLACE, "save_plots")
        return self.table.values.get("save_plots", Given(place, False))

    def of_model(self, name: str) -> dict[str, Given]:
        """A table of keyword arguments, by name."""
        values: Mapping[str, Any] = self.transformer[name] or {}
        place = (*self.transformer.place, name)
        return {key: given_at(self.table.file, (*place, key), value) for key, value in values.items()}

    @property
    def num_labels(self) -> Given:
        """How many outputs the model has: as the file says, as the saved model has, or 2, as transformers has it."""
        if (given := self.of_model("from_pretrained_kwargs").get("num_labels")) is not None:
            return given
        saved = saved_json(self.transformer["pretrained_name"], "config.json")
        names = saved.get("id2label")
        number = len(names) if isinstance(names, Mapping) else saved.get("num_labels", 2)
        return Given("from_pretrained_kwargs.num_labels", number if isinstance(number, int) else 2)


def saved_json(pretrained: str, name: str) -> Mapping[str, Any]:
    """A file beside a saved model on this machine; empty where there is none."""
    folder = absolute(pretrained, Path.cwd(), hub=True)
    try:
        found = json.loads(Path(folder, name).read_text(encoding="utf-8")) if os.path.isdir(folder) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def read_module(file: SpecFile, tree: Mapping[str, Any], remarks: Remarks) -> Module | None:
    """The module of a file; None, and problems, where it is none."""
    name = class_named(file, _PLACE, tree, MODULES, remarks.problems)
    if not name:
        return None
    keys = OWN_MODULE if is_own(name) else MODULES[name]
    table = read_table(file, _PLACE, tree, keys, remarks.problems, open_ended=is_own(name))
    remarks.unused(table, keys)
    if table["transformer_spec"] is None:
        return None
    place = (*_PLACE, "transformer_spec")
    transformer = read_table(file, place, table["transformer_spec"], TRANSFORMER, remarks.problems)
    remarks.unused(transformer, TRANSFORMER)
    if remarks.problems:
        return None
    return Module(name, table, transformer)


def task_lines(module: Module, remarks: Remarks) -> Iterator[Line]:
    """The section `task`, and the names of labels."""
    if is_own(module.name):
        yield Line("task.kind", "python", f"spec_class = {module.name}")
        yield Line("task.object", own_object(module.name), f"spec_class = {module.name}")
        if module.table.more:
            yield Line("task.options", dict(module.table.more), "[wizard_module]")
        return
    number = module.num_labels
    if not isinstance(number.value, int) or isinstance(number.value, bool) or number.value < 1:
        remarks.problems.append(number.problem("this is no number of outputs.", "Write num_labels = 2."))
        return
    yield from _TASKS[module.name](module, number, remarks)


def _classifier(module: Module, number: Given, remarks: Remarks) -> Iterator[Line]:
    table = module.table
    origin = f"{table.origin('loss_type')}, {number.origin}"
    if table["loss_type"] == "cross_entropy":
        if number.value == 1:
            hint = 'Write num_labels = 2, or loss_type = "binary_cross_entropy".'
            remarks.problems.append(number.problem("cross-entropy over one class is always 0.", hint))
        yield Line("task.kind", "binary" if number.value == 2 else "multiclass", origin)
        if number.value == 2:
            yield Line("task.num_logits", 2, number.origin)
    elif number.value == 1:
        yield Line("task.kind", "binary", origin)
        yield Line("task.num_logits", 1, number.origin)
    else:
        yield Line("task.kind", "multilabel", origin)
    yield Line("task.label_smoothing", float(table["label_smoothing"]), table.origin("label_smoothing"))
    yield from _names(module, max(number.value, 2), number, remarks)


def _names(module: Module, num_classes: int, number: Given, remarks: Remarks) -> Iterator[Line]:
    """Labels are positions; what they are called is in `id2label`, where somebody says it."""
    called = module.of_model("from_pretrained_kwargs").get("id2label")
    if called is not None and isinstance(called.value, Mapping):
        by_id = {str(key): str(name) for key, name in called.value.items()}
        if set(by_id) == set(map(str, range(num_classes))):
            yield Line("data.labels.names", tuple(by_id[str(i)] for i in range(num_classes)), called.origin)
            return
        remarks.problems.append(called.problem(f"it has to name the labels 0 to {num_classes - 1}, and no others."))
    yield Line("data.labels.names", tuple(map(str, range(num_classes))), number.origin)


def _regressor(module: Module, number: Given, remarks: Remarks) -> Iterator[Line]:
    table = module.table
    if number.value != 1 and number.is_default:
        remarks.notes.append("The model has one output; there it has two where num_labels is not set, and fails.")
    elif number.value != 1:
        remarks.problems.append(number.problem("a regression has one number here.", "Write num_labels = 1."))
    yield Line("task.kind", "regression", "SequenceRegressionModule")
    yield Line("task.loss", table["loss_type"], table.origin("loss_type"))
    if table["loss_type"] == "smooth_l1":
        yield Line("task.beta", 0.1, "as in the original's code")
    yield Line("task.activation", table["activation"], table.origin("activation"))


def _multi_task(module: Module, number: Given, remarks: Remarks) -> Iterator[Line]:
    table = module.table
    sizes = table["group_sizes"]
    if number.value != sum(sizes) and not number.is_default:
        reason = f"{table.given('group_sizes').said} has {sum(sizes)} classes in all."
        remarks.problems.append(number.problem(reason, f"Write num_labels = {sum(sizes)}."))
    yield Line("task.kind", "multitask", "MultiTaskSequenceClassifierModule")
    yield Line("task.group_sizes", tuple(sizes), table.origin("group_sizes"))
    yield Line("task.label_smoothing", float(table["label_smoothing"]), table.origin("label_smoothing"))


_TASKS: dict[str, Callable[[Module, Given, Remarks], Iterator[Line]]] = {
    "SequenceClassifierModule": _classifier,
    "SequenceRegressionModule": _regressor,
    "MultiTaskSequenceClassifierModule": _multi_task,
}


def problem_of(module: Module) -> str:
    """What kind of answers it gives, as metrics are named by."""
    if module.name == "SequenceClassifierModule":
        several = module.num_labels.value > 2
        if module.table["loss_type"] == "binary_cross_entropy":
            return "multilabel" if module.num_labels.value > 1 else "binary"
        return "multiclass" if several else "binary of two outputs"
    return {"SequenceRegressionModule": "regression", "MultiTaskSequenceClassifierModule": "multitask"}.get(
        module.name, "own"
    )
