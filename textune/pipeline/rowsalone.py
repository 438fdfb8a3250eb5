"""Rows in memory without a configuration: `textune.train(rows, text="review", label="stars")`.

rows --what `init` proposes for files--> the configuration that `init` would write, and what was decided in words
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textune.config import (
    Absent,
    DataSection,
    Experiment,
    GivenSource,
    SplitOff,
    stands_for,
    starter_config,
    validation_ratio,
)
from textune.data import GivenRows, Rows, column_names, guess_rows, read_source
from textune.errors import ConfigError, DataError, InputError
from textune.owncode import article
from textune.pipeline.proposing import backbone_for, chosen_in_words, starter_facts, try_rows
from textune.wording import listing, nearest

_EXTENDS = "extends"
"""The one key of a configuration that is no section and may hold a list."""


@dataclass(frozen=True)
class Naming:
    """What a caller says in so many words: the columns to read, the backbone, and how much time to train for."""

    text: str | None = None
    label: str | Sequence[str] | None = None
    """A column, or several of 0 and 1, one for each label."""
    model: str | os.PathLike[str] | None = None
    preset: str | None = None
    """`fast`, `balanced` or `best`: how to train."""

    def __post_init__(self) -> None:
        """InputError for what is no name."""
        several = isinstance(self.label, list | tuple) and bool(self.label)
        for argument, given in (
            ("text", self.text),
            ("model", self.model if not isinstance(self.model, os.PathLike) else None),
            *(("label", one) for one in (self.label if several else (self.label,))),  # type: ignore[union-attr]
        ):
            if given is not None and not isinstance(given, str):
                what = "a name" if argument == "model" else "the name of a column"
                raise InputError(
                    f"{argument} = {given!r:.60} is {article(given)}, not {what}.",
                    hint=f'Write {argument}="...".',
                    key=argument,
                    value=given,
                    reason=f"not {what}",
                )

    @property
    def keys(self) -> dict[str, object]:
        """The same by the keys of the configuration."""
        several = self.label is not None and not isinstance(self.label, str)
        named = {
            "data.columns.text": self.text,
            "data.columns.labels" if several else "data.columns.label": list(self.label or ())
            if several
            else self.label,
            "model.pretrained": None if self.model is None else os.fspath(self.model),
        }
        return {key: value for key, value in named.items() if value is not None}


@dataclass(frozen=True)
class Proposed:
    """A configuration for rows in memory."""

    tree: dict[str, Any]
    """As `textune init` would write it, without the rows themselves."""
    chosen: Mapping[str, str]
    """What was decided, in words: text, label, task, rows, model."""
    notes: tuple[str, ...]
    """What the user should check, as sentences."""


def are_rows(given: object) -> bool:
    """Whether an argument is rows in memory, not a configuration: neither a name nor a dictionary of sections."""
    if given is None or isinstance(given, str) or hasattr(given, "__fspath__") or hasattr(given, "experiment"):
        return False
    if isinstance(given, Experiment):
        return False
    if not isinstance(given, Mapping):
        return True
    columns = [value for value in given.values() if _is_column(value)]
    return bool(columns) and len(columns) == len(given) and set(given) != {_EXTENDS}


def _is_column(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) and column_names(value) is None


def propose_for_rows(rows: GivenRows, held_out: Iterable[str], naming: Naming) -> Proposed:
    """What `init` would decide for the rows called `train`; `held_out` are the splits that rows are given for, too.

    DataError where a named column is not there, where none can be the text or the label, or where the rows cannot be
    trained on.
    """
    source = GivenSource(name="train")
    read = read_source(source, on_bad_row="skip", given=rows)
    labels = (naming.label,) if isinstance(naming.label, str) else tuple(naming.label or ())
    for argument, name in (("text", naming.text), *(("label", label) for label in labels)):
        _require_column(read, argument, name)
    guess = guess_rows(read, text=naming.text, label=labels[0] if labels else None)
    if len(labels) > 1:
        columns = guess.columns.model_copy(update={"label": "label", "labels": labels})
        guess = replace(guess, columns=columns, task="auto")
    _require_settled(guess.unsettled, read)
    given = set(held_out)
    section = DataSection(
        train=source,
        validation=GivenSource(name="validation")
        if "validation" in given
        else SplitOff(ratio=validation_ratio(guess.num_rows)),
        test=GivenSource(name="test") if "test" in given else Absent(),
        columns=guess.columns,
        labels=guess.labels,
    )
    tried = try_rows(section, guess.task, rows)
    _require_settled(tried.unsettled, read)
    backbone, _ = backbone_for(None if naming.model is None else os.fspath(naming.model), tried, near=[Path.cwd()])
    if backbone.unsettled:
        raise ConfigError(backbone.unsettled[0], key="model.pretrained", hint='Or name a folder: model="FOLDER".')
    facts = starter_facts(guess, tried, model=backbone.pretrained, remark=backbone.remark)
    tree = tomllib.loads(starter_config(facts))
    for name in ("train", *given):
        tree["data"].pop(name, None)
    chosen = chosen_in_words(guess, tried.data) | {"model": backbone.in_words}
    return Proposed(tree, chosen, (*guess.notes, *tried.notes, *backbone.notes))


def decided(proposed: Proposed, experiment: Experiment) -> str:
    """What was decided, in a sentence; of a backbone that the overrides name, its name alone."""
    chosen = dict(proposed.chosen)
    section = experiment.model
    named = proposed.tree["model"]["pretrained"]
    if (name := getattr(section, "pretrained", "")) and name != named and not stands_for(named, name):
        chosen["model"] = name
    said = "; ".join(f"{name}: {words}" for name, words in chosen.items())
    return f"decided from the rows: {said}; {experiment.train.duration} (others by text=, label=, model=, overrides=)"


def _require_column(read: Rows, argument: str, name: str | None) -> None:
    there = read.table.column_names
    if name is None or name in there:
        return
    close = nearest(name, there)
    raise DataError(
        f"{argument} = {name!r}: the rows have no such column; their columns are"
        f" {listing(map(repr, there), 12) or 'none'}.",
        hint=f"Did you mean {close!r}?" if close else f"Name one of them: {argument}=...",
        key=argument,
        value=name,
        place=read.source,
        reason="no such column",
    )


def _require_settled(unsettled: Sequence[str], read: Rows) -> None:
    """DataError with what the user has to say first."""
    if not unsettled:
        return
    raise DataError(
        f"{read.source}: {' '.join(unsettled)}",
        hint="The columns are named by text= and label=, everything else by overrides=.",
        key="train",
        value=list(read.table.column_names),
        place=read.source,
        reason=unsettled[0],
    )
