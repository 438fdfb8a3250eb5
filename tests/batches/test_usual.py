"""`tokens.max_length = "auto"`: 128 or 256, by the lengths of training rows before truncation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_backbone
from kits.rows import examples_of
from transformers import AutoTokenizer

from textune.batches import usual
from textune.batches.usual import choose_max_length
from textune.config.schema import TokensSection
from textune.data.prepared import Split


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path_factory.mktemp("tokenizer")))


def _split(num_rows: int, long: set[int], *, words: int = 127, pairs: list[str] | None = None) -> Split:
    """Rows of 3 tokens, and long ones of `words` words and 2 special tokens."""
    texts = ["film " * words if index in long else "film" for index in range(num_rows)]
    return Split("train", examples_of(["a"] * num_rows, texts=texts, pairs=pairs), {}, np.arange(num_rows))


def _chosen(split: Split, tokenizer: Any, *, earlier: int | None = None, **section: Any) -> tuple[int, str]:
    return tuple(choose_max_length(TokensSection(**section), tokenizer, split, earlier=earlier))


@pytest.mark.parity("AZ-27")
def test_a_tenth_of_the_rows_decides(tokenizer: Any) -> None:
    assert _chosen(_split(20, {7}), tokenizer) == (128, "auto: 5.0% of 20 training rows are longer than 128")
    assert _chosen(_split(20, {7, 19}), tokenizer) == (256, "auto: 10.0% of 20 training rows are longer than 128")
    assert _chosen(_split(1, set()), tokenizer)[0] == 128


def test_a_row_of_128_tokens_is_not_longer(tokenizer: Any) -> None:
    assert _chosen(_split(4, {0, 1, 2, 3}, words=126), tokenizer)[0] == 128
    assert _chosen(_split(4, {0, 1, 2, 3}, words=127), tokenizer)[0] == 256


def test_both_texts_of_a_pair_count(tokenizer: Any) -> None:
    assert _chosen(_split(4, {0}, words=63, pairs=["film " * 63] * 4), tokenizer)[0] == 256


def test_only_the_rows_of_the_split_count_and_those_left_out_later_do_not(tokenizer: Any) -> None:
    split = _split(20, set(range(10)))
    assert _chosen(split.only(np.arange(10, 20)), tokenizer)[0] == 128
    assert _chosen(split, tokenizer, drop_longer=128) == (128, "auto: 0.0% of 10 training rows are longer than 128")
    assert _chosen(split.only(np.arange(10)), tokenizer, drop_longer=128)[0] == 128


def test_rows_are_sampled_evenly(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "SAMPLED_ROWS", 10)
    sorted_by_length = _split(91, set(range(73, 91)))  # the last fifth
    chosen = _chosen(sorted_by_length, tokenizer)
    assert chosen == (256, "auto: 20.0% of 10 training rows are longer than 128")
    assert chosen == _chosen(sorted_by_length, tokenizer)


def test_what_is_set_or_known_is_kept(tokenizer: Any) -> None:
    split = _split(4, {0, 1, 2, 3})
    assert _chosen(split, tokenizer, max_length=77, earlier=99)[0] == 77
    assert _chosen(split, tokenizer, earlier=99) == (99, "as before the run stopped")


def test_rows_that_would_be_refused_get_all_the_room(tokenizer: Any) -> None:
    assert _chosen(_split(4, set()), tokenizer, truncate="error")[0] == 256


def test_windows_are_as_long_as_rows(tokenizer: Any) -> None:
    split = _split(4, {0, 1}, words=900)
    assert _chosen(split, tokenizer, long="windows", stride=32) == _chosen(split, tokenizer)
    assert _chosen(split, tokenizer)[0] == 256
