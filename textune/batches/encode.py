"""Rows of text to a store of token rows, with the fields of `data.metadata` before each text or without; after
`prefixed.py`, before `tokenise.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from textune.batches.cache import Progress, open_store
from textune.batches.giventokens import given_store
from textune.batches.pieces import PieceEncoder, Separators, find_frame, find_separators
from textune.batches.prefixed import FieldTokens, Joints, PrefixedStore
from textune.batches.store import RowStore, TokenStore
from textune.batches.tokens import TextEncoder, refuse_too_long
from textune.config import MetadataPrefix, TokensSection
from textune.errors import DataError
from textune.wording import count, shorten

if TYPE_CHECKING:
    from textune.data import Examples, TokenIds

_TEXT = pa.large_string()
_Tokenise = Callable[[pa.ChunkedArray, PieceEncoder], TokenStore]


@dataclass(frozen=True, eq=False)
class RowTexts:
    """What E rows of tokens are made of."""

    text: pa.ChunkedArray
    """large_string [E]."""
    pair: pa.ChunkedArray | None
    """large_string [E] the second texts of pairs."""
    place: Callable[[int], str]
    """Names a row for messages, by its index."""
    fields: tuple[pa.ChunkedArray, ...] = ()
    """large_string [E] of each column of `data.metadata`, null where a row has no such field."""
    row_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    """uint64 [E] what tells rows apart in draws; only where training draws."""
    tokens: TokenIds | None = None
    """The tokens themselves, where rows come with them."""

    @classmethod
    def of(cls, examples: Examples) -> RowTexts:
        """Those of examples."""
        return cls(
            examples.text, examples.text_pair, examples.place, examples.fields, examples.row_ids, examples.tokens
        )

    @classmethod
    def given(
        cls,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        place: Callable[[int], str],
        fields: tuple[pa.ChunkedArray, ...] = (),
    ) -> RowTexts:
        """Those of texts in memory."""
        text, pair = (None if given is None else pa.chunked_array([given], _TEXT) for given in (texts, pairs))
        assert text is not None
        return cls(text, pair, place, fields)


def open_row_store(
    rows: RowTexts,
    encoder: TextEncoder,
    section: TokensSection,
    *,
    progress: Progress | None = None,
    notice: Callable[[str], None] = lambda message: None,
) -> RowStore:
    """The token rows of these texts, kept in the token cache; arguments and errors as of `cache.open_store`, and
    DataError where a prefix leaves no room for a text."""
    if rows.tokens is not None:
        return given_store(rows.tokens, encoder, rows.place, pair=rows.pair is not None)
    if encoder.prefix is None:
        return open_store(rows.text, rows.pair, encoder, section, place=rows.place, progress=progress, notice=notice)

    def tokenise(pieces: pa.ChunkedArray, of_pieces: PieceEncoder) -> TokenStore:
        shown = progress if pieces is rows.text else None
        return open_store(pieces, None, of_pieces, section, place=rows.place, progress=shown, notice=notice)

    return _prefixed(rows, encoder, encoder.prefix, tokenise)


def make_row_store(rows: RowTexts, encoder: TextEncoder) -> RowStore:
    """The same in memory."""
    if rows.tokens is not None:
        return given_store(rows.tokens, encoder, rows.place, pair=rows.pair is not None)
    if encoder.prefix is None:
        pairs = None if rows.pair is None else rows.pair.to_pylist()
        return encoder.encode(rows.text.to_pylist(), pairs, place=rows.place)
    return _prefixed(rows, encoder, encoder.prefix, lambda pieces, of_pieces: of_pieces.encode(pieces))


def _prefixed(rows: RowTexts, encoder: TextEncoder, prefix: MetadataPrefix, tokenise: _Tokenise) -> PrefixedStore:
    pair, section = rows.pair is not None, encoder.section
    bare = _without_texts(rows, encoder, prefix, tokenise)
    separators, frame = bare.joints.separators, bare.joints.frame
    encoder.require_room(pair=pair, before=max(len(separators.after_field), len(separators.at_start)))
    room = section.longest - frame.num_special
    of_text = PieceEncoder(
        encoder.backend, separators.text_behind, separators.text_left_out, longest=room, truncate=section.truncate
    )
    of_pair = PieceEncoder(
        encoder.backend,
        encoder.separator.text,
        0,
        longest=room,
        truncate=section.truncate,
        num_first=encoder.separator.num_tokens,
    )
    texts = [tokenise(rows.text, of_text), *([] if rows.pair is None else [tokenise(rows.pair, of_pair)])]
    store = replace(bare, texts=tuple(texts))
    _require_room(store, rows, encoder, prefix)
    return store


def _without_texts(rows: RowTexts, encoder: TextEncoder, prefix: MetadataPrefix, tokenise: _Tokenise) -> PrefixedStore:
    """The rows without tokens of their texts: what stands before these, and how all of it is joined."""
    pair, section = rows.pair is not None, encoder.section
    separators = find_separators(encoder.backend, prefix)
    joints = Joints(
        find_frame(encoder.backend, pair=pair),
        separators,
        section.longest,
        section.truncate,
        columns=encoder.columns(pair=pair),
        pair_separator=encoder.separator.num_tokens if pair else 0,
    )
    fields = tuple(
        _field_tokens(name, column, prefix.dropout_of(name), separators, tokenise)
        for name, column in zip(prefix.columns, _columns_of(rows, prefix), strict=True)
    )
    row_ids = rows.row_ids if len(rows.row_ids) else np.arange(len(rows.text), dtype=np.uint64)
    return PrefixedStore((), fields, joints, row_ids)


def _columns_of(rows: RowTexts, prefix: MetadataPrefix) -> tuple[pa.ChunkedArray, ...]:
    return rows.fields or (pa.chunked_array([pa.nulls(len(rows.text), _TEXT)]),) * len(prefix.columns)


def _field_tokens(
    name: str, column: pa.ChunkedArray, dropout: float, separators: Separators, tokenise: _Tokenise
) -> FieldTokens:
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    values = pa.chunked_array([encoded.dictionary], _TEXT)
    first, later = (tokenise(values, of_piece) for of_piece in (separators.field_first, separators.field_later))
    return FieldTokens(name, codes, first, later, dropout)


def rows_without_room(rows: RowTexts, encoder: TextEncoder) -> dict[int, str]:
    """By index, the rows whose prefix leaves no token for their text, each with the reason."""
    if encoder.prefix is None:
        return {}
    bare = _without_texts(rows, encoder, encoder.prefix, lambda pieces, of_pieces: of_pieces.encode(pieces))
    return {row: _without_room(bare, row) for row in _full_rows(bare, rows, encoder).tolist()}


def _full_rows(store: PrefixedStore, rows: RowTexts, encoder: TextEncoder) -> np.ndarray:
    """int64 the rows whose prefix leaves no token for their text, ascending."""
    least = encoder.least_room(pair=rows.pair is not None)
    return np.flatnonzero(store.prefix_lengths + store.joints.frame.num_special + least > store.joints.longest)


def _without_room(store: PrefixedStore, row: int) -> str:
    length = store.prefix_lengths[row]
    return f"its prefix of {length} tokens leaves no room for the text in tokens.max_length = {store.joints.longest}"


def _require_room(store: PrefixedStore, rows: RowTexts, encoder: TextEncoder, prefix: MetadataPrefix) -> None:
    """DataError for a row whose prefix leaves no token for its text, or that is too long with
    `tokens.truncate = "error"`."""
    section = encoder.section
    full = _full_rows(store, rows, encoder)
    if len(full):
        row = int(full[0])
        length_K = store.field_lengths(full[:1])[0]
        column = int(length_K.argmax())
        name, written = store.fields[column].name, _columns_of(rows, prefix)[column][row].as_py()
        reason = _without_room(store, row)
        more = f" ({count(len(full) - 1, 'more row')})" if len(full) > 1 else ""
        raise DataError(
            f"{rows.place(row)}: {reason}{more}; the longest field, {name!r}, has {length_K[column]}:"
            f" {shorten(written, 60)}.",
            hint=f"Raise tokens.max_length, shorten the values of {name!r}, or leave it out of data.metadata.columns.",
            key="data.metadata.columns",
            value=written,
            place=rows.place(row),
            reason=reason,
        )
    if section.truncate == "error":
        refuse_too_long(store.raw_lengths, section.longest, rows.place, hint=encoder.if_too_long)


def num_unlike_written(rows: RowTexts, encoder: TextEncoder, store: RowStore) -> int:
    """How many of these rows, of single texts or first texts of pairs, have other tokens than the row written out as
    one text; rows that were shortened are passed over."""
    prefix = encoder.prefix
    if prefix is None:
        return 0
    texts = rows.text.to_pylist()
    fields = [column.to_pylist() for column in rows.fields]
    whole, num = store.whole(), 0
    for row, text in enumerate(texts):
        if store.raw_lengths[row] > encoder.section.longest:
            continue
        wanted = encoder.backend.encode(written_out([field[row] for field in fields], text, prefix)).ids
        num += whole.ids[whole.offsets[row] : whole.offsets[row + 1]].tolist() != wanted
    return num


def written_out(fields: Sequence[str | None], text: str, prefix: MetadataPrefix) -> str:
    """A row as one text; None for a field that it does not have."""
    present = [field for field in fields if field is not None]
    separator = prefix.prefix_separator if present else prefix.prefix_separator.lstrip()
    return f"{prefix.separator.join(present)}{separator} {text}"
