"""Optimizers and schedules that cannot be combined, and keys of a loss that is not used."""

from __future__ import annotations

from textune.config.problems import Problem
from textune.config.schema import Experiment, ModelSection
from textune.config.taskkinds import ClassLoss
from textune.config.updaterules import (
    ConstantSchedule,
    Muon,
    PolynomialSchedule,
    ScheduleFree,
    Sgd,
    WarmedUpConstantSchedule,
)


def rate_problems(experiment: Experiment) -> list[Problem]:
    """Values of `train.optimizer` and `train.schedule` that contradict each other."""
    optimizer, schedule = experiment.train.optimizer, experiment.train.schedule
    problems = []
    if isinstance(schedule, PolynomialSchedule) and schedule.lr_end >= optimizer.lr:
        message = (
            f"train.schedule.lr_end = {schedule.lr_end:g} is not below train.optimizer.lr = {optimizer.lr:g}: the"
            " learning rate would not fall."
        )
        hint = 'Lower it, or use train.schedule.kind = "constant".'
        problems.append(Problem(("train", "schedule", "lr_end"), message, hint, value=schedule.lr_end))
    if isinstance(optimizer, ScheduleFree) and not isinstance(schedule, ConstantSchedule | WarmedUpConstantSchedule):
        message = (
            f'train.schedule.kind = "{schedule.kind}" cannot be combined with train.optimizer.kind ='
            f' "{optimizer.kind}", whose running mean takes the place of a schedule.'
        )
        hint = 'Use train.schedule.kind = "constant", which keeps the warm-up.'
        problems.append(Problem(("train", "schedule", "kind"), message, hint, value=schedule.kind))
    if isinstance(optimizer, Sgd) and optimizer.nesterov and not optimizer.momentum:
        message = "train.optimizer.nesterov = true needs train.optimizer.momentum above 0."
        hint = "Set train.optimizer.momentum = 0.9, or leave nesterov out."
        problems.append(Problem(("train", "optimizer", "nesterov"), message, hint, value=True))
    adapted = isinstance(experiment.model, ModelSection) and experiment.model.lora is not None
    if isinstance(optimizer, Muon) and not adapted:
        message = (
            f'train.optimizer.kind = "{optimizer.kind}" is offered with model.lora only: it harms the weights of a'
            " model that was pretrained with Adam (docs/update-rules.md)."
        )
        hint = 'Add a table [model.lora], or use "adamw".'
        problems.append(Problem(("train", "optimizer", "kind"), message, hint, value=optimizer.kind))
    return problems


def loss_problems(experiment: Experiment) -> list[Problem]:
    """Keys of `task` about a loss that it does not have."""
    task = experiment.task
    if not isinstance(task, ClassLoss) or task.loss == "focal" or task.gamma == type(task)().gamma:
        return []
    message = f'task.gamma = {task.gamma:g} has no effect with task.loss = "{task.loss}".'
    hint = 'Set task.loss = "focal", or leave task.gamma out.'
    return [Problem(("task", "gamma"), message, hint, value=task.gamma)]
