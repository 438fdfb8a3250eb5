"""What an evaluation scores of held-out documents: one set of rows for each arm, over the same characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.documentstreams import MAX_LENGTH, TOKENIZER, TYPES, make_row, text_of
from kits.errors import refused
from kits.records import given_rows, read

from textune.batches.rows import TokenRows
from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.config.values import Arm
from textune.data.labels.map import LABEL
from textune.errors import DataError
from textune.metadata.arms import ScoredSet, score_arms
from textune.metadata.sets import DocumentSet, with_types

NUM = 20
ARMS: tuple[Arm, ...] = ("without", "same-context")
TOKENS, CHARACTERS, BYTES = range(3)


def set_of(rows: list[dict[str, Any]], name: str = "validation") -> DocumentSet:
    documents = read(given_rows(rows), TYPES).documents
    return DocumentSet(name, documents, [f"row {number}" for number in range(len(rows))], np.arange(len(rows)))


def scored(found: DocumentSet, cache: Path, arms: tuple[Arm, ...] = ARMS, **keys: Any) -> ScoredSet:
    section = MetadataSection.model_validate({"types": TYPES, **keys})
    tokens = TokensSection(max_length=MAX_LENGTH, cache=str(cache))
    return score_arms(found, TOKENIZER, tokens, section, arms=arms, notice=pytest.fail)


def by_document(rows: TokenRows, column: int) -> dict[int, int]:
    assert rows.documents is not None
    sums = np.bincount(rows.documents, rows.targets[LABEL][:, column])
    return {number: int(sums[number]) for number in np.unique(rows.documents).tolist()}


@pytest.fixture(scope="module")
def documents() -> DocumentSet:
    rows = [make_row(number) for number in range(NUM)]
    rows[7] = {"text": "", "metadata": []}
    return set_of(rows)


def test_every_arm_is_a_set_over_the_same_characters(documents: DocumentSet, tmp_path: Path) -> None:
    found = scored(documents, tmp_path)
    assert list(found.rows) == ["validation", "validation-without", "validation-same-context"]
    assert found.unscored.tolist() == [7]
    own, without, beside = found.rows.values()
    for column in (CHARACTERS, BYTES):
        assert by_document(own, column) == by_document(without, column) == by_document(beside, column)
    texts = documents.documents.texts
    for number, characters in by_document(own, CHARACTERS).items():
        assert len(texts[number]) - 20 < characters < len(texts[number])  # but for the first token of each chunk
    prefixes = [sum("Title: " in text for text in texts_of(rows)) for rows in found.rows.values()]
    assert prefixes[0] > 0 and prefixes[1:] == [0, 0]


def texts_of(rows: TokenRows) -> list[str]:
    store = rows.store.whole()
    return [text_of(store.ids[slice(*store.offsets[row : row + 2])].tolist()) for row in rows.rows.tolist()]


def test_targets_count_what_the_mask_leaves(documents: DocumentSet, tmp_path: Path) -> None:
    for rows in scored(documents, tmp_path).rows.values():
        store = rows.store.whole()
        assert set(store.columns) == {"ids", "mask"}
        for row, target in zip(rows.rows.tolist(), rows.targets[LABEL].tolist(), strict=True):
            here = slice(*store.offsets[row : row + 2].tolist())
            mask = store.columns["mask"][here]
            assert mask[0] == 1 and (mask == 0).sum() == target[TOKENS] > 0
            # tokens of GPT-2 say exactly the text that they stand for
            assert len(text_of(store.ids[here][mask == 0].tolist())) == target[CHARACTERS]
            assert len(text_of(store.ids[here][mask == 0].tolist()).encode()) == target[BYTES]


def test_what_is_scored_does_not_depend_on_the_arms(documents: DocumentSet, tmp_path: Path) -> None:
    every = scored(documents, tmp_path).rows
    alone = scored(documents, tmp_path, ()).rows
    assert list(alone) == ["validation"]
    for name in ("ids", "mask"):
        assert (
            alone["validation"].store.whole().columns[name] == every["validation"].store.whole().columns[name]
        ).all()
    assert (alone["validation"].targets[LABEL] == every["validation"].targets[LABEL]).all()
    assert len(list(tmp_path.iterdir())) == 1, "one store for all arms"


def test_documents_without_metadata_have_one_arm(documents: DocumentSet, tmp_path: Path) -> None:
    plain = DocumentSet("plain", with_types(documents.documents, np.arange(NUM), ()), documents.places, np.arange(NUM))
    assert list(scored(plain, tmp_path).rows) == ["plain"]


def test_a_set_without_a_scored_token_is_refused(tmp_path: Path) -> None:
    with refused(DataError, key="nothing", value=2, reason="no document has a scored token"):
        scored(set_of([{"text": "", "metadata": []}, {"text": "a", "metadata": []}], "nothing"), tmp_path)
