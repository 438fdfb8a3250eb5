"""What an optimizer and a schedule cannot be together."""

from __future__ import annotations

from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.updaterules import PolynomialSchedule


def rate_problems(experiment: Experiment) -> list[Problem]:
    """Every value of `train.schedule` that contradicts one of `train.optimizer`."""
    optimizer, schedule = experiment.train.optimizer, experiment.train.schedule
    problems = []
    if isinstance(schedule, PolynomialSchedule) and schedule.lr_end >= optimizer.lr:
        message = (
            f"train.schedule.lr_end = {schedule.lr_end:g} is not below train.optimizer.lr = {optimizer.lr:g}: the"
            " learning rate would not fall."
        )
        hint = 'Lower it, or use train.schedule.kind = "constant".'
        problems.append(Problem(("train", "schedule", "lr_end"), message, hint, value=schedule.lr_end))
    return problems
