"""Held-out documents to a store of tokens: rendered once with all their metadata, and kept in the token cache; after
`chunks`.

    Documents -> rendering -> chunks -> a store with the columns `ids` and `mask`

Its examples are the documents that have a chunk; its `sources` say which these are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from textune.batches import CHUNK_CHARACTERS, TokenStore, find_store, hash_strings
from textune.config import MetadataSection, TokensSection
from textune.metadata.chunks import ChunkEncoder
from textune.metadata.documents import Documents
from textune.metadata.maker import COLUMNS
from textune.metadata.rendering import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RENDERING_VERSION = 1
"""Version of the rules that turn documents into tokens; part of every key."""


class HeldOutDocuments:
    """Documents that become a store; a `StoreWork`."""

    columns = COLUMNS
    windows = True
    gaps = True
    repeated = 0
    num_rows = None

    def __init__(
        self,
        documents: Documents,
        tokenizer: PreTrainedTokenizerBase,
        tokens: TokensSection,
        section: MetadataSection,
        *,
        place: Callable[[int], str] = "document {}".format,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """`place` names a document in messages; `progress` is told how many are done, and of how many.

        ModelError and ConfigError as `ChunkEncoder`.
        """
        self._documents = documents
        self._section = section
        self._encoder = ChunkEncoder(tokenizer, tokens, section)
        self._place = place
        self._progress = progress
        self._tokenizer, self._tokens = tokenizer, tokens

    def store(self, *, notice: Callable[[str], None]) -> TokenStore:
        """The chunks of each document that has any, in order; its `sources` say which document each example is.

        DataError as `ChunkEncoder.encode`; otherwise as `find_store`.
        """
        return find_store(self, self._tokens, notice=notice)

    def key(self) -> str:
        """Hash of texts, metadata, tokenizer and everything that decides how they become tokens."""
        tokenizer, documents, entries = self._tokenizer, self._documents, self._documents.entries
        rules = {
            "rendering": RENDERING_VERSION,
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "special": [tokenizer.bos_token_id, tokenizer.eos_token_id],
            "max_length": self._tokens.longest,
            # How training documents are drawn does not matter here.
            "metadata": self._section.model_dump(mode="json", exclude={"sampling"}),
            "types": documents.types,
        }
        key = hashlib.blake2b(json.dumps(rules, allow_nan=False).encode(), digest_size=16)
        for texts in (
            documents.texts,
            entries.value,
            [json.dumps(one, allow_nan=False) for one in entries.attributes],
        ):
            key.update(hash_strings(pa.chunked_array([pa.array(texts, pa.large_string())])))
        numbers = (entries.document, entries.type, entries.start, entries.end, entries.start_order, entries.end_order)
        for column in numbers:
            key.update(np.ascontiguousarray(column, np.int64).data)
        return key.hexdigest()

    def parts(self) -> Generator[TokenStore]:
        """The chunks of some documents at a time."""
        total = len(self._documents)
        for first, behind in _ranges(self._documents):
            some = self._documents.part(first, behind)
            chunks = self._encoder.encode(
                render(some, self._section),
                lambda number, first=first: self._place(first + number),  # type: ignore[misc]
            )
            yield replace(chunks.store, sources=first + chunks.documents)
            if self._progress is not None:
                self._progress(behind, total)


def _ranges(documents: Documents) -> Iterator[tuple[int, int]]:
    """Consecutive documents of at most CHUNK_CHARACTERS characters; a longer one by itself."""
    ends = np.cumsum(np.fromiter(map(len, documents.texts), np.int64, len(documents)))
    first = 0
    while first < len(documents):
        done = int(ends[first - 1]) if first else 0
        behind = max(first + 1, int(np.searchsorted(ends, done + CHUNK_CHARACTERS, side="right")))
        yield first, behind
        first = behind
