"""Learning rates, stopping, durations."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from textune.config.fields import keys_of, variants
from textune.config.schema import TrainSection
from textune.config.updaterules import EarlyStopping, Schedule
from textune.training.schedule import SCHEDULES, depends_on_the_end, learning_rate
from textune.training.stopping import BestTracker

SETTINGS: list[dict[str, Any]] = [
    {"kind": "linear"},
    {"kind": "cosine"},
    *({"kind": "cosine_with_restarts", "num_cycles": cycles} for cycles in (1, 2, 3, 7)),
    *({"kind": "polynomial", "power": power, "lr_end": end} for power in (0.5, 1, 2, 3.7) for end in (0, 1e-7, 1e-4)),
    {"kind": "constant"},
    {"kind": "constant_with_warmup"},
    *({"kind": "inverse_sqrt", **more} for more in ({}, {"timescale": 1}, {"timescale": 12}, {"timescale": 10_000})),
]
THEIRS: dict[str, Callable[..., Any]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": lambda optimizer, warmup, total: get_constant_schedule_with_warmup(optimizer, warmup),
    "constant_with_warmup": lambda optimizer, warmup, total: get_constant_schedule_with_warmup(optimizer, warmup),
    "inverse_sqrt": lambda optimizer, warmup, total, **more: get_inverse_sqrt_schedule(optimizer, warmup, **more),
}


@pytest.mark.every_day(5)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: " ".join(map(str, setting.values())))
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 30), (1, 30), (7, 30), (29, 30), (30, 31), (100, 1001)])
@pytest.mark.parity("TW-14", "AZ-09")
def test_rates_are_those_of_transformers_at_every_step(setting: dict[str, Any], warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    section: Schedule = TypeAdapter(Schedule).validate_python(setting)
    more = {name: value for name, value in setting.items() if name != "kind"}
    theirs = THEIRS[section.kind](optimizer, warmup, total, **more)
    for step in range(total):
        ours = learning_rate(step, schedule=section, peak=3e-4, warmup_steps=warmup, total_steps=total)
        assert abs(ours - theirs.get_last_lr()[0]) <= 1e-12
        optimizer.step()
        theirs.step()


def test_every_kind_of_schedule_has_its_shape_and_is_compared() -> None:
    kinds = set(variants(keys_of(TrainSection)["schedule"]))
    assert kinds == set(SCHEDULES) == set(THEIRS) == {setting["kind"] for setting in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: " ".join(map(str, setting.values())))
def test_only_a_schedule_that_does_not_know_the_end_has_the_same_rates_in_a_longer_run(
    setting: dict[str, Any],
) -> None:
    section: Schedule = TypeAdapter(Schedule).validate_python(setting)
    short, long = (
        [learning_rate(step, schedule=section, peak=1e-3, warmup_steps=3, total_steps=total) for step in range(20)]
        for total in (20, 33)
    )
    values = {f"train.schedule.{name}": value for name, value in section.model_dump(mode="json").items()}
    assert (short != long) is depends_on_the_end(values)
    assert depends_on_the_end(values | {"train.schedule.warmup": "6 %"})


@pytest.mark.parity("AZ-17")
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


def test_the_last_may_be_kept_while_patience_still_counts() -> None:
    tracker = BestTracker(EarlyStopping(patience=2), higher_is_better=True, keep="last")
    verdicts = [tracker.update(value, step) for step, value in enumerate([0.5, 0.4, math.nan, 0.3])]
    assert [verdict.is_best for verdict in verdicts] == [True, True, True, True]
    assert [verdict.should_stop for verdict in verdicts] == [False, False, True, True]
    assert (tracker.best_value, tracker.best_step) == (0.3, 3)


def test_the_last_is_kept_even_where_its_value_is_not_a_number() -> None:
    tracker = BestTracker(EarlyStopping(), higher_is_better=True, keep="last")
    assert tracker.update(0.5, 1).is_best and tracker.update(math.nan, 2).is_best
    assert (tracker.best_step, tracker.best_value) == (2, None)


@pytest.mark.parity("TW-15", "AZ-17")
def test_patience_counts_evaluations_without_enough_improvement() -> None:
    tracker = BestTracker(EarlyStopping(patience=2, threshold=0.1), higher_is_better=True)
    verdicts = [tracker.update(value, step) for step, value in enumerate([0.5, 0.55, 0.61, 0.62, 0.63])]
    # 0.55 is best but no improvement; 0.61 is one over the reference 0.5; then two without.
    assert [verdict.should_stop for verdict in verdicts] == [False, False, False, False, True]
    assert [verdict.is_best for verdict in verdicts] == [True] * 5
    never = BestTracker(EarlyStopping(), higher_is_better=True)
    assert not any(never.update(0.0, step).should_stop for step in range(50))
