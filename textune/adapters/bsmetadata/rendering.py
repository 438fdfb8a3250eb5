"""`metadata` of a run of bsmetadata: which types, how they become text, and which are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

from textune.adapters.bsmetadata.data import experiment_of
from textune.adapters.bsmetadata.given import Settings
from textune.adapters.bsmetadata.keys import HTML, METADATA, RULES, TYPES
from textune.adapters.foreign import Line
from textune.config import Problem, parse_key, refuse

Compat = Literal["bsmetadata", "none"]
_LONGEST = 1_000_000_000
"""Characters; stands for no limit."""
_SENTENCES = "generation_length_sentence"


def types_of(settings: Settings, notes: list[str]) -> tuple[str, ...]:
    """The types that are rendered, in the order of the prefix, by the names of their columns.

    `metadata_list` has what entries are called; where metadata stands in columns, only those of `metadata_column_list`
    are read. What that leaves out is added to `notes`.
    """
    experiment = experiment_of(settings)
    if not experiment.renders:
        return ()
    columns: list[str] = settings[METADATA + "metadata_column_list"]
    found: list[str] = []
    unread: list[str] = []
    for key in settings[METADATA + "metadata_list"]:
        names = _names(key, columns, by_column=experiment.by_column)
        read = [name for name in names if not experiment.by_column or name in columns]
        if not read and not set(names) & set(found):
            unread.append(key)
        found += [name for name in read if name not in found]
    if experiment.by_column and not found:
        notes.append("metadata_list names no column of metadata_column_list: documents are read without metadata.")
    elif unread:
        notes.append(
            f"metadata_list names {', '.join(unread)}, whose columns metadata_column_list does not read: no prefix"
            " has them, as there."
        )
    return tuple(found)


def _names(key: str, columns: list[str], *, by_column: bool) -> list[str]:
    """The types that entries with this key may be."""
    if key != "length":
        return [TYPES.get(key, key)]
    both = [TYPES[key], _SENTENCES]
    return [name for name in both if not by_column or name in columns] or both[:1]


def _of_types(given: Mapping[str, str] | None, types: tuple[str, ...]) -> dict[str, str]:
    """A table by key of entries as one by type, of the types that are rendered."""
    return {TYPES.get(key, key): value for key, value in (given or {}).items() if TYPES.get(key, key) in types}


def metadata_lines(settings: Settings, types: tuple[str, ...], compat: Compat, notes: list[str]) -> Iterator[Line]:
    """The section `metadata`; none where nothing is rendered."""
    if not types:
        return
    columns = [METADATA + "metadata_column_list"] * experiment_of(settings).by_column
    yield Line("metadata.types", types, ", ".join(["metadata_list", *(key.rpartition(".")[2] for key in columns)]))
    remark = "text, tokens and masks bit for bit as there" if compat == "bsmetadata" else "the mended rules"
    yield Line("metadata.compat", compat, remark)
    yield Line("metadata.on_bad_metadata", "report", "entries that cannot be rendered are left out there, too")
    for ours, theirs in (
        ("separator", "metadata_sep"),
        ("key_value_separator", "metadata_key_value_sep"),
        ("prefix_separator", "metadata_prefix_sep"),
        ("prefix_start", "metadata_prefix_start_seq"),
        ("types_in_prefix", "add_local_metadata_special_tokens_in_prefix"),
        ("score_inline", "treat_local_metadata_as_regular_text"),
    ):
        yield Line(f"metadata.{ours}", settings[METADATA + theirs], settings.origin(METADATA + theirs))
    position = {"beg": "begin", "end": "end"}[settings[METADATA + "entity_setting"]]
    yield Line("metadata.entity_position", position, settings.origin(METADATA + "entity_setting"))
    tokens = _of_types(settings[METADATA + "local_metadata_special_tokens"], types)
    if tokens and settings[METADATA + "add_local_metadata_special_tokens_in_prefix"]:
        yield Line("metadata.type_tokens", tokens, "local_metadata_special_tokens")
    starts = _of_types(settings[METADATA + "local_metadata_special_token_start"], types)
    ends = _of_types(settings[METADATA + "local_metadata_special_token_end"], types)
    wraps = {name: [starts.get(name, ""), ends.get(name, "")] for name in dict.fromkeys((*starts, *ends))}
    if wraps:
        yield Line("metadata.wraps", wraps, "local_metadata_special_token_start and _end")
    if "html" in types:
        yield from _html_lines(settings)
    yield from _sampling_lines(settings, types, notes)


def _html_lines(settings: Settings) -> Iterator[Line]:
    """Which tags are left out: those of some lengths, of some names, or both."""
    attributes = settings[RULES + "attributes_to_keep"]
    if attributes is not None:
        yield Line("metadata.html.attributes", tuple(attributes), "attributes_to_keep")
    lengths = _lengths(settings[RULES + "txt_min_chr_len"], settings[RULES + "txt_max_chr_len"])
    if lengths is not None:
        yield Line("metadata.html.drop_all_lengths", lengths, "txt_min_chr_len, txt_max_chr_len")
        kept = settings[RULES + "tags_exceptions_to_txt_max_min_chr_len"] or []
        yield Line("metadata.html.keep", tuple(kept), "tags_exceptions_to_txt_max_min_chr_len")
    alone = _alone(settings)
    always = tuple(tag for tag, span in alone.items() if span == (0, _LONGEST))
    if always:
        yield Line("metadata.html.drop", always, "tags_to_remove_alone_..., of any length")
    some = {tag: list(span) for tag, span in alone.items() if span is not None and span != (0, _LONGEST)}
    if some:
        yield Line("metadata.html.drop_lengths", some, "tags_to_remove_alone_...")


def _alone(settings: Settings) -> dict[str, tuple[int, int] | None]:
    """The lengths at which each tag of a list is left out; the three lists go together."""
    parts = ("tag_name", "txt_min_chr_len", "txt_max_chr_len")
    tags, least, most = (settings[f"{HTML}tags_to_remove_alone_{part}"] for part in parts)
    if not len(tags) == len(least) == len(most):
        sizes = ", ".join(
            f"{len(found)} in tags_to_remove_alone_{part}"
            for part, found in zip(parts, (tags, least, most), strict=True)
        )
        message = f"The lists of tags to remove alone go together, but have different lengths: {sizes}."
        refuse(
            [Problem(parse_key(HTML + "tags_to_remove_alone_tag_name"), message, "Give each tag both lengths.", tags)]
        )
    return {tag: _lengths(low, high) for tag, low, high in zip(tags, least, most, strict=True)}


def _lengths(low: float, high: float) -> tuple[int, int] | None:
    """The fewest and the most characters as whole numbers; None where no length lies between them."""
    fewest = 0 if low <= 0 else math.ceil(min(low, _LONGEST))
    most = -1 if high < 0 else math.floor(min(high, _LONGEST))
    return (fewest, most) if fewest <= most else None


def _sampling_lines(settings: Settings, types: tuple[str, ...], notes: list[str]) -> Iterator[Line]:
    samples = settings[METADATA + "random_sample_metadata"]
    rate = settings[METADATA + "html_overall_sample_rate"]
    by_itself = "html" in types and rate != 1
    weights = _weights(settings, types, by_itself=by_itself)
    drawn = samples and weights != {}  # where no type has a weight, none is ever left out
    origin = settings.origin(METADATA + "random_sample_metadata") + ("" if drawn == samples else ", of no other type")
    yield Line("metadata.sampling.kind", "uniform" if drawn else "all", origin)
    yield Line(
        "metadata.sampling.probability",
        settings[METADATA + "metadata_probability"],
        settings.origin(METADATA + "metadata_probability"),
    )
    if by_itself:
        origin = settings.origin(METADATA + "html_overall_sample_rate")
        yield Line("metadata.sampling.html_rate", rate, f"{origin}: now as its description says")
        notes.append(
            f"html_overall_sample_rate = {rate:g} is the share of documents with HTML that are rendered with it, as"
            " its description says. There it works the other way round: at 0 all HTML is kept."
        )
    if drawn:
        yield from _weight_lines(settings, weights, by_itself=by_itself)
    elif experiment_of(settings).always_streams and not samples:
        notes.append(
            "random_sample_metadata = false: every type is rendered. With with_metadata_datasetv2_tf the original"
            " draws types all the same."
        )


def _weights(settings: Settings, types: tuple[str, ...], *, by_itself: bool) -> dict[str, float] | None:
    """The weights of the types that are drawn together; None where they are counted."""
    given = settings[METADATA + "random_sample_metadata_weights"]
    if given is None:
        return None
    by_type = {TYPES.get(name, name): weight for name, weight in given.items()}
    return {name: weight for name, weight in by_type.items() if name in types and not (by_itself and name == "html")}


def _weight_lines(settings: Settings, weights: dict[str, float] | None, *, by_itself: bool) -> Iterator[Line]:
    if weights is None:
        yield Line("metadata.sampling.weights", "counts", "no random_sample_metadata_weights")
        size = settings[METADATA + "random_sample_metadata_calculate_size"]
        if size > 0:
            origin = settings.origin(METADATA + "random_sample_metadata_calculate_size")
            yield Line("metadata.sampling.count_rows", size, origin)
        return
    why = "; html is drawn by its own rate" if by_itself else ""
    yield Line("metadata.sampling.weights", weights, f"random_sample_metadata_weights{why}")
