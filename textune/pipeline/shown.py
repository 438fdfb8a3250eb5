"""Chunks of documents in words: which of their text is metadata, and what of it is masked; for `render.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from textune.metadata import Chunks

if TYPE_CHECKING:
    from pydantic import JsonValue
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ShownRun:
    """Neighbouring tokens of one kind."""

    text: str
    is_metadata: bool
    is_masked: bool
    """Whether a model reads them without being asked to predict them."""
    tokens: int


@dataclass(frozen=True)
class ShownChunk:
    """One row of tokens."""

    runs: tuple[ShownRun, ...]
    start: int
    """First character of the document's own text that it has."""
    end: int
    """The character after it."""

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return sum(run.tokens for run in self.runs)

    @property
    def masked(self) -> int:
        """Tokens with mask 1."""
        return sum(run.tokens for run in self.runs if run.is_masked)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        runs: list[JsonValue] = [
            {"text": run.text, "metadata": run.is_metadata, "mask": int(run.is_masked), "tokens": run.tokens}
            for run in self.runs
        ]
        return {"tokens": self.tokens, "masked": self.masked, "start": self.start, "end": self.end, "runs": runs}


@dataclass(frozen=True)
class ShownDocument:
    """One document as a model reads it."""

    place: str
    """File and row."""
    types: tuple[str, ...]
    """Types of metadata that it is rendered with."""
    undrawn: tuple[str, ...]
    """Types that it has and goes without in this epoch."""
    chunks: tuple[ShownChunk, ...]
    """None where it has too few tokens."""

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "place": self.place,
            "types": list(self.types),
            "undrawn": list(self.undrawn),
            "chunks": [chunk.to_dict() for chunk in self.chunks],
        }


def shown_chunks(
    chunks: Chunks,
    is_metadata: np.ndarray,
    is_masked: np.ndarray,
    num_documents: int,
    tokenizer: PreTrainedTokenizerBase,
) -> list[tuple[ShownChunk, ...]]:
    """The chunks of each of so many documents. `is_metadata`, `is_masked`: bool [T], of all tokens."""
    shown: list[list[ShownChunk]] = [[] for _ in range(num_documents)]
    store = chunks.store
    for number, (start, end) in enumerate(zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True)):
        here = slice(start, end)
        runs = _runs(store.ids[here], is_metadata[here], is_masked[here], tokenizer)
        document = int(chunks.documents[store.example[number]])
        shown[document].append(ShownChunk(tuple(runs), int(chunks.start[number]), int(chunks.end[number])))
    return [tuple(found) for found in shown]


def _runs(
    ids: np.ndarray, is_metadata: np.ndarray, is_masked: np.ndarray, tokenizer: PreTrainedTokenizerBase
) -> Iterator[ShownRun]:
    """The tokens of a row by kind, in order."""
    kinds = list(zip(is_metadata.tolist(), is_masked.tolist(), strict=True))
    before: Sequence[int] = ()
    at = 0
    for (metadata, masked), same in groupby(kinds):
        size = len(list(same))
        run = ids[at : at + size].tolist()
        yield ShownRun(_text_after(before, run, tokenizer), metadata, masked, size)
        before, at = run, at + size


def _text_after(before: Sequence[int], ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """What tokens stand for where others stand before them: a tokenizer may write a space between the two."""
    earlier, both = _decoded(before, tokenizer), _decoded([*before, *ids], tokenizer)
    return both[len(earlier) :] if both.startswith(earlier) else _decoded(ids, tokenizer)


def _decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    decoded = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert isinstance(decoded, str)
    return decoded
