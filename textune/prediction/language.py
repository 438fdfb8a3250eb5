"""Documents with a language model: how likely it finds them with their metadata and without, and what it writes.

records --metadata--> chunks, with metadata and without --Scorer--> nats of each chunk --summed--> DocumentScore
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from textune.config import GivenSource
from textune.data import LABEL
from textune.errors import InputError
from textune.metadata import ChunkEncoder, ScoredChunks, read_document_rows, read_documents, render
from textune.model import CallerBudget
from textune.prediction.scorer import Scorer
from textune.prediction.writing import Continuation, Writer

DOCUMENTS_AT_ONCE = 512
"""Documents rendered, tokenised and scored together."""


class DocumentScore(NamedTuple):
    """How likely a model finds the text of one document, in nats, with its metadata and without.

    Both count the same characters: those that every way to write the document scores. The first token of a text has
    nothing before it and is not among them; nor are tags and special tokens.
    """

    log_likelihood: float
    """Of these characters, given the document's metadata; 0 where none is scored."""
    log_likelihood_without: float
    """Of the same characters, of the text alone."""
    tokens: int
    """The tokens that they are in, with metadata."""
    tokens_without: int
    """In the text alone, whose words inline tags do not cut."""
    characters: int
    """How many they are."""
    bytes: int
    """And in UTF-8."""


class LanguagePredictor:
    """Scores documents, and goes on with them, by the model of a scorer."""

    def __init__(self, scorer: Scorer) -> None:
        """ModelError where the model is a classifier."""
        self.scorer: Final = scorer
        self.card: Final = scorer.card
        # Every document is scored, however short.
        self._section: Final = scorer.card.required_documents.model_copy(update={"min_tokens": 1})
        self._encoder: Final = ChunkEncoder(scorer.tokenizer, scorer.card.tokens, self._section)

    def score(self, records: object) -> list[DocumentScore]:
        """The score of each record, in order; a document of several chunks is their sum.

        `records`: a list of texts, or of dictionaries with the columns of the run's documents (text, and metadata in
        either form), or a table of them. InputError for anything else, DataError for metadata that cannot be rendered.
        """
        rows = _as_rows(records, self.card.columns.text)
        if rows == []:
            return []
        read = read_document_rows(GivenSource(name="records"), "error", {"records": rows})
        documents = read_documents(read, self.card.columns, self._section).documents
        budget, scores = self.scorer.budget(), []
        for first in range(0, len(documents), DOCUMENTS_AT_ONCE):
            some = documents.part(first, min(first + DOCUMENTS_AT_ONCE, len(documents)))
            compared = self._encoder.compared(
                render(some, self._section),
                render(some, self._section, np.zeros((len(some), len(some.types)), dtype=bool)),
                lambda number, first=first: read.place(first + number),  # type: ignore[misc]
            )
            own, without = (self._sums(way, len(some), budget) for way in (compared.own, compared.without))
            scores += [
                DocumentScore(0.0 - nats, 0.0 - nats_without, tokens, tokens_without, characters, num_bytes)
                for (nats, tokens, characters, num_bytes), (nats_without, tokens_without, _, _) in zip(
                    own, without, strict=True
                )
            ]
        return scores

    def generate(
        self,
        prompt: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        num: int = 1,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Continuation]:
        """What the model writes after `prompt`, given metadata by type; arguments and errors as of `Writer.write`."""
        writer = Writer(self.scorer, self._encoder, self._section)
        return writer.write(
            prompt,
            metadata or {},
            num=num,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )

    def _sums(self, way: ScoredChunks, num_documents: int, budget: CallerBudget) -> list[tuple[float, int, int, int]]:
        """Of each document nats, scored tokens, characters and bytes."""
        store, document_R = way.store, way.documents[way.store.example]
        columns = {name: store.columns[name] for name in ("ids", "mask")}
        # Each chunk by itself: those of a document need not be computed together.
        chunks = replace(store, columns=columns, example=np.arange(len(store)))
        nats_R = self.scorer.score_store(chunks, budget=budget)[LABEL]
        amounts = (store.columns["mask"] == 0, store.columns["characters"], store.columns["bytes"])
        sums = [_by_document(nats_R, document_R, num_documents)]
        for amount in amounts:
            before = np.concatenate([[0], np.cumsum(amount, dtype=np.int64)])
            sums.append(_by_document(np.diff(before[store.offsets]), document_R, num_documents))
        return list(zip(*(one.tolist() for one in sums), strict=True))


def _by_document(values_R: np.ndarray, document_R: np.ndarray, num_documents: int) -> np.ndarray:
    """The sum of the values of the chunks of each document."""
    sums = np.zeros(num_documents, values_R.dtype)
    np.add.at(sums, document_R, values_R)
    return sums


def _as_rows(records: Any, text_column: str) -> Any:
    """Records as rows with columns; InputError for what is no list of them."""
    if isinstance(records, str | bytes | Mapping):
        kind = "one text" if isinstance(records, str) else f"of type {type(records).__name__}"
        raise InputError(f"records is {kind}; a list of records is needed, such as [record].", key="records")
    if not isinstance(records, list | tuple):
        return records
    wrong = next((number for number, record in enumerate(records) if not isinstance(record, str | Mapping)), None)
    if wrong is not None:
        raise InputError(
            f"records[{wrong}] is {records[wrong]!r:.40}, neither a text nor a dictionary.",
            key="records",
            value=records[wrong],
            place=f"records[{wrong}]",
        )
    return [{text_column: record} if isinstance(record, str) else record for record in records]
