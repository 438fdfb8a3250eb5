"""Where the chunks of a document begin: pure functions of its tokens; before `encoder.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from textune.metadata.chunks.texttokens import Places, TextTokens, characters
from textune.metadata.documents import NO_POSITION, Insertions

FORBIDDEN, IN_WORD, BESIDE_TAG, GOOD = range(4)
"""What a cut before a token may be, from worst to best: within a character or a tag; within a word; between a tag and
what it is about; anywhere else."""


class Cut(NamedTuple):
    """Where one chunk ends and the next one begins."""

    token: int
    """First token of the next chunk, counted within the document."""
    closing: Sequence[int] = ()
    """Tokens put at the end of the one chunk: they close what is open there."""
    opening: Sequence[int] = ()
    """Tokens put at the beginning of the next one: they open it again."""
    num_left_open: int = 0
    """Tags that are open there and not closed and opened again, for want of room."""
    is_forced: bool = False
    """Whether it is within a tag or a character, for want of another place."""


def cut_everywhere(num_tokens: int, room: int) -> list[Cut]:
    """Cuts into chunks of exactly `room` tokens each; the last one may have fewer."""
    return [Cut(token) for token in range(room, num_tokens, room)]


def cut_safely(kinds: np.ndarray, room: int, cut_at: Callable[[int], Cut] = Cut, *, suffix: int = 0) -> list[Cut]:
    """Cuts into chunks of at most `room` tokens each, with those that close and open tags. `kinds`, uint8 [T], says of
    each token what a cut before it is; `cut_at` gives the cut there, with at most room // 4 tokens of each sort, and
    fewer than `room - suffix`. The last `suffix` tokens stay together, behind at least one other.

    A chunk ends at the last good place of its second half; or else at the last place outside words and tags; or else
    of words. Where there is none either, since one tag is longer than the room, it is cut nevertheless. The chunk
    before a suffix leaves to the last one half of the text that has room there.
    """
    last = {
        least: np.maximum.accumulate(np.where(kinds >= least, np.arange(len(kinds)), 0))
        for least in (GOOD, BESIDE_TAG, IN_WORD)
    }
    cuts: list[Cut] = []
    begin, rest = 0, room
    num_text = len(kinds) - suffix
    least = max(1, (room - suffix) // 2) if suffix else 0
    while len(kinds) - begin > rest:
        limit = max(1, min(rest, num_text - begin - least))
        while True:
            end = begin + limit
            after = {GOOD: begin + limit // 2, BESIDE_TAG: begin, IN_WORD: begin}
            end = next((int(last[kind][end]) for kind in after if last[kind][end] > after[kind]), end)
            cut = cut_at(end)
            if end - begin + len(cut.closing) <= rest:
                break
            limit = rest - len(cut.closing)
        cuts.append(cut._replace(is_forced=bool(kinds[end] == FORBIDDEN)))
        begin, rest = end, room - len(cut.opening)
    return cuts


class SafePlaces:
    """What a cut before each token of some rendered texts would be."""

    def __init__(self, texts: Sequence[str], places: Places, insertions: Insertions) -> None:
        self._texts = texts
        self._places = places
        self._first = np.searchsorted(insertions.document, np.arange(len(texts) + 1))
        """int64 [D+1] the first insertion of each text, and the number of all."""
        opens, closes = insertions.opens != NO_POSITION, insertions.closes != NO_POSITION
        silent = ~(opens | closes)
        # What stands around tags that touch does as they do: behind the wrap of an opening tag, a span is just open.
        touch = (places.start[1:] == places.end[:-1]) & (np.diff(insertions.document) == 0)
        before = _last_true(~silent | ~np.r_[False, touch][: len(silent)])
        behind = len(silent) - 1 - _last_true((~silent | ~np.r_[touch, False][: len(silent)])[::-1])[::-1]
        alone = silent[before] & silent[behind]  # the name of an entity, beside no tag
        self._opens, self._closes, self._silent = opens[before] | alone, closes[behind] | alone, silent

    def kinds(self, tokens: TextTokens, document: int) -> np.ndarray:
        """uint8 [T] what a cut before each token of this document is."""
        chosen = slice(tokens.offsets[document], tokens.offsets[document + 1])
        first = self._places.texts[document]
        start, end = tokens.start[chosen] - first, tokens.end[chosen] - first
        kinds = np.full(len(start), GOOD, dtype=np.uint8)
        kinds[1:] = self._at(document)[end[:-1]]
        kinds[1:][end[:-1] > start[1:]] = FORBIDDEN
        return kinds

    def _at(self, document: int) -> np.ndarray:
        """uint8 [U+1] what a cut before each character of this document is, and behind its last one."""
        written, places = characters(self._texts[document]), self._places
        insertions = slice(self._first[document], self._first[document + 1])
        start, end = (column[insertions] - places.texts[document] for column in (places.start, places.end))
        changes = np.bincount(start, minlength=len(written) + 1) - np.bincount(end, minlength=len(written) + 1)
        is_inserted = np.cumsum(changes) > 0
        kinds = np.full(len(written) + 1, GOOD, dtype=np.uint8)
        # Between a tag and what it is about: behind an opening one, before a closing one, between a tag and its wrap,
        # and beside the name of an entity.
        kinds[end[self._opens[insertions]]] = kinds[start[self._closes[insertions]]] = BESIDE_TAG
        silent, touch = self._silent[insertions], start[1:] == end[:-1]
        kinds[end[:-1][touch & (silent[1:] | silent[:-1])]] = BESIDE_TAG
        kinds[self._in_word(written, is_inserted)] = IN_WORD
        is_inserted[start] = False
        kinds[is_inserted] = FORBIDDEN
        return kinds

    def _in_word(self, written: np.ndarray, is_inserted: np.ndarray) -> np.ndarray:
        """bool [U+1] whether letters or digits of the original text stand on both sides of a place."""
        original = written[~is_inserted[:-1]]
        is_letter = _letters((int(original.max(initial=0)) >> 16) + 1)[original]
        between = np.zeros(len(original) + 1, dtype=bool)
        between[1:-1] = is_letter[1:] & is_letter[:-1]
        num_before = np.cumsum(~is_inserted) - ~is_inserted
        return np.asarray(between[num_before])


def _last_true(flags: np.ndarray) -> np.ndarray:
    """int64 [N] of each position the last one up to it whose flag is set; 0 where there is none."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0)) if len(flags) else np.zeros(0, np.int64)


@functools.cache
def _letters(num_planes: int) -> np.ndarray:
    """bool [U] whether each character of the first planes of Unicode (65,536 each) is a letter or a digit."""
    size = num_planes << 16
    return np.fromiter((chr(code).isalnum() for code in range(size)), bool, size)
