"""The tags that are open where a document is cut: closed there, and opened again in the next chunk; used by
`cutter.py`."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from textune.config import MetadataSection
from textune.metadata.chunks.cuts import Cut
from textune.metadata.chunks.texttokens import Places, TextTokenizer, TextTokens
from textune.metadata.documents import NO_POSITION, Insertions


class OpenTags:
    """The tags of some rendered texts that have an opening and a closing one."""

    def __init__(
        self,
        joined: str,
        places: Places,
        insertions: Insertions,
        section: MetadataSection,
        tokenizer: TextTokenizer,
    ) -> None:
        """`joined`: the rendered texts, one after the other."""
        self._joined = joined
        self._places = places
        self._types = insertions.type
        self._wraps = [section.wraps.get(name, ("", "")) for name in section.types]
        self._tokenizer = tokenizer
        self._opening, self._closing = _pairs(insertions)
        self._opens_at = places.start[self._opening]
        self._outer = _outer(self._opening.tolist(), self._closing.tolist())

    def cut_at(self, tokens: TextTokens, document: int, token: int, *, most: int) -> Cut:
        """The cut before a token of this document, with at most `most` tokens that close and as many that open; the
        outermost tags are the first to be left as they are."""
        position = int(tokens.end[tokens.offsets[document] + token - 1])
        first, behind = np.searchsorted(self._opens_at, [self._places.texts[document], position]).tolist()
        around: list[int] = []
        pair = behind - 1
        while pair >= first:
            around.append(pair)
            pair = self._outer[pair]
        opening, closing = (tags[np.array(around[::-1], dtype=np.int64)] for tags in (self._opening, self._closing))
        is_open = (self._places.end[opening] <= position) & (self._places.start[closing] >= position)
        opening, closing = opening[is_open], closing[is_open]
        num_left_open = 0
        while True:
            opens, closes = self._ids(opening[num_left_open:]), self._ids(np.sort(closing[num_left_open:]))
            if max(len(opens), len(closes)) <= most:
                return Cut(token, closes, opens, num_left_open)
            num_left_open += 1

    def _ids(self, insertions: np.ndarray) -> list[int]:
        """The tokens of these tags, one after the other, with what `wraps` puts around those of a type."""
        pieces: list[str] = []
        for type_, tags in groupby(insertions.tolist(), key=lambda tag: int(self._types[tag])):
            before, behind = self._wraps[type_]
            texts = (self._joined[self._places.start[tag] : self._places.end[tag]] for tag in tags)
            pieces += [before, *texts, behind]
        return [token for piece in pieces for token in self._tokenizer.tag(piece).tolist()]


def _pairs(insertions: Insertions) -> tuple[np.ndarray, np.ndarray]:
    """int64 [P] each: the tags that open, ascending, and those that close the same spans. The n-th opening tag of an
    entry belongs to its n-th closing one."""
    by_entry: list[np.ndarray] = []
    for entries in (insertions.opens, insertions.closes):
        tags = np.flatnonzero(entries != NO_POSITION)
        by_entry.append(tags[np.argsort(entries[tags], kind="stable")])
    opening, closing = by_entry
    order = np.argsort(opening)
    return opening[order], closing[order]


def _outer(opening: list[int], closing: list[int]) -> list[int]:
    """Of each pair of tags, the last one before it that is still open where it opens, or -1. From the last pair that
    opens before a place, this leads to all that are open there."""
    outer: list[int] = []
    stack: list[int] = []
    for pair, opens in enumerate(opening):
        while stack and closing[stack[-1]] < opens:
            stack.pop()
        outer.append(stack[-1] if stack else -1)
        stack.append(pair)
    return outer
