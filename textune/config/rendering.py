"""What documents with metadata cannot go with, and keys of `metadata` that contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from textune.config.documents import IndependentTypes, MetadataSection, UniformTypes
from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.sources import StreamSource
from textune.wording import listing, nearest

_HTML = "html"


def rendering_problems(experiment: Experiment) -> list[Problem]:
    """Documents are rendered for language models, which no task trains."""
    if experiment.metadata is None:
        return []
    message = "metadata renders documents for a language model, and no task trains one: tasks are classifiers."
    return [Problem(("metadata",), message, "Leave the section out; textune render and textune check read it.")]


def metadata_problems(experiment: Experiment) -> list[Problem]:
    """Keys of `metadata` that contradict each other or the data, wherever documents are rendered."""
    section = experiment.metadata
    if section is None:
        hint = 'Name the types of metadata, such as metadata.types = ["url", "title"].'
        return [Problem(("metadata",), "metadata is not set: nothing says how documents become text.", hint)]
    problems = [*_types_named_twice(section), *_types_not_named(section)]
    if section.sampling.html_rate is not None and _HTML not in section.types:
        message = "metadata.sampling.html_rate is set, but metadata.types does not name html."
        place = ("metadata", "sampling", "html_rate")
        problems.append(
            Problem(place, message, "Add html to the types, or leave the rate out.", section.sampling.html_rate)
        )
    return [*problems, *_without_a_length(experiment, section)]


def _types_named_twice(section: MetadataSection) -> Iterator[Problem]:
    for name in dict.fromkeys(section.types):
        if section.types.count(name) > 1:
            yield Problem(("metadata", "types"), f"metadata.types names {name} twice.", "Name each type once.", name)


def _types_not_named(section: MetadataSection) -> Iterator[Problem]:
    """Settings of types that are not rendered."""
    keys: dict[tuple[str, ...], Iterable[str]] = {
        ("type_tokens",): section.type_tokens,
        ("wraps",): section.wraps,
        ("priority",): section.priority,
    }
    if isinstance(section.sampling, UniformTypes) and section.sampling.weights != "counts":
        keys["sampling", "weights"] = section.sampling.weights
    if isinstance(section.sampling, IndependentTypes):
        keys["sampling", "rates"] = section.sampling.rates
    for place, names in keys.items():
        for name in names:
            if name not in section.types:
                key, close = ".".join(("metadata", *place)), nearest(name, section.types)
                hint = f"Did you mean {close}? " if close else ""
                message = f"{key} names {name}, which is not one of metadata.types: {listing(section.types)}."
                yield Problem(("metadata", *place), message, f"{hint}Add it to the types, or leave it out here.", name)


def _without_a_length(experiment: Experiment, section: MetadataSection) -> Iterator[Problem]:
    """A curriculum by shares of a run of unknown length."""
    train, source = experiment.train, experiment.data.train
    in_epochs = train.duration.unit == "epochs"
    if section.sampling.curriculum and in_epochs and isinstance(source, StreamSource) and source.num_rows is None:
        message = (
            "metadata.sampling.curriculum goes by shares of the run's documents, but their number is not known:"
            f' train.duration = "{train.duration}" counts epochs, and the length of an epoch of a stream is not known.'
        )
        hint = "Set data.train.num_rows to the number of its rows, or give train.duration in steps."
        yield Problem(("data", "train", "num_rows"), message, hint)
