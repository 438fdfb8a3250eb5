"""Documents as rows of tokens: the same rows in whatever block, on whatever rank, from whatever state."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kits.documentstreams import (
    TOTAL,
    counted,
    make_loader,
    make_maker,
    make_row,
    open_documents,
    rows_of,
    text_of,
    write_documents,
)
from kits.errors import refused
from kits.streams import take, write_shard

import textune.metadata.maker as maker_module
from textune.batches.rows import TokenRows
from textune.config.sources import FilesSource, GivenSource
from textune.data.labels.map import LABEL
from textune.data.reading.sources import read_source
from textune.data.shards.blocks import Block, BlockReader, Cursor, shard_of_rows
from textune.errors import DataError
from textune.metadata.facts import DocumentFacts
from textune.metadata.maker import DocumentMaker
from textune.metadata.sampling import TypeCounts

UNIFORM = {"kind": "uniform", "weights": {"title": 1, "url": 2}, "html_rate": 0.5, "probability": 0.9}
SAMPLINGS: dict[str, dict[str, Any]] = {
    "all": {"kind": "all", "probability": 0.5},
    "uniform": UNIFORM,
    "independent": {"kind": "independent", "rates": {"html": 0.3}, "rate": 0.6},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_documents(tmp_path_factory.mktemp("shards"))


def epoch_of(maker: DocumentMaker, epoch: int = 0, *, seed: int = 3) -> list[tuple[str, str]]:
    """The rows of an epoch in order, each with its mask."""
    rows, cursor = [], Cursor(epoch=epoch)
    with closing(BlockReader(maker.source, maker.needed, seed=seed, shuffles=True)) as reader:
        while cursor.epoch == epoch:
            made = maker.make(reader.read(cursor))
            rows += rows_in(made.rows)
            cursor = made.after
    return rows


def rows_in(made: TokenRows) -> list[tuple[str, str]]:
    """Text and mask of each row, in order."""
    rows, store = [], made.store
    for row in made.examples.tolist():
        part = slice(int(store.offsets[row]), int(store.offsets[row + 1]))
        mask = "".join(map(str, store.columns["mask"][part].tolist()))
        rows.append((text_of(store.ids[part].tolist()), mask))
    return rows


# --- one document, the same rows ------------------------------------------------------------------------------------


def alone(maker: DocumentMaker, epoch: int) -> Counter[tuple[str, str]]:
    """The rows of an epoch, from blocks of a single document."""
    section = maker.source.section.model_copy(update={"block_rows": 1, "interleave": 1})
    maker.source = replace(maker.source, section=section)
    return Counter(epoch_of(maker, epoch))


@pytest.mark.every_day(3)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("block_rows", "interleave"), [(7, 3), (1000, 2), (3, 1)])
def test_rows_do_not_depend_on_the_other_documents_of_a_block(
    files: list[str], block_rows: int, interleave: int, sampling: str
) -> None:
    keys = {"sampling": SAMPLINGS[sampling]}
    stream = open_documents(files, block_rows=block_rows, interleave=interleave)
    epochs = [epoch_of(make_maker(stream, **keys), epoch) for epoch in (0, 1)]
    single = [alone(make_maker(stream, **keys), epoch) for epoch in (0, 1)]
    assert [Counter(epoch) for epoch in epochs] == single
    assert single[0] != single[1], "every epoch draws anew"
    texts = "".join(text for text, _ in epochs[0])
    assert all(f"#{number} " in texts for number in range(TOTAL))


def test_rows_do_not_depend_on_how_many_documents_are_rendered_at_once(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = DocumentFacts(num_documents=TOTAL)
    sampling = UNIFORM | {"curriculum": [[0, 1.0], [0.5, 0.3]]}
    whole = epoch_of(make_maker(open_documents(files), sampling=sampling, facts=facts))
    for name, size in (("SLICE_ROWS", 3), ("SLICE_BYTES", 700), ("SLICE_BYTES", 1)):
        monkeypatch.setattr(maker_module, name, size)
        assert epoch_of(make_maker(open_documents(files), sampling=sampling, facts=facts)) == whole


def test_every_chunk_has_the_prefix_and_its_part_of_the_text(tmp_path: Path) -> None:
    row = make_row(5)
    stream = open_documents([str(write_shard(tmp_path / "a.jsonl", [row]))])
    rows = epoch_of(make_maker(stream, max_length=60))
    prefix, text = "Title: T5 | url: u.v/5 |||", " #5 <b>some</b> text some text "
    wanted_mask = "1" * len(prefix) + "0000" + "111" + "0000" + "1111" + "0" * len(" text some text ")
    assert (prefix + text, wanted_mask) in rows
    assert all(row_text.startswith(prefix) and mask.startswith("1" * len(prefix)) for row_text, mask in rows)
    unmasked = Counter(c for row_text, mask in rows for c, m in zip(row_text, mask, strict=True) if m == "0")
    assert unmasked == Counter(" " + row["text"])


def test_nobody_is_told_that_a_number_of_rows_is_wrong_which_nobody_gave() -> None:
    rows = [make_row(number) for number in range(10)]
    rows[3]["text"], rows[3]["metadata"] = "", []
    maker = make_maker(shard_of_rows(read_source(GivenSource(name="rows"), given={"rows": rows})))
    loader = make_loader(maker, batch_size=4)
    notices = [notice for batch in take(loader, 4) for notice in batch.notices]
    assert [notice for notice in notices if "1 document skipped so far" in notice]
    assert not [notice for notice in notices if "num_rows" in notice]


def test_rows_in_memory_are_a_stream_of_one_shard(tmp_path: Path) -> None:
    """Of any source: the same documents as from the file; each epoch in an order of its own over all rows."""
    rows = [make_row(number) for number in range(30)]
    path = str(write_shard(tmp_path / "a.jsonl", rows))
    whole = Counter(epoch_of(make_maker(open_documents([path]))))
    for source, given in ((FilesSource(files=(path,)), {}), (GivenSource(name="rows"), {"rows": rows})):
        stream = shard_of_rows(read_source(source, given=given))
        stream = replace(stream, section=stream.section.model_copy(update={"block_rows": 4}))
        maker = make_maker(stream)
        assert Counter(epoch_of(maker)) == whole
        epochs = [epoch_of(maker, epoch) for epoch in (0, 1)]
        assert epochs[0] != epochs[1]
        assert {text for text, _ in epochs[0][:12]} & {text for text, _ in epochs[0][-12:]} == set()
        first_numbers = [
            [number for number in range(30) if any(f"#{number} " in t for t, _ in e[:14])] for e in epochs
        ]
        assert all(max(numbers) > 15 for numbers in first_numbers), "not in the order of the file"
        with closing(BlockReader(stream, maker.needed, seed=0, shuffles=False)) as reader:
            block = reader.read(Cursor())
        assert [piece.places[0] for _, piece in block.pieces] == [read_source(source, given=given).place(0)]


# --- what is scored -------------------------------------------------------------------------------------------------


def scored(rows: TokenRows) -> list[int]:
    """The slow way: tokens of mask 0 of each row, its first left out."""
    store, counts = rows.store.whole(), []
    for row in rows.rows.tolist():
        mask = store.columns["mask"][store.offsets[row] : store.offsets[row + 1]].tolist()
        counts.append(sum(one == 0 for one in mask[1:]))
    return counts


def block_of(maker: DocumentMaker) -> Block:
    with closing(BlockReader(maker.source, maker.needed, seed=3, shuffles=True)) as reader:
        return reader.read(Cursor())


@pytest.mark.parametrize("metadata_loss", [False, True])
def test_targets_are_the_numbers_of_scored_tokens(files: list[str], metadata_loss: bool) -> None:
    maker = make_maker(open_documents(files), metadata_loss=metadata_loss, end_token="never")
    rows = maker.make(block_of(maker)).rows
    targets_N3 = rows.targets[LABEL]
    assert targets_N3.dtype == np.int64 and targets_N3[:, 0].tolist() == scored(rows)
    assert not targets_N3[:, 1:].any(), "characters and bytes are asked of evaluations alone"
    masked = [bool(mask) for mask in rows.store.whole().columns["mask"].tolist()]
    if metadata_loss:
        assert not any(masked) and targets_N3[:, 0].tolist() == (rows.lengths - 1).tolist()
    else:
        assert any(masked) and (targets_N3[:, 0] < rows.lengths - 1).any()


def test_documents_without_a_scored_token_have_no_rows_and_are_counted(tmp_path: Path) -> None:
    """A text of one token with nothing before it."""
    plain = {"metadata": []}
    rows = [{"text": "a"} | plain, {"text": "bc"} | plain, {"text": "d"} | plain, {"text": ""} | plain, make_row(4)]
    maker = make_maker(open_documents([str(write_shard(tmp_path / "a.jsonl", rows))]), max_length=200)
    made = maker.make(block_of(maker))
    texts = [text for text, _ in epoch_of(maker)]
    assert sorted(texts)[-1] == "bc" and len(texts) == 2
    assert made.after.cut["unscored"] == 2 and made.after.short == 1
    assert any("2 documents left out" in notice for notice in made.notices)


def test_an_epoch_without_a_scored_token_is_refused(tmp_path: Path) -> None:
    rows = [{"text": letter, "metadata": []} for letter in "abc"]
    maker = make_maker(open_documents([str(write_shard(tmp_path / "a.jsonl", rows))]))
    with refused(DataError, key="metadata.begin_token", value="auto"):
        epoch_of(maker)


# --- ranks, prefetch and resuming -----------------------------------------------------------------------------------


def steps_of_epoch(maker: DocumentMaker, epoch: int) -> int:
    return -(-len(epoch_of(maker, epoch)) // 7)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_rows_of_one_process(files: list[str], world: int, sampling: str) -> None:
    stream = open_documents(files, block_rows=16, interleave=3)
    maker = make_maker(stream, sampling=SAMPLINGS[sampling])
    num_steps = sum(steps_of_epoch(maker, epoch) for epoch in (0, 1))
    alone = take(make_loader(maker, prefetch=0), num_steps)
    ranks = [take(make_loader(maker, rank=rank, world=world, prefetch=2), num_steps) for rank in range(world)]
    for step, whole in enumerate(alone):
        assert counted([rank[step] for rank in ranks]) == counted([whole])
    assert counted(alone) == Counter(epoch_of(maker)) + Counter(epoch_of(maker, 1))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize(("block_rows", "interleave"), [(7, 3), (1000, 2)])
def test_from_the_state_of_any_step_of_two_epochs_the_same_batches_follow(
    files: list[str], prefetch: int, block_rows: int, interleave: int
) -> None:
    stream = open_documents(files, block_rows=block_rows, interleave=interleave)
    facts = DocumentFacts(num_documents=2 * TOTAL)
    sampling = UNIFORM | {"curriculum": [[0, 1.0], [0.5, 0.6], [0.9, 0.0]]}

    def loader_of(state: Any = None) -> Any:
        return make_loader(make_maker(stream, sampling=sampling, facts=facts), prefetch=prefetch, state=state)

    maker = make_maker(stream, sampling=sampling, facts=facts)
    loader = loader_of()
    num_steps = sum(steps_of_epoch(maker, epoch) for epoch in (0, 1)) + 2
    whole, states = [], [loader.state_dict()]
    with closing(iter(loader)) as batches:
        for batch in islice(batches, num_steps):
            whole.append(rows_of(batch))
            states.append(json.loads(json.dumps(loader.state_dict())))
    for step in range(num_steps):
        resumed = loader_of(states[step])
        assert resumed.state_dict() == states[step]
        assert [rows_of(batch) for batch in take(resumed, min(4, num_steps - step))] == whole[step : step + 4]
    assert states[-1]["maker"] == {"num_documents": 2 * TOTAL}


def test_going_on_reads_one_block_again(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    maker = make_maker(open_documents(files, block_rows=8, interleave=3))
    made: list[int] = []
    make = DocumentMaker.chunks_of

    def note(self: DocumentMaker, rows: Any, **keys: Any) -> Any:
        made.append(len(rows))
        return make(self, rows, **keys)

    monkeypatch.setattr(DocumentMaker, "chunks_of", note)
    loader, states = make_loader(maker, prefetch=0, batch_size=2), []
    with closing(iter(loader)) as batches:
        for _ in islice(batches, 150):
            states.append(loader.state_dict())
    assert sum(made) > 2 * TOTAL
    for state in states[::10]:
        made.clear()
        take(make_loader(maker, prefetch=0, batch_size=2, state=state), 1)
        assert 0 < sum(made) <= 2 * 8


@pytest.mark.slow
def test_memory_is_flat_over_100_000_documents(tmp_path: Path) -> None:
    """What is alive after each block neither grows with the number of blocks nor exceeds a few of them."""
    num_documents, block_rows = 100_000, 1000
    stream = open_documents(
        [str(write_shard(tmp_path / "a.jsonl", [make_row(number) for number in range(num_documents)]))],
        block_rows=block_rows,
    )
    maker = make_maker(stream, sampling=UNIFORM)
    cursor, used = Cursor(), []
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with closing(BlockReader(stream, maker.needed, seed=0, shuffles=True)) as reader:
        while cursor.epoch == 0:
            cursor = maker.make(reader.read(cursor)).after
            used.append(tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before)
    tracemalloc.stop()
    assert cursor.read == num_documents and len(used) == num_documents // block_rows + 1
    assert max(used[50:]) < 1.2 * max(used[:20]), used
    assert max(used) < 30_000_000, used


# --- what is drawn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all", "independent", "uniform"])
def test_at_a_rate_of_0_html_is_never_rendered(files: list[str], kind: str) -> None:
    sampling = {"kind": kind, "html_rate": 0.0} | ({"weights": {"html": 9, "url": 1}} if kind == "uniform" else {})
    maker = make_maker(open_documents(files), sampling=sampling)
    assert not any("<b>" in text for epoch in range(3) for text, _ in epoch_of(maker, epoch))
    always = make_maker(open_documents(files), sampling=sampling | {"html_rate": 1.0})
    assert sum("<b>" in text for text, _ in epoch_of(always)) == sum(number % 4 > 0 for number in range(TOTAL))


def test_the_last_tenth_of_a_curriculum_is_plain_text(files: list[str]) -> None:
    """By the share of all documents of the run, in whatever block they come."""
    facts = DocumentFacts(num_documents=2 * TOTAL)
    for block_rows in (7, 1000):
        stream = open_documents(files, block_rows=block_rows, interleave=1)
        keys: dict[str, Any] = {"facts": facts, "sampling": {"kind": "all", "curriculum": [[0, 1.0], [0.8, 0.0]]}}
        batches = take(make_loader(make_maker(stream, **keys), batch_size=1, prefetch=0), 400)
        ends = [rows_of(batch)[0][1] for batch in batches]
        num_first = len(epoch_of(make_maker(stream, facts=facts)))
        assert all(mask.startswith("1") for mask in ends[:num_first]), "the first epoch is half of the run"
        assert not any(mask.startswith("1") for mask in ends[-20:]), "long after the end of the run"
        second = counted(batches[num_first : num_first + 400])
        plain = sum(number for (_, mask), number in second.items() if "1" not in mask)
        assert plain > 0


def rendered_numbers(rows: Sequence[tuple[str, str]]) -> dict[int, bool]:
    """Of each document, by the number that its text begins with: whether it has a prefix."""
    beginnings = [(re.search(r"#(\d+) ", text), mask) for text, mask in rows]
    return {int(found[1]): mask.startswith("1") for found, mask in beginnings if found}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("interleave", [1, 3])
@pytest.mark.parametrize("block_rows", [1, 7, 1000])
@pytest.mark.parametrize(
    "curriculum",
    [[[0.9, 0.0]], [[0, 0.5]], [[0.0, 0.8], [0.4, 0.1], [0.5, 1.0], [0.95, 0.0]], [[1.0, 0.0]]],
    ids=["cool-down", "mixed throughout", "both", "never"],
)
def test_shares_of_a_curriculum_are_of_the_documents_read_wherever_blocks_end(
    files: list[str], curriculum: list[list[float]], block_rows: int, interleave: int
) -> None:
    """Document after document in the order of reading, over two epochs: each is rendered as a run would render it
    that has the probability of its place throughout."""
    stream = open_documents(files, block_rows=block_rows, interleave=interleave)
    facts = DocumentFacts(num_documents=2 * TOTAL)
    cursor, num_read = Cursor(), 0
    maker = make_maker(stream, facts=facts, sampling={"kind": "all", "curriculum": curriculum})
    always = {
        (epoch, probability): rendered_numbers(
            epoch_of(make_maker(stream, sampling={"kind": "all", "probability": probability}), epoch)
        )
        for epoch in (0, 1)
        for probability in {1.0, *(probability for _, probability in curriculum)}
    }
    with closing(BlockReader(stream, maker.needed, seed=3, shuffles=True)) as reader:
        while cursor.epoch < 2:
            block = reader.read(cursor)
            texts = [text for rows in maker.rows_of(block) for text in rows.table["text"].to_pylist()]
            made = maker.make(block)
            found = rendered_numbers(rows_in(made.rows))
            for text in texts:
                number = int(text[1:].split(" ")[0])
                passed = [probability for share, probability in curriculum if num_read / (2 * TOTAL) >= share]
                assert found[number] == always[cursor.epoch, [1.0, *passed][-1]][number], (num_read, number)
                num_read += 1
            cursor = made.after
    assert num_read == 2 * TOTAL


def test_weights_of_counts_are_part_of_the_state(files: list[str]) -> None:
    facts = DocumentFacts(TypeCounts(TOTAL, {"url": TOTAL, "title": 30, "html": 33}))
    maker = make_maker(open_documents(files), sampling={"kind": "uniform"}, facts=facts)
    loader = make_loader(maker)
    take(loader, 2)
    state = json.loads(json.dumps(loader.state_dict()))
    assert DocumentFacts.from_dict(state["maker"]) == facts
    assert DocumentFacts.from_dict({}) == DocumentFacts() and DocumentFacts().to_dict() == {}


# --- what is left out, and what is wrong ----------------------------------------------------------------------------


def test_what_is_left_out_is_counted_and_said(tmp_path: Path) -> None:
    rows = [make_row(number) for number in range(40)]
    rows[3]["text"], rows[17]["text"] = "", ""
    rows[4]["metadata"] = [{"key": "html", "type": "local", "value": "b", "char_start_idx": 900, "char_end_idx": 901}]
    rows[17]["metadata"] = []
    rows[3]["metadata"] = []
    path = write_shard(tmp_path / "a.jsonl", rows)
    path.write_text(path.read_text() + "{broken\n")
    stream = open_documents([str(path)], block_rows=6, num_rows=45)
    maker = make_maker(stream, on_bad_row="skip", on_bad_metadata="report")
    loader = make_loader(maker, batch_size=20)
    num_steps = -(-len(epoch_of(maker)) // 20) + 1
    notices = [notice for batch in take(loader, num_steps) for notice in batch.notices]
    assert [
        word
        for word in (
            "skipped so far, such as a.jsonl, line 41",
            "1 document skipped so far",
            "1 entry of metadata left out so far, such as a.jsonl, line 5",
            "num_rows = 45, but the stream has 40 usable",
        )
        if not any(word in notice for notice in notices)
    ] == []
    cursor = loader.state_dict()["cursor"]
    assert cursor["epoch"] == 1 and cursor["read"] >= 40 and cursor["short"] >= 2 and cursor["bad_entries"] >= 1
    with refused(DataError, place="a.jsonl, line 5"):
        take(make_loader(make_maker(stream, on_bad_row="skip"), batch_size=20), num_steps)
    with refused(DataError, place="a.jsonl, line 41"):
        take(make_loader(make_maker(stream, on_bad_metadata="report"), batch_size=20), num_steps)


def test_cut_prefixes_are_counted_and_said_with_their_fields(tmp_path: Path) -> None:
    """At the first and the tenth of them; the counts go on from the state."""
    rows = [make_row(number) for number in range(40)]
    for row in rows[::4]:
        row["metadata"] = [row["metadata"][0] | {"value": "u" * 40}, {"key": "title", "type": "global", "value": "T"}]
    rows[8]["text"] = ""
    stream = open_documents([str(write_shard(tmp_path / "a.jsonl", rows))], block_rows=6)
    loader = make_loader(make_maker(stream, max_length=60), batch_size=5, prefetch=0)
    num_steps = -(-len(epoch_of(make_maker(stream, max_length=60))) // 5)
    notices: list[str] = []
    with closing(iter(loader)) as batches:
        for batch in islice(batches, num_steps):
            notices += batch.notices
    said = [notice for notice in notices if "metadata.prefix_share" in notice]
    assert len(said) == 1 and "left out are url of" in said[0]
    state = json.loads(json.dumps(loader.state_dict()))
    assert state["cursor"]["cut"] == {"trimmed": 9, "left_out url": 9}
    again = take(make_loader(make_maker(stream, max_length=60), batch_size=5, prefetch=0, state=state), num_steps // 2)
    said = [notice for batch in again for notice in batch.notices if "metadata.prefix_share" in notice]
    assert len(said) == 1 and "1 document " not in said[0], "the tenth of them, in the second epoch"


def test_streams_without_a_document_are_refused(tmp_path: Path) -> None:
    stream = open_documents([str(write_shard(tmp_path / "a.jsonl", [make_row(1) | {"text": "", "metadata": []}] * 3))])
    with refused(DataError, key="metadata.min_tokens", value=1):
        take(make_loader(make_maker(stream)), 1)
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        take(make_loader(make_maker(open_documents([str(tmp_path / "b.jsonl")]))), 1)
    other = write_shard(tmp_path / "c.jsonl", [{"body": "x"}])
    with refused(DataError, key="data.columns.text", value="text"):
        take(make_loader(make_maker(open_documents([str(other)]))), 1)


def test_other_rows_in_memory_are_other_shards(files: list[str]) -> None:
    rows = [make_row(number) for number in range(9)]
    streams = [shard_of_rows(read_source(GivenSource(name="r"), given={"r": some})) for some in (rows, rows[:8], rows)]
    assert streams[0].fingerprint == streams[2].fingerprint != streams[1].fingerprint
    loader = make_loader(make_maker(streams[0]))
    take(loader, 1)
    with pytest.raises(DataError, match="have changed"):
        make_loader(make_maker(streams[1]), state=loader.state_dict())
