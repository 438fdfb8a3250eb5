"""Rendered documents written out by hand, and tokenizers whose tokens can be counted by eye."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import transformers
from tokenizers import Tokenizer, models

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.metadata.chunks.encoder import ChunkEncoder, Chunks
from textune.metadata.documents import NO_POSITION, Insertions, Rendered, RenderedField

PAD = "~"
TYPES = ("url", "timestamp", "title", "html", "entity")


class Tag(NamedTuple):
    """A piece that was inserted: it opens or closes the span of an entry, or stands around those that do."""

    text: str
    opens: int = NO_POSITION
    closes: int = NO_POSITION
    type: str = "html"


class Written(NamedTuple):
    """A document as its pieces: plain strings are its text."""

    pieces: tuple[str | Tag, ...]
    fields: tuple[tuple[str, str], ...] = ()
    """Type and text of each field of its prefix."""

    @property
    def text(self) -> str:
        return "".join(piece for piece in self.pieces if isinstance(piece, str))

    @property
    def rendered(self) -> str:
        return "".join(piece if isinstance(piece, str) else piece.text for piece in self.pieces)


def rendered_of(documents: Sequence[Written], types: Sequence[str] = TYPES) -> Rendered:
    """The documents as rendering hands them on."""
    rows: list[tuple[int, int, int, int, int, int]] = []
    for number, document in enumerate(documents):
        at = 0
        for piece in document.pieces:
            size = len(piece if isinstance(piece, str) else piece.text)
            if isinstance(piece, Tag):
                rows.append((number, at, at + size, types.index(piece.type), piece.opens, piece.closes))
            at += size
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    return Rendered(
        [document.rendered for document in documents],
        [tuple(RenderedField(types.index(name), text) for name, text in document.fields) for document in documents],
        Insertions(*columns),
    )


def char_tokenizer(alphabet: str = string.printable) -> Any:
    """One token for each character; `~` pads."""
    vocab = {character: index for index, character in enumerate(dict.fromkeys([PAD, *alphabet]))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=PAD, pad_token=PAD)


def encoder_of(tokenizer: Any, max_length: int, *, types: Sequence[str] = TYPES, **keys: Any) -> ChunkEncoder:
    """An encoder with these keys of the section `metadata`."""
    section = MetadataSection.model_validate({"types": tuple(types), **keys})
    return ChunkEncoder(tokenizer, TokensSection(max_length=max_length), section)


def rows_of(chunks: Chunks) -> list[tuple[list[int], list[int]]]:
    """Ids and mask of each chunk."""
    store = chunks.store
    bounds = list(zip(store.offsets[:-1], store.offsets[1:], strict=True))
    return [(store.ids[start:end].tolist(), store.columns["mask"][start:end].tolist()) for start, end in bounds]
