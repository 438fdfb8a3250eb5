"""Rendered documents to rows of tokens with their masks; after `render.py`.

fields --FieldEncoder--> tokens of prefixes or suffixes -----+
texts with tags --TextTokenizer--> tokens that know          +--> every chunk = prefix + a piece of the text;
their characters --cuts--> pieces of at most the room left --+    the last piece of a document ends with its suffix
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textune.batches import TokenStore
from textune.config import MetadataSection, TokensSection
from textune.data import NUM_EXAMPLES
from textune.errors import DataError
from textune.metadata.chunks.commonspans import Spans, common_spans, num_bytes, num_first, slices
from textune.metadata.chunks.counts import Bare, ChunkCounts
from textune.metadata.chunks.cutter import Cutter
from textune.metadata.chunks.fieldtokens import FieldEncoder, FieldTokens
from textune.metadata.chunks.rows import Part, TextPieces, join_parts
from textune.metadata.chunks.specialtokens import begin_token, end_token, token_between
from textune.metadata.chunks.texttokens import Places, TextTokenizer, TextTokens, ranges
from textune.metadata.documents import Rendered, RenderedField

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Place = Callable[[int], str]
"""How messages name a document, by its number among those rendered."""


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
    bare: tuple[Bare, ...] = ()
    """The first of the documents that go without a prefix."""

    def __len__(self) -> int:
        return len(self.store)


@dataclass(frozen=True, eq=False)
class ScoredChunks:
    """N chunks, document after document, whose tokens with mask 0 are scored."""

    store: TokenStore
    """Columns `ids`, `mask`, `characters` and `bytes`: how much of the original text each scored token stands for that
    none before it does. A row for each chunk; its examples are the E documents that have any."""
    documents: np.ndarray
    """int64 [E] which of the rendered documents each example of the store is, ascending."""


class Compared(NamedTuple):
    """The same documents written in three ways, which all score exactly the same characters."""

    own: ScoredChunks
    """With their metadata."""
    without: ScoredChunks
    """Without any, cut as documents without metadata are."""
    same_context: ScoredChunks
    """Without any, but cut where those with metadata are: a chunk has before it what the other one has of the text."""


class Begun(NamedTuple):
    """The beginning of a document."""

    before: list[int]
    """What stands before its text."""
    text: list[int]
    """Its text so far."""


class _Cutting(NamedTuple):
    """Documents on their way to chunks."""

    texts: list[str]
    places: Places
    prefixes: FieldTokens
    tokens: TextTokens
    """Those of suffixes and end tokens included."""
    in_suffix: np.ndarray
    """bool [T] which of these belong to a suffix."""
    pieces: TextPieces
    kept: np.ndarray
    counts: ChunkCounts
    bare: tuple[Bare, ...]


class ChunkEncoder:
    """The only way from rendered documents to token ids."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tokens: TokensSection,
        metadata: MetadataSection,
        *,
        uncut: bool = False,
    ) -> None:
        """`uncut`: each document is one chunk, however long it is, that ends with the end token.

        ModelError for a tokenizer without offsets; ConfigError where it lacks a token that it is to have.
        """
        self._given = (tokenizer, tokens, metadata)
        self._uncut = uncut
        self._metadata = metadata
        self._max_length = tokens.longest
        self._tokenizer = TextTokenizer(tokenizer)
        self._begin = begin_token(tokenizer, metadata)
        self._end = token_between(tokenizer) if uncut else end_token(tokenizer, metadata)
        self._fields = FieldEncoder(
            self._tokenizer,
            metadata,
            max_length=self._max_length,
            has_begin=self._begin is not None,
            has_end=self._end is not None,
        )

    def uncut(self) -> ChunkEncoder:
        """The same for documents that rows of one length are cut from: each is one chunk, however long it is, and ends
        with the end token. ConfigError where the tokenizer has none."""
        return ChunkEncoder(*self._given, uncut=True)

    @property
    def max_length(self) -> int:
        """The most tokens that a row has."""
        return self._max_length

    def fingerprint(self) -> str:
        """Hash of what decides the ids of a piece of text by itself, and how long a chunk may be."""
        tokenizer = self._given[0]
        rules = {
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "special": [tokenizer.bos_token_id, tokenizer.eos_token_id],
            "max_length": self._max_length,
        }
        return hashlib.blake2b(json.dumps(rules, allow_nan=False).encode(), digest_size=16).hexdigest()

    def encode(self, rendered: Rendered, place: Place = "document {}".format) -> Chunks:
        """The chunks of these documents, whatever others they share a batch with.

        DataError, with the document as `place(index)` names it, where a prefix leaves no room for text.
        """
        cutting = self._cut(rendered, place)
        metadata = cutting.in_suffix if self._metadata.score_inline else cutting.tokens.inserted
        return self._with_prefixes(cutting, metadata)

    def trims(self, rendered: Rendered) -> np.ndarray:
        """bool [D] which documents have a prefix or suffix that is too long, so that it loses fields."""
        return self._fields.encode(rendered.fields).trimmed

    def compared(
        self, rendered: Rendered, bare: Rendered, place: Place = "document {}".format, *, first_only: bool = False
    ) -> Compared:
        """These documents with metadata, and `bare`, the same ones rendered without any: what an evaluation scores.

        A token without anything before it is not scored, nor are tags, whatever `metadata.score_inline`, and end
        tokens. As in the original system the first token of text in a chunk is not either, and the text in the same
        context keeps its tags. `first_only`: nor is anything that the first chunk with metadata does not have. Errors
        as `encode`.
        """
        cutting, without = self._cut(rendered, place), self._cut(bare, place)
        ways = (self._as_cut(cutting), self._as_cut(without), self._in_same_context(cutting))
        if first_only:
            ways[0].spans.left_out[cutting.pieces.behind_first(len(cutting.tokens.ids))] = True
        codes = cutting.places.original("".join(cutting.texts))
        spans, is_scored = common_spans([way.spans for way in ways], len(codes))
        amounts = {"characters": is_scored.astype(np.int64), "bytes": np.where(is_scored, num_bytes(codes), 0)}
        return Compared(*(way.scored(own, amounts) for way, own in zip(ways, spans, strict=True)))

    @property
    def end_token(self) -> int | None:
        """The token that ends a document; None where none does."""
        return self._end

    def begun(self, rendered: Rendered, place: Place = "document {}".format) -> list[Begun]:
        """[D] the beginnings of documents whose texts go no further yet, for a model to go on with: a suffix is none.
        Errors as `encode`."""
        fields, texts = self._fields.encode(rendered.fields), list(rendered.texts)
        prefixes, _ = self._placed(fields)
        # The space that a text begins with is part of its first word, which is still to be written.
        has_text = np.fromiter(map(bool, texts), bool, len(texts))
        tokens = self._tokens(texts, Places.of(texts, rendered.insertions), has_text & (prefixes.length > 0))
        self._require_room(rendered, fields, np.arange(len(texts)), place)
        begin = [] if self._begin is None else [self._begin]
        bounds = zip(prefixes.start.tolist(), prefixes.length.tolist(), pairwise(tokens.offsets.tolist()), strict=True)
        return [
            Begun([*begin, *prefixes.ids[start : start + length].tolist()], tokens.ids[first:behind].tolist())
            for start, length, (first, behind) in bounds
        ]

    def _tokens(self, texts: list[str], places: Places, has_prefix: np.ndarray) -> TextTokens:
        """The tokens of texts, of which some stand behind a prefix (bool [D])."""
        if self._metadata.as_original:
            return self._tokenizer.together(texts, places, spaced=has_prefix)
        return self._tokenizer.apart(texts, places, self._tokenizer.spaces(texts, has_prefix))

    def _cut(self, rendered: Rendered, place: Place) -> _Cutting:
        metadata = self._metadata
        fields = self._fields.encode(rendered.fields)
        prefixes, suffixes = self._placed(fields)
        texts = list(rendered.texts)
        places = Places.of(texts, rendered.insertions)
        has_prefix = prefixes.length > 0
        tokens = self._tokens(texts, places, has_prefix)
        counted = np.ones_like(tokens.inserted) if metadata.as_original else ~tokens.inserted
        num_counted = np.diff(np.concatenate([[0], np.cumsum(counted)])[tokens.offsets])
        kept = np.flatnonzero(num_counted >= metadata.min_tokens)
        self._require_room(rendered, fields, kept, place)
        room = self._max_length - prefixes.length - (self._begin is not None)
        tokens, in_suffix = self._ended(tokens, suffixes)
        room = np.diff(tokens.offsets) if self._uncut else room
        cuts = Cutter(metadata, self._tokenizer, has_end=self._end is not None).cut(
            tokens,
            texts,
            places,
            rendered.insertions,
            room=np.maximum(room, 1),
            suffix=self._with_end(suffixes.length),
        )
        is_empty = num_counted == 0
        bare = kept[(fields.trimmed & (fields.length == 0))[kept]]
        counts = ChunkCounts(
            empty=int(is_empty.sum()),
            short=int((~is_empty & (num_counted < metadata.min_tokens)).sum()),
            trimmed=int(fields.trimmed[kept].sum()),
            bare=len(bare),
            left_out={metadata.types[index]: number for index, number in fields.left_out(kept).items()},
            split=sum(cut.is_forced for document in kept for cut in cuts[document]),
            not_reopened=sum(cut.num_left_open for document in kept for cut in cuts[document]),
        )
        return _Cutting(
            texts,
            places,
            prefixes,
            tokens,
            in_suffix,
            TextPieces.of(tokens, kept, [cuts[document] for document in kept]),
            kept,
            counts,
            tuple(self._bare(rendered, document, place) for document in bare[:NUM_EXAMPLES].tolist()),
        )

    def _placed(self, fields: FieldTokens) -> tuple[FieldTokens, FieldTokens]:
        """The prefixes and the suffixes that fields are: each document has one of the two at most."""
        return (fields.nowhere, fields) if self._metadata.position == "suffix" else (fields, fields.nowhere)

    def _ended(self, tokens: TextTokens, suffixes: FieldTokens) -> tuple[TextTokens, np.ndarray]:
        """The tokens of texts with what stands behind each, and bool [T], which of them belong to suffixes."""
        has_end = self._end is not None
        if suffixes.length.any():
            tokens = tokens.with_suffixes(suffixes.ids, suffixes.start, suffixes.length)
        if self._end is not None:
            tokens = tokens.followed_by(self._end, np.ones(len(suffixes.length), dtype=bool))
        in_suffix = np.zeros(len(tokens.ids), dtype=bool)
        in_suffix[ranges(tokens.offsets[1:] - has_end - suffixes.length, suffixes.length)] = True
        return tokens, in_suffix

    def _with_end(self, suffix: np.ndarray) -> np.ndarray:
        """int64 [D] tokens that stand together behind a text: of a suffix, and the end token behind that."""
        return np.where(suffix > 0, suffix + (self._end is not None), 0)

    def _require_room(self, rendered: Rendered, fields: FieldTokens, kept: np.ndarray, place: Place) -> None:
        """DataError for a document whose prefix or suffix leaves no token for its text."""
        position = self._metadata.position
        taken = self._with_end(fields.length) if position == "suffix" else fields.length
        room = self._max_length - taken - (self._begin is not None)
        without = (fields.length == 0) & fields.trimmed & (self._metadata.on_bad_metadata == "error")
        refused = kept[((room < 1) | without)[kept]]
        if len(refused):
            first = int(refused[0])
            bare = self._bare(rendered, first, place)
            raise DataError(
                f"{bare.place}: the {position} leaves no room for text within tokens.max_length = {self._max_length}"
                f" and metadata.prefix_share = {self._metadata.prefix_share}: none of its fields fits; the longest is"
                f" {bare.longest} ({len(bare.text):,} characters).",
                hint="Raise tokens.max_length or metadata.prefix_share, shorten what is around the fields"
                ' (metadata.prefix_start, metadata.prefix_separator), or set metadata.on_bad_metadata = "report": such'
                f" documents then go without a {position}.",
                key="metadata.prefix_share",
                value=bare.text,
                place=bare.place,
                reason=f"the {position} leaves no room for text, and {bare.longest} is its longest field",
            )

    def _bare(self, rendered: Rendered, document: int, place: Place) -> Bare:
        longest = max(rendered.fields[document], key=lambda part: len(part.text), default=RenderedField(0, ""))
        return Bare(place(document), self._metadata.types[longest.type], longest.text)

    def _with_prefixes(self, cutting: _Cutting, mask: np.ndarray) -> Chunks:
        """The chunks, with this mask (bool [T]) of the tokens of all texts."""
        pieces, prefixes = cutting.pieces, cutting.prefixes
        prefix = Part(
            prefixes.ids,
            np.ones(len(prefixes.ids), np.uint8),
            *(column[pieces.document] for column in (prefixes.start, prefixes.length)),
        )
        own = pieces.part(cutting.tokens, mask)
        parts = [prefix, Part.of_lists(pieces.opening), own, Part.of_lists(pieces.closing)]
        store = self._store(cutting, parts if pieces.opening else [prefix, own])
        first, behind = _characters(cutting)
        return Chunks(store, cutting.kept, first, behind, cutting.counts, cutting.bare)

    def _store(self, cutting: _Cutting, parts: list[Part]) -> TokenStore:
        """A row for each piece, with the begin token before its parts."""
        pieces, tokens = cutting.pieces, cutting.tokens
        if self._begin is not None:
            parts = [Part.of_lists([[self._begin]] * len(pieces.document)), *parts]
        return join_parts(
            parts,
            raw_lengths=np.diff(tokens.offsets)[pieces.document],
            example=np.cumsum(pieces.is_first) - 1,
        )

    def _as_cut(self, cutting: _Cutting) -> _Way:
        """The chunks as they are."""
        tokens, pieces, places = cutting.tokens, cutting.pieces, cutting.places
        is_alone = (cutting.prefixes.length[pieces.document] == 0) & ~pieces.is_reopened & (self._begin is None)
        left_out = tokens.inserted | pieces.unscored(len(tokens.ids), is_alone)
        if self._metadata.as_original:
            left_out[pieces.first_of(np.flatnonzero(~tokens.inserted))] = True
        spans = Spans(places.within(tokens.start), places.within(tokens.end), left_out)
        return _Way(spans, cutting.kept, lambda mask: self._with_prefixes(cutting, mask).store)

    def _in_same_context(self, cutting: _Cutting) -> _Way:
        """The pieces of the text that the chunks have, without prefix and tags."""
        tokens, pieces, places = cutting.tokens, cutting.pieces, cutting.places
        if self._metadata.as_original:
            left_out = pieces.unscored(len(tokens.ids), np.ones(len(pieces.document), dtype=bool))
            spans = Spans(places.within(tokens.start), places.within(tokens.end), left_out)
            return _Way(spans, cutting.kept, lambda mask: self._store(cutting, [pieces.part(tokens, mask)]))
        first, behind = _characters(cutting)
        begins = places.within(places.texts)[pieces.document]
        texts = slices("".join(cutting.texts), places, begins + first, begins + behind)
        plain_places = Places.of(texts)
        # Only the first piece begins as a text does.
        spaced = self._tokenizer.spaces(texts, np.zeros(len(texts), dtype=bool)) & pieces.is_first
        plain = self._tokenizer.apart(texts, plain_places, spaced)
        if self._end is not None:
            plain = plain.followed_by(self._end, pieces.is_last)
        most = self._max_length - (self._begin is not None)
        plain_pieces = TextPieces.of(plain, np.arange(len(texts)), [[]] * len(texts)).up_to(most)
        left_out = plain_pieces.unscored(len(plain.ids), np.full(len(texts), self._begin is None))
        moved = np.repeat(begins + first - plain_places.texts[:-1], np.diff(plain.offsets))
        return _Way(
            Spans(plain.start + moved, plain.end + moved, left_out),
            cutting.kept,
            lambda mask: self._store(cutting, [plain_pieces.part(plain, mask)]),
        )


class _Way(NamedTuple):
    """One way to write documents, before it is known what all ways score."""

    spans: Spans
    """Of its tokens, in characters of the original texts."""
    documents: np.ndarray
    """As of `ScoredChunks`."""
    store: Callable[[np.ndarray], TokenStore]
    """The chunks with a mask (bool [T]) of all tokens."""

    def scored(self, spans: Spans, amounts: dict[str, np.ndarray]) -> ScoredChunks:
        """The chunks, where these tokens are left out; `amounts`, int64 [U] each: what a character counts."""
        store = self.store(spans.left_out)
        is_scored = store.columns["mask"] == 0
        columns = dict(store.columns)
        for name, of_characters in amounts.items():
            columns[name] = np.zeros(len(is_scored), np.uint32)
            # Every scored token is in one chunk, and chunks have them in order.
            columns[name][is_scored] = num_first(spans, of_characters)[~spans.left_out]
        return ScoredChunks(replace(store, columns=columns), self.documents)


def _characters(cutting: _Cutting) -> tuple[np.ndarray, np.ndarray]:
    """int64 [N] each: the first character of the original text that each piece has, and the one behind its last. A cut
    stands behind the last character of the token before it."""
    pieces, places = cutting.pieces, cutting.places
    begins = places.within(places.texts)
    end = places.within(cutting.tokens.end[pieces.end - 1]) - begins[pieces.document]
    behind = np.where(pieces.is_last, np.diff(begins)[pieces.document], end)
    return np.where(pieces.is_first, 0, np.append(0, behind[:-1])[: len(behind)]), behind
