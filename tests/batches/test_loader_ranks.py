"""The loader's state and its ranks: the same rows in every step, from wherever it starts, however many share them."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kits import batches
from kits.batches import loader_of, store_of

from textune.batches.batch import Batch
from textune.batches.layout import cut_by_tokens, share_rows
from textune.batches.loader import Loader
from textune.batches.order import DRAWING
from textune.batches.rows import TokenRows
from textune.config.schema import RowOrder, TrainSection
from textune.data.labels.map import LABEL

ORDERS = ("shuffle", "bucket", "sequential", "weighted")
NUM_STEPS = 9
"""Three epochs of ten rows in batches of four."""


def rows_of(lengths: Sequence[int]) -> TokenRows:
    """Rows of these lengths; the target and the weight of a row tell which it is."""
    count = len(lengths)
    store = store_of(lengths, np.arange(sum(lengths)))
    return batches.rows_of(store, np.arange(count), np.arange(1, count + 1, dtype=np.float32) / count)


ROWS = rows_of([3, 1, 7, 2, 5, 4, 1, 6, 2, 3])


def make(
    section: TrainSection,
    *,
    rank: int = 0,
    world: int = 1,
    lockstep: bool = False,
    state: dict[str, int] | None = None,
) -> Loader:
    state = state or {"next_step": 0, "max_tokens": 9, "drawing": DRAWING}
    return loader_of(ROWS, section, state=state, rank=rank, world=world, lockstep=lockstep)


def take(loader: Loader, count: int) -> list[Batch]:
    iterator = iter(loader)
    batches = list(islice(iterator, count))
    iterator.close()
    return batches


def signature(batch: Batch) -> list[object]:
    parts = [
        (
            p.tokens.ids_T.tolist(),
            p.targets[LABEL].tolist(),
            None if p.weights is None else p.weights.tolist(),
            p.counts,
        )
        for p in batch.micro_batches
    ]
    everyone = None if batch.all_targets is None else batch.all_targets[LABEL].tolist()
    return [batch.step, batch.chosen.tolist(), batch.num_tokens, batch.max_tokens, everyone, *parts]


def counted_rows(batch: Batch) -> list[int]:
    return [row for part in batch.micro_batches if part.counts for row in part.tokens.rows.tolist()]


@pytest.mark.every_day(5)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_loader_goes_on_exactly_where_its_state_says(order: RowOrder, prefetch: int, world: int) -> None:
    section = TrainSection(batch_size=4, prefetch=prefetch, order=order)
    for rank in range(world):
        whole = [signature(batch) for batch in take(make(section, rank=rank, world=world), NUM_STEPS)]
        for stop in range(NUM_STEPS):
            loader = make(section, rank=rank, world=world)
            take(loader, stop)
            assert loader.state_dict() == {"next_step": stop, "max_tokens": 9, "drawing": DRAWING}
            resumed = make(section, rank=rank, world=world, state=loader.state_dict())
            assert [signature(batch) for batch in take(resumed, NUM_STEPS - stop)] == whole[stop:]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("lockstep", [False, True])
def test_ranks_together_see_the_rows_that_one_process_sees(order: RowOrder, lockstep: bool) -> None:
    section = TrainSection(batch_size=4, prefetch=0, order=order)
    alone = take(make(section), NUM_STEPS)
    for world in (2, 4, 6):
        ranks = [take(make(section, rank=rank, world=world, lockstep=lockstep), NUM_STEPS) for rank in range(world)]
        for step, one in enumerate(alone):
            shared = [batches[step] for batches in ranks]
            for batch in shared:
                assert batch.chosen.tolist() == one.chosen.tolist()
                assert (batch.step, batch.num_rows, batch.num_tokens) == (one.step, one.num_rows, one.num_tokens)
                assert batch.all_targets is not None and batch.all_targets[LABEL].tolist() == one.chosen.tolist()
            assert sorted(row for batch in shared for row in counted_rows(batch)) == sorted(counted_rows(one))
            assert sorted(counted_rows(one)) == sorted(one.chosen.tolist())


@pytest.mark.parametrize("order", ORDERS)
def test_a_state_goes_on_with_another_number_of_ranks(order: RowOrder) -> None:
    section = TrainSection(batch_size=4, prefetch=2, order=order)
    expected = [signature(batch) for batch in take(make(section, rank=1, world=2), NUM_STEPS)]
    for stop in range(NUM_STEPS):
        states = []
        for rank in range(4):
            loader = make(section, rank=rank, world=4)
            take(loader, stop)
            states.append(loader.state_dict())
        assert all(state == states[0] for state in states)
        resumed = make(section, rank=1, world=2, state=states[0])
        assert [signature(batch) for batch in take(resumed, NUM_STEPS - stop)] == expected[stop:]


def test_one_process_weighs_its_rows_by_itself() -> None:
    (batch,) = take(make(TrainSection(batch_size=4)), 1)
    assert batch.all_targets is None and batch.all_weights is None
    assert all(part.counts for part in batch.micro_batches)


def test_a_rank_without_rows_computes_the_shortest_one_which_does_not_count() -> None:
    section = TrainSection(batch_size=4, prefetch=0, order="sequential")
    for rank in range(4):
        batch = take(make(section, rank=rank, world=4), 3)[-1]  # rows 8 and 9, of 2 and 3 tokens
        assert batch.all_weights is not None
        torch.testing.assert_close(batch.all_weights, torch.tensor([0.9, 1.0]))
        (part,) = batch.micro_batches
        assert (part.tokens.rows.tolist(), part.counts) == [([9], True), ([8], True), ([8], False), ([8], False)][rank]
        assert batch.longest == [3, 2, 2, 2][rank]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.integers(2, 5),
    st.integers(40, 120),
    st.sampled_from(["packed", "padded"]),
)
def test_even_ranks_compute_equally_many_micro_batches(
    lengths: list[int], world: int, max_tokens: int, layout: str
) -> None:
    rows, section = rows_of(lengths), TrainSection(batch_size=30, prefetch=0)
    ranks = [
        next(
            iter(
                loader_of(
                    rows,
                    section,
                    layout=layout,  # type: ignore[arg-type]
                    max_tokens=max_tokens,
                    rank=rank,
                    world=world,
                    lockstep=True,
                )
            )
        )
        for rank in range(world)
    ]
    counts = [len(batch.micro_batches) for batch in ranks]
    needed = [sum(part.counts for part in batch.micro_batches) for batch in ranks]
    assert set(counts) == {max(needed)}
    chosen_lengths = np.array(lengths)[ranks[0].chosen]
    for share, number in zip(share_rows(chosen_lengths, world), needed, strict=True):
        assert number == len(cut_by_tokens(chosen_lengths[share], max_tokens, layout=layout))  # type: ignore[arg-type]
    for batch in ranks:
        assert batch.largest <= max_tokens
        idle = [part for part in batch.micro_batches if not part.counts]
        assert all(part.tokens.row_lengths.tolist() == [min(lengths)] for part in idle)
    assert sorted(row for batch in ranks for row in counted_rows(batch)) == list(range(len(lengths)))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_lower_bound_keeps_ranks_even(prefetch: int) -> None:
    section = TrainSection(batch_size=10, prefetch=prefetch, order="sequential")
    counts = []
    for rank in range(4):
        loader = make(section, rank=rank, world=4, lockstep=True)
        iterator = iter(loader)
        batch = next(iterator)
        lowered = loader.lower_budget(batch, 7)
        assert sorted(counted_rows(lowered)) == sorted(counted_rows(batch))
        again = next(iterator)
        assert (lowered.max_tokens, again.max_tokens, again.step) == (7, 7, 1)
        assert max(lowered.largest, again.largest) <= 7 < batch.largest
        counts.append((len(batch.micro_batches), len(lowered.micro_batches), len(again.micro_batches)))
        iterator.close()
    assert len(set(counts)) == 1 and counts[0][1] > counts[0][0]


def test_weights_count_in_the_draw_or_in_the_loss_but_not_in_both() -> None:
    for order in ORDERS:
        for world in (1, 2):
            (batch,) = take(make(TrainSection(batch_size=4, order=order), world=world), 1)
            in_loss = [part.weights is not None for part in batch.micro_batches]
            assert set(in_loss) == {order != "weighted"}
            assert (batch.all_weights is not None) == (order != "weighted" and world == 2)
