"""Rendered documents to rows of tokens with their masks; after `render.py`, before `maker.py`.

fields --PrefixEncoder--> prefix tokens ----------------------+
texts with tags --TextTokenizer--> tokens that know           +--> every chunk = prefix + a piece of the text
their characters --cuts--> pieces of at most the room left ---+
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from textune.batches import TokenStore
from textune.config import MetadataSection, TokensSection
from textune.errors import DataError
from textune.metadata.cuts import FORBIDDEN, SafePlaces, cut_everywhere, cut_safely
from textune.metadata.documents import PrefixField, Rendered
from textune.metadata.prefixtokens import PrefixEncoder, PrefixTokens
from textune.metadata.specialtokens import begin_token, end_token
from textune.metadata.texttokens import Places, TextTokenizer, TextTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ChunkCounts:
    """What did not become tokens, in documents."""

    empty: int = 0
    """Without a token of text."""
    short: int = 0
    """With fewer than `metadata.min_tokens`."""
    trimmed: int = 0
    """With a prefix that was too long."""
    left_out: dict[str, int] = field(default_factory=dict)
    """By type: with a prefix that lost this field."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """N chunks, document after document."""

    store: TokenStore
    """Columns `ids` and `mask`, a row for each chunk; its examples are the E documents that have any."""
    documents: np.ndarray
    """int64 [E] which of the rendered documents each example of the store is, ascending."""
    start: np.ndarray
    """int64 [N] first character of the original text that each chunk has."""
    end: np.ndarray
    """int64 [N] the character after it. The chunks of a document have each of its characters once."""
    counts: ChunkCounts

    def __len__(self) -> int:
        return len(self.store)


class ChunkEncoder:
    """The only way from rendered documents to token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tokens: TokensSection, metadata: MetadataSection) -> None:
        """ModelError for a tokenizer without offsets; ConfigError where it lacks a token that `metadata` asks for."""
        self._metadata = metadata
        self._max_length = tokens.longest
        self._original = metadata.as_original
        self._tokenizer = TextTokenizer(tokenizer)
        self._prefixes = PrefixEncoder(self._tokenizer, metadata, max_length=self._max_length)
        self._begin = begin_token(tokenizer, metadata)
        self._end = end_token(tokenizer, metadata)

    def encode(self, rendered: Rendered, place: Callable[[int], str] = "document {}".format) -> Chunks:
        """The chunks of these documents, whatever others they share a batch with.

        DataError, with the document as `place(index)` names it, where a prefix leaves no room for text.
        """
        prefixes = self._prefixes.encode(rendered.fields)
        texts, insertions = list(rendered.texts), rendered.insertions
        has_prefix = prefixes.length > 0
        if self._original:
            tokens = self._tokenizer.together(texts, insertions, spaced=has_prefix)
            num_counted = np.diff(tokens.offsets)
        else:
            spaced = has_prefix & (not self._tokenizer.begins_words)
            tokens = self._tokenizer.apart(texts, insertions, spaced=spaced)
            num_counted = np.diff(np.concatenate([[0], np.cumsum(~tokens.inserted)])[tokens.offsets])
        kept = np.flatnonzero(num_counted >= self._metadata.min_tokens)
        room = self._room(rendered, prefixes, kept, place)
        if self._end is not None:
            tokens = _with_end(tokens, self._end)
        places = Places.of(texts, insertions)
        cuts = self._cuts(tokens, lambda: SafePlaces("".join(texts), places, insertions), kept, room)
        return self._chunks(tokens, places, prefixes, kept, cuts, self._counts(num_counted, prefixes))

    def _room(
        self, rendered: Rendered, prefixes: PrefixTokens, kept: np.ndarray, place: Callable[[int], str]
    ) -> np.ndarray:
        """int64 [D] tokens that a chunk of each document has beside its prefix. DataError where there are none."""
        room = self._max_length - prefixes.length - (self._begin is not None)
        without = (prefixes.length == 0) & prefixes.trimmed & (self._metadata.on_bad_metadata == "error")
        refused = kept[((room < 1) | without)[kept]]
        if len(refused):
            first = int(refused[0])
            longest = max(rendered.fields[first], key=lambda part: len(part.text), default=PrefixField(0, ""))
            name = self._metadata.types[longest.type]
            raise DataError(
                f"{place(first)}: the prefix leaves no room for text within tokens.max_length = {self._max_length} and"
                f" metadata.prefix_share = {self._metadata.prefix_share}: none of its fields fits; the longest is"
                f" {name} ({len(longest.text):,} characters).",
                hint="Raise tokens.max_length or metadata.prefix_share, shorten what is around the fields"
                ' (metadata.prefix_start, metadata.prefix_separator), or set metadata.on_bad_metadata = "report": such'
                " documents then go without a prefix.",
                key="metadata.prefix_share",
                value=longest.text,
                place=place(first),
                reason=f"the prefix leaves no room for text, and {name} is its longest field",
            )
        return room

    def _cuts(
        self, tokens: TextTokens, find_places: Callable[[], SafePlaces], kept: np.ndarray, room: np.ndarray
    ) -> list[list[int]]:
        """Of each kept document, the tokens that its chunks begin with, counted within the document."""
        num_D = np.diff(tokens.offsets)
        if self._original:
            return [cut_everywhere(int(num_D[document]), int(room[document])) for document in kept]
        safe = find_places() if (num_D > room)[kept].any() else None
        cuts = []
        for document in kept.tolist():
            if safe is None or num_D[document] <= room[document]:
                cuts.append([0])
                continue
            kinds = safe.kinds(tokens, document)
            if self._end is not None:  # no chunk for the end token alone
                kinds[-1] = FORBIDDEN
            cuts.append(cut_safely(kinds, int(room[document])))
        return cuts

    def _chunks(
        self,
        tokens: TextTokens,
        places: Places,
        prefixes: PrefixTokens,
        kept: np.ndarray,
        cuts: list[list[int]],
        counts: ChunkCounts,
    ) -> Chunks:
        """The chunks of the kept documents, which begin at these tokens of theirs."""
        num_E = np.array([len(one) for one in cuts], dtype=np.int64)
        example = np.repeat(np.arange(len(kept)), num_E)
        document = kept[example]
        begin = tokens.offsets[document] + np.array([cut for one in cuts for cut in one], dtype=np.int64)
        is_first = np.diff(example, prepend=-1) > 0
        is_last = np.diff(example, append=len(kept)) > 0
        end = np.where(is_last, tokens.offsets[document + 1], np.append(begin[1:], 0))
        # Characters of the original texts; a cut stands behind the last character of the token before it.
        originals = places.within(places.texts)
        cut_at = places.within(tokens.end[np.maximum(begin - 1, 0)]) if len(begin) else begin
        first = np.where(is_first, 0, cut_at - originals[document])
        behind = np.where(is_last, np.diff(originals)[document], np.append(first[1:], 0))
        store = self._store(tokens, prefixes, document, (begin, end), example)
        return Chunks(store, kept, first, behind, counts)

    def _store(
        self,
        tokens: TextTokens,
        prefixes: PrefixTokens,
        document: np.ndarray,
        pieces: tuple[np.ndarray, np.ndarray],
        example: np.ndarray,
    ) -> TokenStore:
        """A row for each chunk: the begin token, the prefix, and its piece, from its first token to the one behind its
        last (int64 [N] each)."""
        begin, end = pieces
        special = np.array([] if self._begin is None else [self._begin], dtype=np.int32)
        ids = np.concatenate([special, prefixes.ids, tokens.ids])
        mask = np.ones(len(ids), dtype=np.uint8)
        mask[len(ids) - len(tokens.ids) :] = 0 if self._metadata.score_inline else tokens.inserted
        zeros = np.zeros(len(begin), dtype=np.int64)
        starts = np.stack(
            [zeros, len(special) + prefixes.start[document], len(special) + len(prefixes.ids) + begin], axis=1
        )
        lengths = np.stack([zeros + len(special), prefixes.length[document], end - begin], axis=1)
        taken = _ranges(starts.ravel(), lengths.ravel())
        return TokenStore(
            {"ids": ids[taken], "mask": mask[taken]},
            offsets=np.concatenate([[0], np.cumsum(lengths.sum(axis=1))]),
            raw_lengths=np.diff(tokens.offsets)[document].astype(np.int32),
            example=example,
        )

    def _counts(self, num_counted: np.ndarray, prefixes: PrefixTokens) -> ChunkCounts:
        empty = num_counted == 0
        return ChunkCounts(
            empty=int(empty.sum()),
            short=int((~empty & (num_counted < self._metadata.min_tokens)).sum()),
            trimmed=int(prefixes.trimmed.sum()),
            left_out={self._metadata.types[index]: number for index, number in prefixes.left_out.items()},
        )


def _with_end(tokens: TextTokens, end_id: int) -> TextTokens:
    """The same with the end token behind each text."""
    behind = tokens.offsets[1:]
    last = np.where(behind > tokens.offsets[:-1], tokens.end[np.maximum(behind - 1, 0)], 0) if len(tokens.ids) else 0
    return replace(
        tokens,
        ids=np.insert(tokens.ids, behind, end_id),
        start=np.insert(tokens.start, behind, last),
        end=np.insert(tokens.end, behind, last),
        inserted=np.insert(tokens.inserted, behind, False),
        offsets=tokens.offsets + np.arange(len(tokens.offsets)),
    )


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64 the positions of ranges, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.repeat(starts - before, lengths) + np.arange(lengths.sum()))
