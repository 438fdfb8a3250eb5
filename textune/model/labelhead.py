"""The last layer of a head, with one row of weights per output: what the outputs mean, and which rows of an already
fine-tuned model are kept, by the names of its labels. Before `backbone.py`.

All other layers of a head are kept unchanged.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from textune.data import LabelMaps, full_names
from textune.errors import ModelError
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.pretrained import Pretrained, is_classifier, is_unnamed, label_names
from textune.wording import listing

Form = Literal["softmax", "sigmoid", "linear", "grouped", "own", "unknown"]
"""`grouped`: a softmax over the outputs of each of several tasks, which are called `TASK/CLASS`."""

_PROBLEM_TYPES: dict[Form, str] = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "linear": "regression",
    # With this type, transformers gives the outputs out as they are; any other would turn all of them together into
    # probabilities, which they are not.
    "grouped": "regression",
}

Row = tuple[int, int]
"""A row of the earlier layer and the sign of its weights."""


@dataclass(frozen=True)
class Head:
    """What the outputs of a head mean."""

    outputs: tuple[str, ...]
    """The name of each output."""
    form: Form
    """How outputs become scores; `own`: as the user's own task says; `unknown` for one output that may be a number or
    the argument of a sigmoid."""
    opposite: str | None = None
    """The other label of a binary task with one output."""

    def describe_on(self, config: HuggingConfig) -> None:
        """Write the outputs into a configuration: transformers takes their number from it."""
        config.id2label = dict(enumerate(self.outputs))
        config.label2id = {name: index for index, name in enumerate(self.outputs)}
        config.problem_type = _PROBLEM_TYPES.get(self.form)

    def __str__(self) -> str:
        number = f"{len(self.outputs)} output{'' if len(self.outputs) == 1 else 's'}"
        if self.form in {"softmax", "sigmoid"}:
            return f"{self.form} on {number}"
        if self.form == "grouped":
            return f"softmax for each of {len({name.partition('/')[0] for name in self.outputs})} tasks on {number}"
        names = {"linear": "regression", "own": "task of its own"}
        return f"{names.get(self.form, self.form)} with {number}"


@dataclass(frozen=True)
class HeadChange:
    """How the last layer follows from that of an earlier model."""

    rows: tuple[Row | None, ...]
    """For each output the row that it takes over; None if it starts new."""
    notice: str
    """A note for the user; empty if nothing changes."""
    earlier_size: bool = True
    """Whether to load the model with the outputs in its configuration rather than the wanted ones."""


def wanted_head(label_maps: LabelMaps, num_logits: int) -> Head:
    """The head that a task needs; one logit for two classes stands for the second of them."""
    if len(label_maps) > 1:
        return Head(full_names(label_maps), "grouped")
    (label_map,) = label_maps.values()
    if label_map.own is not None:
        return Head(label_map.own.outputs, "own")
    if not label_map.choices:
        return Head(label_map.names, "linear")
    names = label_map.names
    if num_logits < len(names):
        return Head(names[-num_logits:], "sigmoid", opposite=names[0])
    return Head(names, "softmax" if label_map.exclusive else "sigmoid")


def earlier_head(config: HuggingConfig) -> Head:
    """The head that a configuration describes; without a problem type, as transformers reads it."""
    names = label_names(config)
    if config.problem_type == _PROBLEM_TYPES["grouped"] and len(names) > 1 and all("/" in name for name in names):
        return Head(names, "grouped")
    form = next((form for form, kind in _PROBLEM_TYPES.items() if kind == config.problem_type), None)
    return Head(names, form or ("unknown" if len(names) == 1 else "softmax"))


def plan_head(found: Pretrained, config: HuggingConfig, wanted: Head) -> HeadChange | None:
    """How the head of an earlier model becomes the wanted one; None if there is nothing to keep or to report.

    Also None for a different number of unnamed outputs: the user decides whether to drop that head, with
    `model.ignore_mismatched_sizes`.
    """
    new: tuple[Row | None, ...] = (None,) * len(wanted.outputs)
    if not is_classifier(config):
        kind = config.architectures[0]
        notice = f"the head is new: the {found.where} is a {kind}, whose head is for another task"
        return HeadChange(new, notice, earlier_size=False)
    earlier = earlier_head(config)
    if wanted.form == "own" and config.problem_type is None:  # as such a head is saved
        earlier = replace(earlier, form="own")
    if earlier.form != wanted.form and not (earlier.form == "unknown" and wanted.form in {"linear", "sigmoid"}):
        return HeadChange(
            new, f"the head is new: that of the {found.where} is a {earlier}, and this task needs a {wanted}"
        )
    if wanted.form == "linear":
        return (
            None
            if len(earlier.outputs) == 1
            else HeadChange(new, f"the head is new: the {found.where} has a {earlier}")
        )
    if is_unnamed(earlier.outputs) and not set(wanted.outputs) & set(earlier.outputs):
        return _unnamed(found, earlier, wanted)
    if earlier.outputs == wanted.outputs:
        return None
    rows = _rows_by_name(earlier, wanted)
    return HeadChange(rows, _report(found, earlier, wanted, rows))


def _unnamed(found: Pretrained, earlier: Head, wanted: Head) -> HeadChange | None:
    size = len(earlier.outputs)
    known = listing(earlier.outputs, 8)
    if size > 1 and sorted(wanted.outputs) == sorted(map(str, range(size))):
        rows = tuple((int(name), 1) for name in wanted.outputs)
        return HeadChange(
            rows, f"the head is kept: the outputs {known} of the {found.where} are taken for 0 to {size - 1}"
        )
    if size != len(wanted.outputs):
        return None
    return HeadChange(
        (None,) * size,
        f"the head is new: the {found.where} calls its outputs {known}, so it is unknown which of them mean"
        f" {listing(wanted.outputs, 8)} (to keep them, name them under id2label in its config.json)",
    )


def _rows_by_name(earlier: Head, wanted: Head) -> tuple[Row | None, ...]:
    ids = {name: index for index, name in enumerate(earlier.outputs)}
    if len(ids) < len(earlier.outputs):  # a repeated name identifies nothing
        ids = {name: index for name, index in ids.items() if earlier.outputs.count(name) == 1}
    if wanted.opposite in ids and wanted.outputs[0] not in ids:
        # sigmoid(-x) = 1 - sigmoid(x)
        return ((ids[wanted.opposite], -1),)
    return tuple((ids[name], 1) if name in ids else None for name in wanted.outputs)


def _report(found: Pretrained, earlier: Head, wanted: Head, rows: tuple[Row | None, ...]) -> str:
    there, here = listing(earlier.outputs, 8), listing(wanted.outputs, 8)
    if not any(rows):
        return f"the head is new: the {found.where} has the labels {there}, but none of those in this data ({here})"
    if rows[0] is not None and rows[0][1] < 0:
        return (
            f"the head is kept with negated weights: the output of the {found.where} stands for {wanted.opposite},"
            f" here for {wanted.outputs[0]}"
        )
    if set(earlier.outputs) == set(wanted.outputs):
        return f"the head is kept, its outputs in the order of the labels here: {here} (in the {found.where}: {there})"
    kept = [name for name, row in zip(wanted.outputs, rows, strict=True) if row is not None]
    new = [name for name, row in zip(wanted.outputs, rows, strict=True) if row is None]
    gone = [name for name in earlier.outputs if name not in {*wanted.outputs, wanted.opposite}]
    parts = [f"the head of the {found.where} is kept for {listing(kept, 8)}"]
    if new:
        parts.append(f"is new for {listing(new, 8)}")
    if gone:
        to_keep = "name it in task.groups" if wanted.form == "grouped" else "list it in data.labels.names"
        parts.append(f"loses {listing(gone, 8)}, which this data lacks (to keep a label, {to_keep})")
    return "; it ".join(parts)


def about_new_head(hf: HuggingModel, new_tensors: Collection[str], wanted: Head) -> str:
    """The note on the tensors that the checkpoint lacks: those of the head and possibly of the pooler."""
    kind = "regression" if wanted.form == "linear" else "classification"
    head = {name for name, _ in hf.named_parameters() if not name.startswith(f"{hf.base_model_prefix}.")}
    if not head <= set(new_tensors):
        return f"Part of the {kind} head is new and will be trained: {listing(sorted(new_tensors), 4)}."
    others = sorted(set(new_tensors) - head)
    more = f" So are {listing(others, 4)}, which the checkpoint lacks." if others else ""
    return f"The {kind} head is new and will be trained.{more}"


# --- the layer itself ------------------------------------------------------------------------------------------------


def change_head(
    hf: HuggingModel, change: HeadChange, wanted: Head, *, found: Pretrained, new_tensors: Collection[str], seed: int
) -> str:
    """Give the last layer of `hf` the rows of `change`, and its configuration the wanted outputs; return a note for
    the user.

    New rows are initialised as in their family and depend only on `seed`. `new_tensors` are those that the checkpoint
    lacks: if the last layer is one of them, no row is kept, and there is nothing to report. ModelError if the outputs
    of the head are not the rows of one linear layer.
    """
    num_outputs = len(wanted.outputs)
    if not change.earlier_size and not _has_read_head(hf, new_tensors):
        return ""
    name = _label_layer(hf, num_outputs, found)
    earlier = hf.get_submodule(name)
    assert isinstance(earlier, nn.Linear), f"{name} is a linear layer"
    lacking = f"{name}.weight" in new_tensors
    rows = (None,) * num_outputs if lacking else change.rows
    layer = _new_layer(hf, name, earlier, num_outputs, seed)
    with torch.no_grad():
        for index, row in enumerate(rows):
            if row is not None:
                source, sign = row
                layer.weight[index] = sign * earlier.weight[source]
                if layer.bias is not None:
                    layer.bias[index] = sign * earlier.bias[source]
    hf.set_submodule(name, layer)
    hf.num_labels = num_outputs
    wanted.describe_on(hf.config)
    return "" if lacking else change.notice


def last_layer(hf: HuggingModel) -> nn.Linear:
    """The linear layer whose rows are the outputs, once a head is settled; ModelError where there is none."""
    prefix = hf.base_model_prefix + "."
    found = [
        module for name, module in hf.named_modules() if not name.startswith(prefix) and type(module) is nn.Linear
    ]
    if not found or found[-1].out_features != hf.num_labels:
        raise ModelError(
            f"the head of {type(hf).__name__} does not end in one linear layer, so none can be fitted.",
            hint='Set task.few = "off".',
            key="task.few",
            reason="its head does not end in one linear layer",
        )
    return found[-1]


@contextlib.contextmanager
def read_by_head(layer: nn.Linear) -> Iterator[list[torch.Tensor]]:
    """A list of what the last layer reads, [B, F] of each pass of its model within the context."""
    caught: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        handle.remove()


def _has_read_head(hf: HuggingModel, new_tensors: Collection[str]) -> bool:
    """Whether any parameter outside the backbone came from the checkpoint."""
    prefix = hf.base_model_prefix + "."
    return any(not name.startswith(prefix) and name not in new_tensors for name, _ in hf.named_parameters())


def _label_layer(hf: HuggingModel, num_outputs: int, found: Pretrained) -> str:
    """Name of the linear layer whose rows are the outputs: the only layer whose shape changes with their number."""
    shapes = [
        {name: p.shape for name, p in _twin(hf, number).named_parameters()}
        for number in (num_outputs, num_outputs + 1)
    ]
    differing = {name for name, shape in shapes[0].items() if shapes[1][name] != shape}
    layers = {name.rpartition(".")[0] for name in differing}
    name = layers.pop() if len(layers) == 1 else ""
    if not name or type(hf.get_submodule(name)) is not nn.Linear:
        raise ModelError(
            f"{found.key}: the head of the {found.where} ({type(hf).__name__}) does not end in one linear layer, so"
            f" its labels"
            " cannot be changed.",
            hint="Train on the same labels, or save its backbone without the head and start from that.",
        )
    return name


def _new_layer(hf: HuggingModel, name: str, earlier: nn.Linear, num_outputs: int, seed: int) -> nn.Linear:
    """The layer, initialised as in a new model of its family: some families initialise it from an enclosing module."""
    twin = _twin(hf, num_outputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(earlier.in_features, num_outputs, bias=earlier.bias is not None)
        twin.set_submodule(name, layer)
        path = name
        while path:
            twin._init_weights(twin.get_submodule(path))
            path = path.rpartition(".")[0]
        twin._init_weights(twin)
    return layer


def _twin(hf: HuggingModel, num_outputs: int) -> HuggingModel:
    """The same model with another number of outputs, on the meta device, without memory for its weights."""
    config = copy.deepcopy(hf.config)
    config.num_labels = num_outputs
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        kind: Callable[[HuggingConfig], HuggingModel] = type(hf)
        return kind(config)
