"""Documents as text: the conformance cases by number, in both ways of rendering."""

from __future__ import annotations

import numpy as np
import pytest
from kits.documents import APPLE, BOXER, CASES, Entry, counted, documents_of, mask_of, tag

from textune.config.documents import HtmlRules, MetadataSection
from textune.metadata.rendering.fields import fields_text
from textune.metadata.rendering.render import render
from textune.metadata.rendering.renderers import RENDERERS

both_ways = pytest.mark.parametrize("compat", ["none", "bsmetadata"])


def rendered(case: tuple[str, list[Entry]], **options: object) -> tuple[str, str, str]:
    """Prefix, text, and its mask in runs."""
    section = MetadataSection.model_validate(options)
    found = render(documents_of(section.types, case), section)
    return fields_text(found.fields[0], section), found.texts[0], counted(mask_of(found))


@both_ways
def test_c1_url_and_timestamp(compat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "url: https://www.bbc.com/sport/live/olympics/50974152"
    options = {"types": ("url", "timestamp"), "compat": compat}
    assert rendered(CASES["A"], **options)[0] == f"{url} | Year: 2018 | Month: December |||"
    monkeypatch.delitem(RENDERERS, "timestamp")
    assert rendered(CASES["A"], **options)[0] == f"{url} | timestamp: 2018-12-10T13:45:00.000Z |||"


@both_ways
def test_c2_escapes_of_urls_and_labels(compat: str) -> None:
    url = ("Wubba", [Entry("url", "callto:RickAndMorty/Year%202021/")])
    assert rendered(url, types=("url",), compat=compat)[0] == "url: callto:RickAndMorty/Year 2021/ |||"
    title = ("Your article", [Entry("title", "My Thoughts On It » Dad, I want to be an inventor")])
    expected = "Title: My Thoughts On It » Dad, I want to be an inventor |||"
    assert rendered(title, types=("title",), compat=compat)[0] == expected


@both_ways
def test_c4_a_type_without_a_renderer_in_brackets(compat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RENDERERS, "entity")
    expected = BOXER.replace("Yafai", "[entity: Galal Yafai]Yafai[/entity: Galal Yafai]")
    prefix, text, mask = rendered(CASES["A"], types=("html", "entity"), compat=compat)
    assert (prefix, text, mask) == ("", expected, "0x132 1x21 0x5 1x22 0x19")


@both_ways
def test_c5_tags_with_positions_around_one_without(compat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RENDERERS, "entity")
    monkeypatch.delitem(RENDERERS, "html")
    _, text, mask = rendered(CASES["B"], types=("html", "entity"), compat=compat)
    assert text == (
        "An [html: b][entity: Malus domestica]apple[/entity: Malus domestica][/html: b] is an edible fruit produced "
        "by an [html: b][html: i]apple[/html: i] tree[/html: b] (Malus domestica)."
    )
    assert mask == "0x3 1x34 0x5 1x36 0x35 1x18 0x5 1x10 0x5 1x10 0x19"


@both_ways
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (tag("i", 0, 0, "0/1"), tag("b", 0, 3, "2/0"), "<i></i><b>...</b>"),
        (tag("i", 0, 3, "0/1"), tag("b", 0, 3, "1/0"), "<i><b>...</b></i>"),
        (tag("i", 0, 3, "0/0"), tag("b", 3, 3, "1/2"), "<i>...</i><b></b>"),
        (tag("i", 0, 3, "0/2"), tag("b", 3, 3, "0/1"), "<i>...<b></b></i>"),
    ],
)
def test_c6_positions_of_tags_that_touch(compat: str, first: Entry, second: Entry, expected: str) -> None:
    for entries in ([first, second], [second, first]):
        assert rendered(("...", entries), types=("html",), compat=compat)[1] == expected


@both_ways
def test_c7_type_tokens(compat: str) -> None:
    options = {"types": ("url", "timestamp", "html", "entity"), "types_in_prefix": True, "prefix_start": " "}
    prefix, text, _ = rendered(CASES["B"], compat=compat, **options)
    assert prefix == " url: https://en.wikipedia.org/wiki/Apple | html | entity |||"
    assert text == (
        "An <b>apple [[Malus domestica]]</b> is an edible fruit produced by an <b class:level1 id:4 "
        "href:https://test.org><i class:level2>apple</i> tree</b> (Malus domestica)."
    )
    tokens = {"html": "HtmlOn", "entity": "EntityOn"}
    prefix, again, _ = rendered(CASES["B"], compat=compat, type_tokens=tokens, **options)
    assert prefix == " url: https://en.wikipedia.org/wiki/Apple | HtmlOn | EntityOn |||" and again == text


@both_ways
def test_c8_tags_without_text(compat: str) -> None:
    prefix, text, _ = rendered(CASES["E"], types=("url", "timestamp", "html", "entity"), compat=compat)
    assert prefix == "url: https://en.wikipedia.org/wiki/Apple |||"
    assert text == (
        "An <b>apple [[Malus domestica]]</b> is an edible fruit produced by an <a></a><b class:level1>"
        "<b class:level2><i class:level3><a></a>apple</i> tree</b></b> (Malus domestica)."
    )


@both_ways
def test_c10_wraps_and_types_without_positions(compat: str) -> None:
    _, text, _ = rendered(CASES["B"], types=("html",), wraps={"html": ("<HTML>", "</HTML>")}, compat=compat)
    assert text == (
        "An <HTML><b></HTML>apple<HTML></b></HTML> is an edible fruit produced by an <HTML><b class:level1 id:4 "
        "href:https://test.org><i class:level2></HTML>apple<HTML></i></HTML> tree<HTML></b></HTML> (Malus domestica)."
    )
    pair = ("ab", [Entry("k1", "v", 0, 2), Entry("k2", "v", 0, 2)])
    assert rendered(pair, types=("k1", "k2"), compat=compat)[1] == "[k2: v][k1: v]ab[/k1: v][/k2: v]"


@both_ways
def test_c13_and_c15_fields_of_types_without_a_renderer(compat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timestamp", "entity", "html"):
        monkeypatch.delitem(RENDERERS, name)
    options = {"types": ("url", "timestamp", "html", "entity", "website_desc", "title"), "compat": compat}
    prefix, text, _ = rendered(CASES["A"], **options)
    url = "url: https://www.bbc.com/sport/live/olympics/50974152"
    assert prefix == f"{url} | timestamp: 2018-12-10T13:45:00.000Z |||"
    assert text.endswith("that is [entity: Galal Yafai]Yafai[/entity: Galal Yafai] has got to go him.")
    shop = ("Customer Reviews63", [Entry("website_desc", "Amazon.com, Inc. ( AM-ə-zon) is a company.")])
    assert rendered(shop, **options)[0] == "Website Description: Amazon.com, Inc. ( AM-ə-zon) is a company. |||"


@both_ways
def test_c12_c16_and_c17_texts(compat: str) -> None:
    bob = ("a Bob c", [Entry("url", "x"), Entry("entity", "Bob_Ross", 2, 5)])
    assert rendered(bob, types=("url", "entity"), compat=compat) == (
        "url: x |||",
        "a Bob [[Bob Ross]] c",
        "0x5 1x13 0x2",
    )
    assert rendered(bob, types=("entity",), compat=compat) == ("", "a Bob [[Bob Ross]] c", "0x5 1x13 0x2")
    section = MetadataSection(types=("url", "entity"), compat=compat)  # type: ignore[arg-type]
    documents = documents_of(section.types, bob, ("", [Entry("url", "x")]))
    nothing = render(documents, section, np.zeros((2, 2), bool))
    assert (nothing.texts, nothing.fields, len(nothing.insertions)) == (["a Bob c", ""], [(), ()], 0)


C21 = [
    Entry("timestamp", "1998-03-08 00:00:00"),
    Entry("website_desc", "D."),
    Entry("title", "T"),
    Entry("url", "http://a.b/c%20d+e"),
    Entry("generation_datasource", "a.b > c"),
    Entry("generation_length_text", "6"),
    tag("b", 0, 6, "0/0"),
    Entry("entity_paragraph", "An_Entity", 0, 6, 0, 1),
]


@both_ways
def test_c21_all_types_of_columns(compat: str) -> None:
    prefix, text, _ = rendered(
        ("simple", C21),
        types=(
            *("html", "timestamp", "website_desc", "title", "url", "generation_datasource", "generation_length_text"),
            "entity_paragraph",
        ),
        types_in_prefix=True,
        type_tokens={"entity_paragraph": "entity"},
        html=HtmlRules(drop=("body",), drop_all_lengths=(0, 0), attributes=("class", "id")),
        wraps={"html": ("<HTML>", "</HTML>"), "entity_paragraph": ("<ENTITY_CHAIN>", " </ENTITY_CHAIN> ")},
        compat=compat,
    )
    assert prefix == (
        "html | Year: 1998 | Month: March | Website Description: D. | Title: T | url: http://a.b/c d e | "
        "Datasource: a.b > c | Text Length: 6 | entity |||"
    )
    assert text == "<ENTITY_CHAIN> |An Entity| </ENTITY_CHAIN> <HTML><b></HTML>simple<HTML></b></HTML>"


@both_ways
def test_nothing_is_inserted_twice_or_lost(compat: str) -> None:
    section = MetadataSection(types=("html", "entity"), compat=compat)  # type: ignore[arg-type]
    found = render(documents_of(section.types, CASES["E"], CASES["A"], CASES["B"]), section)
    for number, text in enumerate(found.texts):
        bare = "".join(char for char, inserted in zip(text, mask_of(found, number), strict=True) if not inserted)
        assert bare == (APPLE, BOXER, APPLE)[number]
