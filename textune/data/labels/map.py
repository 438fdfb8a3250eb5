"""The label map, and how the id of a written label is found in it; shared by `infer.py` and `encode.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from textune.data.labels.values import whole
from textune.wording import count, listing

Problem = Literal["binary", "multiclass", "multilabel", "regression", "language"]

LABEL = "label"
"""Name of the targets made from the label column, and of the head that learns them."""


@dataclass(frozen=True)
class OwnLabels:
    """What a task of the user's own says of its labels beyond their names."""

    read: Callable[[object, str], object]
    """One label as written (never missing), and where it stands for messages, to a class id, a row of 0 and 1 with
    one for each label, or a number; ValueError, with the reason, for a label that cannot be used."""
    outputs: tuple[str, ...]
    """Names of the model's outputs."""


@dataclass(frozen=True)
class LabelMap:
    """What the model predicts: the kind of problem and the label names in the order of their ids."""

    problem: Problem
    names: tuple[str, ...]
    """Label names; for regression the one name `score`, for a language model `text`."""
    multi_hot: bool | None = None
    """Multilabel: whether lists in the data are multi-hot rows. None: decided by each data set's own lists."""
    own: OwnLabels | None = field(default=None, compare=False, repr=False)
    """What reads the labels, where the task does so itself."""

    @property
    def ids(self) -> dict[str, int]:
        """Name to id."""
        return {name: index for index, name in enumerate(self.names)}

    @property
    def choices(self) -> tuple[str, ...]:
        """The labels that a row may have; none for numbers."""
        return () if self.problem in ("regression", "language") else self.names

    @property
    def exclusive(self) -> bool:
        """Whether a row has exactly one of the labels."""
        return self.problem in ("binary", "multiclass")

    @property
    def several(self) -> bool:
        """Whether a row may have any number of the labels."""
        return self.problem == "multilabel"

    @property
    def noun(self) -> str:
        """What a name stands for: a class, one of several labels, or a number."""
        return {"multilabel": "label", "regression": "number"}.get(self.problem, "class")

    @property
    def nouns(self) -> str:
        """Its plural."""
        return "classes" if self.noun == "class" else f"{self.noun}s"

    def no_targets(self) -> np.ndarray:
        """Targets of no rows: like those of `encode_labels`, with a first axis of length 0."""
        if self.problem == "multilabel":
            return np.zeros((0, len(self.names)), np.float32)
        return np.zeros(0, np.float32 if self.problem == "regression" else np.int64)

    def about(self) -> str:
        """What is predicted, as the first lines of a report say it."""
        if self.problem == "binary":
            return f'binary, the positive class is "{self.names[1]}"'
        return f"{self.problem}, {count(len(self.choices), self.noun, self.nouns)}" if self.choices else self.problem

    def __str__(self) -> str:
        """The problem and its labels in one line."""
        labels = f", {count(len(self.choices), 'label')}: {listing(self.choices, 8)}"
        return f"{self.problem}{labels if self.choices else ''}"


LabelMaps = Mapping[str, LabelMap]
"""What each head predicts, by its name, in the order of the heads; a task with one head calls it `LABEL`."""

REGRESSION = LabelMap("regression", ("score",))
LANGUAGE = LabelMap("language", ("text",))
"""What a language model predicts: the text itself."""


def are_stated(label_maps: LabelMaps) -> bool:
    """Whether the section `task` itself says what the labels are, rather than the rows."""
    return len(label_maps) > 1 or any(label_map.own is not None for label_map in label_maps.values())


def full_names(label_maps: LabelMaps) -> tuple[str, ...]:
    """Every label of all heads, each named alike nowhere else: `neg`, or `tone/neg` where there are several heads."""
    if len(label_maps) == 1:
        return next(iter(label_maps.values())).names
    return tuple(f"{head}/{name}" for head, label_map in label_maps.items() for name in label_map.names)


def choices_of(label_maps: LabelMaps) -> tuple[str, ...]:
    """The labels that a row may have, of all heads, named as in `full_names`; none for numbers."""
    return full_names(label_maps) if any(label_map.choices for label_map in label_maps.values()) else ()


def problem_of(label_maps: LabelMaps) -> str:
    """The kind of problem in one word: that of a single head, or `multitask`."""
    return next(iter(label_maps.values())).problem if len(label_maps) == 1 else "multitask"


def is_truth(text: str) -> bool:
    """Whether a label says true or false, in any case."""
    return text.lower() in {"true", "false"}


class LabelLookup:
    """Finds the id of a label as it is written in the data."""

    def __init__(self, names: tuple[str, ...], *, given: bool) -> None:
        """`given`: the order of the names was given, so an integer may mean the name at that position."""
        self.ids = {name: index for index, name in enumerate(names)}
        self._by_position = given and not any(name.isdigit() for name in names)

    def __call__(self, text: str) -> int | None:
        """Id of a name, of a whole number such as `1.0` for the name `1`, or of a position; None for an unknown
        label."""
        if text in self.ids:
            return self.ids[text]
        if is_truth(text):  # written another way in another file: true, True, TRUE
            return next((place for name, place in self.ids.items() if name.lower() == text.lower()), None)
        integer = whole(text) or text
        if integer in self.ids:
            return self.ids[integer]
        if (
            self._by_position
            and integer.isascii()
            and integer.isdigit()
            and len(integer) < 10
            and int(integer) < len(self.ids)
        ):
            return int(integer)
        return None
