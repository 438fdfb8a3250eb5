"""Characters that all of several ways to write a text score: what a comparison of losses may count; before
`encoder.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.metadata.chunks.texttokens import Places


@dataclass(frozen=True, eq=False)
class Spans:
    """T tokens as the characters of some texts, U in all, that they stand for."""

    start: np.ndarray
    """int64 [T]."""
    end: np.ndarray
    """int64 [T]; `start` for a token that stands for no character of the texts."""
    left_out: np.ndarray
    """bool [T] whether no model is scored on the token."""


def slices(joined: str, places: Places, start: np.ndarray, end: np.ndarray) -> list[str]:
    """Pieces of the original texts, by their characters counted over all of these (int64 [N] each)."""
    original = places.original(joined)
    bounds = zip(start.tolist(), end.tolist(), strict=True)
    return [original[first:behind].tobytes().decode("utf-32-le", "surrogatepass") for first, behind in bounds]


def common_spans(ways: Sequence[Spans], num_characters: int) -> tuple[list[Spans], np.ndarray]:
    """The same tokens, with more of them left out until all ways score the same characters; and bool [U], which these
    are.

    A character is scored where every token that stands for it is: several tokens may share one. A token that stands
    for none, as one that ends a text, is left out.
    """
    ways = [replace(way, left_out=way.left_out | (way.start == way.end)) for way in ways]
    while True:
        scored = [_scored(way, num_characters) for way in ways]
        common = np.logical_and.reduce(scored)
        wrong = np.zeros(num_characters, dtype=bool)
        for way in ways:
            wrong |= _covered(way, ~way.left_out, num_characters) & ~common
        if not wrong.any():
            return ways, common
        before = np.concatenate([[0], np.cumsum(wrong)])
        ways = [replace(way, left_out=way.left_out | (before[way.end] > before[way.start])) for way in ways]


def num_bytes(codes: np.ndarray) -> np.ndarray:
    """int64 [U] the bytes in UTF-8 of each of these characters (uint32 [U], their numbers)."""
    return 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000).astype(np.int64)


def num_first(spans: Spans, amounts: np.ndarray) -> np.ndarray:
    """int64 [T] how much of the texts each token that is not left out stands for, and none before it; `amounts`, int64
    [U]: that of each character."""
    before = np.concatenate([[0], np.cumsum(amounts)])
    done = np.concatenate([[0], np.maximum.accumulate(spans.end)])[: len(spans.end)]
    return np.where(spans.left_out, 0, before[spans.end] - before[np.clip(done, spans.start, spans.end)])


def _scored(spans: Spans, num_characters: int) -> np.ndarray:
    """bool [U]."""
    in_scored = _covered(spans, ~spans.left_out, num_characters)
    return np.asarray(in_scored & ~_covered(spans, spans.left_out, num_characters))


def _covered(spans: Spans, tokens: np.ndarray, num_characters: int) -> np.ndarray:
    """bool [U] which characters these tokens (bool [T]) stand for."""
    changes = np.bincount(spans.start[tokens], minlength=num_characters + 1)
    changes = changes - np.bincount(spans.end[tokens], minlength=num_characters + 1)
    return np.asarray(np.cumsum(changes)[:num_characters] > 0)
