"""Rendered documents as lines of text and as a page of HTML; after `render.py`."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from rich.cells import cell_len

from textune.pipeline.render import RenderedRows
from textune.pipeline.shown import ShownChunk, ShownDocument
from textune.wording import count, listing

MARK = "^"
"""Beneath what has mask 1."""
LINE_END = "\u21b5"
"""Shown where a text has a line end."""
LEGEND = f"{MARK} beneath: read by the model, but not predicted (mask 1)"
_INDENT = "    "


class Part(NamedTuple):
    """Some characters of a line."""

    text: str
    is_metadata: bool = False


Line = list[Part]


def text_lines(rendered: RenderedRows, *, width: int) -> Iterator[Line]:
    """The documents, a chunk under the other, each line of text with its mask beneath; at most `width` columns."""
    yield [Part(f"{_title(rendered)}; {LEGEND}")]
    for document in rendered.documents:
        yield []
        yield [Part(_heading(document))]
        for number, chunk in enumerate(document.chunks):
            yield [Part("  " + _caption(chunk, number, len(document.chunks)))]
            yield from _chunk_lines(chunk, width - len(_INDENT))
    for notice in rendered.notices:
        yield [Part(f"note: {notice}")]


def plain_text(rendered: RenderedRows, *, width: int) -> str:
    """The lines without colour, as one text."""
    return "".join("".join(part.text for part in line).rstrip() + "\n" for line in text_lines(rendered, width=width))


def _title(rendered: RenderedRows) -> str:
    epoch = "" if rendered.epoch is None else f", epoch {rendered.epoch}"
    return f"{count(len(rendered.documents), 'document')} of {rendered.set}{epoch}"


def _heading(document: ShownDocument) -> str:
    types = listing(document.types) if document.types else "no metadata"
    undrawn = f" (without {listing(document.undrawn)})" if document.undrawn else ""
    left_out = "" if document.chunks else ": left out"
    return f"{document.place}: {types}{undrawn}{left_out}"


def _caption(chunk: ShownChunk, number: int, total: int) -> str:
    of = f"chunk {number + 1} of {total}: " if total > 1 else ""
    tokens = f"{count(chunk.tokens, 'token')}, {chunk.masked:,} masked"
    return f"{of}{tokens}, characters {chunk.start:,} to {chunk.end:,}"


def _chunk_lines(chunk: ShownChunk, width: int) -> Iterator[Line]:
    """Lines of text, and beneath each one its mask where it has any."""
    line: Line = [Part(_INDENT)]
    marks, used = "", 0
    for run in chunk.runs:
        for letter in run.text:
            shown = visible(letter)
            columns = cell_len(shown)
            if used + columns > max(width, columns):
                yield from _with_marks(line, marks)
                line, marks, used = [Part(_INDENT)], "", 0
            if len(line) > 1 and line[-1].is_metadata == run.is_metadata:
                line[-1] = Part(line[-1].text + shown, run.is_metadata)
            else:
                line.append(Part(shown, run.is_metadata))
            marks += (MARK if run.is_masked else " ") * columns
            used += columns
            if letter == "\n":
                yield from _with_marks(line, marks)
                line, marks, used = [Part(_INDENT)], "", 0
    if used:
        yield from _with_marks(line, marks)


def _with_marks(line: Line, marks: str) -> Iterator[Line]:
    yield line
    if marks.strip():
        yield [Part(_INDENT + marks.rstrip())]


def visible(letter: str) -> str:
    """A character as it is shown: what a terminal would act on, or not show at all, by its number."""
    if letter == "\n":
        return LINE_END
    if letter.isprintable() or letter in "\u00a0\u3000":
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode()


# --- HTML ------------------------------------------------------------------------------------------------------------

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222; }
h1 { font-size: 1.3em; } h2 { font-size: 1em; margin: 2em 0 0; } p { margin: .2em 0; color: #666; font-size: .9em; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .6em; margin: .3em 0;
  line-height: 2; }
.metadata { color: #0b57d0; } .masked { border-bottom: 3px solid #e8a33d; } .end { color: #aaa; }
"""


def html_page(rendered: RenderedRows) -> str:
    """The same as a page that needs no other file: metadata in colour, a line beneath what has mask 1."""
    title = escape(_title(rendered))
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
        '<p><span class="metadata">metadata</span>; <span class="masked">a line beneath</span>: read by the model, but'
        " not predicted (mask 1)</p>",
    ]
    for document in rendered.documents:
        parts.append(f"<h2>{escape(_printable(_heading(document)))}</h2>")
        for number, chunk in enumerate(document.chunks):
            parts.append(f"<p>{escape(_caption(chunk, number, len(document.chunks)))}</p>")
            parts.append(f"<pre>{_chunk_html(chunk)}</pre>")
    parts += [f"<p>note: {escape(_printable(notice))}</p>" for notice in rendered.notices]
    return "\n".join([*parts, "</body>\n</html>\n"])


def _chunk_html(chunk: ShownChunk) -> str:
    pieces = []
    for run in chunk.runs:
        names = [name for name, has in (("metadata", run.is_metadata), ("masked", run.is_masked)) if has]
        text = escape(_printable(run.text)).replace(LINE_END, f'<span class="end">{LINE_END}</span>\n')
        pieces.append(f'<span class="{" ".join(names)}">{text}</span>' if names else text)
    return "".join(pieces)


def _printable(text: str) -> str:
    return "".join(map(visible, text))
