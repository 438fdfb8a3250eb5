"""Held-out documents as stores: rendered once with all their metadata, found again in the token cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.documentstreams import MAX_LENGTH, TOKENIZER, TYPES, make_row, text_of
from kits.records import given_rows, read
from kits.rendered import char_tokenizer

import textune.metadata.heldout as heldout
from textune.batches.store import TokenStore, join_stores
from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.documents import Documents
from textune.metadata.heldout import WAYS, HeldOutDocuments
from textune.metadata.rendering.render import render

NUM = 30


@pytest.fixture(scope="module")
def documents() -> Documents:
    rows = [make_row(number) for number in range(NUM)]
    rows[7] = {"text": "", "metadata": []}
    return read(given_rows(rows), TYPES).documents


def work_of(
    documents: Documents, cache: Path, *, tokenizer: Any = TOKENIZER, max_length: int = MAX_LENGTH, **keys: Any
) -> HeldOutDocuments:
    section = MetadataSection.model_validate({"types": TYPES, **keys})
    return HeldOutDocuments(documents, tokenizer, TokensSection(max_length=max_length, cache=str(cache)), section)


def store_of(documents: Documents, cache: Path, **keys: Any) -> TokenStore:
    return work_of(documents, cache, **keys).store(notice=pytest.fail)


def same(one: TokenStore, other: TokenStore) -> bool:
    pairs = [(one.columns[name], other.columns[name]) for name in ("ids", "mask", "characters", "bytes")]
    pairs += [(one.offsets, other.offsets), (one.example, other.example), (one.raw_lengths, other.raw_lengths)]
    return one.columns.keys() == other.columns.keys() and all(np.array_equal(*pair) for pair in pairs)


def rows_in_way(store: TokenStore, way: str) -> list[tuple[int, list[list[int]]]]:
    """Document and columns of each chunk that is written in this way."""
    assert store.sources is not None
    rows = []
    for row, source in enumerate(store.sources[store.example].tolist()):
        if WAYS[source % len(WAYS)] == way:
            here = slice(*store.offsets[row : row + 2].tolist())
            rows.append((source // len(WAYS), [store.columns[name][here].tolist() for name in store.columns]))
    return rows


def test_a_store_is_what_the_encoder_makes_of_all_documents_at_once(
    documents: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = MetadataSection(types=TYPES, sampling={"kind": "all", "probability": 0.0})  # type: ignore[arg-type]
    nothing = np.zeros((len(documents), len(TYPES)), dtype=bool)
    compared = ChunkEncoder(TOKENIZER, TokensSection(max_length=MAX_LENGTH), section).compared(
        render(documents, section), render(documents, section, nothing)
    )
    store = store_of(documents, tmp_path / "whole", sampling={"kind": "all", "probability": 0.0})
    monkeypatch.setattr(heldout, "CHUNK_CHARACTERS", 200)
    in_parts = store_of(documents, tmp_path / "parts")
    for name, way in compared._asdict().items():
        sources = way.documents * len(WAYS) + WAYS.index(name)
        expected = rows_in_way(replace(way.store, sources=sources), name)
        assert rows_in_way(store, name) == expected and len(expected) > len(way.documents) / 2
        assert rows_in_way(in_parts, name) == expected
    assert store.columns["mask"].dtype == np.uint8 and set(np.unique(store.columns["mask"])) == {0, 1}


def test_chunks_with_metadata_are_those_that_a_model_is_trained_on(documents: Documents, tmp_path: Path) -> None:
    """Of all their types. Only the first token of a text is not scored, nor a space before it."""
    section = MetadataSection(types=TYPES)
    chunks = ChunkEncoder(TOKENIZER, TokensSection(max_length=MAX_LENGTH), section).encode(render(documents, section))
    rows = rows_in_way(store_of(documents, tmp_path), "own")
    assert [token for _, (ids, *_) in rows for token in ids] == chunks.store.ids.tolist()
    masks = np.array([one for _, (_, mask, *_) in rows for one in mask])
    assert (masks >= chunks.store.columns["mask"]).all()
    assert len(rows) <= (masks > chunks.store.columns["mask"]).sum() <= 2 * len(rows)


def test_a_store_knows_which_document_each_example_is(
    documents: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 7 has no text: those after it are other examples than documents. Built, found again and in memory."""
    wanted = [number for number in range(NUM) if number != 7]
    monkeypatch.setattr(heldout, "CHUNK_CHARACTERS", 200)
    folder = tmp_path / "cache"
    stores = [store_of(documents, folder), store_of(documents, folder)]
    assert len(list(folder.iterdir())) == 1
    work = work_of(documents, folder)
    for store in [*stores, join_stores(work.parts(), names=work.columns)]:
        assert store.num_examples == 3 * len(wanted) < len(store)
        for way in WAYS:
            rows = rows_in_way(store, way)
            assert sorted({document for document, _ in rows}) == wanted
            first = {document: columns[0] for document, columns in reversed(rows)}
            assert all(f"#{document} " in text_of(ids) for document, ids in first.items())
    empty = work_of(documents.part(7, 8), folder).store(notice=pytest.fail)
    assert (len(empty), empty.sources is not None and empty.sources.tolist()) == (0, [])


def test_nothing_is_drawn_for_held_out_documents(documents: Documents, tmp_path: Path) -> None:
    """And a store is found again whatever is drawn for training."""
    for sampling in ({"kind": "all", "probability": 0.0}, {"kind": "all", "html_rate": 0.0}, {"kind": "independent"}):
        store = store_of(documents, tmp_path, sampling=sampling)
        text = text_of(store.ids.tolist())
        assert all(f"Title: T{number} " in text for number in range(NUM) if number % 3 and number != 7)
        assert text.count("<b>") == sum(number % 4 > 0 and number != 7 for number in range(NUM))  # in one way of three
    assert len(list(tmp_path.iterdir())) == 1


def test_a_store_is_rendered_once(documents: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store_of(documents, tmp_path)
    monkeypatch.setattr(ChunkEncoder, "compared", None)
    assert same(store_of(documents, tmp_path), first)


def changed(documents: Documents) -> dict[str, Documents]:
    """The same documents, each time with one thing changed."""
    entries = documents.entries
    local = int(np.flatnonzero(entries.start >= 0)[0])

    def shifted(name: str) -> np.ndarray:
        column = getattr(entries, name).copy()
        column[local] += 1
        return column

    def with_entries(**columns: Any) -> Documents:
        return replace(documents, entries=replace(entries, **columns))

    attributes = [(("class", "x"),) if number == local else one for number, one in enumerate(entries.attributes)]
    values = [value + ("i" if number == local else "") for number, value in enumerate(entries.value)]
    return {
        "text": replace(documents, texts=["other", *documents.texts[1:]]),
        "value": with_entries(value=values),
        "attributes": with_entries(attributes=attributes),
        "end": with_entries(end=shifted("end")),
        "start": with_entries(start=shifted("start")),
        "fewer": documents.part(0, NUM - 1),
    }


def test_whatever_decides_the_tokens_is_in_the_key(documents: Documents, tmp_path: Path) -> None:
    whole = work_of(documents, tmp_path)
    keys = [whole.key(), *(work_of(other, tmp_path).key() for other in changed(documents).values())]
    keys += [
        work_of(documents, tmp_path, **keys).key()
        for keys in (
            {"max_length": MAX_LENGTH + 1},
            {"separator": "; "},
            {"score_inline": True},
            {"html": {"drop": ["b"]}},
            {"tokenizer": char_tokenizer("abc")},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert work_of(documents, tmp_path, sampling={"kind": "independent"}).key() == whole.key()
    assert work_of(documents.part(0, NUM), tmp_path).key() == whole.key()


def test_parts_of_documents_have_their_own_entries(documents: Documents) -> None:
    for first, behind in ((0, NUM), (3, 4), (7, 8), (10, 25), (5, 5)):
        part = documents.part(first, behind)
        assert list(part.texts) == list(documents.texts[first:behind])
        assert (part.has_type == documents.has_type[first:behind]).all()
        chosen = (documents.entries.document >= first) & (documents.entries.document < behind)
        assert list(part.entries.value) == [v for v, kept in zip(documents.entries.value, chosen, strict=True) if kept]
