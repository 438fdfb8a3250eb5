"""Each tagger by itself: listed cases, what the default mends, and what the legacy form keeps."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kits.nesting import assert_nested

from textune.errors import CodeError, ConfigError, DataError
from textune.metadata.taggers.datasource import Datasource
from textune.metadata.taggers.entityparagraph import EntityParagraphs
from textune.metadata.taggers.gazetteer import Entity, Gazetteer, read_gazetteer
from textune.metadata.taggers.length import SentenceLengths, TextLength
from textune.metadata.taggers.page import Page, PageError, Tagger
from textune.metadata.taggers.paragraph import Paragraphs
from textune.metadata.taggers.table import TAGGERS, TagSettings, build_taggers
from textune.metadata.taggers.tagging import PageTagger, TagCounts
from textune.metadata.taggers.timestamp import Timestamp
from textune.metadata.taggers.title import Title
from textune.metadata.taggers.url import Url
from textune.metadata.taggers.website import WebsiteDescriptions
from textune.metadata.types import TYPES

FILLER = "tidi tadada " * 6


def value_of(tagger: Tagger, **row: object) -> str | None:
    """The value of the one entry that is found."""
    (entries,) = tagger.tag(Page(row)).values()
    if not entries:
        return None
    (entry,) = entries
    assert entry["type"] == "global" and entry["key"] == TYPES[tagger.name].key
    value = entry["value"]
    assert isinstance(value, str)
    return value


# --- the address -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "default", "legacy"),
    [
        *(
            (url, source, source)
            for url, source in (
                (
                    "https://hawkeyesports.com/news/2005/03/22/on-time-and-on-budget/",
                    "hawkeyesports.com > news > on time and on budget",
                ),
                (
                    "http://www.plumberscrib.com/steam-generators.html?cat=142&manufacturer=390&p=2",
                    "www.plumberscrib.com > steam generators html",
                ),
                (
                    "https://seattlejob.us/finance-internships-miami.html",
                    "seattlejob.us > finance internships miami html",
                ),
                ("http://a.b/c_d+e.f&g=h", "a.b > c d e f g h"),
                ("http://a.b/story-7/x", "a.b > story > x"),
            )
        ),
        ("https://www.xyz.com", "www.xyz.com", "www.xyz.com > "),
        (
            "http://www.example.de/2015/forum/article/21-new-project",
            "www.example.de > forum > article > new project",
            "www.example.de > forum > article",
        ),
        ("http://a.b/2015-03-22-title-12-34", "a.b > title", "a.b > "),
        ("http://a.b/c//d--e", "a.b > c > d e", "a.b > c >  > d  e"),
        ("", None, " > "),
    ],
)
def test_c20_datasource(url: str, default: str | None, legacy: str) -> None:
    assert value_of(Datasource(), url=url) == default
    assert value_of(Datasource(legacy=True), url=url) == legacy


@pytest.mark.parametrize(
    ("path", "date"),
    [
        ("/1998/03/08/sports/on-pro-basketball", "1998-03-08"),
        ("/2021/01/23", "2021-01-23"),
        ("/2021/1/3.html", "2021-01-03"),
        ("/2021/jan/23/random-123", "2021-01-23"),
        ("/2021/Jan/23/x", "2021-01-23"),
        ("/2021-jan-23 random", "2021-01-23"),
        ("/2021%20jan%2023%20random", "2021-01-23"),
        ("/news-2018-12-10T13:45:00.000Z", "2018-12-10"),
        ("/20181210/x", "2018-12-10"),
        ("/x-20181210.html", "2018-12-10"),
        ("/20181210t134500/x", "2018-12-10"),
        ("/23-january-2009-x", "2009-01-23"),
        ("/january_23rd_2009", "2009-01-23"),
        ("/23jan2009", "2009-01-23"),
        ("/12-31-2009-x", "2009-12-31"),
        ("/31.12.2009", "2009-12-31"),
        ("/05-05-2009", "2009-05-05"),
        ("/2009/02/30/2009/03/01/", "2009-03-01"),
        ("/2010/01/02/about-2009-03-04", "2010-01-02"),
        # not in full, more than one reading, not a date at all
        ("/12", None),
        ("/2021", None),
        ("/2021/01", None),
        ("/2021-jan", None),
        ("/2015/12/5-tips-for-x", None),
        ("/04-05-2009", None),
        ("/1544400000", None),  # seconds
        ("/1544400000000", None),
        ("/story/3000000218734/x", None),
        ("/120181210", None),
        ("/20181310", None),
        ("/2018/1210", None),
        ("/1982/12/31/", None),
        ("/2100/01/01/", None),
        ("/2009/02/29/", None),
        ("/2001:12:13", None),
        ("/a2001/12/13b", None),
    ],
)
def test_the_date_of_a_path(path: str, date: str | None) -> None:
    wanted = f"{date} 00:00:00" if date else None
    assert value_of(Timestamp(), url=f"https://a.b{path}") == wanted
    assert value_of(Timestamp(), url=f"https://a.b/?x={path}") is None


def test_legacy_dates_end_in_2021_and_mix_separators() -> None:
    for path, default, legacy in (
        ("/2022/01/01/", "2022-01-01 00:00:00", None),
        ("/2021/12/31/", "2021-12-31 00:00:00", "2021-12-31 00:00:00"),
        ("/2015/12-05-x", None, "2015-12-05 00:00:00"),
        ("/1983/01/01/", "1983-01-01 00:00:00", "1983-01-01 00:00:00"),
    ):
        assert value_of(Timestamp(), url=f"https://a.b{path}") == default
        assert value_of(Timestamp(legacy=True), url=f"https://a.b{path}") == legacy


def test_urls_are_kept_as_they_are() -> None:
    assert value_of(Url(), url="callto:RickAndMorty/Year%202021/") == "callto:RickAndMorty/Year%202021/"
    assert value_of(Url(), url="") is None
    with pytest.raises(PageError, match="no column 'url'"):
        Url().tag(Page({}))
    for tagger in (Timestamp(), Datasource()):
        with pytest.raises(PageError, match=r"http://\[bad"):
            tagger.tag(Page({"url": "http://[bad/x"}))


@pytest.mark.parametrize(
    ("title", "default", "legacy"),
    [
        ("My Thoughts On It » Dad", "My Thoughts On It » Dad", "My Thoughts On It » Dad"),
        ("A &amp; B &#39;c&#39;", "A & B 'c'", "A &amp; B 'c'"),
        ("one\n  two", "one two", None),
        (" padded ", "padded", " padded "),
        ("  ", None, "  "),
    ],
)
def test_titles(title: str, default: str | None, legacy: str | None) -> None:
    pytest.importorskip("selectolax", reason="the extra `tag` is not installed")
    html = f"<head><title class=x>{title}</title></head><body><title>another</title>"
    assert value_of(Title(), html=html) == default
    assert value_of(Title(legacy=True), html=html) == legacy
    assert value_of(Title(), html="<p>x") is None is value_of(Title(legacy=True), html="<p>x")


# --- the text --------------------------------------------------------------------------------------------------------


def test_lengths() -> None:
    assert value_of(TextLength(), text="Paris is the beautiful place to visit") == "37"
    assert value_of(TextLength(), text="") == "0"
    assert value_of(TextLength(), text=None) is None

    def sentences(text: str, *, legacy: bool = False) -> list[tuple[int, int, str]]:
        (entries,) = SentenceLengths(legacy=legacy).tag(Page({"text": text})).values()
        assert all((entry["key"], entry["type"]) == ("length", "local") for entry in entries)
        return [(entry["char_start_idx"], entry["char_end_idx"], entry["value"]) for entry in entries]

    text = "ab. cde... f"
    assert sentences(text) == [(0, 2, "2"), (3, 7, "4"), (10, 12, "2")]
    assert sentences(text, legacy=True) == [(0, 2, "2"), (2, 7, "4"), (7, 8, "0"), (8, 9, "0")]
    assert sentences("no stop") == [(0, 7, "7")]
    assert sentences("no stop", legacy=True) == []
    first = "paragraph 1 tidi tadada tidi tadada tidi tadada tidi tadada tidi tadada."
    second = "\nparagraph 2 is in Paris tidi tadada tidi tadada tidi tadada tidi tadada."
    assert sentences(first + second + "\n", legacy=True) == [(0, 71, "71"), (71, 144, "72")]
    assert sentences(first + second + "\n") == [(0, 71, "71"), (72, 144, "72")]


def html_span(tag: str, start: int, end: int) -> dict[str, Any]:
    return {"key": "html", "type": "local", "char_start_idx": start, "char_end_idx": end, "value": tag}


def paragraphs(text: str, spans: list[dict[str, Any]], *, legacy: bool = False) -> list[tuple[str, str]]:
    found = Paragraphs(legacy=legacy).tag(Page({"text": text, "metadata_html": spans}))["metadata_paragraph"]
    assert "".join(one["value"] for one in found) == text
    at = 0
    for one in found:
        assert (one["char_start_idx"], one["char_end_idx"]) == (at, at := at + len(one["value"]))
        assert (one["key"], one["type"]) == ("paragraph", "local") and one["value"]
    return [(one["marker"], one["value"]) for one in found]


def test_paragraphs() -> None:
    one, two = "a" * 72 + "\n", "b" * 72 + "\n"
    spans = [html_span("p", 0, 72), html_span("p", 73, 145), html_span("body", 0, 146)]
    assert paragraphs(one + two, spans) == [("p", one), ("p", two)]
    title = [html_span("h1", 0, 15), html_span("body", 0, 101)]
    assert paragraphs("T" * 15 + "\nrest\n", title) == [("h1", "T" * 15), ("remainder", "\nrest\n")]
    text = "CITY\n" + "Comune\ninfo\n" + "\n\n" + "Cookie |\n"
    spans = [html_span("div", 0, 5), html_span("div", 5, 17), html_span("div", 17, 28)]
    assert paragraphs(text, spans) == [
        ("div", "CITY\n"),
        ("div", "Comune\ninfo\n"),
        ("div+lf", "\n\n"),
        ("div+lf", "Cookie |\n"),
    ]
    assert paragraphs("no html\n\nat all", []) == [("remainder+lf", "no html\n\n"), ("remainder+lf", "at all")]
    assert paragraphs("", []) == []


def test_only_a_line_end_belongs_to_the_paragraph_before() -> None:
    text, spans = "abc\ndef\n", [html_span("p", 0, 4), html_span("p", 4, 7)]
    assert paragraphs(text, spans) == [("p", "abc\n"), ("p", "def\n")]
    assert paragraphs(text, spans, legacy=True) == [("p", "abc\nd"), ("p", "ef\n")]


@pytest.mark.parametrize("legacy", [False, True])
def test_paragraphs_of_any_spans_are_the_text(legacy: bool) -> None:
    draw = random.Random(7)
    for _ in range(300):
        text = "".join(draw.choices("ab\n", k=draw.randint(0, 30)))
        ends = [sorted(draw.choices(range(len(text) + 1), k=2)) for _ in range(draw.randint(0, 6))]
        spans = [html_span(draw.choice(["p", "div", "b", "li"]), *pair) for pair in ends]
        paragraphs(text, spans, legacy=legacy)


# --- entities --------------------------------------------------------------------------------------------------------


def test_names_of_a_gazetteer_in_a_text() -> None:
    gazetteer = Gazetteer(
        [
            Entity("Barack_Obama", ("Obama", "President Obama"), "a president"),
            Entity("New York"),
            Entity("New York City", ("N.Y.C.",)),
            Entity("Other", ("Obama",)),
        ]
    )
    text = "New  York\nCity and New York; President Obama, N.Y.C. Obamas, obama, Barack Obama"
    found = [(text[one["char_start_idx"] : one["char_end_idx"]], one["value"]) for one in gazetteer.find(text)]
    assert found == [
        ("New  York\nCity", "New York City"),
        ("New York", "New York"),
        ("President Obama", "Barack_Obama"),
        ("N.Y.C.", "New York City"),
        ("Barack Obama", "Barack_Obama"),
    ]
    descriptions = [one.get("description") for one in gazetteer.find(text)]
    assert descriptions == [None, None, "a president", None, "a president"]


def test_many_names_that_begin_alike_are_told_apart() -> None:
    """And each word of a text is looked up once for each number of words, however many names there are."""
    gazetteer = Gazetteer(
        [Entity(" ".join(["The", *["New"] * (number % 3), str(number)])) for number in range(50_000)]
    )
    assert [len(found) for found in gazetteer._lengths.values()] == [3]
    text = "The New 40000, The 3 and The New New 5; The New New 6 The New"
    assert [one["value"] for one in gazetteer.find(text)] == ["The New 40000", "The 3", "The New New 5"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("g.jsonl", '{"name": "A B", "aliases": ["C", "D"]}\n{"name": "E", "description": "x"}\n'),
        ("g.csv", "name,aliases,description\nA B,C|D,\nE,,x\n"),
        ("g.tsv", "name\taliases\tdescription\nA B\tC|D\t\nE\t\tx\n"),
    ],
)
def test_files_of_names(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_gazetteer(str(tmp_path / name)) == [Entity("A B", ("C", "D")), Entity("E", (), "x")]


@pytest.mark.parametrize(
    ("name", "content", "value", "line"),
    [
        ("g.jsonl", '{"name": "A"}\n{"aliases": ["B"]}\n', None, 2),
        ("g.jsonl", '{"name": "A"}\n{"name": " "}\n', " ", 2),
        ("g.jsonl", '{"name": 7}\n', 7, 1),
        ("g.csv", "name,aliases\nA,\n,B\n", "", 3),
        ("g.jsonl", '{"name": "A", "aliases": [1]}\n', [1], 1),
        ("g.csv", "nam,aliases\nA,\n", "name", None),
        ("g.jsonl", "no json\n", None, 1),
        ("g.jsonl", '{"name": "A"}\n{"name": "B", "description": "\\ud800"}\n', "\ud800", 2),
        ("g.jsonl", '{"name": "A", "aliases": ["B", "\\ud800"]}\n', "\ud800", 1),
    ],
)
def test_an_entry_without_a_name_is_refused(
    tmp_path: Path, name: str, content: str, value: object, line: int | None
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_gazetteer(str(tmp_path / name))
    assert caught.value.value == value
    assert caught.value.place.endswith(f"line {line}" if line else name)
    with pytest.raises(DataError) as caught:
        read_gazetteer(str(tmp_path / "absent.csv"))
    assert (caught.value.key, caught.value.value) == ("gazetteer", str(tmp_path / "absent.csv"))


def entity(start: int, end: int, value: str) -> dict[str, Any]:
    return {"key": "entity", "type": "local", "char_start_idx": start, "char_end_idx": end, "value": value}


def place(entities: list[dict[str, Any]], ends: list[int], *, legacy: bool = False) -> list[tuple[Any, ...]]:
    spans = pairwise([0, *ends])
    found = [{"char_start_idx": start, "char_end_idx": end} for start, end in spans]
    row = {"metadata_entity": entities, "metadata_paragraph": found}
    (entries,) = EntityParagraphs(legacy=legacy).tag(Page(row)).values()
    fields = ("char_start_idx", "char_end_idx", "value", "relative_start_pos", "relative_end_pos")
    return [tuple(one[name] for name in fields) for one in entries]


def test_entities_stand_for_their_paragraphs() -> None:
    entities = [entity(1, 3, "A"), entity(4, 6, "B"), entity(7, 8, "A"), entity(12, 14, "A"), entity(15, 16, "C")]
    assert place(entities, [10, 20]) == [
        (0, 10, "A", 0, 1),
        (0, 10, "B", 1, 0),
        (10, 20, "A", 2, 1),
        (10, 20, "C", 3, 0),
    ]
    assert [one[3:] for one in place(entities, [10, 20], legacy=True)] == [(0, 0), (1, 1), (0, 0), (1, 1)]
    across = [entity(8, 12, "A")]
    assert place(across, [10, 20]) == [] and place(across, [10, 20], legacy=True) == [(8, 12, "A", 0, 0)]
    assert place(entities, []) == []
    assert place([], [10]) == []


def test_tags_of_entity_paragraphs_nest() -> None:
    draw = random.Random(3)
    for _ in range(200):
        ends = sorted(draw.sample(range(1, 60), 5))
        spans = [sorted(draw.sample(range(ends[-1] + 1), 2)) for _ in range(8)]
        found = place([entity(*span, draw.choice("ABC")) for span in spans], ends)
        assert_nested((one[0], one[1], one[3], one[4]) for one in found)


def test_website_descriptions(tmp_path: Path) -> None:
    table = tmp_path / "sites.csv"
    good, long = "This is a valid website and should be retained", "word " * 51
    rows = [
        ("www.xyz.com", good),
        ("short.com", "Remove this example."),
        ("refers.com", "Website refers to: one two three"),
        ("refer.com", "Many words here that refer to: others"),
        ("wiki.com", "five words and [[File:x more"),
        ("long.com", long),
        ("fifty.com", "word " * 50),
    ]
    table.write_text("domain,description\n" + "\n".join(f"{domain},{text}" for domain, text in rows) + "\n")
    tagger = WebsiteDescriptions.of_file(str(table))
    assert value_of(tagger, url="https://XYZ.com:80/a") == good
    assert value_of(tagger, url="http://www.xyz.com") == good
    assert value_of(tagger, url="http://fifty.com") == ("word " * 50).strip()
    for host in ("short.com", "refers.com", "refer.com", "wiki.com", "long.com", "notfound.com", ""):
        assert value_of(tagger, url=f"http://{host}/x") is None
    table.write_text("domain,description\na.b,x\n,y\n")
    with pytest.raises(DataError) as caught:
        WebsiteDescriptions.of_file(str(table))
    assert (caught.value.key, caught.value.place) == ("descriptions", f"{table}, line 3")


# --- the table and a row -------------------------------------------------------------------------------------------


def test_taggers_are_types() -> None:
    assert TAGGERS.keys() == TYPES.keys()


def test_which_taggers_are_used(tmp_path: Path) -> None:
    def names(**settings: Any) -> list[str]:
        return [tagger.name for tagger in build_taggers(TagSettings(**settings))]

    plain = [name for name in TAGGERS if name not in {"website_desc", "entity", "entity_paragraph"}]
    assert names() == plain
    (tmp_path / "g.csv").write_text("name\nParis\n")
    assert names(gazetteer=str(tmp_path / "g.csv")) == [*plain, "entity", "entity_paragraph"]
    assert names(only=["title", "url"]) == ["url", "title"]
    assert names(without=["html", "title"]) == [name for name in plain if name not in {"html", "title"}]
    assert names(only=["entity_paragraph"]) == ["entity_paragraph"]


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        ({"only": ["titel"]}, "tagger", "titel"),
        ({"without": ["urls"]}, "without", "urls"),
        ({"only": ["entity"]}, "tagger", "entity"),
        ({"only": ["website_desc"]}, "tagger", "website_desc"),
        ({"only": ["url"], "without": ["url"]}, "tagger", "url"),
    ],
)
def test_taggers_that_cannot_be_used(settings: dict[str, Any], key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_taggers(TagSettings(**settings))
    assert (caught.value.key, caught.value.value) == (key, value)


OWN = """
class People:
    type = "entity"
    def tag(self, text, url):
        at = text.find("Paris")
        return [(at, at + 5, "Paris")] if at >= 0 else []

class Shop:
    type = "shop"
    def tag(self, text, url):
        return "a shop" if url.endswith("shop") else None

class Site:
    type = "website_desc"
    def tag(self, text, url):
        return "Too short." if url == "short" else "These are five words at least."

class Wrong:
    type = "wrong"
    def tag(self, text, url):
        return {
            "span": [(3, 900, "x")],
            "kind": [("a", "b")],
            "fails": 1 / 0 if url == "fails" else 0,
            "number": 5,
            "half": "\\ud800",
            "half of a span": [(0, 1, "\\ud800")],
        }[url]

class Name:
    type = "entity"
    def tag(self, text, url):
        return "Paris"

class Spans:
    type = "title"
    def tag(self, text, url):
        return [(0, 1, "P")]

class NoType:
    def tag(self, text, url):
        return None

class NoTag:
    type = "entity"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_taggers_of_pages.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_taggers_of_pages"


def tag(row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    made = TagSettings(**settings)
    return PageTagger(build_taggers(made), made.columns).tag(row).row


def test_taggers_of_the_users_own(own: str) -> None:
    row = {"text": "to Paris", "url": "http://a.b/shop"}
    got = tag(row, own=[f"{own}:People", f"{own}:Shop", f"{own}:Site"], without=["html", "title"])
    assert got["metadata_entity"] == [entity(3, 8, "Paris")]
    assert got["metadata_entity_paragraph"][0]["char_end_idx"] == 8
    assert got["metadata_shop"] == [{"key": "shop", "type": "global", "value": "a shop"}]
    assert got["metadata_website_desc"][0] | {"value": ""} == {
        "key": "website_description",
        "type": "global",
        "value": "",
    }
    assert (
        tag({"text": "x", "url": "short"}, own=[f"{own}:Site"], only=["website_desc"])["metadata_website_desc"] == []
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("span", "3-900"),
        ("kind", "start, end"),
        ("fails", "ZeroDivisionError"),
        ("number", "an int is neither"),
        ("half", "surrogate"),
        ("half of a span", "surrogate"),
    ],
)
def test_a_tagger_of_the_users_own_that_fails(own: str, url: str, words: str) -> None:
    got = tag({"text": "a text", "url": url}, own=[f"{own}:Wrong"], without=["html", "title"])
    assert (got["wrong_error"], got["metadata_wrong"]) == (1, [])
    assert words in got["wrong_error_comment"]
    assert got["url_error"] == 0 and got["metadata_url"]


@pytest.mark.parametrize(("name", "of_type", "words"), [("Name", "entity", "spans"), ("Spans", "title", "whole text")])
def test_a_tagger_of_the_users_own_keeps_to_what_its_type_is_about(
    own: str, name: str, of_type: str, words: str
) -> None:
    got = tag({"text": "a text", "url": "http://a.b"}, own=[f"{own}:{name}"], only=[of_type])
    assert (got[f"{of_type}_error"], got[f"metadata_{of_type}"]) == (1, [])
    assert words in got[f"{of_type}_error_comment"]


def test_entities_without_spans_are_an_error_of_the_page() -> None:
    row = {"text": "a text", "metadata_entity": [{"key": "entity", "type": "global", "value": "x"}]}
    got = tag(row, only=["paragraph", "entity_paragraph"])
    assert got["entity_paragraph_error"] == 1 and "'metadata_entity'" in got["entity_paragraph_error_comment"]


@pytest.mark.parametrize("name", ["NoType", "NoTag", "Absent"])
def test_classes_that_are_no_taggers(own: str, name: str) -> None:
    with pytest.raises(CodeError) as caught:
        build_taggers(TagSettings(own=[f"{own}:{name}"]))
    assert caught.value.key == "own_tagger"


def test_two_taggers_for_one_type(own: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("name\nParis\n")
    for settings in (
        TagSettings(own=[f"{own}:People"], gazetteer=str(tmp_path / "g.csv")),
        TagSettings(own=[f"{own}:People", f"{own}:People"]),
    ):
        with pytest.raises(ConfigError) as caught:
            build_taggers(settings)
        assert (caught.value.key, caught.value.value) == ("own_tagger", "entity")


def test_a_failed_tagger_keeps_what_the_others_found() -> None:
    pytest.importorskip("selectolax", reason="the extra `tag` is not installed")
    settings = TagSettings()
    tagger = PageTagger(build_taggers(settings), settings.columns)
    good = {"html": f"<title>T</title><p>{FILLER}</p>", "url": "http://a.b/2020/01/02/x", "id": 1}
    rows = [
        good,
        {"html": None, "url": "http://a.b/2020/01/02/x", "id": 2},
        {"html": f"<p>{FILLER}", "url": "http://[", "id": 3},
    ]
    pages = [tagger.tag(row) for row in rows]
    first, second, third = [page.row for page in pages]
    assert [row["html_error"] for row in (first, second, third)] == [0, 1, 0]
    assert [row["timestamp_error"] for row in (first, second, third)] == [0, 0, 1]
    assert (second["text"], second["metadata_html"], second["metadata_title"]) == ("", [], [])
    assert second["metadata_timestamp"] == first["metadata_timestamp"]
    assert "null" in second["html_error_comment"] and first["html_error_comment"] == ""
    assert third["metadata_url"][0]["value"] == "http://[" and third["metadata_paragraph"]
    assert {*first} == {*second} == {*third} == {*good, *tagger.columns()}
    assert [row["id"] for row in (first, second, third)] == [1, 2, 3] and first["html"] == good["html"]
    counts = TagCounts()
    for number, page in enumerate(pages, 1):
        counts.add_page(page, f"line {number}")
    assert (counts.pages, counts.with_errors, counts.types["html"].errors) == (3, 2, 1)
    assert counts.types["html"].first_error.startswith("line 2: ")
    assert counts.types["url"].pages == 3 and counts.types["timestamp"].entries == 2
    assert TagCounts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


def test_a_text_that_was_there_stays_where_the_html_cannot_be_read() -> None:
    pytest.importorskip("selectolax", reason="the extra `tag` is not installed")
    assert tag({"html": None, "text": "old", "url": "u"})["text"] == "old"
    assert tag({"html": f"<p>{FILLER}", "text": "old", "url": "u"})["text"] == FILLER.strip() + "\n"


def test_a_tagger_that_may_not_be_used_on_a_row() -> None:
    settings = TagSettings(without=["html", "title"])
    tagger = PageTagger(build_taggers(settings), settings.columns)
    begun = list[str]()
    got = tagger.tag(
        {"url": "http://a.b/x", "text": "t"}, begin=begun.append, broken={"url": "it ended the process"}
    ).row
    assert (got["url_error"], got["url_error_comment"]) == (1, "it ended the process")
    assert begun == [one.name for one in tagger.taggers]
