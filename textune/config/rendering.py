"""What documents with metadata cannot go with, and keys of `metadata` that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping

from textune.config.documents import HtmlRules, MetadataSection
from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.sources import StreamSource
from textune.config.toml import format_key
from textune.wording import listing, nearest, repeated_names


def rendering_problems(experiment: Experiment) -> list[Problem]:
    """Documents are rendered for language models, which no task trains."""
    if experiment.metadata is None:
        return []
    message = "metadata renders documents for a language model, and no task trains one: tasks are classifiers."
    return [Problem(("metadata",), message, "Leave the section out; textune render and textune check read it.")]


def document_problems(experiment: Experiment) -> list[Problem]:
    """What documents cannot be made of, and names of types that `metadata.types` does not have."""
    section = experiment.metadata
    if section is None:
        message = "metadata is not set: it says which types of metadata documents have, and how they become text."
        return [Problem(("metadata",), message, 'Add it, such as [metadata] with types = ["url", "title"].')]
    problems = []
    columns = experiment.data.columns
    for key in ("template", "text_pair"):
        if getattr(columns, key) is not None:
            message = (
                f"data.columns.{key} is set, but the text of a document is one column: spans count its characters."
            )
            problems.append(Problem(("data", "columns", key), message, "Leave it out, and set data.columns.text."))
    if twice := repeated_names(section.types):
        message = f"metadata.types names {listing(twice)} more than once."
        problems.append(Problem(("metadata", "types"), message, "Name each type once.", section.types))
    for place, names in _named_types(section).items():
        for name in names:
            if name in section.types:
                continue
            close = nearest(name, section.types)
            hint = f"Did you mean {close}?" if close else f"Use those of metadata.types: {listing(section.types)}."
            message = f"{format_key(*place)} names {name}, which is not in metadata.types."
            problems.append(Problem(place, message, hint, name))
    rate = section.sampling.html_rate
    if rate is not None and "html" not in section.types:
        message = "metadata.sampling.html_rate is set, but metadata.types does not name html."
        hint = "Add html to the types, or leave the rate out."
        problems.append(Problem(("metadata", "sampling", "html_rate"), message, hint, rate))
    if section.as_original and section.reopen_tags:
        message = 'metadata.reopen_tags is set, but with compat = "bsmetadata" no tag is opened again.'
        problems.append(
            Problem(("metadata", "reopen_tags"), message, "Leave one of the two out.", section.reopen_tags)
        )
    return [*problems, *_unused_keys(section), *_curriculum_problems(experiment, section)]


def _unused_keys(section: MetadataSection) -> list[Problem]:
    """Keys that change nothing without another one, or beside another one."""
    problems = []
    if section.as_original and section.reopen_tags:
        message = 'metadata.reopen_tags is set, but with compat = "bsmetadata" no tag is opened again.'
        problems.append(Problem(("metadata", "reopen_tags"), message, "Leave one of the two out.", True))
    if section.type_tokens and not section.types_in_prefix:
        message = "metadata.type_tokens is set, but metadata.types_in_prefix is false: no prefix names a type."
        problems.append(Problem(("metadata", "type_tokens"), message, "Set types_in_prefix = true, or leave it out."))
    if section.html.keep != HtmlRules().keep and section.html.drop_all_lengths is None:
        message = (
            "metadata.html.keep is set, but metadata.html.drop_all_lengths, which it makes exceptions to, is not."
        )
        problems.append(
            Problem(("metadata", "html", "keep"), message, "Set drop_all_lengths = [0, 0], or leave it out.")
        )
    return problems


def _curriculum_problems(experiment: Experiment, section: MetadataSection) -> list[Problem]:
    """A curriculum by shares of a run of unknown length."""
    source, duration = experiment.data.train, experiment.train.duration
    known = not isinstance(source, StreamSource) or source.num_rows is not None
    if known or duration.unit != "epochs" or not section.sampling.curriculum:
        return []
    message = (
        "metadata.sampling.curriculum goes by shares of the run's documents, but their number is not known:"
        f' train.duration = "{duration}" counts epochs, and the length of an epoch of a stream is not known.'
    )
    hint = "Set data.train.num_rows to the number of its rows, or give train.duration in steps."
    return [Problem(("data", "train", "num_rows"), message, hint)]


def _named_types(section: MetadataSection) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """The types that other keys name, by the place of the key."""
    named: dict[tuple[str, ...], tuple[str, ...]] = {
        ("metadata", key): tuple(getattr(section, key)) for key in ("type_tokens", "wraps", "priority")
    }
    for key in ("weights", "rates"):
        given = getattr(section.sampling, key, None)
        if isinstance(given, Mapping):
            named["metadata", "sampling", key] = tuple(given)
    return named
