"""Rendering agrees with its slow twin on documents of any make, and what it promises holds for all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.documents import Entry, documents_of, mask_of, runs_of
from twin import twin

from textune.config.documents import HtmlRules, MetadataSection
from textune.metadata.documents import NO_POSITION, Documents, Rendered
from textune.metadata.rendering.fields import fields_text
from textune.metadata.rendering.render import render

GLOBAL = ("url", "timestamp", "title", "generation_length_text", "website_desc", "other")
LOCAL = ("html", "entity", "entity_paragraph", "generation_length_sentence", "paragraph", "own")
DATES = ("2018-12-10T13:45:00.000+00:00", "1998-03-08 00:00:00", "2020-02-29")
Row = tuple[str, list[Entry]]


def local_entries(name: str, length: int, num: int, dice: random.Random) -> list[Entry]:
    """Entries of one type, all with positions or none; spans may cross, as positions may."""
    spans = [sorted((dice.randint(0, length), dice.randint(0, length))) for _ in range(num)]
    orders: dict[tuple[int, bool], int] = {}
    for at in range(length + 1):
        tags = [
            (number, closing) for number, span in enumerate(spans) for closing in (False, True) if span[closing] == at
        ]
        dice.shuffle(tags)
        orders.update({tag: order for order, tag in enumerate(tags)})
    positioned = dice.random() < 0.5
    found = []
    for number, (start, end) in enumerate(spans):
        pair = [orders[number, False], orders[number, True]]
        given = (sorted(pair) if start == end else pair) if positioned else [None, None]
        value, more = dice.choice(["p", "b", "table", "A_b"]), dice.choice([(), (("class", "x"), ("href", "y"))])
        found.append(Entry(name, value, start, end, *given, attributes=more))
    return found


def make_row(length: int, num: int, dice: random.Random) -> Row:
    """A text of so many characters, with up to so many entries of each type."""
    entries = [one for name in LOCAL for one in local_entries(name, length, dice.randint(0, num), dice)]
    for name in dice.choices(GLOBAL, k=dice.randint(0, 6)):
        value = dice.choice(DATES) if name == "timestamp" else "".join(dice.choices("a%2+_ ", k=dice.randint(0, 5)))
        entries.append(Entry(name, value))
    dice.shuffle(entries)
    return "".join(dice.choices("ab \n\U0001f600é", k=length)), entries


def make_section(dice: random.Random, **fixed: Any) -> MetadataSection:
    """Every key that rendering reads, at random."""

    def lengths() -> tuple[int, int]:
        least = dice.randint(0, 3)
        return least, dice.randint(least, 5)

    def some(names: Sequence[str], at_least: int = 0) -> tuple[str, ...]:
        return tuple(dice.sample(names, dice.randint(at_least, len(names))))

    options: dict[str, Any] = {
        "types": some(GLOBAL + LOCAL, at_least=1),
        "compat": dice.choice(["none", "bsmetadata"]),
        "key_value_separator": dice.choice([": ", "="]),
        "prefix_start": dice.choice(["", " "]),
        "types_in_prefix": dice.random() < 0.5,
        "type_tokens": dict.fromkeys(some(LOCAL), "token"),
        "wraps": {name: dice.choice([("<W>", "</W>"), ("", "|"), ("", "")]) for name in some(LOCAL)},
        "entity_position": dice.choice(["begin", "end"]),
        "html": HtmlRules(
            attributes=dice.choice([None, (), ("class",)]),
            drop=some(["p", "b", "table"]) if dice.random() < 0.3 else (),
            drop_lengths={name: lengths() for name in some(["p", "b"])},
            drop_all_lengths=dice.choice([None, lengths()]),
            keep=some(["p", "b", "table"]),
        ),
    }
    return MetadataSection(**(options | fixed))


@st.composite
def batches(draw: st.DrawFn, at_least: int = 0, **fixed: Any) -> tuple[list[Row], MetadataSection]:
    """Rows and a section; drawn are the sizes, the rest follows from a seed, which is much faster."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=at_least, max_size=4))
    dice = random.Random(draw(st.integers(0, 2**32)))
    return [make_row(length, num, dice) for length, num in sizes], make_section(dice, **fixed)


def rendered(batch: Sequence[Row], section: MetadataSection) -> tuple[Documents, Rendered]:
    documents = documents_of(section.types, *batch)
    return documents, render(documents, section)


@given(batches())
@settings(max_examples=1000, deadline=None)
def test_the_twin_agrees(drawn: tuple[list[Row], MetadataSection]) -> None:
    batch, section = drawn
    _, found = rendered(batch, section)
    for number, (text, entries) in enumerate(batch):
        prefix, sheet = twin(text, entries, section)
        assert fields_text(found.fields[number], section) == prefix
        assert found.texts[number] == sheet.text
        assert "".join(map(str, mask_of(found, number))) == sheet.mask


@given(batches())
@settings(max_examples=200, deadline=None)
def test_the_original_text_comes_back_without_the_insertions(drawn: tuple[list[Row], MetadataSection]) -> None:
    batch, section = drawn
    documents, found = rendered(batch, section)
    assert (np.diff(found.insertions.document) >= 0).all()
    for number, (text, _) in enumerate(batch):
        bare, done = "", 0
        for start, end in runs_of(found.insertions, number):
            assert done <= start < end, "ascending, apart, not empty"
            bare, done = bare + found.texts[number][done:start], end
        assert bare + found.texts[number][done:] == text
    assert len(documents) == len(found.texts) == len(found.fields)


@given(batches(compat="none"))
@settings(max_examples=200, deadline=None)
def test_tags_nest_and_every_tag_that_opens_closes(drawn: tuple[list[Row], MetadataSection]) -> None:
    batch, section = drawn
    documents, found = rendered(batch, section)
    entries, insertions = documents.entries, found.insertions
    stack: list[tuple[int, int]] = []
    for document, opens, closes in zip(insertions.document, insertions.opens, insertions.closes, strict=True):
        assert opens == NO_POSITION or closes == NO_POSITION
        if opens != NO_POSITION:
            stack.append((document, opens))
        if closes != NO_POSITION:
            assert stack.pop() == (document, closes)
    assert stack == []
    named = {int(entry) for entry in (*insertions.opens, *insertions.closes) if entry != NO_POSITION}
    assert all(documents.types[entries.type[entry]] not in ("entity", "entity_paragraph") for entry in named)


@given(batches(compat="none"))
@settings(max_examples=200, deadline=None)
def test_tags_stand_around_all_of_their_span_and_nothing_else(drawn: tuple[list[Row], MetadataSection]) -> None:
    """Also where a span was cut where another one ends."""
    batch, section = drawn
    documents, found = rendered(batch, section)
    insertions = found.insertions
    for number in range(len(batch)):
        origin = np.cumsum(1 - np.array(mask_of(found, number), dtype=int))
        covered: dict[int, list[int]] = {}
        for here, start, end, opens, closes in zip(
            *(insertions.document, insertions.start, insertions.end, insertions.opens, insertions.closes), strict=True
        ):
            if here == number and opens != NO_POSITION:
                covered.setdefault(opens, []).append(int(origin[end - 1]))
            if here == number and closes != NO_POSITION:
                covered[closes].append(int(origin[start]))
        for entry, bounds in covered.items():
            assert bounds[0] == documents.entries.start[entry] and bounds[-1] == documents.entries.end[entry]
            assert bounds[1:-1:2] == bounds[2::2], "cut, not shortened"


@given(batches(at_least=1), st.data())
@settings(max_examples=200, deadline=None)
def test_a_document_is_rendered_alike_alone_and_among_others(
    drawn: tuple[list[Row], MetadataSection], data: st.DataObject
) -> None:
    batch, section = drawn
    _, together = rendered(batch, section)
    number = data.draw(st.integers(0, len(batch) - 1))
    _, alone = rendered([batch[number]], section)
    assert alone.texts[0] == together.texts[number] and alone.fields[0] == together.fields[number]
    assert runs_of(alone.insertions, 0) == runs_of(together.insertions, number)


@given(batches(), st.data())
@settings(max_examples=200, deadline=None)
def test_types_that_are_not_kept_are_as_if_they_were_not_there(
    drawn: tuple[list[Row], MetadataSection], data: st.DataObject
) -> None:
    batch, section = drawn
    shape = st.lists(st.booleans(), min_size=len(section.types), max_size=len(section.types))
    keep = np.array([data.draw(shape) for _ in batch], dtype=bool).reshape(-1, len(section.types))
    found = render(documents_of(section.types, *batch), section, keep)
    kept = [
        (text, [one for one in entries if one.type in section.types and keep[number, section.types.index(one.type)]])
        for number, (text, entries) in enumerate(batch)
    ]
    _, alone = rendered(kept, section)
    assert (found.texts, found.fields) == (alone.texts, alone.fields)
