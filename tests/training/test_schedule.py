"""Learning rates, stopping, durations."""

import math

import pytest
import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from textune.config.updaterules import EarlyStopping
from textune.training.schedule import learning_rate
from textune.training.stopping import BestTracker


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_rates_are_those_of_transformers(kind: str, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = {
        "linear": lambda: get_linear_schedule_with_warmup(optimizer, warmup, 30),
        "cosine": lambda: get_cosine_schedule_with_warmup(optimizer, warmup, 30),
        "constant": lambda: get_constant_schedule_with_warmup(optimizer, warmup),
    }[kind]()
    for step in range(30):
        wanted = schedule.get_last_lr()[0]
        assert learning_rate(step, kind=kind, peak=3e-4, warmup_steps=warmup, total_steps=30) == pytest.approx(
            wanted, abs=1e-18
        )  # type: ignore[arg-type]
        optimizer.step()
        schedule.step()


def test_the_best_is_the_best_by_any_margin_in_the_right_direction() -> None:
    higher = BestTracker(EarlyStopping(), higher_is_better=True)
    assert [higher.update(v, i).is_best for i, v in enumerate([0.5, 0.4, 0.6, 0.6, math.nan])] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert (higher.best_value, higher.best_step) == (0.6, 2)
    lower = BestTracker(EarlyStopping(), higher_is_better=False)
    assert [lower.update(v, i).is_best for i, v in enumerate([0.5, 0.4, 0.6])] == [True, True, False]


def test_patience_counts_evaluations_without_enough_improvement() -> None:
    tracker = BestTracker(EarlyStopping(patience=2, threshold=0.1), higher_is_better=True)
    verdicts = [tracker.update(value, step) for step, value in enumerate([0.5, 0.55, 0.61, 0.62, 0.63])]
    # 0.55 is best but no improvement; 0.61 is one over the reference 0.5; then two without.
    assert [verdict.should_stop for verdict in verdicts] == [False, False, False, False, True]
    assert [verdict.is_best for verdict in verdicts] == [True] * 5
    never = BestTracker(EarlyStopping(), higher_is_better=True)
    assert not any(never.update(0.0, step).should_stop for step in range(50))
