"""The plan of a run: its steps and epochs, whether or not anyone knows how many rows there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textune.batches.order import plan_epoch
from textune.batches.plan import Plan
from textune.config.schema import TrainSection
from textune.config.values import Duration


def test_a_run_of_known_length_counts_steps_and_epochs() -> None:
    plan = Plan.of(TrainSection(batch_size=16, duration="2.5 epochs", seed=7, order="bucket"), 100)
    assert (plan.steps_per_epoch, plan.total_steps, plan.num_epochs) == (7, 18, 18 / 7)
    assert (plan.order, plan.seed) == ("bucket", 7)
    assert plan.steps(Duration(0.5, "epochs")) == 4 and plan.steps(Duration(5, "steps")) == 5
    assert plan.steps(Duration(0, "epochs")) == 0 and plan.steps(Duration(0.01, "epochs")) == 1
    assert plan.epochs_at(7) == 1.0 and plan.place_of(13) == (1, 6) and plan.place_of(14) == (2, 0)


def test_a_run_of_unknown_length_is_one_epoch() -> None:
    plan = Plan.of(TrainSection(duration="40 steps"), None)
    assert (plan.steps_per_epoch, plan.total_steps, plan.num_epochs) == (40, 40, None)
    assert plan.epochs_at(10) == 0.25


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 3))
def test_an_epoch_has_as_many_batches_as_it_says(num_rows: int, batch_size: int, epoch: int) -> None:
    plan = Plan(num_rows, batch_size, Duration(1, "epochs"))
    batches = plan.batches(epoch, np.ones(num_rows, dtype=np.int64))
    assert len(batches) == plan.steps_per_epoch == plan.total_steps
    assert sum(map(len, batches)) == num_rows


@pytest.mark.parametrize("order", ["shuffle", "bucket", "weighted"])
def test_batches_are_those_of_the_order(order: str) -> None:
    lengths, weights = np.arange(1, 41), np.linspace(0, 1, 40, dtype=np.float32)
    plan = Plan.of(TrainSection(batch_size=8, seed=3, order=order), 40)
    expected = plan_epoch(lengths, batch_size=8, order=plan.order, seed=3, epoch=2, weights_N=weights)
    assert [batch.tolist() for batch in plan.batches(2, lengths, weights)] == [batch.tolist() for batch in expected]
