"""Chunks of documents: ids, masks and characters, as the original system has them and as textune does."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest

from tests.kits.errors import refused
from tests.kits.rendered import Tag, Written, char_tokenizer, encoder_of, rendered_of, rows_of
from textune.errors import DataError

BOB = (("a Bob", Tag(" [[Bob Ross]]", closes=0), " c"), (("url", "url: x"),))


def runs(mask: list[int]) -> str:
    """A mask in run-length form, such as `1x10 0x14`."""
    return " ".join(f"{value}x{len(list(same))}" for value, same in groupby(mask))


def padded(document: Written, max_length: int, **keys: Any) -> list[tuple[str, str, str]]:
    """Of each chunk, padded to `max_length`: its characters, and the run lengths of attention and mask."""
    tokenizer = char_tokenizer()
    chunks = encoder_of(tokenizer, max_length, compat="bsmetadata", **keys).encode(rendered_of([document]))
    rows = []
    for ids, mask in rows_of(chunks):
        empty = max_length - len(ids)
        text = "".join(tokenizer.convert_ids_to_tokens(ids)) + "~" * empty
        rows.append((text, runs([1] * len(ids) + [0] * empty), runs(mask + [0] * empty)))
    return rows


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


def test_documents_without_text_have_no_example() -> None:
    documents = [Written(("",)), Written(("ab",)), Written((Tag("<p></p>"),)), Written(("cd ef",))]
    chunks = encoder_of(char_tokenizer(), 4).encode(rendered_of(documents))
    assert chunks.documents.tolist() == [1, 3]
    assert chunks.store.example.tolist() == [0, 1, 1]
    assert chunks.counts.empty == 2


def test_short_documents_are_left_out_and_counted() -> None:
    documents = [Written(("abc", Tag("<br>", opens=0))), Written(("abcd",)), Written(("",))]
    chunks = encoder_of(char_tokenizer(), 40, min_tokens=4).encode(rendered_of(documents))
    assert chunks.documents.tolist() == [1]
    assert (chunks.counts.short, chunks.counts.empty) == (1, 1)


def test_a_prefix_without_room_is_refused_with_its_longest_field() -> None:
    fits = Written(("text",), (("url", "u: 1"),))
    long = Written(("text",), (("url", "u: 12345"), ("title", "T: 123456789")))
    keys = {"prefix_separator": "||", "separator": "|"}
    with refused(DataError, key="metadata.prefix_share", value="T: 123456789", place="page 1", reason="title"):
        encoder_of(char_tokenizer(), 16, **keys).encode(rendered_of([fits, long]), place="page {}".format)
    chunks = encoder_of(char_tokenizer(), 16, **keys, on_bad_metadata="report").encode(rendered_of([fits, long]))
    assert "".join(char_tokenizer().convert_ids_to_tokens(rows_of(chunks)[1][0])) == "text"
    assert (chunks.counts.trimmed, chunks.counts.left_out) == (1, {"url": 1, "title": 1})


@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
def test_the_store_is_one_that_batches_can_use(compat: str) -> None:
    documents = [Written(("one two three",), (("url", "url: x"),)), Written(("four", Tag("<b>"), "five"))]
    chunks = encoder_of(char_tokenizer(), 20, compat=compat).encode(rendered_of(documents))
    store = chunks.store
    assert store.ids.dtype == np.int32
    assert store.columns["mask"].dtype == np.uint8
    assert len(store.columns["mask"]) == store.offsets[-1] == len(store.ids)
    assert store.num_examples == 2
    assert store.rows_of(np.array([0, 1])).tolist() == list(range(len(store)))
