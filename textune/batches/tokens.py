"""Texts to token ids: the encoder; after `store.py`, before `cache.py`, which keeps what it makes.

texts --Rust tokenizer, untruncated, a chunk ahead in a thread--> truncate, or cut into windows --> TokenStore
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from textune.ahead import ahead
from textune.batches.separator import find_separator
from textune.batches.store import TokenStore, join_stores
from textune.batches.windows import cut_windows
from textune.config import MetadataPrefix, TokensSection, Truncation
from textune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IDS_VERSION = 2
"""Version of the rules that turn a text into tokens; part of every fingerprint."""
CHUNK_ROWS = 8192
CHUNK_CHARACTERS = 4_000_000
"""Rows and characters tokenised at once: the tokenizer's output is 50 times as large as the ids that are kept."""
Texts = tuple[Sequence[str], Sequence[str] | None]
"""Texts of consecutive rows, and their second texts."""
_Number = TypeVar("_Number", int, np.ndarray)

TOO_LONG = 'Raise tokens.max_length, set tokens.truncate = "head", or leave such rows out with tokens.drop_longer.'


class TextEncoder:
    """A backbone's fast tokenizer with textune's truncation and windows: the only way from text to token ids.

    Rows that fit are exactly what `tokenizer(text, text_pair)` gives, with `separator.text` before `text_pair`; if
    that is nothing at all (an empty text without special tokens), one token represents it. Longer rows lose content
    tokens, never special tokens nor a separator; in a pair, the longer text loses first (`longest_first` of the
    tokenizers library). With `tokens.long = "windows"` a longer text becomes several rows, each with its own
    special tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        section: TokensSection,
        *,
        prefix: MetadataPrefix | None = None,
        if_too_long: str = TOO_LONG,
    ) -> None:
        """`prefix`: columns that stand before each text (`encode.py` puts them there). `if_too_long`: the advice if
        `truncate = "error"` meets a longer row."""
        # A copy: tokenizer.json may have its own truncation and padding, which would cut and pad silently.
        self.backend: Final[Tokenizer] = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.section: Final = section
        self.prefix: Final = prefix
        self.if_too_long: Final = if_too_long
        self.has_types = "token_type_ids" in tokenizer.model_input_names
        self.unknown_id: int | None = tokenizer.unk_token_id
        # Without special tokens, an empty text has no tokens; a model needs at least one.
        candidates = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
        self.separator: Final = find_separator(self.backend, section.pair_separator, has_types=self.has_types)
        self.empty_id: Final[int] = next(token for token in candidates if token is not None)
        self._num_special = {pair: self.backend.num_special_tokens_to_add(pair) for pair in (False, True)}
        sample = self.backend.encode("a")
        special = sample.special_tokens_mask
        # The frame of special tokens around a single text; None where the sample does not show it.
        self._frame = (special.index(0), special[::-1].index(0)) if 0 in special else None
        self._single_types = self._frame is None or any(sample.type_ids)

    def require_room(self, *, pair: bool, before: int = 0) -> None:
        """ConfigError if `tokens.max_length` leaves no token for a text behind `before` others, or for one of the
        texts of a pair, or if windows cannot be cut."""
        num_special = self._num_special[pair] + before
        least = num_special + self.least_room(pair=pair)
        if self.section.longest < least:
            what = "the texts of a pair" if pair else "a text"
            behind = f", and the separator of data.metadata has {before}" if before else ""
            separated = ", and the texts need a separator" if pair and self.separator.num_tokens else ""
            raise ConfigError(
                f"tokens.max_length = {self.section.longest} leaves no room for {what}: the backbone adds"
                f" {self._num_special[pair]} special tokens to every row{separated}{behind}.",
                hint=f"Set it to at least {least}; 128 is usual.",
                key="tokens.max_length",
                value=self.section.longest,
            )
        if self.windows:
            self._require_windows(pair=pair)

    def least_room(self, *, pair: bool) -> int:
        """The fewest tokens that must be left for a text, or for the texts of a pair."""
        # Of a pair that is shortened, each text gets about half of the room; the separator belongs to the second.
        return 2 * (self.separator.num_tokens + 1) if pair else 1

    def _require_windows(self, *, pair: bool) -> None:
        """ConfigError where a text cannot be cut into windows."""
        section, room = self.section, self.section.longest - self._num_special[False]
        if section.stride >= room:
            raise ConfigError(
                f"tokens.stride = {section.stride} leaves nothing new in a window: of tokens.max_length ="
                f" {section.longest}, {room} are for text.",
                hint=f"Set it to less than {room}, such as {room // 4}.",
                key="tokens.stride",
                value=section.stride,
                reason=f"a window has room for {room} tokens of text",
            )
        reason = "" if self._frame else "the tokenizer does not tell special tokens apart"
        reason = "they are pairs" if pair else reason
        if reason:
            raise ConfigError(
                f'tokens.long = "windows" cannot cut these texts: {reason}.',
                hint='Set tokens.long = "truncate".',
                key="tokens.long",
                value="windows",
                reason=reason,
            )

    @property
    def frame_ids(self) -> tuple[list[int], list[int]] | None:
        """The special tokens before a single text and behind it; None where the tokenizer does not show them."""
        if self._frame is None:
            return None
        ids, (before, after) = self.backend.encode("a").ids, self._frame
        return ids[:before], ids[len(ids) - after :]

    @property
    def second_behind(self) -> str:
        """What is put before the second text of each pair."""
        return self.separator.text

    @property
    def windows(self) -> bool:
        """Whether a long text is several rows."""
        return self.section.long == "windows"

    @property
    def drop_longer(self) -> int | None:
        """`tokens.drop_longer`: rows of more tokens than this are left out; None for no limit."""
        return self.section.drop_longer

    def fingerprint(self) -> str:
        """Hash of everything that decides the ids of a single text; those of a pair depend on `separator`, too."""
        section = self.section
        options: dict[str, object] = {"max_length": section.longest, "truncate": section.truncate}
        options["types"] = self.has_types
        if self.windows:
            options |= {"long": section.long, "stride": section.stride, "max_windows": section.max_windows}
        text = json.dumps(
            {"version": IDS_VERSION, "options": options, "tokenizer": self.backend.to_str()}, allow_nan=False
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def columns(self, *, pair: bool) -> tuple[str, ...]:
        """Names of the columns of a store. Token types are kept only for pairs; for single texts they are mostly all
        zero."""
        return ("ids", "types") if self.has_types and (pair or self._single_types) else ("ids",)

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, place: Callable[[int], str] = "row {}".format
    ) -> TokenStore:
        """Tokenise in memory.

        DataError where `truncate = "error"` meets a longer row, named by `place(index)`; ConfigError as
        `require_room`.
        """
        self.require_room(pair=pairs is not None)
        parts = self.encode_chunks(cut_texts(texts, pairs), place, depth=0)
        return join_stores(parts, names=self.columns(pair=pairs is not None))

    def encode_chunks(
        self, chunks: Iterable[Texts], place: Callable[[int], str], *, depth: int
    ) -> Generator[TokenStore]:
        """One store per chunk; the tokenizer works `depth` chunks ahead, in a thread. Errors as `encode`."""
        tokenise = self.backend.encode_batch_fast
        tokenised = (
            (pairs is not None, tokenise(texts if pairs is None else self._paired(texts, pairs)))
            for texts, pairs in chunks
        )
        start = 0
        with contextlib.closing(ahead(tokenised, depth, name="textune-tokenizer")) as results:
            for pair, encodings in results:
                yield self._rows(encodings, lambda index, start=start: place(start + index), pair=pair)  # type: ignore[misc]
                start += len(encodings)

    def _paired(self, texts: Sequence[str], pairs: Sequence[str]) -> list[tuple[str, str]]:
        separator = self.separator.text
        return [(text, separator + pair) for text, pair in zip(texts, pairs, strict=True)]

    def _rows(self, encodings: list[Encoding], place: Callable[[int], str], *, pair: bool) -> TokenStore:
        raw_lengths = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
        too_long = np.flatnonzero(raw_lengths > self.section.longest)
        if self.section.truncate == "error":
            refuse_too_long(raw_lengths, self.section.longest, place, hint=self.if_too_long)
        ids = [encoding.ids for encoding in encodings]
        types = [encoding.type_ids for encoding in encodings] if "types" in self.columns(pair=pair) else None
        for index in np.flatnonzero(raw_lengths == 0):
            ids[index] = [self.empty_id]
            if types is not None:
                types[index] = [0]
        pieces = {int(index): self._pieces(encodings[index], pair=pair) for index in too_long}
        num_rows = np.ones(len(encodings), dtype=np.int64)
        num_rows[too_long] = [len(pieces[int(index)]) for index in too_long]
        ids, types = _cut(ids, pieces), None if types is None else _cut(types, pieces)
        offsets = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)), out=offsets[1:])
        total = int(offsets[-1])
        chained = itertools.chain.from_iterable
        columns = {"ids": np.fromiter(chained(ids), dtype=np.int32, count=total)}
        if types is not None:
            columns["types"] = np.fromiter(chained(types), dtype=np.uint8, count=total)
        return TokenStore(
            columns,
            offsets,
            np.repeat(raw_lengths, num_rows),
            example=np.repeat(np.arange(len(encodings)), num_rows),
            repeated=self.repeated,
        )

    @property
    def repeated(self) -> int:
        """As of `TokenStore`."""
        return self._num_special[False] + self.section.stride if self.windows else 0

    def _pieces(self, encoding: Encoding, *, pair: bool) -> list[list[slice]]:
        """The rows that a long text becomes, each as the pieces of the text's own tokens that it has."""
        if not self.windows:
            return [self._kept_pieces(encoding, pair=pair)]
        assert self._frame is not None, "require_room has asked"
        (before, after), length, section = self._frame, len(encoding), self.section
        windows = cut_windows(
            length - before - after,
            room=section.longest - before - after,
            stride=section.stride,
            max_windows=section.max_windows,
        )
        return [
            [slice(0, before), slice(before + window.start, before + window.stop), slice(length - after, length)]
            for window in windows
        ]

    def _kept_pieces(self, encoding: Encoding, *, pair: bool) -> list[slice]:
        """The parts of a row that are kept when it is truncated."""
        room, length = self.section.longest - self._num_special[pair], len(encoding)
        if not pair and self._frame is not None:
            before, after = self._frame
            head, tail = head_and_tail(room, self.section.truncate)
            return [slice(0, before + head), slice(length - after - tail, length)]
        special = encoding.special_tokens_mask
        sequence = encoding.sequence_ids
        contents = [[i for i, s in enumerate(sequence) if s == which and not special[i]] for which in (0, 1)]
        kept_lengths = _longest_first(len(contents[0]), len(contents[1]), room)
        dropped: set[int] = set()
        for content, keep, separating in zip(contents, kept_lengths, (0, self.separator.num_tokens), strict=True):
            head, tail = head_and_tail(keep - separating, self.section.truncate)
            dropped.update(content[separating + head : len(content) - tail])
        return [slice(i, i + 1) for i in range(length) if i not in dropped]


def head_and_tail(keep: _Number, truncate: Truncation) -> tuple[_Number, _Number]:
    """How many of the kept tokens, of one text or of each of many, come from the head and from the tail; `head_tail`
    takes an odd one from the head."""
    tail = {"tail": keep, "head_tail": keep // 2}.get(truncate, keep - keep)
    return keep - tail, tail


def refuse_too_long(raw_lengths: np.ndarray, longest: int, place: Callable[[int], str], *, hint: str) -> None:
    """DataError for the first row of more than `longest` tokens (int32 [N] each row's), named by `place`."""
    too_long = np.flatnonzero(raw_lengths > longest)
    if not len(too_long):
        return
    first = int(too_long[0])
    raise DataError(
        f"{place(first)}: {raw_lengths[first]} tokens, more than tokens.max_length = {longest}"
        + (f" (and {len(too_long) - 1} more rows)." if len(too_long) > 1 else "."),
        hint=hint,
        key="tokens.max_length",
        value=longest,
        place=place(first),
        reason=f"it has {raw_lengths[first]} tokens",
    )


def _cut(rows: list[list[int]], pieces: dict[int, list[list[slice]]]) -> list[list[int]]:
    """The rows, those with pieces (by index) replaced by what they become."""
    return [
        part
        for index, row in enumerate(rows)
        for part in (
            [[token for piece in wanted for token in row[piece]] for wanted in pieces[index]]
            if index in pieces
            else (row,)
        )
    ]


def cut_columns(texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None) -> Iterator[Texts]:
    """As `cut_texts`, from columns; only one chunk at a time exists as Python strings."""
    for start in range(0, len(texts), CHUNK_ROWS):
        second = None if pairs is None else pairs.slice(start, CHUNK_ROWS).to_pylist()
        yield from cut_texts(texts.slice(start, CHUNK_ROWS).to_pylist(), second)


def cut_texts(
    texts: Sequence[str], pairs: Sequence[str] | None = None, *, characters: int | None = None
) -> Iterator[Texts]:
    """Consecutive rows in chunks of at most CHUNK_ROWS rows and so many characters (by default CHUNK_CHARACTERS); a
    longer row by itself."""
    limit = CHUNK_CHARACTERS if characters is None else characters
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    if pairs is not None:
        sizes += np.fromiter(map(len, pairs), np.int64, len(pairs))
    ends = np.cumsum(sizes)
    start = 0
    while start < len(texts):
        done = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, done + limit, side="right"))
        stop = min(max(fitting, start + 1), start + CHUNK_ROWS)
        yield texts[start:stop], None if pairs is None else pairs[start:stop]
        start = stop


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens kept of each text: all of the shorter if it fits into half, else half each (the tokenizers library's
    rule)."""
    if first + second <= room:
        return first, second
    shorter, longer = sorted((first, second))
    longer = shorter if shorter > room else max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = shorter + room % 2
    return (shorter, longer) if first <= second else (longer, shorter)
