"""Texts with tags to tokens that know their characters; before `encoder.py`.

By default no token holds both text and metadata. What was inserted is taken out of a text, which is cut there, and
each part and each insertion is tokenised by itself: all parts in one call, and equal insertions once. A private
character marks the cuts; it is a special token of a copy of the tokenizer, which therefore cuts there before anything
else. The original system tokenises the texts as they are, and a token belongs to the metadata if one of its characters
does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from textune.errors import ModelError
from textune.metadata.chunks.flattokens import FlatTokenizer
from textune.metadata.chunks.ownspaces import without_own_spaces
from textune.metadata.documents import Insertions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Piece = str | tuple[str, str]
"""What is inserted; a space and that, for what is tokenised after a space."""
MOST_KNOWN = 100_000
"""Different pieces that a tokenizer remembers: pages have the same tags again and again."""
NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""What Unicode sets aside for use within a program. A text has none of them, or at least not all their sequences."""


@dataclass(frozen=True, eq=False)
class TextTokens:
    """T tokens of D texts, one text after the other. Characters are counted over all texts, as if they were joined."""

    ids: np.ndarray
    """int32 [T]."""
    start: np.ndarray
    """int64 [T] first character of each."""
    end: np.ndarray
    """int64 [T] the character after it; tokens that share a character (its bytes) have the same span."""
    inserted: np.ndarray
    """bool [T] whether it belongs to an insertion."""
    offsets: np.ndarray
    """int64 [D+1] where the tokens of each text begin, and where the last ones end."""

    def followed_by(self, token: int, texts: np.ndarray) -> TextTokens:
        """The same with a token behind each of these texts (bool [D]); it stands for no character."""
        return self._with_tails(np.full(int(texts.sum()), token, np.int32), texts.astype(np.int64), inserted=False)

    def with_suffixes(self, ids: np.ndarray, start: np.ndarray, length: np.ndarray) -> TextTokens:
        """The same with inserted tokens behind each text: a range (int64 [D] each) of these ids (int32 [P])."""
        return self._with_tails(ids[ranges(start, length)], length, inserted=True)

    def _with_tails(self, ids: np.ndarray, length: np.ndarray, *, inserted: bool) -> TextTokens:
        """With so many of the ids, int64 [D], behind each text; they stand for no character."""
        at = np.repeat(self.offsets[1:], length)
        is_empty = np.repeat(self.offsets[1:] == self.offsets[:-1], length)
        place = np.append(self.end, 0)[np.where(is_empty, len(self.end), at - 1)]
        return TextTokens(
            np.insert(self.ids, at, ids),
            np.insert(self.start, at, place),
            np.insert(self.end, at, place),
            np.insert(self.inserted, at, inserted),
            offsets=self.offsets + np.concatenate([[0], np.cumsum(length)]),
        )


@dataclass(frozen=True, eq=False)
class Places:
    """Where texts and insertions are, in characters counted over all texts."""

    texts: np.ndarray
    """int64 [D+1] where each text begins, and where the last one ends."""
    start: np.ndarray
    """int64 [I] first character of each insertion."""
    end: np.ndarray
    """int64 [I] the character after it."""

    @classmethod
    def of(cls, texts: Sequence[str], insertions: Insertions | None = None) -> Places:
        """Those of rendered texts."""
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        begin = np.concatenate([[0], np.cumsum(sizes)])
        if insertions is None:
            return cls(begin, begin[:0], begin[:0])
        before = begin[insertions.document]
        return cls(begin, before + insertions.start, before + insertions.end)

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends, int64 [R] each, of insertions that touch taken as one."""
        # Insertions of two texts may touch where one text ends and the next one begins.
        apart = (self.start[1:] > self.end[:-1]) | np.isin(self.start[1:], self.texts)
        return self.start[np.r_[True, apart][: len(self.start)]], self.end[np.r_[apart, True][: len(self.end)]]

    def original(self, joined: str) -> np.ndarray:
        """uint32 [U] the characters of the original texts, from all rendered ones."""
        if not len(self.start):
            return characters(joined)
        changes = np.bincount(self.start, minlength=len(joined) + 1) - np.bincount(self.end, minlength=len(joined) + 1)
        return np.asarray(characters(joined)[np.cumsum(changes)[:-1] == 0])

    def within(self, position: np.ndarray) -> np.ndarray:
        """int64 [P] the same positions in the original texts, again counted over all of them."""
        num_before = np.searchsorted(self.start, position, side="left")
        last = np.maximum(num_before - 1, 0)
        beyond = np.where(num_before > 0, np.maximum(self.end[last] - position, 0), 0) if len(self.end) else 0
        return np.asarray(position - self._removed[num_before] + beyond)

    @cached_property
    def _removed(self) -> np.ndarray:
        """int64 [I+1] inserted characters before each insertion, and all of them."""
        return np.concatenate([[0], np.cumsum(self.end - self.start)])

    def holds(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """bool [S] whether spans have an inserted character."""
        if not len(self.start):
            return np.zeros(len(start), dtype=bool)
        following = np.searchsorted(self.end, start, side="right")
        first = self.start[np.minimum(following, len(self.start) - 1)]
        return np.asarray((following < len(self.start)) & (first < end))


class TextTokenizer:
    """A fast tokenizer without its special tokens, truncation and padding."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """ModelError for a tokenizer that does not know where its tokens are in a text."""
        if not tokenizer.is_fast:
            raise ModelError(
                f"model.tokenizer: the tokenizer {type(tokenizer).__name__} is slow, and does not say which"
                " characters a token stands for.",
                hint="Name a folder with tokenizer.json in model.tokenizer.",
                key="model.tokenizer",
                value=type(tokenizer).__name__,
                reason="a tokenizer without offsets",
            )
        self._plain = FlatTokenizer.like(tokenizer.backend_tokenizer)
        backend, self._spaces = without_own_spaces(self._plain.backend)
        self._apart = self._plain if backend is self._plain.backend else FlatTokenizer.like(backend)
        self._marking: dict[str, tuple[FlatTokenizer, int]] = {}
        self._known: dict[Piece, tuple[np.ndarray, np.ndarray]] = {}
        """Ids, int32 [P], and spans, int64 [P, 2], of pieces that were inserted before."""
        first, word, both = self.lists(["b", "a", "b a"])
        self._begins_words = both == first + word
        """Whether a text begins as a word does after a space, so that it needs none behind a prefix."""

    def lists(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text."""
        return _ids(self._plain, texts)

    def lists_behind(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, where it stands behind others: the tokenizer puts no space of its own before it."""
        return _ids(self._apart, texts)

    def spaces(self, texts: Sequence[str], has_prefix: np.ndarray) -> np.ndarray:
        """bool [D] which texts are tokenised after a space. Behind a prefix (bool [D]) a text begins as a word does
        after a space; elsewhere, as the tokenizer begins it."""
        own = np.fromiter(map(self._spaces, texts), bool, len(texts))
        return own if self._begins_words else own | (has_prefix & np.fromiter(map(bool, texts), bool, len(texts)))

    def apart(self, texts: Sequence[str], places: Places, spaced: np.ndarray) -> TextTokens:
        """Tokens that are either text or insertion; texts with `spaced` (bool [D]) are tokenised after a space."""
        if not len(places.start):
            return self._whole(self._apart, texts, places, spaced)
        starts, ends = places.runs()
        first_run = np.searchsorted(starts, places.texts)
        begins_inserted = np.isin(places.texts[:-1], starts) & (np.diff(first_run) > 0)
        led = np.isin(places.start, places.texts[:-1][spaced & begins_inserted])
        marker = _absent(texts)
        tokenizer, marker_id = self._marker(marker)
        spaced = spaced & ~begins_inserted
        with ThreadPoolExecutor(1, thread_name_prefix="textune-texts") as beside:
            encoded = beside.submit(tokenizer.encode, _marked(texts, places, marker, spaced))
            tags, which = self._tags(texts, places, led)
            ids, start, end, offsets = encoded.result()
        marks = ids == marker_id
        num_marks = np.concatenate([[0], np.cumsum(marks)])
        text = np.repeat(np.arange(len(texts)), np.diff(offsets))
        # Of the places of a token, those of the markers before it go, those of what was inserted there come.
        sizes = np.concatenate([[0], np.cumsum(ends - starts - len(marker))])
        shift = places.texts[text] - spaced[text] + sizes[num_marks[:-1]] - sizes[first_run[text]]
        own = TextTokens(ids, np.maximum(start + shift, places.texts[text]), end + shift, marks, offsets)
        return _with_tags(own, tags, which, places, np.searchsorted(starts, places.start, side="right") - 1)

    def _tags(self, texts: Sequence[str], places: Places, led: np.ndarray) -> tuple[TextTokens, np.ndarray]:
        """The tokens of all different insertions, and int64 [I] which of these each insertion is; `led` (bool [I]) are
        tokenised after a space."""
        joined = "".join(texts)
        bounds = zip(places.start.tolist(), places.end.tolist(), strict=True)
        written = [joined[start:end] for start, end in bounds]
        pieces: list[Piece] = [*written]
        for index in np.flatnonzero(led).tolist():
            pieces[index] = (" ", written[index])
        different = dict.fromkeys(pieces)
        number = dict(zip(different, range(len(different)), strict=True))
        which = np.fromiter(map(number.__getitem__, pieces), np.int64, len(pieces))
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        self._learn(different)
        found = [self._known[piece] for piece in different]
        start, end = np.concatenate([np.zeros((0, 2), np.int64), *(spans for _, spans in found)]).T
        ids = np.concatenate([np.zeros(0, np.int32), *(some for some, _ in found)])
        lengths = np.fromiter((len(some) for some, _ in found), np.int64, len(found))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return TextTokens(ids, start, end, np.ones(len(ids), dtype=bool), offsets), which

    def _learn(self, pieces: Iterable[Piece]) -> None:
        """Tokenise the pieces that are not known."""
        new = [piece for piece in pieces if piece not in self._known]
        if not new:
            return
        ids, start, end, offsets = self._apart.encode(["".join(piece) for piece in new])
        led = np.repeat([isinstance(piece, tuple) for piece in new], np.diff(offsets))
        spans = np.maximum(np.stack([start, end], axis=1) - led[:, None], 0)
        for piece, (begin, stop) in zip(new, itertools.pairwise(offsets.tolist()), strict=True):
            self._known[piece] = ids[begin:stop], spans[begin:stop]

    def tag(self, text: str) -> np.ndarray:
        """int32 [P] the ids of a piece that is inserted."""
        self._learn([text])
        return self._known[text][0]

    def together(self, texts: Sequence[str], places: Places, spaced: np.ndarray) -> TextTokens:
        """Tokens of the whole texts; one with any inserted character, leading spaces aside, is inserted."""
        tokens = self._whole(self._plain, texts, places, spaced)
        behind_spaces = _behind_spaces("".join(texts), tokens.start, tokens.end)
        return replace(tokens, inserted=places.holds(behind_spaces, tokens.end))

    def _whole(self, tokenizer: FlatTokenizer, texts: Sequence[str], places: Places, spaced: np.ndarray) -> TextTokens:
        """Tokens of texts as they are, none of them inserted; those with `spaced` after a space."""
        led = [f" {text}" if space else text for text, space in zip(texts, spaced.tolist(), strict=True)]
        ids, start, end, offsets = tokenizer.encode(led)
        begin = np.repeat(places.texts[:-1], np.diff(offsets))
        shift = np.repeat(places.texts[:-1] - spaced, np.diff(offsets))
        start = np.maximum(start + shift, begin)
        return TextTokens(ids, start, end + shift, np.zeros(len(ids), dtype=bool), offsets)

    def _marker(self, marker: str) -> tuple[FlatTokenizer, int]:
        """The tokenizer that knows this marker, and the marker's id."""
        if marker not in self._marking:
            self._marking[marker] = self._apart.with_token(marker)
        return self._marking[marker]


def _ids(tokenizer: FlatTokenizer, texts: Iterable[str]) -> list[list[int]]:
    encodings = tokenizer.backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def _absent(texts: Sequence[str]) -> str:
    """A marker that no text has."""
    sequences = itertools.chain.from_iterable(itertools.permutations(NONCHARACTERS, size) for size in (1, 2, 3))
    markers = map("".join, sequences)
    return next(marker for marker in markers if not any(marker in text for text in texts))


def _marked(texts: Sequence[str], places: Places, marker: str, spaced: np.ndarray) -> list[str]:
    """The texts with a marker in the place of what was inserted, and a space before all of it where asked."""
    starts, ends = places.runs()
    first = np.searchsorted(starts, places.texts)
    bounds = np.stack([ends, starts], axis=1) - np.repeat(places.texts[:-1], np.diff(first))[:, None]
    marked = []
    bounds_of, number = bounds.ravel().tolist(), (2 * first).tolist()
    for index, (text, space) in enumerate(zip(texts, spaced.tolist(), strict=True)):
        here = bounds_of[number[index] : number[index + 1]]
        begins, stops = [0, *here[0::2]], [*here[1::2], len(text)]
        parts = marker.join([text[begin:stop] for begin, stop in zip(begins, stops, strict=True)])
        marked.append(f" {parts}" if space else parts)
    return marked


def _with_tags(own: TextTokens, tags: TextTokens, which: np.ndarray, places: Places, run: np.ndarray) -> TextTokens:
    """Tokens of marked texts, with those of the tags of a run in the place of each mark (`inserted`). `which` and
    `run`, int64 [I]: the tag that each insertion is, and its run."""
    mark = np.flatnonzero(own.inserted)
    number = np.arange(len(mark) + 1)
    at_text, at_tag = number + np.searchsorted(run, number), np.arange(len(run)) + run + 1
    begin, length, moved = np.zeros((3, len(run) + len(mark) + 1), dtype=np.int64)
    begin[at_text] = np.append(0, mark + 1)
    length[at_text] = np.append(mark, len(own.ids)) - begin[at_text]
    size = np.diff(tags.offsets)[which]
    begin[at_tag], length[at_tag], moved[at_tag] = tags.offsets[which] + len(own.ids), size, places.start
    taken, moved = ranges(begin, length), np.repeat(moved, length)
    document = np.searchsorted(places.texts, places.start, side="right") - 1
    num_inserted = np.bincount(document, size, minlength=len(places.texts) - 1).astype(np.int64)
    num_marks = np.concatenate([[0], np.cumsum(own.inserted)])[own.offsets]
    return TextTokens(
        np.concatenate([own.ids, tags.ids])[taken],
        np.concatenate([own.start, tags.start])[taken] + moved,
        np.concatenate([own.end, tags.end])[taken] + moved,
        inserted=taken >= len(own.ids),
        offsets=np.concatenate([[0], np.cumsum(np.diff(own.offsets) - np.diff(num_marks) + num_inserted)]),
    )


def ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """int64 the positions in ranges (int64 [R] each), one range after the other."""
    before = np.cumsum(length) - length
    return np.asarray(np.repeat(start - before, length) + np.arange(length.sum()))


def _behind_spaces(joined: str, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64 [T] the starts of spans in a text behind leading spaces; spans of nothing but spaces keep theirs."""
    size = len(joined)
    is_space = np.isin(characters(joined), _SPACES)
    following = np.minimum.accumulate(np.where(is_space, size, np.arange(size))[::-1])[::-1]
    behind = np.append(following, size)[start]
    return np.where(behind < end, behind, start)


def characters(joined: str) -> np.ndarray:
    """uint32 [U] the numbers of the characters."""
    return np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)


_SPACES = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)
