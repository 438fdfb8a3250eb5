"""The loader: the plan's rows, laid out; the same from any step on."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from kits.batches import loader_of, rows_of, store_of

from textune.batches.assembler import Assembler
from textune.batches.batch import Batch, collate, to_device
from textune.batches.loader import Loader
from textune.batches.order import DRAWING, plan_epoch
from textune.batches.plan import Plan
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.schema import TrainSection
from textune.data.labels.map import LABEL
from textune.errors import RunError


@pytest.fixture
def store() -> TokenStore:
    lengths = np.array([3, 1, 7, 2, 5, 4, 1, 6, 2, 3])
    # The id of a token tells its row (tens) and its position (units).
    ids = np.concatenate([100 + 10 * row + np.arange(n) for row, n in enumerate(lengths)]).astype(np.int32)
    return store_of(lengths, ids, ids % 2)


@pytest.fixture
def rows(store: TokenStore) -> TokenRows:
    return rows_of(store, np.arange(10) % 3, np.linspace(0.1, 1, 10, dtype=np.float32))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_collate_keeps_every_token_of_every_row(store: TokenStore, layout: str) -> None:
    indices = np.argsort(store.lengths, kind="stable")
    batch = collate(store, indices, layout=layout, pad_id=9)  # type: ignore[arg-type]
    assert batch.lengths_B.tolist() == sorted(store.lengths.tolist())
    at, row = 0, 0
    for group in batch.groups:
        for _ in range(group.rows):
            index, length = indices[row], int(batch.lengths_B[row])
            assert batch.ids_T[at : at + length].tolist() == [100 + 10 * index + i for i in range(length)]
            assert (batch.ids_T[at + length : at + group.length] == 9).all()
            assert batch.positions_T[at : at + group.length].tolist() == list(range(group.length))
            assert batch.types_T is not None
            assert batch.types_T[at : at + length].tolist() == [i % 2 for i in range(length)]
            at, row = at + group.length, row + 1
    assert at == len(batch.ids_T) and row == len(indices)


def test_types_that_are_all_zero_are_left_out(store: TokenStore) -> None:
    zeros = replace(store, columns={**store.columns, "types": np.zeros_like(store.ids, dtype=np.uint8)})
    assert collate(zeros, np.array([1, 3]), layout="packed", pad_id=0).types_T is None


def signature(batch: Batch) -> list[object]:
    parts = batch.micro_batches
    return [
        batch.step,
        *[
            (p.tokens.ids_T.tolist(), p.targets[LABEL].tolist(), None if p.weights is None else p.weights.tolist())
            for p in parts
        ],
    ]


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_hold_each_row_once_an_epoch_with_its_target_and_weight(rows: TokenRows, prefetch: int) -> None:
    section = TrainSection(batch_size=4, max_tokens=9, prefetch=prefetch)
    loader = loader_of(rows, section)
    batches = list(islice(iter(loader), 6))
    assert [batch.step for batch in batches] == list(range(6))
    assert [batch.num_rows for batch in batches] == [4, 4, 2] * 2
    for epoch in (batches[:3], batches[3:]):
        seen = []
        for part in (part for batch in epoch for part in batch.micro_batches):
            assert int(part.tokens.lengths_B.sum()) <= 9 or len(part.tokens.rows) == 1
            assert part.targets[LABEL].tolist() == (part.tokens.rows % 3).tolist()
            assert torch.equal(part.weights, torch.from_numpy(rows.weights[part.tokens.rows]))  # type: ignore[arg-type, index]
            seen += part.tokens.rows.tolist()
        assert sorted(seen) == list(range(10))
        assert sum(batch.num_tokens for batch in epoch) == 34
    assert [signature(b) for b in batches[:3]] != [signature(b) for b in batches[3:]]


def test_an_error_in_the_thread_reaches_the_loop(rows: TokenRows) -> None:
    broken = replace(rows, example_targets={LABEL: np.array([])})
    with pytest.raises(IndexError):
        next(iter(loader_of(broken, TrainSection())))


def test_the_plan_reads_only_the_chosen_rows(rows: TokenRows) -> None:
    chosen = TokenRows(rows.store, np.array([2, 5, 7]), {LABEL: np.arange(10) * 10}, None)
    batch = next(iter(loader_of(chosen, TrainSection(order="sequential"))))
    part = batch.micro_batches[0]
    assert part.targets[LABEL].tolist() == (part.tokens.rows * 10).tolist()
    assert part.weights is None


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_a_lower_bound_cuts_this_batch_and_all_after_it(rows: TokenRows, prefetch: int) -> None:
    """Also those that were prepared before it was lowered: the same rows and steps as with that bound from the
    start."""
    section = TrainSection(batch_size=5, max_tokens=40, prefetch=prefetch)
    small = loader_of(rows, section, max_tokens=9)
    expected = [signature(batch) for batch in islice(iter(small), 8)]
    loader = loader_of(rows, section)
    batches = iter(loader)
    seen = [next(batches) for _ in range(3)]
    assert all(len(batch.micro_batches) == 1 and batch.largest > 9 for batch in seen)
    again = loader.lower_budget(seen[-1], 9)
    assert (again.num_rows, again.num_tokens, again.longest) == (5, seen[-1].num_tokens, seen[-1].longest)
    assert again.largest <= 9 < seen[-1].largest
    assert [signature(batch) for batch in (again, *islice(batches, 5))] == expected[2:]
    batches.close()
    assert loader.state_dict() == {"next_step": 8, "max_tokens": 9, "drawing": DRAWING}


def test_a_run_of_version_0_1_0_keeps_its_order(rows: TokenRows) -> None:
    """Its checkpoints do not say how they drew it; what it saves from here on does."""
    section = TrainSection(batch_size=4, max_tokens=9, prefetch=0, order="bucket")
    loader = loader_of(rows, section, state={"next_step": 2, "max_tokens": 9})
    batches = list(islice(iter(loader), 4))
    old = [plan_epoch(rows.lengths, batch_size=4, order="bucket", seed=0, epoch=epoch, drawing=1) for epoch in (0, 1)]
    assert [batch.chosen.tolist() for batch in batches] == [chosen.tolist() for chosen in (*old[0][2:], *old[1])]
    state = loader.state_dict()
    assert state == {"next_step": 6, "max_tokens": 9, "drawing": 1}
    again = loader_of(rows, section, state=state)
    third = plan_epoch(rows.lengths, batch_size=4, order="bucket", seed=0, epoch=2, drawing=1)
    assert [batch.chosen.tolist() for batch in islice(iter(again), 3)] == [chosen.tolist() for chosen in third]
    new = plan_epoch(rows.lengths, batch_size=4, order="bucket", seed=0, epoch=2)
    assert [chosen.tolist() for chosen in third] != [chosen.tolist() for chosen in new]


def test_an_order_that_a_later_version_drew_is_refused(rows: TokenRows) -> None:
    with pytest.raises(RunError, match="way 99"):
        loader_of(rows, TrainSection(), state={"next_step": 0, "max_tokens": 9, "drawing": 99})


def test_a_bound_that_nobody_chose_leaves_batches_whole(rows: TokenRows) -> None:
    for bound, parts in ((None, 1), (9, 2)):
        loader = loader_of(rows, TrainSection(batch_size=5, order="sequential"), max_tokens=bound)
        assert len(next(iter(loader)).micro_batches) >= parts
        assert (len(next(iter(loader)).micro_batches) == 1) == (bound is None)


def test_lengths_are_on_the_host_too(store: TokenStore) -> None:
    batch = collate(store, np.argsort(store.lengths, kind="stable"), layout="packed", pad_id=0)
    assert isinstance(batch.row_lengths, np.ndarray)
    assert batch.row_lengths.tolist() == batch.lengths_B.tolist()
    assert batch.num_laid_out == len(batch.ids_T)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a CUDA device")
def test_pinned_batches_reach_the_device_whole(rows: TokenRows) -> None:
    section = TrainSection(batch_size=5, max_tokens=9)
    device = torch.device("cuda")
    plain, pinned = (iter(loader_of(rows, section, pin_memory=pin)) for pin in (False, True))
    for batch, other in islice(zip(plain, pinned, strict=False), 200):
        copied = [part.tokens.to(device) for part in other.micro_batches]
        for part, pinned_part, tokens in zip(batch.micro_batches, other.micro_batches, copied, strict=True):
            assert pinned_part.tokens.ids_T.is_pinned() and pinned_part.targets[LABEL].is_pinned()
            assert not part.tokens.ids_T.is_pinned()
            for name in ("ids_T", "types_T", "positions_T", "lengths_B"):
                assert torch.equal(getattr(tokens, name).cpu(), getattr(part.tokens, name))
            assert torch.equal(to_device(pinned_part.targets[LABEL], device).cpu(), part.targets[LABEL])


def test_fewer_rows_than_the_plan_was_made_for_begin_again(rows: TokenRows) -> None:
    """An epoch is one of the rows that the loader was given; steps beyond it do not wait for rows that never come."""
    section = TrainSection(batch_size=4, order="sequential", prefetch=0)
    batches = iter(Loader(rows, Plan.of(section, 1_000), Assembler("packed", 0), prefetch=0))
    per_epoch = -(-len(rows) // 4)
    sizes = [batch.num_rows for batch in islice(batches, 2 * per_epoch)]
    batches.close()
    assert sizes[:per_epoch] == sizes[per_epoch:] and sum(sizes) == 2 * len(rows)
