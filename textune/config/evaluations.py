"""Checks the names of evaluation sets, and lists which sets a run evaluates when."""

from __future__ import annotations

import re

from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.toml import format_key
from textune.wording import listing

SPLITS = ("train", "validation", "test")
"""Names that are taken."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def evaluation_problems(experiment: Experiment) -> list[Problem]:
    """Names in `data.evaluations` that cannot name a report, and names in `evaluate.at_end` that no set has."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for name in experiment.data.evaluations:
        place, key = ("data", "evaluations", name), format_key("data", "evaluations", name)
        if name.lower() in SPLITS:
            problems.append(
                Problem(place, f"{key}: the name {name} is taken by data.{name.lower()}.", "Choose another name.")
            )
        elif not _NAME.fullmatch(name):
            hint = "Use only letters, digits, - and _: the name becomes part of a file name."
            problems.append(Problem(place, f"{key}: {name!r} is not a name for an evaluation set.", hint))
        elif name.lower() in seen:
            message = f"{key}: the name differs from {seen[name.lower()]} only in upper and lower case."
            hint = "Choose another name: not every file system would keep their reports apart."
            problems.append(Problem(place, message, hint))
        seen[name.lower()] = name
    known = [*(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations]
    for name in experiment.evaluate.at_end:
        if name not in known:
            problems.append(
                Problem(("evaluate", "at_end"), f'evaluate.at_end: "{name}" {_why_not(name)}', _known(known))
            )
    return problems


def sets_at_each_evaluation(experiment: Experiment) -> tuple[str, ...]:
    """The sets evaluated during training, `validation` first; some of them may not exist."""
    names = ["validation", *(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations]
    return tuple(name for name in names if name not in experiment.evaluate.at_end)


def reported_sets(experiment: Experiment) -> tuple[str, ...]:
    """The sets that the final reports cover; some of them may not exist."""
    return ("validation", "test", *(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations)


def _why_not(name: str) -> str:
    match name:
        case "train":
            return "is evaluated only with evaluate.train = true."
        case "validation":
            return "chooses the best model, so it is evaluated during training."
        case "test":
            return "is always evaluated for the final report only."
    return "is not a set in data.evaluations."


def _known(names: list[str]) -> str:
    return f"Possible here: {listing(names, 8)}." if names else "Leave it out."
