"""Chunks of documents: what is kept, what is counted, where they are cut, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_tokenizer
from kits.documents import counted
from kits.errors import refused
from kits.rendered import Tag, Written, char_tokenizer, encoder_of, rendered_of, rows_of

from textune.errors import ConfigError, DataError, ModelError
from textune.metadata.chunks.counts import ChunkCounts
from textune.metadata.chunks.encoder import Compared, ScoredChunks
from textune.metadata.chunks.texttokens import NONCHARACTERS


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


# --- where chunks begin ----------------------------------------------------------------------------------------------


def said(document: Written, max_length: int, **keys: Any) -> list[str]:
    """Each chunk in characters."""
    tokenizer = char_tokenizer()
    chunks = encoder_of(tokenizer, max_length, **keys).encode(rendered_of([document]))
    return ["".join(tokenizer.convert_ids_to_tokens(ids)) for ids, _ in rows_of(chunks)]


def test_chunks_end_where_a_word_ends() -> None:
    assert said(Written(("one two three four",)), 10) == ["one two ", "three four"]
    assert said(Written(("onetwothreefour",)), 10) == ["onetwothre", "efour"]


def test_chunks_end_before_a_tag_rather_than_within_or_behind_it() -> None:
    bold = (Tag("<b>", 0), "word", Tag("</b>", closes=0))
    assert said(Written(("one two ", *bold, " end")), 13) == ["one two ", "<b>word</b> ", "end"]
    assert said(Written(("one ", *bold, " end")), 13) == ["one <b>word", "</b> end"]


def test_a_tag_longer_than_a_chunk_is_cut_and_counted() -> None:
    document = Written(("a ", Tag("<b class:long>", 0), "b", Tag("</b>", closes=0)))
    chunks = encoder_of(char_tokenizer(), 8).encode(rendered_of([document]))
    assert said(document, 8) == ["a ", "<b class", ":long>b", "</b>"]
    assert chunks.counts.split == 1
    assert (chunks.start.tolist(), chunks.end.tolist()) == ([0, 2, 2, 3], [2, 2, 3, 3])


def test_open_tags_are_closed_and_opened_again() -> None:
    words = "two three four five six"
    text = (Tag("<p>", 0), "one ", Tag("<b>", 1), words, Tag("</b>", closes=1), Tag("</p>", closes=0))
    assert said(Written(text), 40, reopen_tags=True) == [
        "<p>one <b>two three four five </b></p>",
        "<p><b>six</b></p>",
    ]
    assert said(Written(text), 40, reopen_tags=True, wraps={"html": ("{", "}")}) == [
        "<p>one <b>two three four five {</b></p>}",
        "{<p><b>}six</b></p>",
    ]


def test_tags_are_not_opened_again_where_they_would_take_the_room() -> None:
    document = Written((Tag("<p class:long>", 0), "one two three four five", Tag("</p>", closes=0)))
    chunks = encoder_of(char_tokenizer(), 24, reopen_tags=True).encode(rendered_of([document]))
    assert chunks.counts.not_reopened == len(chunks) - 1 > 0


# --- prefixes --------------------------------------------------------------------------------------------------------


def test_a_share_of_the_tokens_is_exact_and_leaves_room_for_text() -> None:
    fields = (("url", "u: " + 22 * "x"),)
    keys = {"separator": "|", "prefix_separator": "####"}
    assert said(Written(("y",), fields), 100, **keys, prefix_share=0.29) == [f"{fields[0][1]}#### y"]
    tokenizer = char_tokenizer()
    tokenizer.bos_token = "~"
    begun = {"prefix_separator": "##", "prefix_share": 0.95, "begin_token": "always", "on_bad_metadata": "report"}
    documents = [Written(("ab",), (("url", text),)) for text in ("u: 123", "u: 1234")]
    chunks = encoder_of(tokenizer, 10, **begun).encode(rendered_of(documents))
    written = ["".join(tokenizer.convert_ids_to_tokens(ids)) for ids, _ in rows_of(chunks)]
    assert written == ["~u: 123## ", "~u: 123##a", "~u: 123##b", "~ab"] and chunks.counts.bare == 1


def test_cut_prefixes_are_those_of_documents_with_a_chunk() -> None:
    fields = (("url", "u: 12345678"), ("title", "T: abc"))
    documents = [Written((text,), fields) for text in ("x", "", "yz")]
    keys = {"on_bad_metadata": "report"}
    counts = encoder_of(char_tokenizer(), 34, **keys).encode(rendered_of(documents)).counts
    assert counts == ChunkCounts(empty=1, trimmed=2, left_out={"title": 2})
    assert "2 documents" in counts.words["trimmed"] and "title of 2" in counts.words["trimmed"]
    bare = encoder_of(char_tokenizer(), 12, **keys).encode(rendered_of(documents)).counts
    assert bare == ChunkCounts(empty=1, trimmed=2, bare=2, left_out={"url": 2, "title": 2})
    assert ChunkCounts.from_flat(bare.flat) == bare
    both = ChunkCounts.sum([counts, bare, ChunkCounts(split=3, not_reopened=1)])
    assert both == ChunkCounts(empty=2, trimmed=4, bare=2, left_out={"title": 4, "url": 2}, split=3, not_reopened=1)
    assert "title of 4, url of 2; 2 documents" in both.lost and both.words.keys() == {
        "trimmed",
        "split",
        "not_reopened",
    }
    assert ChunkCounts().words == {} == ChunkCounts().flat


def test_a_long_prefix_keeps_whole_fields_by_priority() -> None:
    fields = (("url", "u: 12345678"), ("timestamp", "t: 1"), ("title", "T: abc"))
    keys = {"separator": "|", "prefix_separator": "#"}
    assert said(Written(("x",), fields), 60, **keys) == ["u: 12345678|t: 1|T: abc# x"]
    assert said(Written(("x",), fields), 34, **keys) == ["u: 12345678|t: 1# x"]
    assert said(Written(("x",), fields), 34, **keys, priority=("title", "timestamp")) == ["t: 1|T: abc# x"]
    assert said(Written(("x",), fields), 34, **keys, prefix_share=0.3) == ["t: 1# x"]
    chunks = encoder_of(char_tokenizer(), 34, **keys).encode(
        rendered_of([Written(("x",), fields), Written(("y",), fields[1:]), Written(("z",), fields)])
    )
    assert (chunks.counts.trimmed, chunks.counts.left_out) == (2, {"title": 2})


# --- suffixes --------------------------------------------------------------------------------------------------------

FIELDS = (("url", "u: 1"), ("title", "T: a"))
SUFFIX = " ||| u: 1 | T: a"


def behind(document: Written, max_length: int, **keys: Any) -> list[str]:
    """Each chunk in characters, with the fields behind the text."""
    return said(document, max_length, position="suffix", **keys)


def test_fields_stand_behind_a_text() -> None:
    assert behind(Written(("one two",), FIELDS), 40) == [f"one two{SUFFIX}"]
    assert behind(Written(("one two",)), 40) == ["one two"]
    assert behind(Written(("one",), FIELDS), 40, prefix_start="<", separator=",", prefix_separator="#") == [
        "one# <u: 1,T: a"
    ]


def test_only_the_last_chunk_has_the_suffix_behind_half_of_the_text_that_fits_there() -> None:
    text = "one two three four five six"
    assert behind(Written((text,), FIELDS), 40) == ["one two three ", f"four five six{SUFFIX}"]
    assert behind(Written((text,), FIELDS), 32) == ["one two three four ", f"five six{SUFFIX}"]
    assert behind(Written((text + " seven eight nine",), FIELDS), 32) == [
        "one two three four five six ",
        f"seven eight nine{SUFFIX}",
    ]
    assert behind(Written(("onetwothreefourfive",), FIELDS), 32) == ["onetwothree", f"fourfive{SUFFIX}"]


def test_a_suffix_is_masked_and_the_end_token_behind_it_is_not() -> None:
    tokenizer = tiny_tokenizer("llama")
    document = Written(("a good film",), (("url", "url: x"),))
    keys = {"position": "suffix", "end_token": "always"}
    for more in ({}, {"score_inline": True}):
        [(ids, mask)] = rows_of(encoder_of(tokenizer, 60, **keys, **more).encode(rendered_of([document])))
        [(bare, _)] = rows_of(encoder_of(tokenizer, 60, **keys).encode(rendered_of([Written(document.pieces)])))
        assert ids[: len(bare) - 1] == bare[:-1] and ids[-1] == bare[-1] == tokenizer.eos_token_id
        assert mask == [1] + [0] * (len(bare) - 2) + [1] * (len(ids) - len(bare)) + [0]
        assert tokenizer.decode(ids[len(bare) - 1 : -1]).strip() == "||| url: x"


def test_a_long_suffix_loses_fields_as_a_prefix_does() -> None:
    document = Written(("x",), (("url", "u: 12345678"), ("timestamp", "t: 1"), ("title", "T: abc")))
    keys = {"separator": "|", "prefix_separator": "#"}
    assert behind(document, 60, **keys) == ["x# u: 12345678|t: 1|T: abc"]
    assert behind(document, 36, **keys) == ["x# u: 12345678|t: 1"]
    assert behind(document, 36, **keys, priority=("title", "timestamp")) == ["x# t: 1|T: abc"]
    with refused(DataError, key="metadata.prefix_share", value="u: 12345678", reason="suffix"):
        behind(document, 8, **keys)
    assert behind(document, 8, **keys, on_bad_metadata="report") == ["x"]


def test_tags_opened_again_leave_room_for_the_suffix() -> None:
    keys = {"prefix_share": 0.99, "reopen_tags": True}
    text = (Tag("<p>", 0), "one two three four five six seven eight", Tag("</p>", closes=0))
    fields = (("url", "u: 123456789 123456789"),)
    for max_length in range(32, 60):
        chunks = behind(Written(text, fields), max_length, **keys)
        assert max(map(len, chunks)) <= max_length and chunks[-1].endswith(" ||| " + fields[0][1])
        assert "".join(chunks).replace("<p>", "").replace("</p>", "").startswith("one two three four five six")


# --- the tokens that begin and end a document ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "rule", "expected"),
    [
        ("llama", "auto", ("<s>", None)),
        ("llama", "always", ("<s>", "</s>")),
        ("llama", "never", (None, None)),
        ("gpt2", "auto", (None, None)),
        ("gpt2", "always", ("<|endoftext|>", "<|endoftext|>")),
        ("bert", "auto", ("[CLS]", "[SEP]")),
        ("t5", "auto", (None, "</s>")),
    ],
)
def test_begin_and_end_by_rule(family: str, rule: str, expected: tuple[str | None, str | None]) -> None:
    tokenizer = tiny_tokenizer(family)
    document = Written(("good film " * 20,), (("url", "url: x"),))
    encoder = encoder_of(tokenizer, 24, begin_token=rule, end_token=rule)
    rows = rows_of(encoder.encode(rendered_of([document])))
    assert len(rows) > 2
    begin, end = (None if token is None else tokenizer.convert_tokens_to_ids(token) for token in expected)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for number, (ids, mask) in enumerate(rows):
        first = [] if begin is None else [begin]
        last = [] if end is None or number < len(rows) - 1 else [end]
        assert ids[: len(first)] == first and ids[len(ids) - len(last) :] == last
        assert not special & set(ids[len(first) : len(ids) - len(last)])
        assert (mask[: len(first)], mask[len(ids) - len(last) :]) == ([1] * len(first), [0] * len(last))


def test_the_original_system_adds_no_special_tokens() -> None:
    tokenizer = tiny_tokenizer("llama")
    rows = rows_of(encoder_of(tokenizer, 24, compat="bsmetadata").encode(rendered_of([Written(("good film",))])))
    assert rows[0][0] == tokenizer("good film", add_special_tokens=False).input_ids


def test_a_token_that_the_tokenizer_lacks_is_refused() -> None:
    with refused(ConfigError, key="metadata.begin_token", value="always", reason="bos_token"):
        encoder_of(char_tokenizer(), 24, begin_token="always")


def test_a_tokenizer_without_offsets_is_refused_by_name() -> None:
    class Slow:
        is_fast = False

    with refused(ModelError, key="model.tokenizer", value="Slow", reason="offsets"):
        encoder_of(Slow(), 24)


# --- comparisons -----------------------------------------------------------------------------------------------------


def compared_of(document: Written, tokenizer: Any, max_length: int, **keys: Any) -> Compared:
    bare = Written((document.text,))
    return encoder_of(tokenizer, max_length, **keys).compared(rendered_of([document]), rendered_of([bare]))


def num_characters(chunks: ScoredChunks) -> list[int]:
    """Of each chunk."""
    store = chunks.store
    return np.add.reduceat(store.columns["characters"], store.offsets[:-1]).tolist()


def test_the_text_beside_has_neither_prefix_nor_tags_and_no_first_token_is_scored() -> None:
    document = Written(("an ", Tag("<b>", 0), "apple", Tag("</b>", closes=0), " pie"), (("url", "url: x"),))
    compared = compared_of(document, char_tokenizer(), 40, score_inline=True)
    (own,), (without,), (beside,) = map(rows_of, compared)
    assert "".join(char_tokenizer().convert_ids_to_tokens(beside[0])) == "an apple pie"
    assert beside == without
    assert counted(beside[1]) == "1x1 0x11"
    assert counted(own[1]) == "1x12 0x2 1x3 0x5 1x4 0x4"
    assert [num_characters(way) for way in compared] == [[11]] * 3


def test_chunks_in_the_same_context_begin_where_those_with_metadata_do() -> None:
    """13 tokens of prefix leave 13 for the text and the space before it. Nothing predicts the first token of a chunk
    without prefix, so that no way scores it."""
    document = Written(("ab cd ef gh ij kl",), (("url", "url: xxxx"),))
    compared = compared_of(document, char_tokenizer(), 26)
    texts = ["".join(char_tokenizer().convert_ids_to_tokens(ids)) for ids, _ in rows_of(compared.same_context)]
    assert texts == ["ab cd ef gh ", "ij kl"]
    (row,) = rows_of(compared.without)
    assert counted(row[1]) == "1x1 0x11 1x1 0x4"
    assert [num_characters(way) for way in compared] == [[11, 4], [15], [11, 4]]


def test_with_a_begin_token_every_character_is_scored() -> None:
    tokenizer = tiny_tokenizer("llama")
    document = Written(("a good ", Tag("<b>", 0), "film", Tag("</b>", closes=0), " " * 3), (("url", "url: x"),))
    compared = compared_of(document, tokenizer, 60, end_token="always")
    assert [num_characters(way) for way in compared] == [[len(document.text)]] * 3
    (plain,) = rows_of(compared.same_context)
    assert plain[1] == [1] + [0] * (len(plain[0]) - 2) + [1]


def test_bytes_are_those_of_the_characters_that_are_scored() -> None:
    """The first character is not, whatever its bytes; a character of several tokens counts once."""
    document = Written(("é🙂日 ab",), (("url", "url: x"),))
    for way in compared_of(document, tiny_tokenizer("gpt2"), 60):
        store = way.store
        assert store.columns["characters"].sum() == len("🙂日 ab")
        assert store.columns["bytes"].sum() == len("🙂日 ab".encode())
        assert not store.columns["bytes"][store.columns["mask"] == 1].any()


def test_the_original_scores_neither_the_first_token_of_text_nor_any_of_metadata() -> None:
    """C19: of `M M a b c d e f g` six tokens count, and so do six of `a b c d e f g`."""
    document = Written(("abcdefg",), (("url", "u"),))
    keys = {"compat": "bsmetadata", "prefix_separator": ":"}
    compared = compared_of(document, char_tokenizer(), 24, **keys)
    (own,), (without,), (beside,) = map(rows_of, compared)
    assert counted(own[1]) == "1x4 0x6"  # the prefix and its colon, a space, and the first character
    assert counted(without[1]) == "1x1 0x6"
    assert counted(beside[1]) == "1x2 0x6"  # which keeps the space


def test_the_original_text_in_the_same_context_keeps_its_tags() -> None:
    document = Written(("an ", Tag("<b>", 0), "apple pie", Tag("</b>", closes=0)), (("url", "url: x"),))
    compared = compared_of(document, char_tokenizer(), 24, compat="bsmetadata")
    for (ids, mask), (beside, its_mask) in zip(rows_of(compared.own), rows_of(compared.same_context), strict=True):
        assert ids[10:] == beside and mask[10:] == its_mask


# --- what texts may hold ---------------------------------------------------------------------------------------------


def test_texts_may_have_any_character() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    texts = ["".join(NONCHARACTERS), NONCHARACTERS[0] * 3, "\ud7ff\U0010ffff", "\x00\u200d\ufeff"]
    documents = [Written((text, Tag("<b>", 0), text, Tag("</b>", closes=0))) for text in texts]
    chunks = encoder_of(tokenizer, 1000).encode(rendered_of(documents))
    for (ids, mask), text in zip(rows_of(chunks), texts, strict=True):
        kept = [token for token, inserted in zip(ids, mask, strict=True) if not inserted]
        assert tokenizer.decode(kept, clean_up_tokenization_spaces=False) == text * 2


def test_no_chunk_begins_within_a_character() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    text = "🙂日本語é" * 20
    chunks = encoder_of(tokenizer, 10).encode(rendered_of([Written((text,))]))
    assert chunks.counts.split == 0
    pieces = [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids, _ in rows_of(chunks)]
    assert "".join(pieces) == text
    assert pieces == [text[start:end] for start, end in zip(chunks.start, chunks.end, strict=True)]


@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma"])
def test_a_document_begins_as_in_training_however_far_its_text_goes(family: str, compat: str) -> None:
    """Without any text, too: a space that belongs to the first word is not there before it."""
    encoder = encoder_of(tiny_tokenizer(family), 60, compat=compat)
    fields = (("url", "url: x"),)
    [(whole, _)] = rows_of(encoder.encode(rendered_of([Written(("the film",), fields)])))
    begun = encoder.begun(rendered_of([Written((text,), fields) for text in ("", "the", "the film")]))
    rows = [[*one.before, *one.text] for one in begun]
    assert not begun[0].text and len(rows[0]) < len(rows[1]) < len(rows[2])
    assert all(row == whole[: len(row)] for row in rows)
