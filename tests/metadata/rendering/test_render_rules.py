"""What the page on metadata says of rendering: its tables, dates, the HTML filter, and each bug of the original beside
what textune does instead."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.documents import Entry, documents_of, tag
from kits.records import read
from twin import twin

from textune.config.documents import HtmlRules, MetadataSection
from textune.config.sources import FilesSource
from textune.data.reading.sources import read_source
from textune.metadata.rendering.fields import fields_text
from textune.metadata.rendering.render import render
from textune.metadata.rendering.timestamps import parse_timestamp

PAGE = (Path(__file__).parents[3] / "docs" / "metadata.md").read_text(encoding="utf-8")
_TOY = Path(__file__).parents[3].parent / "shared" / "data" / "metadata"


def rendered(text: str, entries: list[Entry], **options: Any) -> tuple[str, str]:
    """Prefix and text; the types are those of the entries, in order, where none are given."""
    types = tuple(dict.fromkeys(entry.type for entry in entries))
    section = MetadataSection.model_validate({"types": types} | options)
    found = render(documents_of(section.types, (text, entries)), section)
    return fields_text(found.fields[0], section), found.texts[0]


def table_after(heading: str) -> list[list[str]]:
    """The cells of code in the first table after a line of the page."""
    lines = PAGE.partition(heading)[2].partition("\n|---")[2].splitlines()[1:]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.replace("\\|", "|") for cell in re.findall(r"`([^`]*)`", row)] for row in rows]


@pytest.mark.parametrize("row", table_after("becomes a field of the prefix"), ids=lambda row: row[0])
def test_fields_of_the_prefix_are_as_the_page_says(row: list[str]) -> None:
    type_, value, field = row
    assert rendered("text", [Entry(type_, value)], prefix_separator="") == (field, "text")


@pytest.mark.parametrize("row", table_after("stands around the span"), ids=lambda row: row[0])
def test_tags_are_as_the_page_says(row: list[str]) -> None:
    type_, value, span, expected = row
    start = "An apple.".index(span)
    attributes = (("class", "x"),) if type_ == "html" else ()
    entry = Entry(type_, value, start, start + len(span), attributes=attributes)
    assert rendered("An apple.", [entry]) == ("", expected)


def test_the_examples_of_the_page_are_rendered() -> None:
    url = Entry("url", "https://en.wikipedia.org/wiki/Apple")
    entries = [url, tag("b", 3, 8, "0/0"), Entry("entity", "Malus_domestica", 3, 8)]
    prefix, text = rendered("An apple is an edible fruit.", entries, types_in_prefix=True)
    assert f"\n{prefix} {text}\n" in PAGE
    _, text = rendered("apple", [tag("b", 0, 5, "0/1"), tag("i", 0, 5, "1/0")], wraps={"html": ("<HTML>", "</HTML>")})
    assert f"`{text}`" in PAGE


def test_the_tables_of_the_page_are_not_empty() -> None:
    assert len(table_after("becomes a field of the prefix")) == 7
    assert len(table_after("stands around the span")) == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2018-12-10T13:45:00.000Z", (2018, 12)),
        ("1998-03-08 00:00:00", (1998, 3)),
        ("2024-05-03 18:19:08.721370", (2024, 5)),
        ("2018-12-31T23:30:00-01:00", (2019, 1)),  # in UTC
        ("2019-01-01T00:30:00+01:00", (2018, 12)),
        ("2018-12-10", (2018, 12)),
        ("2018-12", (2018, 12)),
        (" 2018-12-10 ", (2018, 12)),
        ("20181210", (2018, 12)),  # 1970 in the original
        ("20181210134500", (2018, 12)),
        ("1544449500", (2018, 12)),  # 1970 in the original
        ("1544449500.25", (2018, 12)),
        ("1544449500000", (2018, 12)),
        ("1544449500000000", (2018, 12)),
        ("1544449500000000000", (2018, 12)),
        ("999999999", (2001, 9)),
        *((text, None) for text in ("", "2018", "201812", "2018-13-01", "2018-02-30", "20181310", "20180230")),
        *((text, None) for text in ("10/12/2018", "December 2018", "last May", "2018-W50-1", "-1544449500", "nan")),
        *(
            (text, None)
            for text in ("2018-12-10T25:00", "٢٠١٨-١٢-١٠", "12345678901234567890", "0001-01-01T00:00+23:00")
        ),
    ],
)
def test_dates(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_timestamp(text) == expected


# --- the HTML filter ------------------------------------------------------------------------------------------------


def kept(entries: list[Entry], **rules: Any) -> str:
    return rendered("abcdef", entries, html=HtmlRules(**rules))[1]


def test_tags_are_left_out_by_name_length_and_emptiness() -> None:
    body, empty, cell, short = tag("body", 0, 6), tag("i", 2, 2), tag("td", 2, 2), tag("p", 2, 4)
    entries = [body, empty, cell, short]
    assert kept(entries) == "<body>ab<td><i></i></td><p>cd</p>ef</body>"
    assert kept(entries, drop=("body",), drop_all_lengths=(0, 0)) == "ab<td></td><p>cd</p>ef"
    assert kept(entries, drop=("body", "td"), drop_all_lengths=(0, 0)) == "ab<p>cd</p>ef"
    assert kept([body, short], drop_lengths={"p": (0, 1)}) == "<body>ab<p>cd</p>ef</body>"
    assert kept([body, short], drop_lengths={"p": (2, 2)}) == "<body>abcdef</body>"
    assert kept([body, short], drop_lengths={"p": (3, 9)}) == "<body>ab<p>cd</p>ef</body>"
    assert kept([body, short], drop_all_lengths=(6, 6), keep=()) == "ab<p>cd</p>ef"
    assert kept([body, short], drop_all_lengths=(0, 6), keep=("p",)) == "ab<p>cd</p>ef"


def test_attributes_are_kept_by_name_without_quotes() -> None:
    link = tag("a", 0, 6, href="http://a.b", id="", **{"class": "x y"})
    assert kept([link]) == "<a href:http://a.b id: class:x y>abcdef</a>"
    assert kept([link], attributes=("class", "id")) == "<a id: class:x y>abcdef</a>"
    assert kept([link], attributes=()) == "<a>abcdef</a>"


def test_what_is_left_out_is_counted() -> None:
    section = MetadataSection(types=("html", "title"), html=HtmlRules(drop=("b",)))
    rows = [
        ("abc", [tag("b", 0, 1), tag("i", 1, 2), Entry("title", "x"), Entry("title", "y")]),
        ("", [tag("i", 0, 0)]),
    ]
    found = render(documents_of(section.types, *rows), section)
    assert sorted(found.left_out.values()) == [1, 1, 1] and found.texts == ["a<i>b</i>c", ""]
    assert render(documents_of(section.types, ("abc", [])), section).left_out == {}
    original = MetadataSection(types=("html", "title"), compat="bsmetadata", types_in_prefix=True)
    assert list(render(documents_of(section.types, rows[0]), original).left_out.values()) == [1]


# --- names of entities beside paragraphs ----------------------------------------------------------------------------


@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
def test_names_stand_before_or_after_their_paragraph_in_their_order(compat: str) -> None:
    text = "Both Paris and Rome.\nNone."
    names = [Entry("entity_paragraph", name, 0, 20, order, order) for order, name in enumerate(["Paris", "New_Rome"])]
    entries = [*reversed(names), Entry("entity", "Paris", 5, 10)]
    options = {"types": ("entity", "entity_paragraph"), "compat": compat}
    wraps = {"entity_paragraph": ("<CHAIN>", " </CHAIN> ")}
    _, before = rendered(text, entries, wraps=wraps, **options)
    assert before == "<CHAIN> |Paris| |New Rome| </CHAIN> Both Paris [[Paris]] and Rome.\nNone."
    wraps = {"entity_paragraph": (" <CHAIN>", " </CHAIN>")}
    _, after = rendered(text, entries, wraps=wraps, entity_position="end", **options)
    assert after == "Both Paris [[Paris]] and Rome. <CHAIN> |Paris| |New Rome| </CHAIN>\nNone."


# --- bugs of the original -------------------------------------------------------------------------------------------

PARAGRAPHS = [tag("p", 0, 1, "0/0"), tag("p", 1, 2, "1/0"), Entry("entity_paragraph", "E", 1, 2, 0, 0)]
MENDED: dict[str, tuple[str, list[Entry], dict[str, Any], tuple[str, str], tuple[str, str]]] = {
    "the token of a type without tags": (
        "ab",
        [tag("b", 0, 0), Entry("title", "T")],
        {"types_in_prefix": True, "html": HtmlRules(drop_all_lengths=(0, 0)), "prefix_separator": ""},
        ("Title: T", "ab"),
        ("html | Title: T", "ab"),
    ),
    "one field for two types of length": (
        "ab.",
        [Entry("generation_length_text", "3"), Entry("generation_length_sentence", "2", 0, 2)],
        {"types_in_prefix": True, "prefix_separator": ""},
        ("Text Length: 3 | length", "[length: 2]ab[/length: 2]."),
        ("length", "[length: 2]ab[/length: 2]."),
    ),
    "a type without positions around another": (
        "abc",
        [Entry("k1", "x", 0, 3), Entry("k2", "y", 0, 1)],
        {},
        ("", "[k1: x][k2: y]a[/k2: y]bc[/k1: x]"),
        ("", "[k2: y][k1: x]a[/k2: y]bc[/k1: x]"),
    ),
    "spans of one type that end together": (
        "abc",
        [Entry("k", "x", 0, 3), Entry("k", "y", 1, 3)],
        {},
        ("", "[k: x]a[k: y]bc[/k: y][/k: x]"),
        ("", "[k: x]a[k: y]bc[/k: x][/k: y]"),
    ),
    "spans that cross": (
        "abc",
        [Entry("k1", "x", 0, 2), Entry("k2", "y", 1, 3)],
        {},
        ("", "[k1: x]a[k2: y]b[/k2: y][/k1: x][k2: y]c[/k2: y]"),
        ("", "[k1: x]a[k2: y]b[/k1: x]c[/k2: y]"),
    ),
    "a tag with positions inside one without": (
        "abc",
        [Entry("k", "x", 0, 3), tag("b", 0, 1, "0/0"), tag("i", 2, 3, "0/0")],
        {},
        ("", "[k: x]<b>a</b>b<i>c</i>[/k: x]"),
        ("", "<b>[k: x]a</b>b<i>c[/k: x]</i>"),
    ),
    "a name in the paragraph before its own": (
        "ab",
        PARAGRAPHS,
        {},
        ("", "<p>a</p> |E|<p>b</p>"),
        ("", "<p>a |E|</p><p>b</p>"),
    ),
    "no wrap around types without positions": (
        "ab",
        [Entry("entity", "E", 0, 2), tag("b", 0, 2)],
        {"wraps": {"entity": ("(", ")"), "html": ("{", "}")}},
        ("", "{<b>}ab( [[E]]){</b>}"),
        ("", "<b>ab [[E]]</b>"),
    ),
    "the colon after Year and Month": (
        "a",
        [Entry("timestamp", "2018-12-10")],
        {"key_value_separator": "=", "prefix_separator": ""},
        ("Year=2018 | Month=December", "a"),
        ("Year: 2018 | Month: December", "a"),
    ),
}


@pytest.mark.parametrize("bug", MENDED)
def test_a_bug_of_the_original_and_what_is_done_instead(bug: str) -> None:
    text, entries, options, mended, original = MENDED[bug]
    assert mended != original
    assert rendered(text, entries, **options) == mended
    assert rendered(text, entries, compat="bsmetadata", **options) == original


def test_an_empty_text_has_no_tags_and_no_tokens_of_types() -> None:
    options: dict[str, Any] = {"types_in_prefix": True, "prefix_separator": ""}
    assert rendered("", [tag("b", 0, 0, "0/1")], **options) == ("", "")
    assert rendered("", [tag("b", 0, 0, "0/1")], compat="bsmetadata", **options) == ("html", "")


# --- what callers guarantee -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", [tag("b", 0, 4), tag("b", -3, 2), tag("b", 2, 1), tag("b", 1, 1, "1/0"), Entry("html", "b", 1, 2, 3)]
)
def test_what_no_documents_have_is_never_rendered_wrongly(entry: Entry) -> None:
    with pytest.raises(AssertionError):
        rendered("abc", [entry])


def test_the_types_to_keep_have_a_place_for_every_document() -> None:
    section = MetadataSection(types=("html",))
    with pytest.raises(AssertionError):
        render(documents_of(("html",), ("a", [])), section, np.ones((2, 1), bool))


# --- from records ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not _TOY.is_dir(), reason=f"the toy rows are not in {_TOY}")
@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
@pytest.mark.parametrize("name", ["train_toy_wikitext_with_metadata", "input_examples"])
def test_records_of_the_original_are_rendered_as_the_twin_says(name: str, compat: str) -> None:
    path, types = _TOY / f"{name}.jsonl", ("url", "timestamp", "html", "entity")
    section = MetadataSection(types=types, compat=compat)  # type: ignore[arg-type]
    documents = read(read_source(FilesSource(files=(str(path),))), types, compat=compat).documents
    found = render(documents, section)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        entries = [
            Entry(one["key"], one["value"], one.get("char_start_idx"), one.get("char_end_idx"))
            for one in row["metadata"]
        ]
        prefix, sheet = twin(row["text"], entries, section)
        assert (fields_text(found.fields[number], section), found.texts[number]) == (prefix, sheet.text)
        assert len(entries) > 0
