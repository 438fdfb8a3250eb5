"""Windows of long texts: the tokenizer's own overflow, kept in a store, found again, joined and laid out."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.backbones import tiny_backbone
from kits.errors import refused
from transformers import AutoTokenizer

from textune.batches import tokens
from textune.batches.assembler import Assembler
from textune.batches.batch import WindowedBatch, collate_windows
from textune.batches.cache import open_store
from textune.batches.rows import TokenRows, join_rows
from textune.batches.store import TokenStore
from textune.batches.tokens import TextEncoder
from textune.batches.windows import cut_windows
from textune.config.schema import TokensSection
from textune.errors import ConfigError

WORDS = ["the", "a", "film", "good", "bad", "very", "of", "one", "unheard"]
text_strategy = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt2", "llama"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone(request.param, tmp_path_factory.mktemp(request.param)))


def section(**keys: Any) -> TokensSection:
    return TokensSection(long="windows", **keys)


def rows_of(store: TokenStore) -> list[list[int]]:
    return [store.ids[store.offsets[i] : store.offsets[i + 1]].tolist() for i in range(len(store))]


@given(st.integers(0, 200), st.integers(1, 30), st.data())
def test_windows_cover_a_text_and_share_as_much_as_was_asked_for(num_tokens: int, room: int, data: Any) -> None:
    stride = data.draw(st.integers(0, room - 1))
    windows = cut_windows(num_tokens, room=room, stride=stride)
    assert windows[0].start == 0 and windows[-1].stop == num_tokens
    assert all(window.stop - window.start == room for window in windows[:-1])
    assert all(one.stop - other.start == stride for one, other in itertools.pairwise(windows))
    assert len(windows) == 1 or windows[-1].stop - windows[-1].start > stride
    assert cut_windows(num_tokens, room=room, stride=stride, max_windows=2) == windows[:2]


@given(st.lists(text_strategy, min_size=1, max_size=6), st.integers(6, 20), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_windows_are_what_the_tokenizer_itself_gives(
    tokenizer: Any, texts: list[str], max_length: int, stride: int
) -> None:
    if tokenizer.num_special_tokens_to_add() == 0 and "" in texts:
        texts = [text or "a" for text in texts]
    store = TextEncoder(tokenizer, section(max_length=max_length, stride=stride)).encode(texts)
    wanted = tokenizer(texts, truncation=True, max_length=max_length, stride=stride, return_overflowing_tokens=True)
    assert rows_of(store) == wanted["input_ids"]
    assert store.example.tolist() == wanted["overflow_to_sample_mapping"]
    whole = [len(row) for row in tokenizer(texts)["input_ids"]]
    rows = TokenRows(store, np.arange(len(texts)), {}, None)
    assert rows.raw_lengths.tolist() == whole and rows.num_truncated == 0
    assert rows.lengths.sum() == len(store.ids)
    assert rows.num_beyond(max_length) == sum(max(0, length - max_length) for length in whole)


def test_what_lies_behind_the_last_window_is_cut_off_and_counted(tokenizer: Any) -> None:
    texts = ["a " * length for length in (3, 9, 30, 60)]
    whole = TextEncoder(tokenizer, section(max_length=10, stride=2)).encode(texts)
    store = TextEncoder(tokenizer, section(max_length=10, stride=2, max_windows=2)).encode(texts)
    rows = TokenRows(store, np.arange(4), {}, None)
    assert rows.num_windows.tolist()[2:] == [2, 2] and rows.num_truncated == 2
    firsts = [row for row in range(len(whole)) if row - np.searchsorted(whole.example, whole.example[row]) < 2]
    assert rows_of(store) == [rows_of(whole)[row] for row in firsts]
    # `drop_longer` counts the tokens of the text, not of a window.
    assert store.shorter_examples(20).tolist() == [0, 1]


def test_a_store_of_windows_is_found_again_and_is_another_for_other_options(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CHUNK_ROWS", 3)
    texts = ["the film", "a very good one of " * 8, "of", "bad " * 30, "", "the " * 11, "a"]
    column = pa.chunked_array([pa.array(texts, pa.large_string())])
    plain = TextEncoder(tokenizer, TokensSection(max_length=10))
    options = [section(max_length=10), section(max_length=10, stride=3), section(max_length=10, max_windows=2)]
    encoders = [TextEncoder(tokenizer, option) for option in options]
    assert len({encoder.fingerprint() for encoder in (plain, *encoders)}) == 4
    for encoder in (plain, *encoders):
        memory = encoder.encode(texts)
        built, found = (open_store(column, None, encoder, TokensSection(cache=str(tmp_path))) for _ in range(2))
        for store in (built, found):
            assert rows_of(store) == rows_of(memory)
            assert store.example.tolist() == memory.example.tolist() and store.repeated == memory.repeated
            assert store.raw_lengths.tolist() == memory.raw_lengths.tolist()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["other", "short", "gone"])
def test_a_store_whose_windows_are_of_unknown_texts_is_built_again(
    tmp_path: Path, tokenizer: Any, damage: str
) -> None:
    column = pa.chunked_array([pa.array(["a " * 30, "the film"], pa.large_string())])
    encoder, option = TextEncoder(tokenizer, section(max_length=10)), TokensSection(cache=str(tmp_path))
    wanted = open_store(column, None, encoder, option).example.tolist()
    (file,) = tmp_path.glob("*/example.bin")
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(b"\1" + content[1:] if damage == "other" else content[:-8])
    assert open_store(column, None, encoder, option).example.tolist() == wanted


def test_joined_rows_keep_their_windows(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, section(max_length=8, stride=1))
    texts = [["a " * 20, "the film", "of " * 13], ["bad", "very " * 16]]
    stores = [encoder.encode(chunk) for chunk in texts]
    chosen = [np.array([2, 0]), np.array([1])]
    targets = {"x": np.array([0, 10, 20])}
    parts = [TokenRows(store, rows, targets, None) for store, rows in zip(stores, chosen, strict=True)]
    joined = join_rows(parts)
    assert joined.num_windows.tolist() == [count for part in parts for count in part.num_windows.tolist()]
    assert joined.raw_lengths.tolist() == [length for part in parts for length in part.raw_lengths.tolist()]
    assert joined.num_truncated == 0 and joined.targets["x"].tolist() == [20, 0, 10]
    assert rows_of(joined.store) == [rows_of(part.store)[row] for part in parts for row in part.rows]


@pytest.mark.parametrize("max_tokens", [1000, 40, 8])
def test_a_batch_of_windows_says_which_are_whose(tokenizer: Any, max_tokens: int) -> None:
    encoder = TextEncoder(tokenizer, section(max_length=8, stride=1))
    store = encoder.encode(["a " * 20, "the film", "of " * 13, "bad"])
    examples = np.array([1, 2, 0])
    batch = collate_windows(store, examples, pad_id=0, max_tokens=max_tokens, group_cost=4)
    rows = np.concatenate([part.rows for part in batch.parts])
    assert rows[batch.places_R.numpy()].tolist() == store.rows_of(examples).tolist()
    assert batch.counts_B.tolist() == store.num_rows_of(examples).tolist()
    assert batch.num_laid_out <= max_tokens and batch.longest == 8


def test_micro_batches_keep_texts_whole_and_a_text_beyond_the_budget_is_alone(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, section(max_length=8))
    store = encoder.encode([*["the film"] * 5, "a " * 12, "of " * 40])
    rows = TokenRows(store, np.arange(7), {"x": np.arange(7)}, None)
    batch = Assembler("packed", 0, windows=True).batch(rows, np.arange(7), step=0, max_tokens=25)
    parts = batch.micro_batches
    assert sorted(number for part in parts for number in part.targets["x"].tolist()) == list(range(7))
    assert all(isinstance(part.tokens, WindowedBatch) for part in parts)
    several = [part for part in parts if isinstance(part.tokens, WindowedBatch) and len(part.tokens.parts) > 1]
    assert [part.targets["x"].tolist() for part in several] == [[6]]
    assert batch.num_tokens == len(store.ids) and batch.largest <= 25 and batch.longest == 8
    assert batch.num_rows == 7


def test_every_text_belongs_to_one_rank(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, section(max_length=8))
    store = encoder.encode(["a " * length for length in (40, 3, 20, 5, 18, 2)])
    rows = TokenRows(store, np.arange(6), {"x": np.arange(6)}, None)
    shares = [
        Assembler("packed", 0, windows=True, rank=rank, world=2).batch(rows, np.arange(6), step=0, max_tokens=30)
        for rank in (0, 1)
    ]
    seen = [number for batch in shares for part in batch.micro_batches for number in part.targets["x"].tolist()]
    assert sorted(seen) == list(range(6))


def test_ranks_in_lockstep_refuse_a_text_in_several_parts(tokenizer: Any) -> None:
    store = TextEncoder(tokenizer, section(max_length=8)).encode(["a " * 40, "the film"])
    rows = TokenRows(store, np.arange(2), {"x": np.arange(2)}, None)
    assembler = Assembler("packed", 0, windows=True, world=2, lockstep=True)
    assert assembler.batch(rows, np.arange(2), step=0, max_tokens=100).num_rows == 2
    with refused(ConfigError, key="train.max_tokens", value=30):
        assembler.batch(rows, np.arange(2), step=0, max_tokens=30)


def test_a_stride_that_leaves_nothing_new_is_refused(tokenizer: Any) -> None:
    room = 10 - tokenizer.num_special_tokens_to_add()
    TextEncoder(tokenizer, section(max_length=10, stride=room - 1)).require_room(pair=False)
    with refused(ConfigError, key="tokens.stride", value=room, reason=f"room for {room} tokens"):
        TextEncoder(tokenizer, section(max_length=10, stride=room)).require_room(pair=False)


def test_pairs_have_no_windows(tokenizer: Any) -> None:
    with refused(ConfigError, key="tokens.long", value="windows", reason="pairs"):
        TextEncoder(tokenizer, section(max_length=20)).encode(["a"], ["b"])
