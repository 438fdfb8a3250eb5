"""Where the chunks of a document begin: pure functions of its tokens; before `chunks.py`."""

from __future__ import annotations

import functools

import numpy as np

from textune.metadata.documents import NO_POSITION, Insertions
from textune.metadata.texttokens import Places, TextTokens

FORBIDDEN, ALLOWED, GOOD = 0, 1, 2
"""Before a token that continues a character or a tag; before one that continues a word, or tags away from their text;
before any other."""


def cut_everywhere(num_tokens: int, room: int) -> list[int]:
    """The first tokens of chunks of exactly `room` tokens each; the last one may have fewer."""
    return list(range(0, num_tokens, room))


def cut_safely(kinds: np.ndarray, room: int) -> list[int]:
    """The first tokens of chunks of at most `room` tokens each. `kinds`, uint8 [T], says of each token what a cut
    before it is.

    A chunk ends at the last good place of its second half, or else at the last allowed place. Where there is none,
    since one tag is longer than the room, it is cut nevertheless.
    """
    num_tokens = len(kinds)
    place = np.arange(num_tokens)
    last_good = np.maximum.accumulate(np.where(kinds == GOOD, place, 0))
    last_allowed = np.maximum.accumulate(np.where(kinds != FORBIDDEN, place, 0))
    cuts = [0]
    while num_tokens - cuts[-1] > room:
        begin, end = cuts[-1], cuts[-1] + room
        if last_good[end] > begin + room // 2:
            end = int(last_good[end])
        elif last_allowed[end] > begin:
            end = int(last_allowed[end])
        cuts.append(end)
    return cuts


class SafePlaces:
    """What a cut before each token of some rendered texts would be."""

    def __init__(self, joined: str, places: Places, insertions: Insertions) -> None:
        """`joined`: the rendered texts, one after the other."""
        self._places = places
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        inserted = np.zeros(len(codes) + 1, dtype=np.int64)
        np.add.at(inserted, places.start, 1)
        np.add.at(inserted, places.end, -1)
        self._original = codes[np.cumsum(inserted)[:-1] == 0]
        """The characters of the original texts."""
        opens, closes = insertions.opens != NO_POSITION, insertions.closes != NO_POSITION
        self._silent = ~(opens | closes)
        # What stands around tags that touch does as they do: behind the wrap of an opening tag, a span is just open.
        touch = (places.start[1:] == places.end[:-1]) & ~np.isin(places.start[1:], places.texts)
        self._opens = opens[_last_true(~self._silent | ~np.r_[False, touch][: len(opens)])]
        self._closes = closes[::-1][_last_true((~self._silent | ~np.r_[touch, False][: len(opens)])[::-1])][::-1]

    def kinds(self, tokens: TextTokens, document: int) -> np.ndarray:
        """uint8 [T] what a cut before each token of this document is."""
        chosen = slice(tokens.offsets[document], tokens.offsets[document + 1])
        start, end = tokens.start[chosen], tokens.end[chosen]
        kinds = np.full(len(start), GOOD, dtype=np.uint8)
        at = end[:-1]
        kinds[1:][self._in_word(at, document) | self._beside_tag(at)] = ALLOWED
        kinds[1:][self._in_tag(at) | (at > start[1:])] = FORBIDDEN
        return kinds

    def _in_word(self, at: np.ndarray, document: int) -> np.ndarray:
        """bool [P] whether letters or digits stand on both sides in the original text."""
        first, behind = self._places.within(self._places.texts[document : document + 2])
        position = self._places.within(at)
        inside = (position > first) & (position < behind)
        letters = np.zeros(len(at), dtype=bool)
        around = position[inside]
        letters[inside] = _letters()[self._original[around - 1]] & _letters()[self._original[around]]
        return letters

    def _in_tag(self, at: np.ndarray) -> np.ndarray:
        """bool [P] whether the place is within an insertion."""
        held = self._places.holds(at - 1, at) & self._places.holds(at, at + 1)
        return np.asarray(held & ~np.isin(at, self._places.start))

    def _beside_tag(self, at: np.ndarray) -> np.ndarray:
        """bool [P] whether the place is behind an opening tag, before a closing one, or between a tag and its wrap."""
        num = len(self._places.start)
        if not num:
            return np.zeros(len(at), dtype=bool)
        ending = np.minimum(np.searchsorted(self._places.end, at), num - 1)
        beginning = np.minimum(np.searchsorted(self._places.start, at), num - 1)
        ends, begins = self._places.end[ending] == at, self._places.start[beginning] == at
        wrapped = ends & begins & (self._silent[ending] | self._silent[beginning])
        return np.asarray((ends & self._opens[ending]) | (begins & self._closes[beginning]) | wrapped)


def _last_true(flags: np.ndarray) -> np.ndarray:
    """int64 [N] of each position the last one up to it whose flag is set; 0 where there is none."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0)) if len(flags) else np.zeros(0, np.int64)


@functools.cache
def _letters() -> np.ndarray:
    """bool [U] whether each character of Unicode is a letter or a digit."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), bool, 0x110000)
