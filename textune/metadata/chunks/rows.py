"""Pieces of tokens put together to rows of a store; before `encoder.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.batches import TokenStore
from textune.metadata.chunks.cuts import Cut
from textune.metadata.chunks.texttokens import TextTokens, ranges


@dataclass(frozen=True, eq=False)
class Part:
    """What N rows have at one place: each a range of some tokens."""

    ids: np.ndarray
    """int32 [P]."""
    mask: np.ndarray
    """uint8 [P]."""
    start: np.ndarray
    """int64 [N] first token of each row's range."""
    length: np.ndarray
    """int64 [N]."""

    @classmethod
    def of_lists(cls, lists: Sequence[Sequence[int]]) -> Part:
        """Tokens of metadata, [N] lists of ids."""
        length = np.fromiter(map(len, lists), np.int64, len(lists))
        ids = np.fromiter(itertools.chain.from_iterable(lists), np.int32, int(length.sum()))
        return cls(ids, np.ones(len(ids), np.uint8), np.cumsum(length) - length, length)


@dataclass(frozen=True, eq=False)
class TextPieces:
    """N pieces of D texts, text after text."""

    document: np.ndarray
    """int64 [N] the text of each."""
    begin: np.ndarray
    """int64 [N] its first token, of all texts."""
    end: np.ndarray
    """int64 [N] the token behind it."""
    is_first: np.ndarray
    """bool [N] of its text."""
    is_last: np.ndarray
    """bool [N] of its text."""
    opening: Sequence[Sequence[int]]
    """[N] tokens put before it, which open tags again; empty where no text has any."""
    closing: Sequence[Sequence[int]]
    """[N] tokens put behind it, which close them."""

    @classmethod
    def of(cls, tokens: TextTokens, documents: np.ndarray, cuts: Sequence[Sequence[Cut]]) -> TextPieces:
        """Those of the chosen texts (int64 [E], ascending), by the cuts of each."""
        number = np.fromiter(map(len, cuts), np.int64, len(cuts)) + 1
        document = np.repeat(documents, number)
        is_first, is_last = (np.zeros(len(document), dtype=bool) for _ in range(2))
        is_first[np.cumsum(number) - number] = is_last[np.cumsum(number) - 1] = True
        begin, end = tokens.offsets[document], tokens.offsets[document + 1]
        inner = np.fromiter((cut.token for some in cuts for cut in some), np.int64, len(document) - len(cuts))
        begin[~is_first] += inner
        end[~is_last] = begin[~is_first]
        changed = any(cut.opening for some in cuts for cut in some)
        opening = [tag for some in cuts for tag in ((), *(cut.opening for cut in some))] if changed else []
        closing = [tag for some in cuts for tag in (*(cut.closing for cut in some), ())] if changed else []
        return cls(document, begin, end, is_first, is_last, opening, closing)

    @property
    def is_reopened(self) -> np.ndarray:
        """bool [N] whether tags are opened again before it."""
        return np.array([len(tags) > 0 for tags in self.opening] or [False] * len(self.document), dtype=bool)

    def up_to(self, most: int) -> TextPieces:
        """The first `most` tokens of each."""
        return replace(self, end=np.minimum(self.end, self.begin + most))

    def unscored(self, num_tokens: int, is_alone: np.ndarray) -> np.ndarray:
        """bool [T] tokens of the texts that no piece has, and the first ones of these pieces (bool [N]), which nothing
        stands before."""
        taken = np.bincount(self.begin, minlength=num_tokens + 1) - np.bincount(self.end, minlength=num_tokens + 1)
        unscored = np.asarray(np.cumsum(taken)[:num_tokens] == 0)
        unscored[self.begin[is_alone & (self.end > self.begin)]] = True
        return unscored

    def behind_first(self, num_tokens: int) -> np.ndarray:
        """bool [T] tokens of the texts that are in another piece than the first one of their text."""
        begin, end = self.begin[~self.is_first], self.end[~self.is_first]
        changes = np.bincount(begin, minlength=num_tokens + 1) - np.bincount(end, minlength=num_tokens + 1)
        return np.asarray(np.cumsum(changes)[:num_tokens] > 0)

    def first_of(self, chosen: np.ndarray) -> np.ndarray:
        """int64 the first of these tokens (int64, ascending) in each piece that has any."""
        first = np.append(chosen, -1)[np.searchsorted(chosen, self.begin)]
        return np.asarray(first[(first >= self.begin) & (first < self.end)])

    def part(self, tokens: TextTokens, mask: np.ndarray) -> Part:
        """The pieces themselves, with a mask (bool [T]) of all tokens."""
        return Part(tokens.ids, mask.astype(np.uint8), self.begin, self.end - self.begin)


def join_parts(parts: Sequence[Part], *, raw_lengths: np.ndarray, example: np.ndarray) -> TokenStore:
    """N rows of a store, each of them its ranges of the parts one after the other."""
    sizes = [len(part.ids) for part in parts]
    before = np.cumsum([0, *sizes[:-1]])
    start = np.stack([part.start + offset for part, offset in zip(parts, before, strict=True)], axis=1)
    length = np.stack([part.length for part in parts], axis=1)
    taken = ranges(start.ravel(), length.ravel())
    return TokenStore(
        {name: np.concatenate([getattr(part, name) for part in parts])[taken] for name in ("ids", "mask")},
        offsets=np.concatenate([[0], np.cumsum(length.sum(axis=1))]),
        raw_lengths=raw_lengths.astype(np.int32),
        example=example,
    )
