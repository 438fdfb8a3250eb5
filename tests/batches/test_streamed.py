"""The order of a stream: every row once an epoch, the same batches from any state, little read again, little in
memory."""

import json
import tracemalloc
import weakref
from collections.abc import Mapping
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kits.backbones import tiny_backbone
from kits.streams import SIZES, make_loader, make_rows, numbers, open_rows, signature, take, write_shard, write_shards
from transformers import AutoTokenizer

from textune.batches.assembler import Assembler
from textune.batches.maker import MadeRows, TextMaker
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows, join_rows
from textune.batches.streamed import StreamLoader
from textune.batches.tokens import TextEncoder
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import Columns, Labels
from textune.data.labels.map import LABEL, LabelMap
from textune.data.shards import reader as shards
from textune.data.shards.blocks import Block, BlockReader, Cursor
from textune.data.shards.labelled import LabelledBlock, RowStream
from textune.errors import DataError

TOTAL = sum(SIZES.values())
TONE = LabelMap("binary", ("neg", "pos"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_shards(tmp_path_factory.mktemp("shards"))


def read_block(stream: RowStream, order: Any, cursor: Cursor | None = None) -> LabelledBlock:
    with closing(BlockReader(stream.source, stream.needed, seed=0, shuffles=order == "shuffle")) as reader:
        return stream.labelled(reader.read(cursor or Cursor()))


def epochs_of(batches: list[Any], num_epochs: int, batch_size: int) -> list[list[int]]:
    steps = -(-TOTAL // batch_size)
    return [
        [n for b in batches[epoch * steps : (epoch + 1) * steps] for n in numbers(b)] for epoch in range(num_epochs)
    ]


@pytest.mark.parametrize(("block_rows", "interleave"), [(16, 3), (3, 2), (1, 4), (1000, 100), (5, 1)])
def test_every_row_once_an_epoch_in_an_order_of_its_own(
    files: list[str], tokenizer: Any, block_rows: int, interleave: int
) -> None:
    """Also where a block is smaller than a batch, or than the shards side by side."""
    stream = open_rows(files, block_rows=block_rows, interleave=interleave)
    steps = -(-TOTAL // 7)
    batches = take(make_loader(stream, tokenizer, prefetch=0), 3 * steps)
    assert [batch.step for batch in batches] == list(range(3 * steps))
    assert [batch.num_rows for batch in batches] == ([7] * (steps - 1) + [TOTAL - 7 * (steps - 1)]) * 3
    epochs = epochs_of(batches, 3, 7)
    assert all(sorted(epoch) == list(range(TOTAL)) for epoch in epochs)
    assert all(one != other for one, other in pairwise(epochs))
    other_seed = take(make_loader(stream, tokenizer, prefetch=0, seed=4), steps)
    assert [numbers(batch) for batch in other_seed] != [numbers(batch) for batch in batches[:steps]]


def test_sequential_is_the_order_of_the_shards(files: list[str], tokenizer: Any) -> None:
    stream = open_rows(files, block_rows=10)
    batches = take(make_loader(stream, tokenizer, order="sequential"), 18)
    epochs = [[n for batch in batches[start : start + 9] for n in sorted(numbers(batch))] for start in (0, 9)]
    assert epochs == [list(range(TOTAL))] * 2


def test_a_block_mixes_shards(files: list[str]) -> None:
    stream = open_rows(files, block_rows=12, interleave=4)
    block = read_block(stream, "shuffle")
    names = {block.examples.place(index).partition(",")[0] for index in range(len(block.examples))}
    assert len(names) >= 4
    # The place of every row is its own, whatever was shuffled.
    starts = dict(zip(SIZES, np.cumsum([0, *SIZES.values()]), strict=False))
    for index, target in enumerate(block.targets[LABEL]):
        name, unit = block.examples.place(index).split(", ")
        assert target == starts[name] + int(unit.split()[1]) - 1


@pytest.mark.every_day(1)
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize(("block_rows", "interleave"), [(16, 3), (4, 2)])
def test_from_the_state_of_any_step_the_same_batches_follow(
    files: list[str], tokenizer: Any, prefetch: int, block_rows: int, interleave: int
) -> None:
    stream = open_rows(files, block_rows=block_rows, interleave=interleave)
    num_steps = 3 * -(-TOTAL // 7)
    whole, states = [], []
    loader = make_loader(stream, tokenizer, prefetch=prefetch)
    states.append(loader.state_dict())
    batches = iter(loader)
    for batch in islice(batches, num_steps):
        whole.append(signature(batch))
        states.append(json.loads(json.dumps(loader.state_dict())))
    batches.close()
    for step in range(num_steps):
        resumed = make_loader(stream, tokenizer, prefetch=prefetch, state=states[step])
        assert resumed.state_dict() == states[step]
        assert [signature(batch) for batch in take(resumed, min(9, num_steps - step))] == whole[step : step + 9]


def test_going_on_reads_one_block_again_however_far_the_run_is(
    files: list[str], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    for kind in (shards._JsonlReader, shards._ParquetReader):

        def count(reader: Any, num_rows: int, read: Any = kind.read) -> Any:
            piece, num = read(reader, num_rows)
            taken.append(num)
            return piece, num

        monkeypatch.setattr(kind, "read", count)
    stream = open_rows(files, block_rows=8, interleave=3)
    loader = make_loader(stream, tokenizer, prefetch=0)
    states = []
    with closing(iter(loader)) as batches:
        for _ in islice(batches, 200):
            states.append(loader.state_dict())
    assert sum(taken) > 20 * TOTAL
    for state in states[::7]:
        taken.clear()
        take(make_loader(stream, tokenizer, prefetch=0, state=state), 1)
        # The block it begins in, and those that a batch of 7 rows reaches into.
        assert 0 < sum(taken) <= 8 * 3


def test_parquet_goes_on_within_its_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "big.parquet", make_rows(0, 1000), row_group_size=100)
    stream = open_rows([str(path)], block_rows=60, interleave=1)
    groups: list[int] = []
    batches = shards.pq.ParquetFile.iter_batches

    def note(file: Any, *arguments: Any, **keys: Any) -> Any:
        groups.extend(keys["row_groups"])
        return batches(file, *arguments, **keys)

    monkeypatch.setattr(shards.pq.ParquetFile, "iter_batches", note)
    block = read_block(stream, "sequential", Cursor(block=9, opened=1, slots=((0, shards.Position(540, 540)),)))
    assert block.targets[LABEL].tolist() == list(range(540, 600))
    assert block.examples.place(0) == "big.parquet, row 541"
    assert groups == [5]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_steps_of_one_process(files: list[str], tokenizer: Any, world: int) -> None:
    """Each rank assembles its own rows of the same batch; a state of one number of ranks serves any other."""
    stream = open_rows(files, block_rows=16, interleave=3)
    section, encoder = TrainSection(batch_size=8, seed=3), TextEncoder(tokenizer, TokensSection(max_length=16))
    maker = TextMaker(stream, encoder)

    def loader_of(rank: int, of: int, state: Any = None) -> StreamLoader:
        assembler = Assembler("packed", 0, rank=rank, world=of)
        return StreamLoader(maker, Plan.of(section, None), assembler, prefetch=section.prefetch, state=state)

    alone = loader_of(0, 1)
    whole = [sorted(numbers(batch)) for batch in take(alone, 16)]
    ranks = [loader_of(rank, world) for rank in range(world)]
    shares = [take(rank, 9) for rank in ranks]
    assert [sorted(n for share in shares for n in numbers(share[step])) for step in range(9)] == whole[:9]
    states = [rank.state_dict() for rank in ranks]
    assert all(state == states[0] for state in states)
    for other in (1, 3, 4):
        shares = [take(loader_of(rank, other, states[0]), 7) for rank in range(other)]
        assert [sorted(n for share in shares for n in numbers(share[step])) for step in range(7)] == whole[9:]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_lower_bound_cuts_this_batch_and_all_after_it(files: list[str], tokenizer: Any, prefetch: int) -> None:
    stream = open_rows(files, block_rows=16)
    loader = make_loader(stream, tokenizer, prefetch=prefetch, batch_size=10)
    batches = iter(loader)
    seen = [next(batches) for _ in range(3)]
    assert all(len(batch.micro_batches) == 1 for batch in seen)
    again = loader.lower_budget(seen[-1], 24)
    assert (again.step, sorted(numbers(again)), again.largest <= 24) == (2, sorted(numbers(seen[-1])), True)
    for batch in islice(batches, 5):
        assert batch.largest <= 24 and batch.max_tokens == 24
    batches.close()
    state = loader.state_dict()
    assert (state["max_tokens"], state["next_step"]) == (24, 8)
    assert make_loader(stream, tokenizer, state=state).max_tokens == 24


def test_pairs_weights_and_templates_go_with_their_rows(tmp_path: Path, tokenizer: Any) -> None:
    """Also where a batch is made of several blocks, and where a key is left out."""
    rows = [
        {
            "title": "good",
            "body": "film",
            "second": "very dull",
            "label": n,
            "weight": n / 8,
            **({"more": "x"} if n == 5 else {}),
        }
        for n in range(12)
    ]
    del rows[3]["body"], rows[7]["second"]
    names = [
        write_shard(tmp_path / name, rows[at : at + 4])
        for name, at in (("a.jsonl", 0), ("b.parquet", 4), ("c.jsonl", 8))
    ]
    columns = Columns(template="{title}: {body}", text_pair="second", weight="weight")
    stream = open_rows([str(name) for name in names], columns=columns, block_rows=2, interleave=2)
    seen: dict[int, Any] = {}
    for batch in take(make_loader(stream, tokenizer, prefetch=0, batch_size=5), 3):
        for part in batch.micro_batches:
            assert part.weights is not None
            assert part.weights.tolist() == [target / 8 for target in part.targets[LABEL].tolist()]
            assert part.tokens.types_T is not None
        for part in batch.micro_batches:
            ends = np.cumsum([group.length for group in part.tokens.groups for _ in range(group.rows)])
            for end, length, real, target in zip(
                ends,
                [group.length for group in part.tokens.groups for _ in range(group.rows)],
                part.tokens.row_lengths,
                part.targets[LABEL].tolist(),
                strict=True,
            ):
                seen[int(target)] = part.tokens.ids_T[end - length : end - length + real].tolist()
    plain = tokenizer("good: film", "very dull")["input_ids"]
    wanted = {n: plain for n in range(12)}
    wanted[3] = tokenizer("good: ", "very dull")["input_ids"]
    wanted[7] = tokenizer("good: film")["input_ids"] + [tokenizer.sep_token_id]
    assert seen == wanted


def test_bad_rows_are_left_out_counted_and_reported(tmp_path: Path, tokenizer: Any) -> None:
    lines = [json.dumps(row) for row in make_rows(0, 40)]
    lines[4], lines[11], lines[30] = "{broken", '{"text": "no label"}', '{"text": "x", "label": "seven"}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n\n")
    write_shard(tmp_path / "b.jsonl", make_rows(100, 5))
    stream = open_rows([str(tmp_path / "*.jsonl")], block_rows=6, interleave=2, on_bad_row="skip", num_rows=45)
    loader = make_loader(stream, tokenizer, batch_size=6)
    batches = take(loader, 14)
    kept = sorted(set(range(40)) - {4, 11, 30} | set(range(100, 105)))
    assert sorted(n for batch in batches[:7] for n in numbers(batch)) == kept
    assert sorted(n for batch in batches[7:] for n in numbers(batch)) == kept
    notices = [notice for batch in batches for notice in batch.notices]
    assert len(notices) == 2
    assert any(n.startswith("1 row of the stream skipped so far, such as a.jsonl, line 5: not JSON") for n in notices)
    assert any("num_rows = 45, but the stream has 42 usable rows" in notice for notice in notices)
    assert loader.state_dict()["cursor"]["skipped"] == 6
    strict = open_rows([str(tmp_path / "*.jsonl")], block_rows=6, interleave=2)
    with pytest.raises(DataError, match=r"a\.jsonl, line 5: not JSON.*on_bad_row"):
        take(make_loader(strict, tokenizer), 14)


def test_longer_rows_are_left_out_and_counted(files: list[str], tokenizer: Any) -> None:
    stream = open_rows(files, block_rows=10, num_rows=33)
    loader = make_loader(stream, tokenizer, drop_longer=7, batch_size=11)
    batches = take(loader, 6)
    kept = [number for number in range(TOTAL) if 1 + number % 9 + 2 <= 7]
    assert len(kept) == 35
    epoch = batches[:4]
    assert sorted(n for batch in epoch for n in numbers(batch)) == kept
    notices = [notice for batch in batches for notice in batch.notices]
    assert any("longer than 7 tokens" in notice for notice in notices)
    assert any("num_rows = 33, but the stream has 35 usable rows" in notice for notice in notices)
    assert loader.state_dict()["cursor"]["longer"] >= TOTAL - 35
    states = []
    loader = make_loader(stream, tokenizer, drop_longer=7, batch_size=11)
    with closing(iter(loader)) as batches_again:
        for _ in islice(batches_again, 6):
            states.append(loader.state_dict())
    resumed = make_loader(stream, tokenizer, drop_longer=7, batch_size=11, state=states[2])
    assert [numbers(batch) for batch in take(resumed, 3)] == [numbers(batch) for batch in batches[3:]]
    with pytest.raises(DataError, match="drop_longer = 1 leaves no row"):
        take(make_loader(stream, tokenizer, drop_longer=1), 1)


def test_a_few_blocks_are_alive_however_long_the_stream_is(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_shard(tmp_path / "a.jsonl", make_rows(0, 800))
    made: list[weakref.ref[Any]] = []
    most = 0
    make = TextMaker.make

    def note(maker: TextMaker, block: Block) -> MadeRows:
        nonlocal most
        result = make(maker, block)
        made.append(weakref.ref(result.rows.store.ids))
        most = max(most, sum(one() is not None for one in made))
        return result

    monkeypatch.setattr(TextMaker, "make", note)
    batches = take(make_loader(open_rows([str(path)], block_rows=10), tokenizer, batch_size=8), 100)
    assert sum(batch.num_rows for batch in batches) == 800
    assert len(made) >= 80 and 1 <= most <= 6


@pytest.mark.every_day(2)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_memory_is_that_of_a_block_and_not_of_a_shard(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "PARQUET_ROWS", 50)
    rows = [{"text": f"{number} " * 1000, "label": float(number)} for number in range(4000)]
    size = sum(len(row["text"]) for row in rows)
    write_shard(tmp_path / name, rows, row_group_size=200)
    del rows
    stream, cursor, largest, seen = open_rows([str(tmp_path / name)], block_rows=50), Cursor(), 0, 0
    before = pa.total_allocated_bytes()
    with closing(BlockReader(stream.source, stream.needed, seed=0, shuffles=True)) as reader:
        tracemalloc.start()
        while cursor.epoch == 0:
            block = reader.read(cursor)
            examples = stream.labelled(block).examples
            cursor = block.counted(rows=len(examples), skipped=0)
            seen += len(examples)
            largest = max(largest, pa.total_allocated_bytes() - before)
        largest += tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seen == 4000
    assert largest < size / 2 > 9_000_000


def test_other_shards_are_refused(files: list[str], tokenizer: Any, tmp_path: Path) -> None:
    stream = open_rows(files, block_rows=16)
    loader = make_loader(stream, tokenizer)
    take(loader, 3)
    state = loader.state_dict()
    with pytest.raises(DataError, match=r"shards of data\.train \(a\.jsonl and 4 more shards\) have changed"):
        make_loader(open_rows(files[:-1], block_rows=16), tokenizer, state=state)
    # Neither the batch size nor the number of rows that was declared is part of the order.
    assert take(make_loader(open_rows(files, block_rows=16, num_rows=5), tokenizer, state=state, batch_size=4), 1)


def test_a_shard_that_goes_or_changes_in_the_middle_is_named(tmp_path: Path, tokenizer: Any) -> None:
    sizes = {"a.jsonl": 30, "b.jsonl": 30}
    files = write_shards(tmp_path, sizes)
    for change, words in ((Path.unlink, r"b\.jsonl cannot be read: No such file"), (append_row, r"b\.jsonl changed")):
        stream = open_rows(files, block_rows=10, interleave=1)
        with closing(iter(make_loader(stream, tokenizer, prefetch=0, order="sequential"))) as batches:
            next(batches)
            change(tmp_path / "b.jsonl")
            with pytest.raises(DataError, match=words):
                list(islice(batches, 8))
        write_shards(tmp_path, sizes)


def append_row(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"text": "late", "label": 1}\n')


def test_classes_and_lists_of_labels(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": ["pos", "neg"][n % 2], "tags": [["x"], [], ["y", "x"]][n % 3]} for n in range(12)]
    files = [str(write_shard(tmp_path / f"{at}.jsonl", rows[at : at + 4])) for at in (0, 4, 8)]
    stream = open_rows(
        files,
        label_map=TONE,
        labels=Labels(names=("neg", "pos")),
        block_rows=5,
    )
    block = read_block(stream, "sequential")
    assert block.targets[LABEL].tolist() == [1, 0, 1, 0, 1] and block.targets[LABEL].dtype == np.int64
    label_map = LabelMap("multilabel", ("x", "y"), multi_hot=False)
    labels = Labels(names=("x", "y"))
    stream = open_rows(files, columns=Columns(label="tags"), label_map=label_map, labels=labels, block_rows=3)
    block = read_block(stream, "sequential")
    assert block.targets[LABEL].tolist() == [[1, 0], [0, 0], [1, 1]]
    files = [str(write_shard(tmp_path / "bad.jsonl", [{"text": "a", "label": "nge"}]))]
    stream = open_rows(files, label_map=TONE, labels=Labels(names=("neg", "pos")))
    with pytest.raises(
        DataError, match=r"bad\.jsonl, line 1: the label 'nge' is not one of the 2 labels.*Did you mean 'neg'"
    ):
        read_block(stream, "shuffle")


def test_streams_without_rows_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    (tmp_path / "b.jsonl").write_text("")
    stream = open_rows([str(tmp_path / "*.jsonl")])
    with pytest.raises(DataError, match="holds no rows"):
        take(make_loader(stream, tokenizer), 1)
    with pytest.raises(DataError, match="holds no rows"):
        stream.first_examples()
    (tmp_path / "a.jsonl").write_text("{nonsense\n")
    stream = open_rows([str(tmp_path / "*.jsonl")], on_bad_row="skip")
    with pytest.raises(DataError, match=r"no row can be used\. a\.jsonl, line 1: not JSON"):
        take(make_loader(stream, tokenizer), 1)


def test_a_cursor_survives_json() -> None:
    cursor = Cursor(2, 7, 5, ((3, shards.Position(10, 2)), (0, shards.Position(0, 0))), 70, 1, 2)
    state: Mapping[str, Any] = json.loads(json.dumps(cursor.to_dict()))
    assert Cursor.from_dict(state) == cursor


def test_rows_of_several_stores_become_those_of_one(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer, TokensSection(max_length=16))
    one, two = encoder.encode(["a film", "good", "the"]), encoder.encode(["very dull"])
    parts = [
        TokenRows(one, np.array([2, 0]), {LABEL: np.array([0, 1, 2])}, np.array([2, 9, 1], np.float32)),
        TokenRows(two, np.array([0]), {LABEL: np.array([5])}, np.array([3], np.float32)),
    ]
    joined = join_rows(parts)
    wanted = encoder.encode(["the", "a film", "very dull"])
    assert (
        joined.store.ids.tolist() == wanted.ids.tolist() and joined.store.offsets.tolist() == wanted.offsets.tolist()
    )
    assert (joined.targets[LABEL].tolist(), joined.weights.tolist()) == ([2, 0, 5], [1, 2, 3])  # type: ignore[union-attr]
