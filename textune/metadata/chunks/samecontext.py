"""Characters that two ways to write a text both score: what a comparison of losses may count; before `encoder.py`."""

from __future__ import annotations

from dataclasses import dataclass

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


def equal_spans(one: Spans, other: Spans, num_characters: int) -> tuple[Spans, Spans, np.ndarray]:
    """The same tokens, with more of them left out until both score the same characters; and bool [U], which these are.

    A character is scored where every token that stands for it is: several tokens may share one. A token that stands
    for none, as one that ends a text, is left out.
    """
    arms = [Spans(arm.start, arm.end, arm.left_out | (arm.start == arm.end)) for arm in (one, other)]
    while True:
        scored = [_scored(arm, num_characters) for arm in arms]
        partly = [_covered(arm, ~arm.left_out, num_characters) & ~both for arm, both in zip(arms, scored, strict=True)]
        wrong = (scored[0] ^ scored[1]) | partly[0] | partly[1]
        if not wrong.any():
            return arms[0], arms[1], scored[0]
        before = np.concatenate([[0], np.cumsum(wrong)])
        arms = [Spans(arm.start, arm.end, arm.left_out | (before[arm.end] > before[arm.start])) for arm in arms]


def _scored(spans: Spans, num_characters: int) -> np.ndarray:
    """bool [U]."""
    in_scored = _covered(spans, ~spans.left_out, num_characters)
    return np.asarray(in_scored & ~_covered(spans, spans.left_out, num_characters))


def _covered(spans: Spans, tokens: np.ndarray, num_characters: int) -> np.ndarray:
    """bool [U] which characters these tokens (bool [T]) stand for."""
    changes = np.bincount(spans.start[tokens], minlength=num_characters + 1)
    changes = changes - np.bincount(spans.end[tokens], minlength=num_characters + 1)
    return np.asarray(np.cumsum(changes)[:num_characters] > 0)
