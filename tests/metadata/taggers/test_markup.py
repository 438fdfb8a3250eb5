"""HTML to text with spans: listed cases, a slow twin that follows the rules word by word, and pages that hurt."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from textune.metadata.taggers.elements import BLOCK, DROPPED, DROPPED_IF_SHORT, SPACED
from textune.metadata.taggers.html import Html
from textune.metadata.taggers.markup import MAX_DEPTH, Markup, read_markup, without_deep_tags
from textune.metadata.taggers.page import Page, PageError

pytest.importorskip("selectolax", reason="the extra `tag` is not installed")

FILLER = "tidi tadada " * 6  # 72 characters: more than an element may be short of


def spans(markup: Markup) -> list[tuple[Any, ...]]:
    return [(s.tag, s.start, s.end, s.start_order, s.end_order) for s in markup.spans]


def test_c24_folded_divs() -> None:
    inner = '<div class="div-level-2" href="http">' + "tidi tidi " * 3 + "</div>"
    html = f'<html><body><div class="div-level-1" id=1>{"blablabla " * 6}{inner}</div></body></html>'
    markup = read_markup(html)
    div, body = markup.spans
    assert (div.tag, body.tag) == ("div", "body")
    assert list(div.attributes.items()) == [("class", "div-level-1 div-level-2"), ("id", "1"), ("href", "http")]
    assert markup.text == "blablabla " * 5 + "blablabla\n" + "tidi tidi tidi tidi tidi tidi\n"


def test_c24_relative_positions() -> None:
    first = "paragraph 1 tidi tadada tidi tadada tidi tadada tidi tadada tidi tadada."
    second = "paragraph 2 is in Paris tidi tadada tidi tadada tidi tadada tidi tadada."
    markup = read_markup(f"<html><body><p id=1>{first}</p><p id=2>{second}</p></body></html>")
    assert markup.text == f"{first}\n{second}\n"
    assert spans(markup) == [("p", 0, 72, 1, 0), ("p", 73, 145, 0, 0), ("body", 0, 146, 0, 0)]


@pytest.mark.parametrize(
    ("html", "text", "found"),
    [
        (
            "\n <html>\n <head>\n </head>\n <body>\n <h1>This is a title</h1>\n   with some additional text to reach"
            " 64 characters tidi tadada tidi tadada tidi tadada </body>\n </html>\n",
            "This is a title\nwith some additional text to reach 64 characters tidi tadada tidi tadada tidi tadada\n",
            [("h1", 0, 15, 1, 0), ("body", 0, 101, 0, 0)],
        ),
        (
            '<div class="div-level-1">' + "blablabla " * 5 + 'blablabla<div class="div-level-2">tidi tidi tidi tidi'
            "</div></div>",
            "blablabla " * 5 + "blablabla\ntidi tidi tidi tidi\n",
            [("div", 0, 80, 1, 0), ("body", 0, 80, 0, 1)],
        ),
    ],
)
def test_spans_of_pages_with_a_known_answer(html: str, text: str, found: list[Any]) -> None:
    markup = read_markup(html)
    assert markup.text == text
    assert spans(markup) == found


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (f"first{FILLER}<br>second", f"first{FILLER}\nsecond\n"),
        (f"{FILLER}first<br><br><br>second", f"{FILLER}first\n\n\nsecond\n"),
        (f"a <b> b </b> c {FILLER}", f"a b c {FILLER.strip()}\n"),
        (f"a\n\t b\u00a0\u00a0c {FILLER}", f"a b c {FILLER.strip()}\n"),
        (f"<pre>a  b\n  <b>c  d</b></pre>  e {FILLER}", f"a  b\n  c  d\ne {FILLER.strip()}\n"),
        (
            f"{FILLER}<table><tr><td>{FILLER}</td><td>x</td></tr></table>",
            f"{FILLER.strip()}\n{FILLER}x\n",
        ),
        (f"a<cite>b</cite>c{FILLER}", f"a b c{FILLER.strip()}\n"),
        (f"a<script>var x = 1;</script>b{FILLER}", f"a b{FILLER.strip()}\n"),
        (f"a <style>p {{}}</style> b{FILLER}", f"a b{FILLER.strip()}\n"),
        (f"a<p>short</p>b{FILLER}", f"a b{FILLER.strip()}\n"),
        (f"<header>{FILLER}</header><form>{FILLER}</form><footer>{FILLER}</footer>x{FILLER}", f"x{FILLER.strip()}\n"),
        (f"<!-- {FILLER} -->x{FILLER}", f"x{FILLER.strip()}\n"),
        ("too short", ""),
        (f"<p>{'x' * 64}</p>{FILLER}", f"{FILLER.strip()}\n"),
        (f"<p>{'x' * 65}</p>{FILLER}", f"{'x' * 65}\n{FILLER.strip()}\n"),
        (f"<p> {'x ' * 32} </p>{FILLER}", f"{FILLER.strip()}\n"),
        (f"&lt;b&gt; &amp; &#233; {FILLER}", f"<b> & é {FILLER.strip()}\n"),
    ],
)
def test_texts(inside: str, text: str) -> None:
    assert read_markup(f"<body>{inside}</body>").text == text


def test_head_footers_and_titles_are_kept_as_html() -> None:
    html = (
        f'<html><head><meta charset="utf-8"><title>A &amp;\n B</title></head><body>{FILLER}'
        "<footer><p>one</p><footer>in it</footer></footer><footer>two</footer><svg><title>Icon</title></svg>"
    )
    markup = read_markup(html)
    assert markup.heads == ['<head><meta charset="utf-8"><title>A &amp;\n B</title></head>']
    assert markup.footers == ["<footer><p>one</p><footer>in it</footer></footer>", "<footer>two</footer>"]
    assert markup.titles == ["<title>A &amp;\n B</title>", "<title>Icon</title>"]
    assert markup.title == "A &\n B"
    assert markup.text == FILLER.strip() + "\n"
    assert read_markup(f"<p>{FILLER}").heads == []


def test_attributes_without_values_and_huge_ones() -> None:
    huge = "x" * 3_000_000
    (a, _) = read_markup(f"<a hidden href='{huge}'>{FILLER}</a>").spans
    assert a.attributes == {"hidden": "", "href": huge}


@pytest.mark.parametrize("closed", [True, False])
def test_a_hundred_thousand_nested_elements(closed: bool) -> None:
    num = 100_000
    html = "<div>" * num + FILLER + "</div>" * (num if closed else 0)
    markup = read_markup(html)
    assert markup.text == FILLER.strip() + "\n"
    assert spans(markup) == [("div", 0, 72, 1, 0), ("body", 0, 72, 0, 1)]


def test_spans_that_nest_as_deeply_as_they_may() -> None:
    """Elements that are not folded: one list in the other."""
    num = 3_000
    markup = read_markup("<ul><li>x " * num + FILLER)
    assert len(markup.spans) == 2 * num + 1
    assert_nested(markup)


def test_tags_beyond_a_depth_are_left_out() -> None:
    html = "<b>a<i>b<br><p>c<u>d</u>e</i>f</b><i>g</i>"
    assert without_deep_tags(html, 2) == "<b>a<i>b<br><p>cde</i>f</b><i>g</i>"
    assert without_deep_tags(html, 1) == "<b>ab<br><p>cdef</b><i>g</i>"
    assert without_deep_tags(html, 9) == html


def test_a_tag_without_an_end_is_read_once() -> None:
    """Each end of its name tried with each length of what follows would take minutes."""
    html = "<" + "a" * 200_000
    assert without_deep_tags(html, 0) == html
    assert MAX_DEPTH == 10_000


@pytest.mark.parametrize("value", [None, 7, ["<p>"], {"a": 1}, b"<p>"])
def test_html_that_is_no_text(value: object) -> None:
    with pytest.raises(PageError, match="html"):
        Html().tag(Page({"html": value}))


def test_pages_without_a_body() -> None:
    with pytest.raises(PageError, match="body"):
        Html().tag(Page({"html": "<html><frameset><frame src=a></frameset></html>"}))
    assert Html().tag(Page({"html": ""}))["text"] == ""


def test_characters_beyond_the_basic_plane_and_halves_of_them() -> None:
    markup = read_markup(f"<b>\U0001f600</b><i>\ud83d\ude00 \ud800</i>{FILLER}")
    assert markup.text.startswith("\U0001f600\U0001f600 \ufffd")
    assert [(s.start, s.end) for s in markup.spans[:2]] == [(0, 1), (1, 4)]


# --- a slow twin -----------------------------------------------------------------------------------------------------


def assert_nested(markup: Markup) -> None:
    """Written by their positions, the tags are well-formed, and without them the text comes back."""
    tags: dict[int, dict[int, str]] = {}
    for number, span in enumerate(markup.spans):
        assert 0 <= span.start <= span.end <= len(markup.text)
        for at, order, tag in (
            (span.start, span.start_order, f"<t{number}>"),
            (span.end, span.end_order, f"</t{number}>"),
        ):
            assert order not in tags.setdefault(at, {})
            tags[at][order] = tag
    open_tags: list[str] = []
    for at in sorted(tags):
        assert sorted(tags[at]) == list(range(len(tags[at])))
        for order in sorted(tags[at]):
            tag = tags[at][order]
            if tag.startswith("</"):
                assert open_tags.pop() == tag.replace("/", "")
            else:
                open_tags.append(tag)
    assert open_tags == []


class Twin:
    """The rules, one character and one element at a time, on a tree of the standard library."""

    def __init__(self, body: ET.Element) -> None:
        self.text, self.spans, self.orders = "", [], {}  # type: ignore[var-annotated]
        if not self.is_dropped(body):
            self.element(body, pre=False, folded=False)

    def length(self, node: ET.Element) -> int:
        return len(" ".join(self.read(node).split()))

    def read(self, node: ET.Element) -> str:
        if node.tag in {"script", "style", "iframe", "title"}:
            return ""
        return (node.text or "") + "".join(self.read(child) + (child.tail or "") for child in node)

    def is_dropped(self, node: ET.Element) -> bool:
        return node.tag in DROPPED or (node.tag in DROPPED_IF_SHORT and self.length(node) <= 64)

    def order(self) -> int:
        self.orders[len(self.text)] = self.orders.get(len(self.text), -1) + 1
        return self.orders[len(self.text)]

    def separate(self, tag: str) -> None:
        if self.text and tag in BLOCK:
            self.text = self.text[:-1] + "\n" if self.text[-1] == " " else self.text
            self.text += "" if self.text[-1] == "\n" else "\n"
        elif self.text and tag in SPACED and self.text[-1] not in " \n":
            self.text += " "

    def characters(self, text: str, pre: bool) -> None:
        for letter in text:
            if pre:
                self.text += letter
                continue
            letter = " " if letter in "\u00a0\n\t\r\f" else letter
            if not (letter.isspace() and (not self.text or self.text[-1].isspace())):
                self.text += letter

    def element(self, node: ET.Element, pre: bool, folded: bool) -> None:
        start, kept = len(self.text), not folded and node.tag != "br"
        start_order = self.order() if kept else -1
        if node.tag == "br":
            self.text += "\n"
        self.separate(node.tag)
        pre = pre or node.tag == "pre"
        self.characters(node.text or "", pre)
        for child in node:
            folding = node.tag == child.tag == "div" and len(node) == 1
            gap = not folding and self.is_dropped(child)
            if not gap:
                self.element(child, pre, folding)
            tail = child.tail or ""
            if gap and tail and self.text and not (self.text[-1].isspace() or tail[0].isspace()):
                self.text += " "
            self.characters(tail, pre)
        if kept:
            attributes = dict(node.attrib)
            inner = node
            while node.tag == "div" and len(inner) == 1 and inner[0].tag == "div":
                inner = inner[0]
                for name, value in inner.attrib.items():
                    attributes[name] = f"{attributes[name]} {value}" if name in attributes else value
            self.spans.append((node.tag, start, len(self.text), start_order, self.order(), list(attributes.items())))
        self.separate(node.tag)


INLINE = ["b", "i", "span", "cite", "label", "a", "br", "img", "script", "iframe", "style"]
HOLDING = [
    "div",
    "div",
    "div",
    "section",
    "article",
    "header",
    "form",
    "footer",
    "blockquote",
    "nav",
    "pre",
    "p",
    "h1",
]


def random_tree(draw: random.Random, depth: int, inline: bool, names: list[str]) -> str:
    """Well-formed HTML that a parser takes as it is."""
    pieces = []
    for _ in range(draw.randint(0, 4)):
        pieces.append(
            draw.choice(["", " ", "\n ", "word", "two words ", " a\u00a0 b", "x" * 40, "\u3000", "\U0001f600 "])
        )
        if depth == 0 or draw.random() < 0.3:
            continue
        name = draw.choice(
            [name for name in (INLINE if inline else names + INLINE) if name != "form" or name in names]
        )
        attributes = "".join(
            f' {key}="{draw.randint(0, 9)}"' for key in draw.sample(["id", "class", "k"], draw.randint(0, 2))
        )
        if name in {"br", "img"}:
            pieces.append(f"<{name}{attributes}/>")
            continue
        if name in {"script", "iframe", "style"}:
            pieces.append(f"<{name}{attributes}>some code of theirs</{name}>")
            continue
        # What may not stand in it by the rules of HTML stays out of it.
        inner = [other for other in names if other != name or name not in {"form"}]
        inline_within = inline or name in {"p", "h1", "pre"} or name in INLINE
        left = "" if name != "a" else "a"
        content = random_tree(draw, depth - 1, inline_within, inner)
        if left:
            content = re.sub(r"</?a\b[^>]*>", "", content)
        if name == "pre":
            content = "p" + content  # a line end right after the tag is none of its content
        pieces.append(f"<{name}{attributes}>{content}</{name}>")
    return "".join(pieces)


@pytest.mark.parametrize("seed", range(60))
def test_the_text_and_the_spans_are_those_of_the_twin(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        inside = random_tree(draw, 5, False, HOLDING) + draw.choice(["", FILLER])
        twin = Twin(ET.fromstring(f"<body>{inside}</body>"))
        markup = read_markup(f"<html><head></head><body>{inside}</body></html>")
        assert markup.text == twin.text, inside
        found = [(*one, list(s.attributes.items())) for one, s in zip(spans(markup), markup.spans, strict=True)]
        assert found == twin.spans, inside
        assert_nested(markup)
