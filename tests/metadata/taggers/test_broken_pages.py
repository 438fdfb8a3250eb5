"""Broken pages: whatever they hold, every tagger gives valid entries or says why not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from kits.nesting import assert_nested

from textune.metadata.taggers.table import TagSettings, build_taggers
from textune.metadata.taggers.tagging import PageTagger, TagCounts
from textune.metadata.types import COLUMN_PREFIX, TYPES

pytest.importorskip("selectolax", reason="the extra `tag` is not installed")

_WEB = Path(__file__).parents[3].parent / "shared" / "data" / "web" / "html_pages.jsonl.gz"

SEED_PAGE = """<!DOCTYPE html><html lang=en><head><title>A &amp; B</title><style>p { }</style>
<script>if (a < b) {}</script></head>
<body class="x"><header>Menu of the page</header><nav><ul><li><a href="/a">one<li>two</ul></nav>
<div><div id=1><div class='c'>Some text of more than sixty-four characters, so that it is not left out.</div></div>
</div><p>First paragraph with <b>bold <i>and</b> crossed</i> tags and a <br> line end. It has sentences. Two.</p>
<pre>  kept   as
   it is  </pre><table><tr><td>cell<td>another<tr><th colspan=2>head</table>
<svg><title>icon</title><path d="M0"/></svg>
<template><p>hidden</p></template><select><option>1<option>2</select>
<textarea>typed</textarea><noscript>no</noscript>
<math><mi>x</mi></math><form><input disabled value="1"><button>Go</button></form>
<footer>&copy; 2020 &#0; &#x1F600;</footer></body></html>"""
PIECES = [
    *("<", ">", "</", "/>", "<!--", "-->", "<![CDATA[", "]]>", "<?php", "&", "&#", "&#xD800;", "&#x110000;", "&nbsp;"),
    *(
        "<p>",
        "</p>",
        "<div>",
        "</div>",
        "<table>",
        "</table>",
        "<svg>",
        "<math>",
        "<frameset>",
        "<plaintext>",
        "<title>",
    ),
    *(
        "<b>",
        "</i>",
        "<a href='",
        '"',
        "'",
        "=",
        "\0",
        "\ufeff",
        "\ud800",
        "\U0001f600",
        "\u2028",
        "\u00a0",
        "\r",
        "\x1c",
    ),
    *(
        "<script>",
        "</script",
        "<style>",
        "<textarea>",
        "<pre>\n",
        "<li>",
        "<br>",
        "<body onload=x>",
        "<html a=b>",
        "\n\n",
    ),
]
URLS = ["http://a.b/2020/01/02/x", "http://[", "", "ht!tp:/%zz/%ff", "//\ud800/2020", "a" * 5000, "http://a.b:x/1-2-3"]


def broken(draw: Random, page: str) -> str:
    """A page that was cut, doubled and sprinkled."""
    for _ in range(draw.randint(1, 12)):
        at, end = sorted(draw.choices(range(len(page) + 1), k=2))
        end = min(end, at + draw.choice([1, 5, 200]))
        kind = draw.randrange(4)
        if kind == 0:
            page = page[:at] + page[end:]
        elif kind == 1:
            page = page[:at] + page[at:end] * draw.randint(2, 5) + page[end:]
        elif kind == 2:
            page = page[:at] + "".join(draw.choices(PIECES, k=draw.randint(1, 4))) + page[at:]
        else:
            page = page[:at] + page[at:end].swapcase() + page[end:]
    return page


def check_row(row: dict[str, Any]) -> None:
    """Spans in the text, tags that nest, paragraphs that are the text."""
    text = row["text"]
    text.encode("utf-8")
    for name in TYPES:
        for entry in row.get(COLUMN_PREFIX + name, ()):
            assert entry["key"] == TYPES[name].key and entry["type"] == TYPES[name].scope
            assert isinstance(entry["value"], str)
            if entry["type"] == "local":
                assert 0 <= entry["char_start_idx"] <= entry["char_end_idx"] <= len(text)
    if not row["paragraph_error"]:
        assert "".join(one["value"] for one in row["metadata_paragraph"]) == text
    assert_nested(
        (one["char_start_idx"], one["char_end_idx"], one["relative_start_pos"], one["relative_end_pos"])
        for one in row["metadata_html"]
    )


def run(seed: int, num: int, pages: list[str], *, legacy: bool = False) -> TagCounts:
    draw, settings, counts = Random(seed), TagSettings(legacy=legacy), TagCounts()
    tagger = PageTagger(build_taggers(settings), settings.columns)
    for _ in range(num):
        row = {"html": broken(draw, draw.choice(pages)), "url": draw.choice(URLS)}
        if draw.random() < 0.02:
            row["html"] = draw.choice([None, 7, [], b"x", {"a": 1}])
        page = tagger.tag(row)
        check_row(page.row)
        assert json.dumps({name: value for name, value in page.row.items() if name not in row})
        counts.add_page(page, "")
    return counts


@pytest.mark.parametrize("legacy", [False, True])
def test_broken_pages(legacy: bool) -> None:
    counts = run(11, 400, [SEED_PAGE, "<p>" + "word " * 30], legacy=legacy)
    assert counts.pages == 400
    assert 0 < counts.types["html"].errors < 40 and counts.types["html"].pages > 250
    assert counts.types["timestamp"].errors > 0


@pytest.mark.slow
def test_a_hundred_thousand_broken_pages() -> None:
    pages = [SEED_PAGE, "<p>" + "word " * 30] * 100
    if _WEB.is_file():
        with gzip.open(_WEB, "rt", encoding="utf-8") as file:
            pages += sorted((json.loads(line)["html"] for line in file), key=len)[:20]
    assert run(12, 100_000, pages).pages == 100_000


@pytest.mark.slow
@pytest.mark.skipif(not _WEB.is_file(), reason=f"the public web pages are not at {_WEB}")
def test_all_real_pages_and_the_counts_of_the_docs() -> None:
    settings, counts = TagSettings(), TagCounts()
    tagger = PageTagger(build_taggers(settings), settings.columns)
    with gzip.open(_WEB, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            page = tagger.tag(json.loads(line))
            check_row(page.row)
            counts.add_page(page, f"line {number}")
    assert (counts.pages, counts.with_errors) == (258, 0)
    section = (Path(__file__).parents[3] / "docs" / "metadata.md").read_text(encoding="utf-8")
    for name, one in counts.types.items():
        assert f"| `{name}` | {one.pages} | {one.entries:,} |" in section, (name, one)
    assert f"{counts.characters:,} characters" in section
