"""A run that is complete and asked for again: are its rows still those that it learned from? For `train.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from textune.config import Experiment
from textune.data import GivenRows, prepare_data
from textune.errors import TextuneError
from textune.pipeline.continuing import earlier_card, known_labels
from textune.run import RunFolder, read_manifest
from textune.tasks import stated_labels
from textune.wording import listing

_HERE = ("files", "saved", "given", "split", "fold", "none")
"""Kinds of sources that are read without a network or code of the user's."""


def said_of_rows(experiment: Experiment, folder: RunFolder, given: GivenRows) -> str:
    """What a complete run is told where its rows have changed, can no longer be read, or are not compared: those of
    the hub, of the user's code, of streams, and documents. Empty where they are the same."""
    then = read_manifest(folder.path).data
    if not then:
        return ""
    if experiment.task.kind == "conditional_lm" or any(kind not in _HERE for kind in _kinds(experiment)):
        return (
            f"whether its rows have changed was not looked at: to learn from new or changed rows, train into a new"
            f" folder, such as --run {folder.next_free()}."
        )
    try:
        data = prepare_data(
            experiment.data,
            kind=experiment.task.kind,
            known_names=known_labels(experiment.model, earlier_card(experiment.model)),
            stated=stated_labels(experiment.task, experiment.data.columns),
            given=given,
        )
    except TextuneError as error:
        return f"the rows of {folder.path} were not compared with those that it learned from: {error.message}"
    changed = [f"data.{name}" for name, mark in data.fingerprints.items() if then.get(name, mark) != mark]
    if not changed:
        return ""
    return (
        f"{listing(changed)} changed since {folder.path} was trained: the model and its reports are of the rows as"
        f" they were. To learn from the rows as they are, train into a new folder, such as --run {folder.next_free()}."
    )


def _kinds(experiment: Experiment) -> Iterator[str]:
    """Of every source; of several that are one, the kind of each."""
    data = experiment.data
    waiting: list[Any] = [data.train, data.validation, data.test, *data.evaluations.values()]
    while waiting:
        source = waiting.pop()
        if source.kind == "concat":
            waiting += source.sources
        else:
            yield source.kind
