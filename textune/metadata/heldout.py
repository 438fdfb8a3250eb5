"""Held-out documents to a store of tokens: rendered once with all their metadata and without any, and kept in the
token cache; after `chunks`, before `arms.py`.

    Documents -> rendering -> chunks, written in each way -> a store of all ways

Its examples are the documents that have a chunk, once for each way in which they are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from textune.batches import CHUNK_CHARACTERS, TokenStore, find_store, hash_strings
from textune.config import MetadataSection, TokensSection
from textune.metadata.chunks import ChunkEncoder, Compared
from textune.metadata.documents import Documents
from textune.metadata.rendering import prompt_section, render, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RENDERING_VERSION = 2
"""Version of the rules that turn documents into tokens; part of every key."""
WAYS = Compared._fields
"""The ways in which each document is written."""


class Written(NamedTuple):
    """How documents are written otherwise than a model is trained on them."""

    as_prompt: bool = False
    """Their metadata as a few words before the text, and no tags in it (`render_prompt`)."""
    first_only: bool = False
    """Of a document with several chunks, only what the first one has is scored."""


AS_TRAINED = Written()


class HeldOutDocuments:
    """Documents that become a store; a `StoreWork`."""

    columns = ("ids", "mask", "characters", "bytes")
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
        how: Written = AS_TRAINED,
        place: Callable[[int], str] = "document {}".format,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """`place` names a document in messages; `progress` is told how many are done, and of how many.

        ModelError and ConfigError as `ChunkEncoder`.
        """
        if how.as_prompt:
            section = prompt_section(section)
        self._how = how
        self._documents = documents
        self._section = section
        self._encoder = ChunkEncoder(tokenizer, tokens, section)
        self._place = place
        self._progress = progress
        self._tokenizer, self._tokens = tokenizer, tokens

    def store(self, *, notice: Callable[[str], None]) -> TokenStore:
        """The chunks of each document that has any, some documents at a time in all ways; example i is document
        `sources[i] // len(WAYS)`, written in the way `WAYS[sources[i] % len(WAYS)]`.

        DataError as `ChunkEncoder.encode`; otherwise as `find_store`.
        """
        return find_store(self, self._tokens, notice=notice)

    def key(self) -> str:
        """Hash of texts, metadata, tokenizer and everything that decides how they become tokens."""
        documents, entries = self._documents, self._documents.entries
        rules = {
            "rendering": RENDERING_VERSION,
            "encoder": self._encoder.fingerprint(),
            # How training documents are drawn does not matter here.
            "metadata": self._section.model_dump(mode="json", exclude={"sampling"}),
            "types": documents.types,
            "how": self._how._asdict(),
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
        """The chunks of some documents at a time, way after way."""
        total = len(self._documents)
        for first, behind in _ranges(self._documents):
            some = self._documents.part(first, behind)
            rendered = (render_prompt if self._how.as_prompt else render)(some, self._section)
            compared = self._encoder.compared(
                rendered,
                render(some, self._section, np.zeros((len(some), len(some.types)), dtype=bool)),
                lambda number, first=first: self._place(first + number),  # type: ignore[misc]
                first_only=self._how.first_only,
            )
            for number, way in enumerate(compared):
                yield replace(way.store, sources=(first + way.documents) * len(WAYS) + number)
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
