"""HTML to text with the spans of its elements; selectolax (Lexbor) parses as browsers do.

HTML -> tree of elements (`_read_tree`, which counts text) -> text and spans (`_Writing`). Nothing here is recursive: a
page may be nested as deeply as it likes.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from textune.errors import DataError
from textune.metadata.taggers.elements import (
    BLOCK,
    BREAK,
    DROPPED,
    DROPPED_IF_SHORT,
    FOLDED,
    MAY_STAY_OPEN,
    SHORT,
    SPACED,
    UNREAD,
    VERBATIM,
    VOID,
)

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

MAX_DEPTH = 10_000
"""Of nested elements; the tags of those within are read as if they were not there."""


@dataclass
class Span:
    """The text of one element."""

    tag: str
    attributes: dict[str, str]
    start: int
    end: int = -1
    start_order: int = -1
    """Place of its opening tag among all tags at that character."""
    end_order: int = -1
    """The same of its closing tag."""


@dataclass(frozen=True)
class Markup:
    """What the HTML of a page holds."""

    text: str
    spans: Sequence[Span]
    """Of the elements within `body`, with it; in the order in which they end."""
    heads: Sequence[str] = ()
    """HTML of `head`, where it is not empty."""
    footers: Sequence[str] = ()
    """HTML of each `footer`."""
    titles: Sequence[str] = ()
    """HTML of each `title`."""
    title: str = ""
    """Text of the first one."""


def parser_version() -> str:
    """That of the package that parses HTML; DataError where it is not installed."""
    try:
        return importlib.metadata.version("selectolax")
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            "HTML is read by selectolax, which is not installed.",
            hint='Run `pip install "textune[tag]"`, or leave the HTML out with --without html --without title.',
            key="html",
            reason="selectolax is not installed",
        ) from None


def read_markup(html: str) -> Markup:
    """Text and spans of a page; ValueError or RuntimeError, with the reason, where there are none."""
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    html = _without_lone_surrogates(html)
    if html.count("<") > 2 * MAX_DEPTH:
        html = without_deep_tags(html, MAX_DEPTH)
    try:
        tree = LexborHTMLParser(html)
    except SelectolaxError as error:
        raise ValueError(f"the HTML cannot be parsed: {error}") from error
    head, body = tree.head, tree.body
    isolated = _Isolated()
    if head is not None and head.first_child is not None:
        isolated.heads.append(head.html or "")
        for node in head.css("title"):
            isolated.take(node)
    if body is None:
        raise ValueError("the page has no body")
    text, spans = _write(_read_tree(body, isolated))
    return Markup(text, spans, isolated.heads, isolated.footers, isolated.titles, isolated.title)


def _without_lone_surrogates(text: str) -> str:
    """Half of a surrogate pair, as JSON may escape it, is no character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@dataclass
class _Isolated:
    """Elements that are kept as HTML, beside the text."""

    heads: list[str] = field(default_factory=list)
    footers: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    title: str = ""

    def take(self, node: LexborNode) -> None:
        """A `title` or a `footer`."""
        if node.tag == "title":
            self.title = self.title or node.text(deep=True)
        (self.titles if node.tag == "title" else self.footers).append(node.html or "")


_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)(?![a-zA-Z0-9-])[^<>]*>")  # a name has one end, so time is linear


def without_deep_tags(html: str, max_depth: int) -> str:
    """The HTML without the tags of elements nested more than `max_depth` deep; their text stays.

    A parser's work grows with the square of the depth. Elements whose end tag may be left out do not count.
    """
    kept, depth, last = [], 0, 0
    for match in _TAG.finditer(html):
        name = match[2].lower()
        if name in VOID or name in MAY_STAY_OPEN:
            continue
        depth = max(0, depth - 1) if match[1] else depth + 1
        if depth + bool(match[1]) > max_depth:
            kept.append(html[last : match.start()])
            last = match.end()
    return "".join([*kept, html[last:]])


@dataclass(slots=True)
class _Element:
    """A node of the tree, with the characters of text in it."""

    tag: str
    node: LexborNode
    parts: list[_Element | str] = field(default_factory=list)
    num_text: int = 0

    def attributes(self) -> dict[str, str]:
        """Empty text for one without a value."""
        return {name: value or "" for name, value in self.node.attributes.items()}

    def sole_child(self) -> _Element | None:
        """Its only child element."""
        found = None
        for part in self.parts:
            if not isinstance(part, str):
                if found is not None:
                    return None
                found = part
        return found


class _TextCount:
    """Counts characters of text as they are read: white space between two others is one, at either end none."""

    def __init__(self) -> None:
        self.num = 0
        self._space = False
        self._fresh: list[_Element] = []
        """Open elements that hold no character yet."""

    def open(self, element: _Element) -> None:
        element.num_text = -self.num
        self._fresh.append(element)

    def close(self, element: _Element) -> None:
        element.num_text += self.num
        if self._fresh and self._fresh[-1] is element:
            self._fresh.pop()

    def add(self, text: str) -> None:
        words = text.split()
        if not words:
            self._space = self._space or bool(text)
            return
        if self._space or text[0].isspace():
            self.num += 1 if self.num else 0
            for element in self._fresh:  # the space stands before them
                element.num_text = -self.num
        self._fresh.clear()
        self.num += sum(map(len, words)) + len(words) - 1
        self._space = text[-1].isspace()


def _read_tree(body: LexborNode, isolated: _Isolated) -> _Element:
    """The elements and texts within `body`, without comments; footers and titles are taken aside."""
    root = _Element("body", body)
    count = _TextCount()
    count.open(root)
    open_elements, in_footer = [root], 0
    node = body.first_child
    while node is not None:
        child: LexborNode | None = None
        if node.is_text_node:
            text = node.text_content or ""
            open_elements[-1].parts.append(text)
            count.add(text)
        elif node.is_element_node:
            element = _Element(node.tag or "", node)
            open_elements[-1].parts.append(element)
            if element.tag == "title" or (element.tag == "footer" and not in_footer):
                isolated.take(node)
            child = None if element.tag in UNREAD else node.first_child
            if child is not None:
                count.open(element)
                open_elements.append(element)
                in_footer += element.tag == "footer"
        if child is not None:
            node = child
            continue
        while node.next is None and len(open_elements) > 1:
            closed = open_elements.pop()
            count.close(closed)
            in_footer -= closed.tag == "footer"
            node = node.parent
            assert node is not None
        node = node.next
    count.close(root)
    return root


@dataclass(slots=True)
class _Open:
    """An element that is being written."""

    element: _Element
    span: Span | None
    """None where the element has none of its own."""
    verbatim: bool
    next_part: int = 0
    after_gap: bool = False
    """Whether the part before the next one was left out."""


class _Writing:
    """Text as it grows, and the tags at its end."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0
        self.last = ""
        """The last character; empty at the start."""
        self._tags_at = (0, 0)
        """A character, and how many tags touch it so far."""

    def add(self, text: str) -> None:
        """Append as it is."""
        if text:
            self.pieces.append(text)
            self.length += len(text)
            self.last = text[-1]

    def add_collapsed(self, text: str) -> None:
        """Append with each run of white space as one space, of which none follows another or begins the text."""
        text = _RUNS.sub(_one_space, text.replace("\u00a0", " "))
        self.add(text[1:] if text[:1].isspace() and (not self.last or self.last.isspace()) else text)

    def separate(self, tag: str) -> None:
        """What stands before and after an element."""
        if not self.length:
            return
        if tag in BLOCK:
            if self.last == " ":
                self.pieces[-1] = self.pieces[-1][:-1] + "\n"
                self.last = "\n"
            elif self.last != "\n":
                self.add("\n")
        elif tag in SPACED and self.last not in " \n":
            self.add(" ")

    def tag_order(self) -> int:
        """Place of the next tag among those at the end of the text."""
        at, num = self._tags_at
        order = num if at == self.length else 0
        self._tags_at = (self.length, order + 1)
        return order


_RUNS = re.compile(r"\s{2,}|[\t\n\v\f\r]")


def _one_space(run: re.Match[str]) -> str:
    return " " if run[0][0] in " \t\n\v\f\r" else run[0][0]


def _write(root: _Element) -> tuple[str, list[Span]]:
    """The text of a tree and the spans of its elements, in the order in which they end."""
    writing, spans = _Writing(), list[Span]()
    if _is_dropped(root):
        return "", spans
    stack = [_open(root, writing, verbatim=False, folded=False)]
    while stack:
        now = stack[-1]
        if now.next_part < len(now.element.parts):
            part = now.element.parts[now.next_part]
            now.next_part += 1
            if isinstance(part, str):
                _write_text(part, now, writing)
                continue
            folded = now.element.tag == FOLDED == part.tag and now.element.sole_child() is part
            now.after_gap = not folded and _is_dropped(part)
            if not now.after_gap:
                stack.append(_open(part, writing, verbatim=now.verbatim, folded=folded))
            continue
        stack.pop()
        if now.span is not None:
            now.span.end, now.span.end_order = writing.length, writing.tag_order()
            spans.append(now.span)
        writing.separate(now.element.tag)
    return "".join(writing.pieces), spans


def _write_text(text: str, now: _Open, writing: _Writing) -> None:
    if now.after_gap and text and writing.last and not writing.last.isspace() and not text[0].isspace():
        writing.add(" ")  # what stood on both sides of something that was left out
    now.after_gap = False
    if now.verbatim:
        writing.add(text)
    else:
        writing.add_collapsed(text)


def _open(element: _Element, writing: _Writing, *, verbatim: bool, folded: bool) -> _Open:
    span = None
    if not folded and element.tag != BREAK:
        span = Span(element.tag, _folded_attributes(element), writing.length)
        span.start_order = writing.tag_order()
    if element.tag == BREAK:
        writing.add("\n")
    writing.separate(element.tag)
    return _Open(element, span, verbatim or element.tag == VERBATIM)


def _is_dropped(element: _Element) -> bool:
    return element.tag in DROPPED or (element.tag in DROPPED_IF_SHORT and element.num_text <= SHORT)


def _folded_attributes(element: _Element) -> dict[str, str]:
    """Its attributes, and those of the elements that take its place, with a space between values of one name."""
    child = element.sole_child() if element.tag == FOLDED else None
    if child is None or child.tag != FOLDED:
        return element.attributes()
    values = {name: [value] for name, value in element.attributes().items()}
    while child is not None and child.tag == FOLDED:
        for name, value in child.attributes().items():
            values.setdefault(name, []).append(value)
        child = child.sole_child()
    return {name: " ".join(parts) for name, parts in values.items()}
