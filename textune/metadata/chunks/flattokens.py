"""Many texts to tokens that know their characters, in flat arrays; before `texttokens.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
from tokenizers import AddedToken, Encoding, Tokenizer

from textune.ahead import ahead
from textune.batches import cut_texts
from textune.metadata.chunks.bytelevel import bytes_of_tokens, keeps

CHARACTERS_AT_ONCE = 250_000
"""Tokenised at once, while a thread tokenises the next ones."""


class FlatTokens(NamedTuple):
    """T tokens of D texts, one text after the other."""

    ids: np.ndarray
    """int32 [T]."""
    start: np.ndarray
    """int64 [T] first character of each, in its text."""
    end: np.ndarray
    """int64 [T] the character after it; tokens that share a character (its bytes) have the same span."""
    offsets: np.ndarray
    """int64 [D+1] where the tokens of each text begin, and where the last ones end."""


class FlatTokenizer:
    """A tokenizer that neither truncates nor pads, nor takes spaces out of the spans of its tokens."""

    def __init__(self, backend: Tokenizer, byte_sizes: np.ndarray | None) -> None:
        """`byte_sizes` as `bytes_of_tokens` gives them."""
        self.backend = backend
        self._byte_sizes = byte_sizes

    @classmethod
    def like(cls, backend: Tokenizer) -> FlatTokenizer:
        """One that gives texts the tokens that `backend` gives them, but for what it puts around them."""
        copy: Tokenizer = Tokenizer.from_str(backend.to_str())
        copy.no_truncation()
        copy.no_padding()
        copy.post_processor = None
        return cls(copy, bytes_of_tokens(copy))

    def encode(self, texts: Sequence[str]) -> FlatTokens:
        """The tokens of these texts."""
        parts = [list(part) for part, _ in cut_texts(texts, characters=CHARACTERS_AT_ONCE)]
        tokenised = (self._tokenised(part) for part in parts)
        found = [_NOTHING]
        with closing(ahead(tokenised, depth=int(len(parts) > 1), name="textune-tokenizer")) as results:
            for part, (encodings, has_spans) in zip(parts, results, strict=True):
                tokens = _with_their_spans(encodings) if has_spans else self._from_bytes(part, encodings)
                found.append(tokens or _with_their_spans(self._encodings(part)))
        ids, start, end = (np.concatenate(column) for column in list(zip(*found, strict=True))[:3])
        lengths = np.concatenate([np.diff(tokens.offsets) for tokens in found])
        return FlatTokens(ids, start, end, np.concatenate([[0], np.cumsum(lengths)]))

    def _tokenised(self, texts: list[str]) -> tuple[list[Encoding], bool]:
        """The tokens, and whether they come with their spans: the library's fast call forgets these."""
        if self._byte_sizes is not None and keeps(self.backend, texts):
            return self.backend.encode_batch_fast(texts, add_special_tokens=False), False
        return self._encodings(texts), True

    def _encodings(self, texts: list[str]) -> list[Encoding]:
        return self.backend.encode_batch(texts, add_special_tokens=False)

    def _from_bytes(self, texts: list[str], encodings: list[Encoding]) -> FlatTokens | None:
        """The tokens, with spans that follow from their bytes; None where it is not certain how many bytes some have,
        or where they are not those of the texts."""
        assert self._byte_sizes is not None
        ids, offsets = _ids(encodings)
        sizes = self._byte_sizes[ids]
        joined = "".join(texts)
        begin_D = np.concatenate([[0], np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))])
        stop_T = np.cumsum(sizes, dtype=np.int64)
        start_T = stop_T - sizes
        first_byte_D = begin_D
        if not joined.isascii():
            begins_character = (np.frombuffer(joined.encode(), np.uint8) & 0xC0) != 0x80
            character = np.append(np.cumsum(begins_character), 0)  # from 1 on, of each byte
            first_byte_D = np.append(np.flatnonzero(begins_character), len(begins_character))[begin_D]
        if not sizes.all() or not np.array_equal(np.append(0, stop_T)[offsets], first_byte_D):
            return None
        if not joined.isascii():
            start_T, stop_T = character[start_T] - 1, character[stop_T - 1]
        before_T = np.repeat(begin_D[:-1], np.diff(offsets))
        return FlatTokens(ids, start_T - before_T, stop_T - before_T, offsets)

    def with_token(self, text: str) -> tuple[FlatTokenizer, int]:
        """One that has a special token for this text beside the same others, and that token's id."""
        backend, token = _beside(self.backend), AddedToken(text, normalized=False, special=True)
        backend.add_special_tokens([token])
        number = backend.token_to_id(text)
        if number is None or self.backend.id_to_token(number) is not None:
            # The numbers of the tokens have gaps, and new tokens are numbered from their count on: others fill them.
            backend = _beside(self.backend)
            free = max(self.backend.get_vocab().values()) + 1
            fillers = [f"{text}{text}{filler}" for filler in range(backend.get_vocab_size(), free)]
            backend.add_special_tokens([AddedToken(filler, normalized=False) for filler in fillers] + [token])
            number = backend.token_to_id(text)
        assert number is not None
        if self._byte_sizes is None:
            return FlatTokenizer(backend, None), number
        sizes = np.zeros(max(len(self._byte_sizes), number + 1), np.int32)
        sizes[: len(self._byte_sizes)] = self._byte_sizes
        sizes[number] = len(text.encode())
        return FlatTokenizer(backend, sizes), number


def _beside(backend: Tokenizer) -> Tokenizer:
    """Another tokenizer that gives texts the same tokens, to which others can be added. They have one model, since a
    copy of its vocabulary takes a while."""
    other = Tokenizer(backend.model)
    other.normalizer, other.pre_tokenizer, other.decoder = backend.normalizer, backend.pre_tokenizer, backend.decoder
    added = backend.get_added_tokens_decoder()
    for _, token in sorted(added.items()):
        (other.add_special_tokens if token.special else other.add_tokens)([token])
    if other.get_added_tokens_decoder() == added:
        return other
    copy: Tokenizer = Tokenizer.from_str(backend.to_str())  # whose added tokens have numbers of their own
    return copy


def _ids(encodings: list[Encoding]) -> tuple[np.ndarray, np.ndarray]:
    """Ids, int32 [T], and where those of each text begin, int64 [D+1]."""
    lists = [encoding.ids for encoding in encodings]
    offsets = np.cumsum([0, *map(len, lists)])
    return np.fromiter(itertools.chain.from_iterable(lists), np.int32, int(offsets[-1])), offsets


def _with_their_spans(encodings: list[Encoding]) -> FlatTokens:
    ids, offsets = _ids(encodings)
    pairs = itertools.chain.from_iterable(encoding.offsets for encoding in encodings)
    spans = np.fromiter(itertools.chain.from_iterable(pairs), np.int64, 2 * len(ids))
    start, end = spans.reshape(-1, 2).T
    return FlatTokens(ids, start, end, offsets)


_NOTHING = FlatTokens(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64))
