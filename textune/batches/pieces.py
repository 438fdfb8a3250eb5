"""Pieces of rows tokenised apart: a field, a text, without special tokens; after `tokens.py`, before `prefixed.py`.

A piece is tokenised behind the same few characters as in its row, and their tokens are left out. So the tokens of the
pieces, one after the other, are those of the whole row wherever a tokenizer keeps words apart at white space.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from textune.ahead import ahead
from textune.batches.store import TokenStore, join_stores
from textune.batches.tokens import IDS_VERSION, Texts, cut_columns, head_and_tail
from textune.config import MetadataPrefix, Truncation
from textune.errors import ConfigError

_AHEAD_OF_PIECES = "a"
"""Stands for whatever precedes a piece: no tokenizer joins a letter with the separator that follows it."""


@dataclass(frozen=True)
class PieceEncoder:
    """Tokenises pieces of one kind; what `cache.open_store` takes."""

    tokenizer: Tokenizer
    behind: str
    """What stands before each piece while it is tokenised."""
    num_left_out: int
    """How many of the tokens belong to that."""
    longest: int | None = None
    """Tokens that are kept of a piece: no row has room for more; None for all."""
    truncate: Truncation = "head"
    """Which ones."""
    num_first: int = 0
    """Of these, how many are always the first ones."""
    second_behind: str = ""
    """As of `TextEncoder`; pieces are no pairs."""
    windows: bool = False
    repeated: int = 0

    def require_room(self, *, pair: bool) -> None:
        """Nothing: whether a row has room is known where its pieces are put together."""

    def columns(self, *, pair: bool) -> tuple[str, ...]:
        """Names of the columns of a store."""
        return ("ids",)

    def fingerprint(self) -> str:
        """Hash of everything that decides the ids of a piece."""
        keys = ("behind", "num_left_out", "longest", "truncate", "num_first")
        options = {"piece": {key: getattr(self, key) for key in keys}}
        text = json.dumps(
            {"version": IDS_VERSION, "options": options, "tokenizer": self.tokenizer.to_str()}, allow_nan=False
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def encode(self, pieces: pa.ChunkedArray) -> TokenStore:
        """Tokenise in memory."""
        return join_stores(self.encode_chunks(cut_columns(pieces, None), str, depth=0), names=("ids",))

    def encode_chunks(
        self, chunks: Iterable[Texts], place: Callable[[int], str], *, depth: int
    ) -> Generator[TokenStore]:
        """One store per chunk; the tokenizer works `depth` chunks ahead, in a thread."""
        tokenised = (
            self.tokenizer.encode_batch_fast([self.behind + piece for piece in pieces], add_special_tokens=False)
            for pieces, _ in chunks
        )
        with contextlib.closing(ahead(tokenised, depth, name="textune-tokenizer")) as results:
            for encodings in results:
                whole = [encoding.ids[self.num_left_out :] for encoding in encodings]
                rows = [self._kept(ids) for ids in whole]
                offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in rows], dtype=np.int64)])
                yield TokenStore(
                    {"ids": np.fromiter((token for ids in rows for token in ids), np.int32, int(offsets[-1]))},
                    offsets,
                    np.fromiter(map(len, whole), np.int32, len(whole)),
                    example=np.arange(len(rows)),
                )

    def _kept(self, ids: list[int]) -> list[int]:
        if self.longest is None or len(ids) <= self.longest:
            return ids
        head, tail = head_and_tail(self.longest - self.num_first, self.truncate)
        return [*ids[: self.num_first + head], *ids[len(ids) - tail :]]


@dataclass(frozen=True, eq=False)
class Frame:
    """The special tokens of a row, and the types of its tokens."""

    ids: tuple[np.ndarray, ...]
    """int32 each: before the first text, of a pair between the two, after the last."""
    types: tuple[np.ndarray, ...]
    """uint8 each: the same for token types."""
    text_types: tuple[int, ...]
    """The token type of each text."""

    @property
    def num_special(self) -> int:
        """Special tokens of a row."""
        return sum(map(len, self.ids))


def find_frame(tokenizer: Tokenizer, *, pair: bool) -> Frame:
    """The frame of single texts, or of pairs; ConfigError where the tokenizer does not tell special tokens apart."""
    sample = tokenizer.encode("a", "b") if pair else tokenizer.encode("a")
    texts = sample.sequence_ids
    places = [[place for place, text in enumerate(texts) if text == which] for which in range(1 + pair)]
    if not all(places):
        raise ConfigError(
            "data.metadata cannot be put before these texts: the tokenizer does not tell special tokens apart.",
            hint="Leave data.metadata out, or write the columns into the text with data.columns.template.",
            key="data.metadata",
            reason="the tokenizer does not tell special tokens apart",
        )
    ends = [0, *(end for places_of in places for end in (places_of[0], places_of[-1] + 1)), len(sample)]
    cuts = [slice(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True)]
    return Frame(
        ids=tuple(np.array(sample.ids[cut], np.int32) for cut in cuts),
        types=tuple(np.array(sample.type_ids[cut], np.uint8) for cut in cuts),
        text_types=tuple(sample.type_ids[places_of[0]] for places_of in places),
    )


@dataclass(frozen=True, eq=False)
class Separators:
    """How the fields of a row and its text are put together, and how each is tokenised in its place."""

    field_first: PieceEncoder
    """The first field of a row."""
    field_later: PieceEncoder
    """Every other, with the separator before it."""
    text_behind: str
    """What stands before a text while it is tokenised."""
    text_left_out: int
    """How many tokens that has."""
    after_field: np.ndarray
    """int32 the tokens between the last field and the text."""
    at_start: np.ndarray
    """int32 the tokens before the text of a row without any field."""


def find_separators(tokenizer: Tokenizer, prefix: MetadataPrefix) -> Separators:
    """The separators of `prefix` as a tokenizer sees them."""

    def ids_of(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    before = len(ids_of(_AHEAD_OF_PIECES))
    separated = ids_of(_AHEAD_OF_PIECES + prefix.prefix_separator)
    return Separators(
        field_first=PieceEncoder(tokenizer, "", 0),
        field_later=PieceEncoder(tokenizer, _AHEAD_OF_PIECES + prefix.separator, before),
        text_behind=f"{_AHEAD_OF_PIECES}{prefix.prefix_separator} ",
        text_left_out=len(separated),
        after_field=np.array(separated[before:], np.int32),
        at_start=np.array(ids_of(prefix.prefix_separator.lstrip()), np.int32),
    )
