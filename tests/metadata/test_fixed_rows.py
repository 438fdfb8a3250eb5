"""Rows of one length, cut from documents one after the other (`data.chunks = "fixed"`)."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_tokenizer
from kits.documentstreams import (
    MAX_LENGTH,
    TOKENIZER,
    TOTAL,
    counted,
    make_loader,
    make_maker,
    make_row,
    open_documents,
    text_of,
    write_documents,
)
from kits.errors import refused
from kits.rendered import PAD
from kits.streams import take, write_shard

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import Absent, DataSection, GivenSource
from textune.data.shards.blocks import BlockReader, Cursor
from textune.errors import ConfigError
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.maker import DocumentMaker
from textune.metadata.opening import DocumentRun
from textune.metadata.opening import open_documents as open_rows

PLAIN: dict[str, Any] = {"types": (), "chunks": "fixed"}
ALONE: dict[str, Any] = {"kind": "independent", "rate": 0.5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_documents(tmp_path_factory.mktemp("shards"))


def blocks_of(maker: DocumentMaker, epoch: int = 0, *, shuffles: bool = False) -> list[tuple[list[str], list[Any]]]:
    """Of each block of an epoch: its texts in order, and ids and mask of its rows."""
    found, cursor = [], Cursor(epoch)
    with closing(BlockReader(maker.source, maker.needed, seed=3, shuffles=shuffles)) as reader:
        while cursor.epoch == epoch:
            block = reader.read(cursor)
            texts = [text for rows in maker.rows_of(block) for text in rows.table["text"].to_pylist()]
            made = maker.make(block)
            store, rows = made.rows.store, []
            for row in made.rows.examples.tolist():
                part = slice(int(store.offsets[row]), int(store.offsets[row + 1]))
                rows.append((store.columns["ids"][part].tolist(), store.columns["mask"][part].tolist()))
            found.append((texts, rows))
            cursor = made.after
    return found


@pytest.mark.parametrize(("block_rows", "length"), [(7, 48), (1000, 48), (1000, 5), (3, 10_000)])
def test_rows_are_texts_with_the_end_token_between_cut_wherever_they_are_full(
    files: list[str], block_rows: int, length: int
) -> None:
    """Beside the rule written out: the ids of each text, the end token, and the next one."""
    maker = make_maker(open_documents(files, block_rows=block_rows), max_length=length, **PLAIN)
    num = 0
    for texts, rows in blocks_of(maker):
        joined: list[int] = []
        for text in texts:
            joined += [*TOKENIZER(text, add_special_tokens=False).input_ids, TOKENIZER.eos_token_id]
        expected = [joined[at : at + length] for at in range(0, len(joined), length)]
        assert [ids for ids, _ in rows] == [ids for ids in expected if len(ids) > 1], (
            "one token is predicted by nothing"
        )
        assert not any(any(mask) for _, mask in rows)
        num += len(texts)
    assert num == TOTAL


def test_only_the_last_row_of_a_block_is_shorter_and_rows_are_shuffled(files: list[str]) -> None:
    maker = make_maker(open_documents(files, block_rows=20), max_length=16, **PLAIN)
    in_order, shuffled = blocks_of(maker), blocks_of(maker, shuffles=True)
    assert all(len(ids) == 16 for _, rows in in_order for ids, _ in rows[:-1])
    assert any(len(rows[-1][0]) < 16 for _, rows in in_order)
    assert shuffled != in_order and blocks_of(maker, 1, shuffles=True) != shuffled
    tokens = [sum(len(ids) for _, rows in blocks for ids, _ in rows) for blocks in (in_order, shuffled)]
    assert abs(tokens[0] - tokens[1]) <= len(in_order), "nothing is lost but single tokens at the ends of blocks"


@pytest.mark.parametrize("keys", [{}, {"position": "suffix"}, {"score_inline": True}, {"sampling": ALONE}])
def test_documents_with_metadata_are_rendered_once_as_a_whole(files: list[str], keys: dict[str, Any]) -> None:
    """What stands in the rows is what one chunk of each document would be, however long."""
    whole = make_maker(open_documents(files), max_length=100_000, prefix_share=0.0002, end_token="always", **keys)
    fixed = make_maker(open_documents(files), max_length=40, prefix_share=0.5, chunks="fixed", **keys)
    [(_, expected)], [(texts, rows)] = blocks_of(whole), blocks_of(fixed)
    flat = [[token for row in some for token in row[part]] for some in (expected, rows) for part in (0, 1)]
    assert flat[:2] == flat[2:] and max(len(ids) for ids, _ in rows) == 40
    said = "".join(text_of(ids) for ids, _ in rows)
    masked = "".join(str(bit) for _, mask in rows for bit in mask)
    if not keys.get("score_inline"):
        unmasked = "".join(c for c, bit in zip(said, masked, strict=True) if bit == "0")
        assert [one.lstrip() for one in unmasked.split(PAD)] == [*texts, ""], "the texts come back exactly"


def test_a_begin_token_stands_before_each_document_and_is_not_scored(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("llama")
    stream = open_documents([str(write_shard(tmp_path / "a.jsonl", [{"text": "a good film"}, {"text": "so bad"}]))])
    [(_, [(ids, mask)])] = blocks_of(make_maker(stream, tokenizer=tokenizer, **PLAIN))
    begins = [at for at, token in enumerate(ids) if token == tokenizer.bos_token_id]
    ends = [at for at, token in enumerate(ids) if token == tokenizer.eos_token_id]
    assert begins == [0, ends[0] + 1] and ends[1] == len(ids) - 1
    assert [at for at, bit in enumerate(mask) if bit] == begins


def test_rows_without_a_scored_token_are_left_out(tmp_path: Path) -> None:
    entry = {"key": "own", "type": "local", "value": "v" * 60, "char_start_idx": 1, "char_end_idx": 2}
    stream = open_documents([str(write_shard(tmp_path / "a.jsonl", [{"text": "a good film", "metadata": [entry]}]))])
    [(_, rows)] = blocks_of(make_maker(stream, max_length=20, types=("own",), chunks="fixed"))
    [(_, [(ids, mask)])] = blocks_of(make_maker(stream, max_length=1000, types=("own",), end_token="always"))
    cut = [(ids[at : at + 20], mask[at : at + 20]) for at in range(0, len(ids), 20)]
    assert rows == [row for row in cut if 0 in row[1][1:]] and 0 < len(rows) < len(cut)


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    tokenizer.eos_token = None
    encoder = ChunkEncoder(tokenizer, TokensSection(max_length=9), MetadataSection())
    with refused(ConfigError, key="data.chunks", value="fixed", reason="eos_token"):
        encoder.uncut()


# --- ranks and resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [PLAIN, {"chunks": "fixed", "sampling": ALONE}], ids=["plain", "metadata"])
def test_ranks_share_the_rows_of_one_process(files: list[str], keys: dict[str, Any]) -> None:
    stream = open_documents(files, block_rows=9)
    one = counted(take(make_loader(make_maker(stream, **keys)), 12))
    shared: Counter[tuple[str, str]] = Counter()
    for rank in range(3):
        shared += counted(take(make_loader(make_maker(stream, **keys), rank=rank, world=3), 12))
    assert shared == one and sum(one.values()) > 30


@pytest.mark.every_day(2)
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("keys", [PLAIN, {"chunks": "fixed", "sampling": ALONE}], ids=["plain", "metadata"])
def test_from_the_state_of_any_step_the_same_batches_follow(
    files: list[str], prefetch: int, keys: dict[str, Any]
) -> None:
    stream = open_documents(files, block_rows=9)

    def loader(state: Any = None) -> Any:
        return make_loader(make_maker(stream, **keys), state=state, prefetch=prefetch)

    whole, states = [], []
    first = loader()
    for batch, _ in zip(first, range(20), strict=False):
        whole.append(counted([batch]))
        states.append(json.loads(json.dumps(first.state_dict())))
    for step in range(0, 18, 2):
        assert [counted([batch]) for batch in take(loader(states[step]), 2)] == whole[step + 1 : step + 3]


# --- before the run -------------------------------------------------------------------------------------------------


def test_an_epoch_has_as_many_rows_as_its_tokens_fill() -> None:
    rows = [make_row(number) for number in range(40)]
    data = DataSection(train=GivenSource(name="rows"), validation=Absent(), chunks="fixed")
    encoder = ChunkEncoder(TOKENIZER, TokensSection(max_length=MAX_LENGTH), MetadataSection())
    train = TrainSection.model_validate({"duration": "2 epochs", "batch_size": 4})
    run = DocumentRun(open_rows(data, {"rows": rows}).train, data, MetadataSection(), encoder, train)
    total = sum(len(row["text"]) + 1 for row in rows)
    maker, found = run.maker(), run.sample().estimate
    num = -(-total // MAX_LENGTH)
    assert (found.tokens, found.chunks, maker.facts.chunks_per_epoch) == (total, num, num)
    assert "row" in found.words and "metadata" not in found.words and "chunk" not in found.words
    assert run.plan(maker).steps_per_epoch == -(-num // 4)
    assert np.diff(run.sample().rows.store.offsets).max() == MAX_LENGTH  # type: ignore[attr-defined]


def test_texts_alone_need_no_column_of_metadata(files: list[str]) -> None:
    assert make_maker(open_documents(files), **PLAIN).needed.optional == frozenset()
