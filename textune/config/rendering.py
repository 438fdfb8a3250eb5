"""What documents with metadata cannot go with, and keys of `metadata` that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from textune.config.documents import HtmlRules, MetadataSection
from textune.config.fields import Place
from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.section import Section
from textune.config.sources import ConcatSource, SetsByType, StreamSource
from textune.config.taskkinds import ConditionalLmTask
from textune.config.toml import format_key, format_value
from textune.config.values import Arm
from textune.wording import listing, nearest, repeated_names

_NOT_AS_ORIGINAL = {
    "position": "the fields stand before the text",
    "priority": "a long prefix is cut by tokens, not by fields",
    "prefix_share": "a prefix has at most half of a chunk",
    "reopen_tags": "no tag is opened again",
    "begin_token": "no chunk has such a token",
    "end_token": "no document has such a token",
}
"""Keys that `compat` leaves without effect, and what is done instead."""
_OF_TEXTS_ALONE = {"types", "compat", "min_tokens", "begin_token", "end_token"}
"""Keys of `metadata` that say something of documents without any type of metadata."""
_OF_CLASSIFIERS = {
    ("tokens", "truncate"): "a longer document becomes several chunks",
    ("tokens", "long"): "a longer document becomes several chunks",
    ("tokens", "drop_longer"): "a longer document becomes several chunks",
    ("data", "metadata"): "what stands before a document is what metadata.types names",
}
"""Keys without effect on documents, and what is done instead."""


def rendering_problems(experiment: Experiment) -> list[Problem]:
    """Documents are rendered for language models alone."""
    if experiment.metadata is None:
        return [
            Problem(
                (*place, "by_type"),
                f"{format_key(*place, 'by_type')} makes sets of documents, but metadata is not set.",
                "Leave it out, or describe the documents in [metadata].",
                source.by_type,
            )
            for place, source in _sources(experiment)
            if source.by_type
        ]
    if isinstance(experiment.task, ConditionalLmTask):
        return document_problems(experiment)
    kind = experiment.task.kind
    message = f'metadata renders documents for a language model, but task.kind = "{kind}" trains a classifier.'
    hint = 'Set task.kind = "conditional_lm", or leave the section out (columns before a text: data.metadata).'
    return [Problem(("metadata",), message, hint)]


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
    for key, names in (("types", section.types), ("priority", section.priority)):
        if twice := repeated_names(names):
            message = f"metadata.{key} names {listing(twice)} more than once."
            problems.append(Problem(("metadata", key), message, "Name each type once.", names))
    named = _named_types(section) | {(*place, "by_type"): source.by_type for place, source in _sources(experiment)}
    for place, names in named.items():
        for name in names:
            if name in section.types:
                continue
            close = nearest(name, section.types)
            those = f"Use those of metadata.types: {listing(section.types)}." if section.types else "Name it there."
            hint = f"Did you mean {close}?" if close else those
            message = f"{format_key(*place)} names {name}, which is not in metadata.types."
            problems.append(Problem(place, message, hint, name))
    for (part, key), instead in _OF_CLASSIFIERS.items():
        within = getattr(experiment, part)
        if getattr(within, key) != type(within).model_fields[key].default:
            message = f"{part}.{key} is set, but it is about the texts of classifiers: {instead}."
            problems.append(Problem((part, key), message, "Leave it out."))
    problems += [*_unused_keys(section), *_untyped_problems(experiment, section)]
    problems += _suffix_problems(experiment, section)
    problems += [*_set_problems(experiment), *_curriculum_problems(experiment, section)]
    return [*problems, *(_fixed_row_problems(section) if experiment.data.chunks == "fixed" else ())]


def _sources(experiment: Experiment) -> Iterator[tuple[Place, SetsByType]]:
    """Every source of rows but streams, and every share of the training rows, by its place; those in others too."""

    def within(place: Place, source: Section) -> Iterator[tuple[Place, SetsByType]]:
        if isinstance(source, SetsByType):
            yield place, source
        if isinstance(source, ConcatSource):
            for number, one in enumerate(source.sources):
                yield from within((*place, "sources", number), one)

    data = experiment.data
    for name in ("train", "validation", "test"):
        yield from within(("data", name), getattr(data, name))
    for name, source in data.evaluations.items():
        yield from within(("data", "evaluations", name), source)


def _set_problems(experiment: Experiment) -> list[Problem]:
    """Sets by type of rows that are not a held-out set, and sets that would have the name of another."""
    problems = []
    data = experiment.data
    taken = {"train", "validation", "test", *data.evaluations}
    for place, source in _sources(experiment):
        key, names = format_key(*place, "by_type"), [set_by_type(str(place[-1]), name) for name in source.by_type]
        if not names:
            continue
        if place == ("data", "train") or isinstance(place[-1], int):
            hint = "Set it in data.validation, data.test or a set of data.evaluations."
            problems.append(
                Problem((*place, "by_type"), f"{key}: only a held-out set as a whole has sets by type.", hint)
            )
        elif twice := repeated_names(names):
            problems.append(
                Problem((*place, "by_type"), f"{key} makes {twice[0]} more than once.", "Name each type once.")
            )
        elif clash := sorted(taken.intersection([*names, set_by_type(str(place[-1]))])):
            message = f"{key} makes a set {clash[0]}, but data.evaluations has one of that name."
            problems.append(Problem((*place, "by_type"), message, "Give the other set another name."))
    return problems


def set_by_type(name: str, type_: str = "") -> str:
    """What the set of a type is called, such as `validation-url`; without a type, that of documents without any."""
    return f"{name}-{type_}" if type_ else f"{name}-no-metadata"


def arm_of_set(name: str, arm: Arm) -> str:
    """What the set is called that has the documents of another one in this arm, such as `validation-without`."""
    return f"{name}-{arm}"


def _unused_keys(section: MetadataSection) -> list[Problem]:
    """Keys that change nothing without another one, or beside another one."""
    problems = []
    for key, instead in _NOT_AS_ORIGINAL.items() if section.as_original else ():
        value = getattr(section, key)
        if value not in (MetadataSection.model_fields[key].default, "never"):
            message = f'metadata.{key} is set, but with compat = "bsmetadata" {instead}.'
            problems.append(Problem(("metadata", key), message, "Leave one of the two out.", value))
    rate = section.sampling.html_rate
    if rate is not None and "html" not in section.types:
        message = "metadata.sampling.html_rate is set, but metadata.types does not name html."
        hint = "Add html to the types, or leave the rate out."
        problems.append(Problem(("metadata", "sampling", "html_rate"), message, hint, rate))
    for key in ("rates", "weights") if rate is not None else ():
        if isinstance(given := getattr(section.sampling, key, None), Mapping) and "html" in given:
            message = f"metadata.sampling.{key} names html, but html_rate is set, and HTML is drawn by that alone."
            problems.append(Problem(("metadata", "sampling", key), message, "Leave one of the two out.", "html"))
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


def _suffix_problems(experiment: Experiment, section: MetadataSection) -> Iterator[Problem]:
    """Fields behind a text that a language model does not learn: nothing comes after them that could read them."""
    is_suffix = section.position == "suffix" and section.types
    if is_suffix and isinstance(experiment.task, ConditionalLmTask) and not experiment.task.metadata_loss:
        message = (
            'metadata.position = "suffix" puts fields behind the text, where no text reads them, and with'
            " task.metadata_loss = false they are not learned either."
        )
        hint = "Set task.metadata_loss = true, or leave metadata.position out."
        yield Problem(("metadata", "position"), message, hint, "suffix")


def _untyped_problems(experiment: Experiment, section: MetadataSection) -> Iterator[Problem]:
    """Keys about metadata where no type of it is named. A run that sets `types = []` beside them goes without metadata
    on purpose: as one of several that are compared."""
    if "types" in section.model_fields_set:
        return
    places: list[Place] = [("metadata", key) for key in sorted(section.model_fields_set - _OF_TEXTS_ALONE)]
    if isinstance(experiment.task, ConditionalLmTask) and experiment.task.metadata_loss:
        places.append(("task", "metadata_loss"))
    for place in places:
        message = f"{format_key(*place)} is set, but metadata.types is not: documents are texts alone."
        yield Problem(place, message, "Name the types in metadata.types, or set it to [] for texts alone.")


def _fixed_row_problems(section: MetadataSection) -> Iterator[Problem]:
    """Keys that contradict rows of one length, which are cut from documents one after the other."""
    wrong: list[tuple[str, object, str]] = []
    if section.as_original:
        wrong.append(("compat", section.compat, "no token ends a document there"))
    if section.end_token == "never":
        wrong.append(("end_token", section.end_token, "that token stands between documents"))
    if section.reopen_tags:
        wrong.append(("reopen_tags", True, "rows are cut wherever they are full"))
    for key, value, reason in wrong:
        message = f'metadata.{key} = {format_value(value)} cannot go with data.chunks = "fixed": {reason}.'
        yield Problem(("metadata", key), message, 'Leave it out, or use data.chunks = "document".', value)


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


def _named_types(section: MetadataSection) -> dict[Place, tuple[str, ...]]:
    """The types that other keys of the section name, by the place of the key."""
    named: dict[Place, tuple[str, ...]] = {
        ("metadata", key): tuple(getattr(section, key)) for key in ("type_tokens", "wraps", "priority")
    }
    for key in ("weights", "rates"):
        given = getattr(section.sampling, key, None)
        if isinstance(given, Mapping):
            named["metadata", "sampling", key] = tuple(given)
    return named
