"""From broken records to rows of tokens under settings drawn by chance: rows that hold what they must, or an error of
ours; never anything else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from kits.brokenrecords import TYPES, broken_row
from kits.records import Row, given_rows
from kits.rendered import char_tokenizer

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.config.sources import DataSection
from textune.data.reading.rows import Rows
from textune.data.shards.blocks import shard_of_rows
from textune.errors import TextuneError
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.facts import DocumentFacts
from textune.metadata.maker import DocumentMaker

TOKENIZER = char_tokenizer()


def drawn_section(draw: random.Random) -> dict[str, Any]:
    types = draw.sample(TYPES, draw.randrange(1, len(TYPES) + 1))
    section: dict[str, Any] = {
        "types": types,
        "on_bad_metadata": "report" if draw.random() < 0.9 else "error",
        "compat": draw.choice(["none", "none", "bsmetadata"]),
        "position": "prefix",
        "score_inline": draw.random() < 0.3,
        "types_in_prefix": draw.random() < 0.3,
        "prefix_start": draw.choice(["", " ", "=> "]),
        "prefix_separator": draw.choice([" |||", "", "\n"]),
        "prefix_share": draw.choice([0.1, 0.5, 0.9]),
        "entity_position": draw.choice(["begin", "end"]),
        "min_tokens": draw.choice([1, 1, 5]),
        "begin_token": "auto",
        "end_token": "auto",
        "sampling": draw.choice(
            [
                {"kind": "all", "probability": 0.7},
                {"kind": "independent", "rate": 0.5},
                {"kind": "uniform", "weights": dict.fromkeys(types, 1.5)},
            ]
        ),
    }
    if section["compat"] == "none":
        section["reopen_tags"] = draw.random() < 0.3
        section["position"] = draw.choice(["prefix", "suffix"])
    if draw.random() < 0.3:
        section["html"] = {"drop": ["b"], "drop_all_lengths": [0, 2]}
    if draw.random() < 0.3:
        section["wraps"] = {types[0]: ["<", ">"]}
    return section


def go_through(draw: random.Random, rows: list[Row]) -> tuple[int, int]:
    """How many documents and chunks the rows become; their chunks hold what they must."""
    section = MetadataSection.model_validate(drawn_section(draw))
    max_length = draw.choice([8, 24, 64, 200])
    table = given_rows(rows)
    encoder = ChunkEncoder(TOKENIZER, TokensSection(max_length=max_length), section)
    maker = DocumentMaker(
        shard_of_rows(table),
        DataSection(on_bad_row="skip"),
        section,
        encoder,
        seed=draw.randrange(9),
        facts=DocumentFacts(),
    )
    made = maker.chunks_of(table, epoch=draw.randrange(3), before=0)
    chunks, store = made.chunks, made.chunks.store
    assert (np.diff(store.offsets) <= max_length).all() and (np.diff(store.offsets) > 0).all()
    assert not (made.keep & ~made.documents.has_type).any()
    document = chunks.documents[store.example]
    assert (np.diff(document) >= 0).all()
    is_last = np.diff(document, append=len(rows)) > 0
    is_first = np.diff(document, prepend=-1) > 0
    lengths = np.array([len(text) for text in made.documents.texts])
    assert (chunks.start[is_first] == 0).all() and (chunks.end[is_last] == lengths[document[is_last]]).all()
    assert (chunks.start[1:] == chunks.end[:-1])[~is_first[1:]].all()
    assert set(np.unique(store.columns["mask"]).tolist()) <= {0, 1}
    assert made.num_short == made.chunks.counts.empty + made.chunks.counts.short
    if section.compat == "none":
        assert_fixed_rows(table, section, max_length)
    return len(made.documents), len(store)


def assert_fixed_rows(table: Rows, section: MetadataSection, max_length: int) -> None:
    """Rows of one length hold every token of the documents, in order."""
    encoder = ChunkEncoder(TOKENIZER, TokensSection(max_length=max_length), section).uncut()
    data = DataSection(on_bad_row="skip", chunks="fixed")
    maker = DocumentMaker(shard_of_rows(table), data, section, encoder, seed=1, facts=DocumentFacts())
    made = maker.chunks_of(table, epoch=0, before=0)
    assert len(made.chunks.store) == made.num_documents - made.num_short
    rows = maker.training_rows([made.chunks.store]).rows
    store = rows.store.whole()
    assert np.array_equal(store.ids, made.chunks.store.ids)
    assert (store.lengths[:-1] == max_length).all() and (store.lengths > 0).all()
    left_out = np.setdiff1d(np.arange(len(store)), rows.examples)
    masks = (store.columns["mask"][store.offsets[row] + 1 : store.offsets[row + 1]] for row in left_out.tolist())
    assert all(mask.all() for mask in masks), "only rows without a scored token are left out"


def through_the_whole_path(num_batches: int, batch: int, seed: int) -> tuple[int, int, int]:
    """How many documents and chunks became of broken records, and how many batches ended in an error of ours."""
    draw = random.Random(seed)
    documents = chunks = refused = 0
    for _ in range(num_batches):
        rows = [broken_row(draw) for _ in range(batch)]
        try:
            num_documents, num_chunks = go_through(draw, rows)
        except TextuneError as error:
            assert error.message and "internal" not in error.message
            refused += 1
            continue
        documents, chunks = documents + num_documents, chunks + num_chunks
    return documents, chunks, refused


def test_broken_records_become_rows_of_tokens_or_an_error_of_ours() -> None:
    documents, chunks, refused = through_the_whole_path(60, 25, seed=3)
    assert documents > 600 and chunks > 600 and 0 < refused < 30


@pytest.mark.slow
def test_a_hundred_thousand_broken_records_become_rows_of_tokens() -> None:
    documents, chunks, refused = through_the_whole_path(1000, 100, seed=4)
    assert documents > 50_000 and chunks > 50_000 and refused < 500
