"""Tokens that know their characters, of many texts at once, beside each text alone and what the library says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from textune.metadata.chunks import flattokens
from textune.metadata.chunks.bytelevel import bytes_of_tokens
from textune.metadata.chunks.flattokens import FlatTokenizer

CHARACTERS = (
    *"abc xyz 0 19 .,<>/:'\n\t",
    "the",
    " film",
    "é",
    "e\u0301",
    "q\u0323\u0307",
    "q\u0307\u0323",
    "한",
    "\u1112\u1161\u11ab",
    "日本",
    "🙂",
    "👩\u200d🚀",
    "\u2126",
    "ﬁ",
    "\u00a0",
    "\ufdd0",
    "<|endoftext|>",
    "<｜end｜>",
    "<pad>",
)


def random_texts(rng: np.random.Generator) -> list[str]:
    sizes = rng.integers(0, 30, size=rng.integers(0, 8))
    kept = CHARACTERS if rng.random() < 0.7 else CHARACTERS[:20]
    return ["".join(rng.choice(kept, size=size)) for size in sizes.tolist()]


def changed(change: Callable[[Tokenizer], Any], family: str = "gpt2") -> Tokenizer:
    backend: Tokenizer = tiny_tokenizer(family).backend_tokenizer
    change(backend)
    return backend


def normalized(normalizer: normalizers.Normalizer) -> Tokenizer:
    return changed(lambda backend: setattr(backend, "normalizer", normalizer))


def cutting(*steps: Any) -> Tokenizer:
    """Byte-level behind other steps, as in Llama 3 or SmolLM2."""
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    steps = (*steps, last)
    return changed(lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.Sequence(list(steps))))


def without_letters() -> Tokenizer:
    """Which leaves out what it cannot write."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet())[:120])}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return backend


def with_suffix() -> Tokenizer:
    vocab = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {f"{letter}</w>": 256 + number for letter, number in vocab.items()}
    backend = Tokenizer(models.BPE(vocab, [], end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return backend


LLAMA_3 = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FAST: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: changed(lambda backend: None),
    "composed": lambda: normalized(normalizers.NFC()),
    "digits": lambda: cutting(pre_tokenizers.Digits(individual_digits=True)),
    "cut by a pattern": lambda: cutting(pre_tokenizers.Split(Regex(LLAMA_3), "isolated")),
    "added tokens": lambda: changed(
        lambda backend: backend.add_tokens([AddedToken("<｜end｜>"), AddedToken(" film", single_word=True)])
    ),
}
"""Of which the bytes of each token are known."""
ASKED: dict[str, Callable[[], Tokenizer]] = {
    "a space before texts": lambda: changed(lambda backend: setattr(backend.pre_tokenizer, "add_prefix_space", True)),
    "lower case": lambda: normalized(normalizers.Lowercase()),
    "decomposed": lambda: normalized(normalizers.NFD()),
    "an alphabet with gaps": without_letters,
    "ends of words": with_suffix,
    "llama": lambda: changed(lambda backend: None, "llama"),
    "gemma": lambda: changed(lambda backend: None, "gemma"),
    "bert": lambda: changed(lambda backend: None, "bert"),
    "t5": lambda: changed(lambda backend: None, "t5"),
}
"""Which the library is asked about."""
UNSURE: dict[str, Callable[[], Tokenizer]] = {
    "takes spaces along": lambda: changed(
        lambda backend: backend.add_tokens([AddedToken("<pad>", lstrip=True), AddedToken("19", rstrip=True)])
    ),
    "leaves parts out": lambda: cutting(pre_tokenizers.Split(Regex("x|\n"), "removed")),
}
"""Of which the bytes are known for some texts."""


def assert_as_alone(tokenizer: FlatTokenizer, backend: Tokenizer, texts: list[str]) -> None:
    tokens = tokenizer.encode(texts)
    assert [column.dtype for column in tokens] == [np.int32, np.int64, np.int64, np.int64]
    for text, begin, end in zip(texts, tokens.offsets[:-1], tokens.offsets[1:], strict=True):
        alone = backend.encode(text, add_special_tokens=False)
        assert tokens.ids[begin:end].tolist() == alone.ids, text
        spans = zip(tokens.start[begin:end].tolist(), tokens.end[begin:end].tolist(), strict=True)
        assert list(spans) == alone.offsets, text


@pytest.mark.every_day(5)
@pytest.mark.parametrize("kind", [*FAST, *ASKED, *UNSURE])
@pytest.mark.parametrize("at_once", [20, 250_000])
def test_random_texts_beside_each_alone(kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flattokens, "CHARACTERS_AT_ONCE", at_once)
    backend = (FAST | ASKED | UNSURE)[kind]()
    backend.post_processor = None
    tokenizer = FlatTokenizer.like(backend)
    marked, marker = tokenizer.with_token("\ufdd1")
    beside = Tokenizer.from_str(backend.to_str())
    beside.add_special_tokens([AddedToken("\ufdd1", normalized=False)])
    for seed in range(40):
        texts = random_texts(np.random.default_rng(seed))
        assert_as_alone(tokenizer, backend, texts)
        cut = ["\ufdd1".join([text, *texts]) for text in texts]
        assert_as_alone(marked, beside, cut)
        if kind != "leaves parts out":
            assert np.count_nonzero(marked.encode(cut).ids == marker) == len(texts) ** 2


@pytest.mark.parametrize("kind", FAST)
def test_the_library_is_not_asked_where_bytes_are_known(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FAST[kind]()
    tokenizer = FlatTokenizer.like(backend)

    def refuse(self: FlatTokenizer, texts: list[str]) -> Any:
        raise AssertionError(texts)

    monkeypatch.setattr(FlatTokenizer, "_encodings", refuse)
    texts = ["The film, 1984: naïve", "日本 🙂 한 é <｜end｜>", "", "\n\n"]
    assert_as_alone(tokenizer, backend, texts)
    assert_as_alone(tokenizer.with_token("\ufdd0")[0], backend, texts)
    if kind == "composed":
        with pytest.raises(AssertionError, match="e\u0301"):
            tokenizer.encode(["e\u0301"])


def test_of_which_tokenizers_bytes_are_known() -> None:
    assert [name for name, make in (FAST | ASKED | UNSURE).items() if bytes_of_tokens(make()) is None] == list(ASKED)


def test_a_token_that_is_added_and_also_stands_for_a_byte_is_not_known() -> None:
    backend = changed(lambda one: one.add_tokens([AddedToken("é")]))
    sizes = bytes_of_tokens(backend)
    assert sizes is not None and np.flatnonzero(sizes == 0).tolist() == [backend.token_to_id("é")]
    assert_as_alone(FlatTokenizer.like(backend), backend, ["a é", "b", "Ã©", "\u0a69"])


def test_added_tokens_that_are_found_composed_are_not_known() -> None:
    """Of two, one is longer as it is named and the other one is shorter: the bytes of a text add up all the same."""
    added = [AddedToken("e\u0301"), AddedToken("\u0958"), AddedToken("\u2126", normalized=False), AddedToken("xyz")]
    backend = changed(
        lambda one: [setattr(one, "normalizer", normalizers.NFC()), *(one.add_tokens([token]) for token in added)]
    )
    sizes = bytes_of_tokens(backend)
    assert sizes is not None
    unsure = [backend.token_to_id(token.content) for token in added[:2]]
    assert np.flatnonzero(sizes == 0).tolist() == unsure
    assert_as_alone(FlatTokenizer.like(backend), backend, ["ééé \u0915\u093c xyz", "\u2126 \u03a9 e\u0301", "a"])


def test_a_tokenizer_beside_another_has_its_added_tokens() -> None:
    backend = changed(
        lambda one: [
            one.add_tokens([AddedToken("aa", single_word=True)]),
            one.add_special_tokens([AddedToken("bb", lstrip=True)]),
            one.add_tokens([AddedToken("cc")]),
        ]
    )
    other = flattokens._beside(backend)
    assert other.get_added_tokens_decoder() == backend.get_added_tokens_decoder()
    texts = ["x aa bb cc aab", "bbcc", "<|endoftext|> aa"]
    assert [one.ids for one in other.encode_batch(texts)] == [one.ids for one in backend.encode_batch(texts)]
    other.add_tokens(["dd"])
    assert backend.token_to_id("dd") is None
    assert Tokenizer.from_str(other.to_str()).token_to_id("cc") == backend.token_to_id("cc")
