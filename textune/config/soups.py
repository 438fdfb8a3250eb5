"""What `train.soup` cannot go with: several runs of one configuration, joined into one model."""

from __future__ import annotations

from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.sources import Absent
from textune.config.taskkinds import ConditionalLmTask, SingleLabel

LARGEST_SEED = 2**32 - 1


def soup_problems(experiment: Experiment) -> list[Problem]:
    """Every key that several runs cannot be joined with."""
    train, soup = experiment.train, experiment.train.joining
    if soup is None:
        return []
    problems: list[Problem] = []
    if isinstance(experiment.task, ConditionalLmTask):
        message = "train.soup joins classifiers and regressors, not language models."
        problems.append(Problem(("train", "soup"), message, "Leave train.soup out."))
    if isinstance(experiment.task, SingleLabel) and experiment.task.few != "off":
        message = f'train.soup joins runs that differ in their order; with task.few = "{experiment.task.few}" a head'
        message += " may be fitted that is the same in all of them."
        hint = 'Set task.few = "off", or leave train.soup out (--unset train.soup; of presets: balanced has none).'
        problems.append(Problem(("train", "soup"), message, hint))
    for name in ("lora", "quantize"):
        if getattr(experiment.model, name, None) is not None:
            message = f"train.soup averages whole weights; with model.{name} only adapters beside them are trained."
            hint = f"Leave one of the two out: --unset train.soup, or --unset model.{name}."
            problems.append(Problem(("train", "soup"), message, hint))
    if isinstance(experiment.data.validation, Absent) and experiment.evaluate.best_by == "validation":
        message = "train.soup chooses by validation rows, and there are none."
        hint = "Set data.validation, or leave train.soup out (of presets: balanced has none)."
        problems.append(Problem(("train", "soup"), message, hint))
    if train.drawing_seed + soup.seeds - 1 > LARGEST_SEED:
        key = "seed" if train.order_seed is None else "order_seed"
        message = f"{soup.seeds} seeds from train.{key} = {train.drawing_seed} on would pass the largest seed."
        problems.append(Problem(("train", key), message, "Set a smaller number.", value=train.drawing_seed))
    return problems
