"""What an evaluation scores of held-out documents: the same characters, with metadata, without any, and in the same
context; after `heldout.py`.

    DocumentSet -> a store with every way of writing -> for each arm the rows of its chunks, which know their document
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from textune.batches import TokenRows, TokenStore
from textune.config import Arm, MetadataSection, TokensSection, arm_of_set
from textune.data import LABEL
from textune.errors import DataError
from textune.metadata.heldout import AS_TRAINED, WAYS, HeldOutDocuments, Written
from textune.metadata.sets import DocumentSet
from textune.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WAY_OF: dict[Arm, str] = {"without": "without", "same-context": "same_context"}


class NothingToScore(DataError):
    """No document of a set has a scored token."""


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """The rows of every arm of a set of documents; all of them score the same characters of each document."""

    rows: dict[str, TokenRows]
    """By name of the arm's set: first the set itself. Targets are int64 [N, 3]: scored tokens, and the characters and
    bytes of the text that they stand for; `documents` are those of the set, by number."""
    unscored: np.ndarray
    """int64 the documents without a scored token, which no arm has."""


def score_arms(
    found: DocumentSet,
    tokenizer: PreTrainedTokenizerBase,
    tokens: TokensSection,
    section: MetadataSection,
    *,
    arms: Sequence[Arm],
    notice: Callable[[str], None],
    how: Written = AS_TRAINED,
    progress: Callable[[int, int], None] | None = None,
) -> ScoredSet:
    """The rows of a set and of these arms beside it; of documents without any metadata, where all arms are the same,
    of the set alone.

    Which characters are scored does not depend on `arms`. NothingToScore where no document has a scored token,
    otherwise errors as `HeldOutDocuments`; `progress` is told how many documents are tokenised, and of how many.
    """
    work = HeldOutDocuments(
        found.documents, tokenizer, tokens, section, how=how, place=found.places.__getitem__, progress=progress
    )
    store = work.store(notice=notice)
    if not len(found.documents.entries):
        arms = ()
    return rows_by_arm(found.name, len(found), store, arms)


def rows_by_arm(name: str, num_documents: int, store: TokenStore, arms: Sequence[Arm]) -> ScoredSet:
    """The same of a store that `HeldOutDocuments` made of so many documents."""
    document_E, way_E = np.divmod(np.zeros(0, np.int64) if store.sources is None else store.sources, len(WAYS))
    document_R, way_R = document_E[store.example], way_E[store.example]
    targets_R3 = _amounts(store)
    _require_equal(document_R, way_R, targets_R3)
    unscored = np.setdiff1d(np.arange(num_documents), document_R[targets_R3[:, 0] > 0])
    if len(unscored) == num_documents:
        raise NothingToScore(
            f"{name}: none of {count(num_documents, 'document')} has a token to score.",
            hint="A document needs at least two tokens of text: nothing predicts the first one.",
            key=name,
            value=num_documents,
            reason="no document has a scored token",
        )
    columns = {column: store.columns[column] for column in ("ids", "mask")}
    of_rows = replace(store, columns=columns, example=np.arange(len(store)), sources=None)
    ways = {name: WAYS[0]} | {arm_of_set(name, arm): _WAY_OF[arm] for arm in arms}
    rows = {
        of_arm: TokenRows(
            of_rows,
            np.flatnonzero((way_R == WAYS.index(way)) & (targets_R3[:, 0] > 0)),
            {LABEL: targets_R3},
            None,
            example_documents=document_R,
        )
        for of_arm, way in ways.items()
    }
    return ScoredSet(rows, unscored)


def _amounts(store: TokenStore) -> np.ndarray:
    """int64 [R, 3] scored tokens, and their characters and bytes, of each row."""
    of_tokens = (store.columns["mask"] == 0, store.columns["characters"], store.columns["bytes"])
    sums = [np.concatenate([[0], np.cumsum(one, dtype=np.int64)])[store.offsets] for one in of_tokens]
    return np.stack([np.diff(one) for one in sums], axis=1)


def _require_equal(document_R: np.ndarray, way_R: np.ndarray, targets_R3: np.ndarray) -> None:
    """That all ways score as many characters and bytes of each document; they are the same ones."""
    num_documents = int(document_R.max(initial=-1)) + 1
    sums = np.zeros((len(WAYS), num_documents, 2), np.int64)
    np.add.at(sums, (way_R, document_R), targets_R3[:, 1:])
    assert (sums == sums[0]).all(), "all arms score the same characters"
