"""The fields of documents as tokens, which are a prefix or a suffix, short enough to leave room for text; before
`encoder.py`.

What is too long loses whole fields, those of the least priority first. The original system cuts the tokens of a prefix
and keeps the last two, which are its separator as GPT-2 writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from textune.config import MetadataSection
from textune.metadata.chunks.texttokens import TextTokenizer
from textune.metadata.documents import RenderedField
from textune.metadata.rendering import fields_text

Fields = tuple[RenderedField, ...]
KEPT_AT_END = 2
"""Tokens of a cut prefix that the original system takes from its end."""


@dataclass(frozen=True, eq=False)
class FieldTokens:
    """The prefixes or suffixes of D documents; equal ones are kept once."""

    ids: np.ndarray
    """int32 [P] tokens of all different ones, one after the other."""
    start: np.ndarray
    """int64 [D] where those of each document begin."""
    length: np.ndarray
    """int64 [D] how many these are; 0 where it has none."""
    trimmed: np.ndarray
    """bool [D] whether they were too many."""
    lost: Sequence[Fields]
    """[D] the fields that were left out or cut."""

    @property
    def nowhere(self) -> FieldTokens:
        """The same documents without any."""
        return replace(self, length=np.zeros_like(self.length))

    def left_out(self, documents: np.ndarray) -> dict[int, int]:
        """By type, in how many of these documents (int64 [E]) its field was left out or cut, ascending."""
        lost = Counter(part.type for document in documents.tolist() for part in self.lost[document])
        return dict(sorted(lost.items()))


class FieldEncoder:
    """Fields to tokens."""

    def __init__(
        self, tokenizer: TextTokenizer, section: MetadataSection, *, max_length: int, has_begin: bool, has_end: bool
    ) -> None:
        """`has_begin`, `has_end`: tokens for that stand before every prefix and behind every suffix."""
        # A prefix begins as a text does, a suffix stands behind one.
        self._tokenise = tokenizer.lists_behind if section.position == "suffix" else tokenizer.lists
        self._section = section
        original = section.as_original
        # Rounded first: 0.29 of 100 tokens are 29, and 28.999... to floating point.
        budget = max_length // 2 if original else int(round(max_length * section.prefix_share, 6))
        self._budget = min(budget, max_length - has_begin - 1 - (has_end and section.position == "suffix"))
        self._shorten = self._cut if original else self._fitting
        order = [*section.priority, *(name for name in section.types if name not in section.priority)]
        self._rank = {section.types.index(name): rank for rank, name in enumerate(order) if name in section.types}

    def encode(self, fields: Sequence[Fields]) -> FieldTokens:
        """Those of D documents, [D] fields each."""
        places: dict[Fields, int] = {}
        unique_D = np.array([places.setdefault(one, len(places)) for one in fields], dtype=np.int64)
        unique = list(places)
        ids = self._tokenise(self._texts(unique))
        long = [index for index, tokens in enumerate(ids) if len(tokens) > self._budget]
        lost_U: list[Fields] = [()] * len(unique)
        for index, (tokens, lost) in zip(
            long, self._shorten([unique[i] for i in long], [ids[i] for i in long]), strict=True
        ):
            ids[index], lost_U[index] = tokens, lost
        lengths = np.array([len(tokens) for tokens in ids], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        trimmed = np.isin(unique_D, long)
        return FieldTokens(
            np.fromiter((token for tokens in ids for token in tokens), np.int32),
            start=starts[unique_D],
            length=lengths[unique_D],
            trimmed=trimmed,
            lost=[lost_U[index] for index in unique_D.tolist()],
        )

    def _fitting(self, fields: list[Fields], ids: list[list[int]]) -> list[tuple[list[int], Fields]]:
        """Tokens of as many whole fields as fit, and the fields that do not.

        Field after field, by priority: one that does not fit is left out, and the next one is tried.
        """
        kept: list[list[int]] = [[] for _ in fields]
        tokens: list[list[int]] = [[] for _ in fields]
        by_priority = [sorted(range(len(one)), key=lambda place: self._rank[one[place].type]) for one in fields]
        for turn in range(max(map(len, fields), default=0)):
            tried = [index for index, order in enumerate(by_priority) if turn < len(order)]
            places = [sorted([*kept[index], by_priority[index][turn]]) for index in tried]
            parts = [tuple(fields[index][place] for place in some) for index, some in zip(tried, places, strict=True)]
            for index, some, encoded in zip(tried, places, self._tokenise(self._texts(parts)), strict=True):
                if len(encoded) <= self._budget:
                    kept[index], tokens[index] = some, encoded
        lost = [
            tuple(part for place, part in enumerate(one) if place not in held)
            for one, held in zip(fields, kept, strict=True)
        ]
        return list(zip(tokens, lost, strict=True))

    def _cut(self, fields: list[Fields], ids: list[list[int]]) -> list[tuple[list[int], Fields]]:
        """Tokens cut as the original system does, and the fields that are no longer whole."""
        end = self._budget - KEPT_AT_END
        cut = []
        for one, tokens in zip(fields, ids, strict=True):
            # A field is whole if the tokens up to its end are among those kept at the beginning.
            texts = self._texts([one[: number + 1] for number in range(len(one))])
            ends = [text.removesuffix(self._section.prefix_separator) for text in texts]
            reached = map(len, self._tokenise(ends))
            lost = tuple(part for part, size in zip(one, reached, strict=True) if size > end)
            cut.append((tokens[:end] + tokens[-KEPT_AT_END:], lost))
        return cut

    def _texts(self, documents: Sequence[Fields]) -> list[str]:
        return [fields_text(fields, self._section) for fields in documents]
