"""Rows with a prefix: their pieces are kept apart and put together when they are read; after `pieces.py`.

    special tokens + fields + separator + text (shortened to what room is left) + special tokens

Shapes: E examples of the store, B of them chosen, K columns of `data.metadata`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from textune.batches.pieces import Frame, Separators
from textune.batches.store import TokenStore
from textune.batches.tokens import head_and_tail
from textune.config import Truncation
from textune.draws import fractions_of


@dataclass(frozen=True, eq=False)
class FieldTokens:
    """The fields of one column; equal ones are kept once."""

    name: str
    code_E: np.ndarray
    """int32 [E] which of the fields each example has; -1 for none."""
    first: TokenStore
    """Tokens of each field where it begins a row."""
    later: TokenStore
    """Where another stands before it, with the separator between the two."""
    dropout: float = 0.0
    """Probability that a training row goes without."""


@dataclass(frozen=True, eq=False)
class Joints:
    """What all rows have in common."""

    frame: Frame
    separators: Separators
    longest: int
    """Most tokens of a row."""
    truncate: Truncation
    """Which part of a longer text is kept."""
    columns: tuple[str, ...]
    """Names of the columns by token."""
    pair_separator: int = 0
    """Tokens at the start of each second text that are never cut off."""


class _Cut(NamedTuple):
    """What is left of the texts of B rows, int64 [B] each."""

    heads: tuple[np.ndarray, ...]
    """Tokens from the head of each text."""
    tails: tuple[np.ndarray, ...]
    """And from its tail."""


class _Segment(NamedTuple):
    """A part of B rows: so many tokens of a source from there on."""

    source: np.ndarray
    start_B: np.ndarray
    length_B: np.ndarray
    types: np.ndarray
    """uint8 [1] the same for all its tokens, or one for each token of the source."""


@dataclass(frozen=True, eq=False)
class PrefixedStore:
    """E examples with one row each, in pieces. Its interface is that of `TokenStore` (`store.RowStore`)."""

    texts: tuple[TokenStore, ...]
    """Tokens of the texts, and of the second texts of pairs, without special tokens."""
    fields: tuple[FieldTokens, ...]
    joints: Joints
    row_ids: np.ndarray
    """uint64 [E] what tells rows apart in draws."""
    drawn: tuple[int, int] | None = None
    """Seed and epoch whose draws decide which fields a row goes without; None: it has all."""
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def num_examples(self) -> int:
        """E."""
        return len(self.row_ids)

    @property
    def example(self) -> np.ndarray:
        """int64 [E] the example that each row comes from: its own."""
        return np.arange(len(self))

    @property
    def occurring(self) -> tuple[np.ndarray, ...]:
        """Arrays of token ids in which every one that occurs can be found."""
        separators = self.joints.separators
        of_fields = [store for field in self.fields for store in (field.first, field.later)]
        pieces = [store.ids for store in (*self.texts, *of_fields)]
        return (*pieces, *self.joints.frame.ids, separators.after_field, separators.at_start)

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """int64 [B] the rows of these examples."""
        return np.asarray(examples, np.int64)

    def num_rows_of(self, examples: np.ndarray) -> np.ndarray:
        """int64 [B] one each."""
        return np.ones(len(examples), np.int64)

    @cached_property
    def raw_lengths(self) -> np.ndarray:
        """int32 [E] tokens of each row with all its fields, before its text was shortened."""
        full_E = self.prefix_lengths if self.drawn is None else replace(self, drawn=None).prefix_lengths
        raw_E = sum((store.raw_lengths for store in self.texts), full_E + self.joints.frame.num_special)
        return np.asarray(raw_E, np.int32)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [E] tokens of each row."""
        cut = self._cut(np.arange(len(self)))
        return np.asarray(sum((*cut.heads, *cut.tails), self.prefix_lengths + self.joints.frame.num_special))

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [B] tokens of the chosen rows."""
        return np.asarray(self.lengths[rows])

    def example_lengths(self, examples: np.ndarray) -> np.ndarray:
        """int64 [B] the same."""
        return self.lengths_of(examples)

    def shorter_examples(self, limit: int) -> np.ndarray:
        """int64 the examples of at most `limit` tokens with all their fields, before truncation, ascending."""
        return np.flatnonzero(self.raw_lengths <= limit)

    def in_epoch(self, seed: int, epoch: int) -> PrefixedStore:
        """The same rows as an epoch of training sees them."""
        return replace(self, drawn=(seed, epoch)) if any(field.dropout for field in self.fields) else self

    def without(self, column: str) -> PrefixedStore:
        """The same rows without the fields of a column."""
        left_out = [
            replace(field, code_E=np.full_like(field.code_E, -1)) if field.name == column else field
            for field in self.fields
        ]
        return replace(self, fields=tuple(left_out))

    @cached_property
    def present(self) -> np.ndarray:
        """bool [E, K] which fields each row has."""
        has_EK = np.stack([field.code_E >= 0 for field in self.fields], axis=1)
        if self.drawn is not None:
            rate_K = np.array([field.dropout for field in self.fields])
            has_EK &= fractions_of(*self.drawn, self.row_ids[:, None], np.arange(len(rate_K))) >= rate_K
        return has_EK

    def field_lengths(self, rows: np.ndarray) -> np.ndarray:
        """int64 [B, K] tokens of each field of the chosen rows, with the separator before it; 0 where there is
        none."""
        has_BK = self.present[rows]
        lengths_BK = np.zeros(has_BK.shape, np.int64)
        for column, store, chosen_B in self._places_of_fields(has_BK):
            lengths_BK[chosen_B, column] = store.lengths_of(self.fields[column].code_E[rows[chosen_B]])
        return lengths_BK

    @cached_property
    def prefix_lengths(self) -> np.ndarray:
        """int64 [E] tokens before the text of each row, special tokens left out."""
        separators = self.joints.separators
        behind_E = np.where(self.present.any(axis=1), len(separators.after_field), len(separators.at_start))
        return np.asarray(self.field_lengths(np.arange(len(self))).sum(axis=1) + behind_E)

    def _places_of_fields(self, has_BK: np.ndarray) -> Iterator[tuple[int, TokenStore, np.ndarray]]:
        """Each column, as the first field and as a later one: where its tokens are, and which rows (bool [B]) have it
        there."""
        first_BK = has_BK & (np.cumsum(has_BK, axis=1) == 1)
        later_BK = has_BK & ~first_BK
        for column, field in enumerate(self.fields):
            yield column, field.first, first_BK[:, column]
            yield column, field.later, later_BK[:, column]

    def read(self, rows: np.ndarray) -> tuple[TokenStore, np.ndarray]:
        """The chosen rows put together, and where they are in that store (int64 [B])."""
        segments = self._segments(rows)
        length_SB = np.stack([segment.length_B for segment in segments])
        length_B = length_SB.sum(axis=0)
        offsets = np.concatenate([[0], np.cumsum(length_B)]).astype(np.int64)
        start_SB = offsets[:-1] + np.cumsum(length_SB, axis=0) - length_SB
        columns = {"ids": np.empty(offsets[-1], np.int32)}
        if "types" in self.joints.columns:
            columns["types"] = np.empty(offsets[-1], np.uint8)
        for segment, at_B in zip(segments, start_SB, strict=True):
            _copy(segment, at_B, columns)
        places = np.arange(len(rows))
        return TokenStore(columns, offsets, self.raw_lengths[rows], example=places), places

    def whole(self) -> TokenStore:
        """All rows put together."""
        return self.read(np.arange(len(self)))[0]

    def _cut(self, rows: np.ndarray) -> _Cut:
        """What room is left for the texts of the chosen rows."""
        joints = self.joints
        room_B = joints.longest - joints.frame.num_special - self.prefix_lengths[rows]
        raw = [np.asarray(store.raw_lengths[rows], np.int64) for store in self.texts]
        keeps = [np.minimum(raw[0], room_B)] if len(raw) == 1 else longest_first(raw[0], raw[1], room_B)
        firsts = (0, joints.pair_separator)
        cut = [head_and_tail(keep_B - first, joints.truncate) for keep_B, first in zip(keeps, firsts, strict=False)]
        return _Cut(
            tuple(head_B + first for (head_B, _), first in zip(cut, firsts, strict=False)),
            tuple(tail_B for _, tail_B in cut),
        )

    def _segments(self, rows: np.ndarray) -> list[_Segment]:
        """The parts of the chosen rows, in order."""
        frame, separators, cut = self.joints.frame, self.joints.separators, self._cut(rows)
        has_BK = self.present[rows]
        any_B, every_B = np.asarray(has_BK.any(axis=1)), np.ones(len(rows), bool)
        of_text = [np.array([kind], np.uint8) for kind in frame.text_types]
        segments = [_constant(frame.ids[0], frame.types[0], every_B)]
        for column, store, chosen_B in self._places_of_fields(has_BK):
            if chosen_B.any():
                code_B = np.maximum(self.fields[column].code_E[rows], 0)
                length_B = np.where(chosen_B, store.lengths_of(code_B), 0)
                segments.append(_Segment(store.ids, store.offsets[code_B], length_B, of_text[0]))
        segments.append(_constant(separators.after_field, of_text[0], any_B))
        segments.append(_constant(separators.at_start, of_text[0], ~any_B))
        for number, store in enumerate(self.texts):
            head_B, tail_B = cut.heads[number], cut.tails[number]
            segments.append(_Segment(store.ids, store.offsets[rows], head_B, of_text[number]))
            segments.append(_Segment(store.ids, store.offsets[rows + 1] - tail_B, tail_B, of_text[number]))
            behind, types = frame.ids[number + 1], frame.types[number + 1]
            segments.append(_constant(behind, types, every_B))
        return segments


def _constant(ids: np.ndarray, types: np.ndarray, chosen_B: np.ndarray) -> _Segment:
    """The same tokens in each of the chosen rows."""
    return _Segment(ids, np.zeros(len(chosen_B), np.int64), chosen_B * np.int64(len(ids)), types)


def _copy(segment: _Segment, at_B: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Write a part of B rows to where it begins in each (int64 [B])."""
    length_B = segment.length_B
    within = np.arange(length_B.sum()) - np.repeat(np.cumsum(length_B) - length_B, length_B)
    to, source = np.repeat(at_B, length_B) + within, np.repeat(segment.start_B, length_B) + within
    columns["ids"][to] = segment.source[source]
    if "types" in columns:
        columns["types"][to] = segment.types if len(segment.types) == 1 else segment.types[source]


def longest_first(first_B: np.ndarray, second_B: np.ndarray, room_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens kept of each text of a pair, int64 [B]: the rule of `tokens.py` for many rows at once."""
    shorter_B, longer_B = np.minimum(first_B, second_B), np.maximum(first_B, second_B)
    longer_B = np.where(shorter_B > room_B, shorter_B, np.maximum(shorter_B, room_B - shorter_B))
    halved_B = shorter_B + longer_B > room_B
    shorter_B = np.where(halved_B, room_B // 2, shorter_B)
    longer_B = np.where(halved_B, shorter_B + room_B % 2, longer_B)
    first_is_shorter_B = first_B <= second_B
    fits_B = first_B + second_B <= room_B
    kept_first_B = np.where(first_is_shorter_B, shorter_B, longer_B)
    kept_second_B = np.where(first_is_shorter_B, longer_B, shorter_B)
    return np.where(fits_B, first_B, kept_first_B), np.where(fits_B, second_B, kept_second_B)
