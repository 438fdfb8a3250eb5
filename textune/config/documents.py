"""The keys of `metadata`: how documents with their metadata become text for a language model; part of `schema.py`."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from textune.config.section import Section
from textune.config.values import Names

SpecialToken = Literal["auto", "always", "never"]
Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(lengths: tuple[int, int]) -> tuple[int, int]:
    if lengths[0] > lengths[1]:
        raise ValueError(f"at least {lengths[0]} and at most {lengths[1]} characters is no length")
    return lengths


Lengths = Annotated[tuple[NonNegativeInt, NonNegativeInt], AfterValidator(_ascending)]
"""The fewest and the most characters, both included."""


class HtmlRules(Section):
    """Which HTML tags and attributes are rendered."""

    attributes: Names | None = None
    """Attributes to keep, such as `["class", "id"]`; by default all, and with an empty list none."""
    drop: Names = ()
    """Tags that are never rendered, such as `body`."""
    drop_lengths: dict[str, Lengths] = {}
    """Tags that are not rendered around a text of so many characters, at least and at most, such as
    `{ p = [0, 19] }`."""
    drop_all_lengths: Lengths | None = None
    """No tag is rendered around a text of so many characters, at least and at most: `[0, 0]` leaves out tags that
    enclose no text."""
    keep: Names = ("table", "tr", "th", "td", "colgroup", "thead", "tfoot", "tbody")
    """Tags that `drop_all_lengths` does not apply to."""


def _forward(changes: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    for (share, _), (later, _) in pairwise(changes):
        if later <= share:
            raise ValueError(f"a curriculum goes forward, but {later:g} follows {share:g}: shares of the run ascend")
    return changes


Curriculum = Annotated[tuple[tuple[Share, Share], ...], AfterValidator(_forward)]
"""A probability from each of several shares of a run on."""


class Sampled(Section):
    """What every way of choosing the rendered types has."""

    probability: Share = 1.0
    """Probability that a document is rendered with any metadata at all; drawn for each document and epoch."""
    curriculum: Curriculum = ()
    """Changes of `probability`: pairs of a share of all documents of the run and the probability from there on, such
    as `[[0, 1.0], [0.9, 0.0]]` for a last tenth without metadata."""
    html_rate: Share | None = None
    """Probability that the HTML of a document is rendered, where it has any and is rendered with metadata; drawn by
    itself. By default HTML is drawn as the other types are."""


class AllTypes(Sampled):
    """Every type that a document has."""

    kind: Literal["all"] = "all"
    """Every type."""


class UniformTypes(Sampled):
    """A random number of types, each number equally likely; which of them, by weight."""

    kind: Literal["uniform"] = "uniform"
    """A random number of types."""
    weights: dict[str, Annotated[float, Field(gt=0)]] | Literal["counts"] = "counts"
    """Weight of each type in the draw without replacement; types without a weight are always kept. `counts`: documents
    in all / documents that have the type, counted in the training data."""
    count_rows: PositiveInt = 16_384
    """How many rows of a stream are counted for `weights = "counts"`; of other sources, all are."""


class IndependentTypes(Sampled):
    """Each type by itself."""

    kind: Literal["independent"] = "independent"
    """Each type by itself."""
    rates: dict[str, Share] = {}
    """Probability of each type where a document has it; of a type that is not named, `rate`."""
    rate: Share = 0.5
    """Probability of the types that `rates` does not name."""


Sampling = Annotated[AllTypes | UniformTypes | IndependentTypes, Field(discriminator="kind")]


class MetadataSection(Section):
    """How documents with their metadata become text for a language model."""

    types: Names = ()
    """Types of metadata in the order of the prefix, such as `["html", "timestamp", "title", "url"]`; by default none,
    and documents are texts alone. Where inline tags touch, those of an earlier type are nearer to the text."""
    compat: Literal["none", "bsmetadata"] = "none"
    """`bsmetadata`: prefix, text and mask are those of the original system, with those of its bugs that
    docs/metadata.md lists."""
    on_bad_metadata: Literal["error", "report"] = "error"
    """Metadata that cannot be rendered as it says, such as a span beyond the text: `error` stops with the row and the
    value, `report` leaves the entry out and reports how many."""
    position: Literal["prefix", "suffix"] = "prefix"
    """Where the fields of a document stand: before its text, or behind it, where they can be learned as something to
    predict (`task.metadata_loss`)."""
    separator: str = " | "
    """Between the fields of a prefix or suffix."""
    key_value_separator: str = ": "
    """Between a field's name and its value."""
    prefix_separator: str = " |||"
    """Between the prefix and the text, or between the text and the suffix."""
    prefix_start: str = ""
    """Put before the first field."""
    type_tokens: dict[str, str] = {}
    """What the prefix says of a type that is rendered inline, such as `{ entity_paragraph = "entity" }`; by default
    its key."""
    types_in_prefix: bool = False
    """Name the inline types of a document in its prefix or suffix."""
    wraps: dict[str, tuple[str, str]] = {}
    """Put around the inline tags of a type, such as `{ html = ["<HTML>", "</HTML>"] }`."""
    entity_position: Literal["begin", "end"] = "begin"
    """Whether an entity is named before the paragraph that it occurs in, or after it."""
    html: HtmlRules = HtmlRules()
    """Which HTML tags and attributes are rendered."""
    score_inline: bool = False
    """Whether a model is to predict inline tags as if they were text: they then have mask 0, and only the prefix or
    suffix has mask 1."""
    prefix_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Largest share of `tokens.max_length` that the prefix or suffix may take; beyond it, whole fields are left
    out."""
    priority: Names = ()
    """Types in the order in which their fields are kept where not all have room; by default that of `types`."""
    reopen_tags: bool = False
    """Open the inline tags that a chunk cuts again at the beginning of the next one."""
    min_tokens: PositiveInt = 1
    """Documents of fewer tokens of text are left out, and counted."""
    begin_token: SpecialToken = "auto"
    """Whether every chunk begins with the tokenizer's token for that (BOS). `auto`: where the tokenizer itself begins
    a text with it; never with `compat`. It has mask 1."""
    end_token: SpecialToken = "auto"
    """Whether a document ends, behind its suffix, with the tokenizer's token for that (EOS); the rest as
    `begin_token`. It has mask 0: a model learns where texts end."""
    sampling: Sampling = AllTypes()
    """Which types of a document are rendered, drawn anew in each epoch; documents of held-out sets have all of
    theirs."""

    @property
    def as_original(self) -> bool:
        """Whether the original system's text is wanted, with its quirks."""
        return self.compat == "bsmetadata"
