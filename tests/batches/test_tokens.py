"""The token store: the tokenizer's own ids, cut as asked, built once."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.backbones import tiny_backbone
from kits.patience import wait_until
from transformers import AutoTokenizer

from textune.batches import cache as token_cache
from textune.batches import tokens
from textune.batches.cache import open_store
from textune.batches.store import TokenStore
from textune.batches.tokens import TextEncoder
from textune.caches import user_cache
from textune.config.schema import TokensSection
from textune.errors import ConfigError, DataError

WORDS = ["the", "a", "film", "good", "bad", "very", "of", "one", "unheard", "zzz", "[SEP]", "</s>", "<|endoftext|>"]
"""Special tokens may stand in a text too."""
text_strategy = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone(request.param, tmp_path_factory.mktemp(request.param)))


def rows_of(store: TokenStore, array: np.ndarray) -> list[list[int]]:
    return [array[store.offsets[i] : store.offsets[i + 1]].tolist() for i in range(len(store))]


@given(st.lists(text_strategy, min_size=1, max_size=8), st.integers(6, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_ids_are_those_of_the_tokenizer_with_its_own_truncation(
    tokenizer: Any, texts: list[str], max_length: int
) -> None:
    store = TextEncoder(tokenizer, TokensSection(max_length=max_length)).encode(texts)
    wanted = tokenizer(texts, truncation=True, max_length=max_length)
    assert rows_of(store, store.ids) == [row or [tokenizer.bos_token_id] for row in wanted["input_ids"]]
    assert store.raw_lengths.tolist() == [len(row) for row in tokenizer(texts)["input_ids"]]


@given(st.lists(st.tuples(text_strategy, text_strategy), min_size=1, max_size=8), st.integers(8, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@pytest.mark.parity("HF-05")
def test_pairs_are_those_of_the_tokenizer_longest_first(
    tokenizer: Any, pairs: list[tuple[str, str]], max_length: int
) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    encoder = TextEncoder(tokenizer, TokensSection(max_length=max_length))
    store = encoder.encode(first, second)
    separated = [encoder.separator.text + text for text in second]
    wanted = tokenizer(first, separated, truncation="longest_first", max_length=max_length)
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


@pytest.mark.parametrize("truncate", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("pair", [False, True])
def test_chunks_leave_no_trace(tokenizer: Any, monkeypatch: pytest.MonkeyPatch, truncate: Any, pair: bool) -> None:
    encoder = TextEncoder(tokenizer, TokensSection(max_length=9, truncate=truncate))
    texts = ["the film", "", "a very good one of one of one of", "of", "unheard", "zzz " * 9, "the", "a"]
    pairs = texts[::-1] if pair else None
    whole = encoder.encode(texts, pairs)
    monkeypatch.setattr(tokens, "CHUNK_ROWS", 3)
    monkeypatch.setattr(tokens, "CHUNK_CHARACTERS", 15)
    chunks = list(tokens.cut_texts(texts, pairs))
    assert len(chunks) > 3 and [text for chunk, _ in chunks for text in chunk] == texts
    assert all(
        len(chunk) <= 3 and (len("".join([*chunk, *(second or ())])) <= 15 or len(chunk) == 1)
        for chunk, second in chunks
    )
    for found in (encoder.encode(texts, pairs), *_stored(encoder, texts, pairs)):
        assert rows_of(found, found.ids) == rows_of(whole, whole.ids)
        assert found.raw_lengths.tolist() == whole.raw_lengths.tolist()
        assert (found.types is None) == (whole.types is None)
        assert found.types is None or whole.types is None or found.types.tolist() == whole.types.tolist()


def _stored(encoder: TextEncoder, texts: list[str], pairs: list[str] | None) -> list[TokenStore]:
    """Built, and found again."""
    columns = (chunked(texts, 3), None if pairs is None else chunked(pairs, 4))
    return [open_store(*columns, encoder, TokensSection()) for _ in range(2)]


def test_rows_are_named_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CHUNK_ROWS", 2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path))
    encoder = TextEncoder(tokenizer, TokensSection(max_length=4, truncate="error"))
    with pytest.raises(DataError, match=r"^row 4: 5 tokens"):
        encoder.encode(["a", "a", "a", "a", "a film of"])


def test_types_are_kept_where_they_tell_something(tmp_path: Path) -> None:
    texts, pairs = ["the film", "a"], ["of", "the very one"]
    for family, single, pair in (("bert", False, True), ("roberta", False, False), ("deberta-v2", False, True)):
        tokenizer = AutoTokenizer.from_pretrained(tiny_backbone(family, tmp_path / family))
        encoder = TextEncoder(tokenizer, TokensSection())
        assert (encoder.encode(texts).types is not None, encoder.encode(texts, pairs).types is not None) == (
            single,
            pair,
        )
    # One that gives a special token of a single text a type of its own.
    own = AutoTokenizer.from_pretrained(tiny_backbone("xlnet", tmp_path / "xlnet"))
    own.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    store = TextEncoder(own, TokensSection()).encode(texts)
    assert store.types is not None and rows_of(store, store.types) == own(texts)["token_type_ids"]
    assert store.types.any()


def test_the_next_chunk_is_tokenised_ahead(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path))
    encoder, tokenised = TextEncoder(tokenizer, TokensSection()), []

    def chunks() -> Any:
        for text in ("a", "the", "of", "one"):
            tokenised.append(text)
            yield [text], None

    parts = encoder.encode_chunks(chunks(), str, depth=1)
    next(parts)
    wait_until(lambda: len(tokenised) >= 3)
    assert tokenised == ["a", "the", "of"]  # one in use, one waiting, one that finds no room
    parts.close()
    assert "textune-tokenizer" not in {thread.name for thread in threading.enumerate()}


def test_truncate_error_names_the_row(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path))
    encoder = TextEncoder(tokenizer, TokensSection(max_length=4, truncate="error"))
    with pytest.raises(DataError, match=r"line 2: 6 tokens, more than tokens.max_length = 4 \(and 1 more rows\)"):
        encoder.encode(["the film", "the very bad film", "the good one film"], place=lambda index: f"line {index + 1}")


def chunked(texts: list[str], size: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts[i : i + size], pa.large_string()) for i in range(0, len(texts), size)])


@pytest.mark.parity("HF-22")
def test_a_store_is_built_once_however_the_texts_are_chunked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path / "model"))
    section = TokensSection(cache=str(tmp_path / "cache"))
    encoder = TextEncoder(tokenizer, section)
    texts = ["the film", "", "a very good one", "of"]
    monkeypatch.setattr(tokens, "CHUNK_ROWS", 3)
    built = open_store(chunked(texts, 2), None, encoder, section)
    assert rows_of(built, built.ids) == tokenizer(texts)["input_ids"]

    monkeypatch.setattr(TextEncoder, "encode_chunks", lambda *_, **__: pytest.fail("tokenised twice"))
    for column in (chunked(["of", *texts], 3).slice(1), *(chunked(texts, size) for size in (1, 3, 4))):
        assert open_store(column, None, encoder, section).ids.tolist() == built.ids.tolist()
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
    with pytest.raises(DataError, match=r"the token cache .* cannot be used"):
        open_store(chunked(["a"], 9), None, TextEncoder(tokenizer, section), section)


@pytest.mark.parametrize("pair", [False, True])
def test_a_max_length_without_room_for_text_is_refused_before_anything_is_tokenised(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: bool
) -> None:
    num_special = tokenizer.num_special_tokens_to_add(pair)
    separating = TextEncoder(tokenizer, TokensSection()).separator.num_tokens
    smallest = max(2, num_special + (2 * (separating + 1) if pair else 1))
    texts, pairs = chunked(["the very good film"] * 3, 9), chunked(["a"] * 3, 9) if pair else None
    fits = TokensSection(max_length=smallest, cache=str(tmp_path / "fits"))
    store = open_store(texts, pairs, TextEncoder(tokenizer, fits), fits)
    assert store.lengths.tolist() == [smallest] * 3

    monkeypatch.setattr(TextEncoder, "encode_chunks", lambda *_, **__: pytest.fail("tokenised"))
    for max_length in range(2, smallest):
        section = TokensSection(max_length=max_length, cache=str(tmp_path / "absent"))
        with pytest.raises(ConfigError) as caught:
            open_store(texts, pairs, TextEncoder(tokenizer, section), section)
        message = str(caught.value)
        assert f"tokens.max_length = {max_length} leaves no room" in message
        assert f"{num_special} special tokens" in message and f"Set it to at least {smallest}" in message
    assert not (tmp_path / "absent").exists()


def test_texts_in_memory_need_room_too(tmp_path: Path) -> None:
    encoder = TextEncoder(AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path)), TokensSection(max_length=4))
    assert encoder.encode(["the film"]).lengths.tolist() == [4]
    with pytest.raises(ConfigError, match=r"leaves no room for the texts of a pair: .* 3 special tokens"):
        encoder.encode(["a"], ["a"])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path_factory.mktemp("bert")))


def lists_of(store: TokenStore) -> list[list[int]]:
    assert store.types is not None
    return [array.tolist() for array in (store.ids, store.types, store.offsets, store.raw_lengths)]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "halved": halve,
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(8)),
    "emptied": lambda path: path.write_bytes(b""),
    "one bit changed": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "deleted": Path.unlink,
}
STORE_FILES = ["ids.bin", "types.bin", "offsets.bin", "raw_lengths.bin", "meta.json"]


def open_pairs(tokenizer: Any, cache: Path) -> TokenStore:
    section = TokensSection(cache=str(cache))
    texts, pairs = ["the film", "", "a very good one"] * 4, ["of", "the zzz", ""] * 4
    return open_store(chunked(texts, 5), chunked(pairs, 5), TextEncoder(tokenizer, section), section)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", STORE_FILES)
def test_a_damaged_store_is_built_again(bert: Any, tmp_path: Path, name: str, damage: str) -> None:
    wanted = lists_of(open_pairs(bert, tmp_path))
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == sorted(STORE_FILES)
    DAMAGE[damage](folder / name)
    assert lists_of(open_pairs(bert, tmp_path)) == wanted
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == sorted(STORE_FILES)


@given(
    garbage=st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"null", b"[]", b"{}", b"[" * 200_000, b'{"version": 1, "rows": 12, "tokens": null}', b'{"rows": "a"}']
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_a_store_with_garbage_for_its_description_is_built_again(bert: Any, tmp_path: Path, garbage: bytes) -> None:
    wanted = lists_of(open_pairs(bert, tmp_path))
    (folder,) = tmp_path.iterdir()
    (folder / "meta.json").write_bytes(garbage)
    assert lists_of(open_pairs(bert, tmp_path)) == wanted


def test_what_killed_processes_left_is_removed_after_a_day_and_nothing_else(bert: Any, tmp_path: Path) -> None:
    section = TokensSection(cache=str(tmp_path))
    open_store(chunked(["a"], 9), None, TextEncoder(bert, section), section)
    (store,) = tmp_path.iterdir()
    killed, building = tmp_path / f"building-17-{'a' * 32}", tmp_path / f"building-18-{'b' * 32}"
    half_removed, foreign = tmp_path / ("c" * 32), tmp_path / "photos"
    for folder in (killed, building, half_removed, foreign):
        shutil.copytree(store, folder)
    (half_removed / "meta.json").unlink()
    long_ago = time.time() - token_cache.STALE_SECONDS - 60
    for folder in (killed, half_removed, foreign):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (long_ago, long_ago))
    os.utime(building, (long_ago, long_ago))  # its files are still being written
    open_store(chunked(["the"], 9), None, TextEncoder(bert, section), section)
    assert not killed.exists() and not half_removed.exists()
    assert store.exists() and building.exists() and foreign.exists()

    tiny = TokensSection(cache=str(tmp_path), cache_size_gb=1e-9)
    open_store(chunked(["of"], 9), None, TextEncoder(bert, tiny), tiny)
    assert not store.exists() and (foreign / "ids.bin").exists()


MODE = 0o777
posix_only = pytest.mark.skipif(os.name != "posix", reason="this system has no such owners and modes")


@posix_only
def test_nobody_else_can_look_into_a_store(bert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an earlier version has left the user's cache open."""
    cache = tmp_path / "tokens"
    cache.mkdir()
    cache.chmod(0o775)
    monkeypatch.setattr(token_cache, "default_cache", lambda: cache)
    said: list[str] = []
    open_store(chunked(["a"], 9), None, TextEncoder(bert, TokensSection()), TokensSection(), notice=said.append)
    assert said == [] and [path.stat().st_mode & MODE for path in (cache, *cache.iterdir())] == [0o700, 0o700]


@posix_only
@pytest.mark.parametrize("fault", ["open to all", "of another user"])
def test_a_cache_that_others_could_have_written_is_refused(
    bert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    cache = tmp_path / "tokens"
    cache.mkdir(mode=0o700)
    if fault == "open to all":
        cache.chmod(0o777)
    else:  # root alone may give a folder away, so the process is another user instead
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        monkeypatch.setattr("textune.caches.ROOT", 12346)
    reason = "other users can write to it" if fault == "open to all" else "it belongs to another user"
    section = TokensSection(cache=str(cache))
    with pytest.raises(DataError, match=rf"the token cache .*tokens cannot be used: {reason}"):
        open_store(chunked(["a"], 9), None, TextEncoder(bert, section), section)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("fault", ["read-only", "no home", "full"])
def test_without_a_place_for_the_default_cache_texts_are_tokenised_in_memory_and_it_is_said(
    bert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    (tmp_path / "home").write_text("a file, so that no folder can be made below")

    def cache() -> Path:
        if fault == "no home":
            raise RuntimeError("Could not determine home directory.")
        return tmp_path / "home" / "tokens" if fault == "read-only" else tmp_path / "tokens"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(token_cache, "default_cache", cache)
    if fault == "full":
        monkeypatch.setattr(os, "fsync", full)
    said: list[str] = []
    texts, pairs = ["the film", "", "a very good one"], ["of", "the zzz", ""]
    encoder = TextEncoder(bert, TokensSection())
    store = open_store(chunked(texts, 2), chunked(pairs, 2), encoder, TokensSection(), notice=said.append)
    assert lists_of(store) == lists_of(encoder.encode(texts, pairs))
    reason = {"read-only": "Not a directory", "no home": "Could not determine home", "full": "No space left"}[fault]
    assert len(said) == 1 and "the token cache cannot be used" in said[0] and reason in said[0]
    assert not (tmp_path / "tokens").exists() or list((tmp_path / "tokens").iterdir()) == []
    with pytest.raises(DataError, match=r"the token cache .* cannot be used"):  # one that was asked for by name
        section = TokensSection(cache=str(tmp_path / "home" / "tokens"))
        open_store(chunked(texts, 2), None, encoder, section)


@pytest.mark.parity("HF-22")
def test_the_cache_lies_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("tokens") == tmp_path / "textune" / "tokens"
    for value in ("", "relative"):  # which its standard has ignored
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert user_cache("tokens") == Path.home() / ".cache" / "textune" / "tokens"
