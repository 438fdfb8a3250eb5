"""The token store: the tokenizer's own ids, cut as asked, built once."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import tiny_backbone
from transformers import AutoTokenizer

from textune.config.schema import TokensSection
from textune.data import tokens
from textune.data.tokens import TextEncoder, TokenStore, open_store
from textune.errors import DataError

WORDS = ["the", "a", "film", "good", "bad", "very", "of", "one", "unheard", "zzz"]
text_strategy = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone(request.param, tmp_path_factory.mktemp(request.param)))


def rows_of(store: TokenStore, array: np.ndarray) -> list[list[int]]:
    return [array[store.offsets[i] : store.offsets[i + 1]].tolist() for i in range(len(store))]


@given(st.lists(text_strategy, min_size=1, max_size=8), st.integers(6, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_ids_are_those_of_the_tokenizer_with_its_own_truncation(tokenizer: Any, texts: list[str], max_length: int) -> None:
    store = TextEncoder(tokenizer, TokensSection(max_length=max_length)).encode(texts)
    wanted = tokenizer(texts, truncation=True, max_length=max_length)
    assert rows_of(store, store.ids) == [row or [tokenizer.bos_token_id] for row in wanted["input_ids"]]
    assert store.raw_lengths.tolist() == [len(row) for row in tokenizer(texts)["input_ids"]]


@given(st.lists(st.tuples(text_strategy, text_strategy), min_size=1, max_size=8), st.integers(8, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_pairs_are_those_of_the_tokenizer_longest_first(tokenizer: Any, pairs: list[tuple[str, str]], max_length: int) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    store = TextEncoder(tokenizer, TokensSection(max_length=max_length)).encode(first, second)
    wanted = tokenizer(first, second, truncation="longest_first", max_length=max_length)
    assert rows_of(store, store.ids) == [row or [tokenizer.bos_token_id] for row in wanted["input_ids"]]
    if store.types is not None:
        assert rows_of(store, store.types) == wanted["token_type_ids"]


def test_an_empty_text_is_at_least_one_token(tokenizer: Any) -> None:
    store = TextEncoder(tokenizer, TokensSection()).encode(["", "the film"])
    assert (store.lengths >= 1).all()
    assert rows_of(store, store.ids)[1] == tokenizer("the film")["input_ids"]


@pytest.mark.parametrize(("truncate", "kept"), [("head", "abc"), ("tail", "fgh"), ("head_tail", "abh")])
def test_truncation_keeps_the_part_that_was_asked_for(tmp_path: Path, truncate: Any, kept: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path))
    words = dict(zip("abcdefgh", ["the", "a", "film", "good", "bad", "very", "of", "one"], strict=True))
    encoder = TextEncoder(tokenizer, TokensSection(max_length=5, truncate=truncate))
    store = encoder.encode([" ".join(words.values())])
    assert store.ids.tolist() == tokenizer(" ".join(words[letter] for letter in kept))["input_ids"]
    assert store.raw_lengths.tolist() == [10]


def test_truncate_error_names_the_row(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path))
    encoder = TextEncoder(tokenizer, TokensSection(max_length=4, truncate="error"))
    with pytest.raises(DataError, match=r"line 2: 6 tokens, more than tokens.max_length = 4 \(and 1 more rows\)"):
        encoder.encode(["the film", "the very bad film", "the good one film"], place=lambda index: f"line {index + 1}")


def chunked(texts: list[str], size: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts[i : i + size], pa.large_string()) for i in range(0, len(texts), size)])


def test_a_store_is_built_once_however_the_texts_are_chunked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path / "model"))
    section = TokensSection(cache=str(tmp_path / "cache"))
    encoder = TextEncoder(tokenizer, section)
    texts = ["the film", "", "a very good one", "of"]
    monkeypatch.setattr(tokens, "CHUNK_ROWS", 3)
    built = open_store(chunked(texts, 2), None, encoder, section)
    assert rows_of(built, built.ids) == tokenizer(texts)["input_ids"]

    monkeypatch.setattr(TextEncoder, "encode", lambda *_, **__: pytest.fail("tokenised twice"))
    again = open_store(chunked(["of", *texts], 3).slice(1), None, encoder, section)
    assert again.ids.tolist() == built.ids.tolist()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_texts_options_or_tokenizers_are_other_stores(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path / "model"))
    other_tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("roberta", tmp_path / "other"))
    cache = str(tmp_path / "cache")
    for section, encoder_of, texts, pairs in (
        (TokensSection(cache=cache), tokenizer, ["the film", "a"], None),
        (TokensSection(cache=cache), tokenizer, ["the", "film a"], None),
        (TokensSection(cache=cache), tokenizer, ["the film", "a"], ["", ""]),
        (TokensSection(cache=cache, max_length=3), tokenizer, ["the film", "a"], None),
        (TokensSection(cache=cache, truncate="tail"), tokenizer, ["the film", "a"], None),
        (TokensSection(cache=cache), other_tokenizer, ["the film", "a"], None),
    ):
        open_store(chunked(texts, 9), pairs and chunked(pairs, 9), TextEncoder(encoder_of, section), section)
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_a_failed_build_leaves_nothing_and_old_stores_are_removed(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path / "model"))
    cache = tmp_path / "cache"
    refusing = TokensSection(cache=str(cache), max_length=3, truncate="error")
    with pytest.raises(DataError):
        open_store(chunked(["the very good film"], 9), None, TextEncoder(tokenizer, refusing), refusing)
    assert list(cache.iterdir()) == []

    small = TokensSection(cache=str(cache), cache_size_gb=1e-9)
    for text in ("the film", "a one"):
        open_store(chunked([text], 9), None, TextEncoder(tokenizer, small), small)
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path / "model"))
    (tmp_path / "cache").write_text("a file")
    section = TokensSection(cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"the token cache .* cannot be written"):
        open_store(chunked(["a"], 9), None, TextEncoder(tokenizer, section), section)
