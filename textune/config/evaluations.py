"""What the names of evaluation sets must be, and which of them a run evaluates when."""

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
    """Names of `data.evaluations` that cannot be those of reports, and names in `evaluate.at_end` that no set has."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for name in experiment.data.evaluations:
        place, key = ("data", "evaluations", name), format_key("data", "evaluations", name)
        if name.lower() in SPLITS:
            problems.append(Problem(place, f"{key}: the name {name} is taken by data.{name.lower()}.", "Choose another name."))
        elif not _NAME.fullmatch(name):
            hint = "Use letters, digits, - and _ alone: it becomes part of the name of a file."
            problems.append(Problem(place, f"{key}: {name!r} is not a name for an evaluation set.", hint))
        elif name.lower() in seen:
            message = f"{key}: the name differs from {seen[name.lower()]} in upper and lower case alone."
            problems.append(Problem(place, message, "Choose another name: not every file system tells their reports apart."))
        seen[name.lower()] = name
    known = [*(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations]
    for name in experiment.evaluate.at_end:
        if name not in known:
            problems.append(Problem(("evaluate", "at_end"), f'evaluate.at_end: "{name}" {_why_not(name)}', _known(known)))
    return problems


def sets_at_each_evaluation(experiment: Experiment) -> tuple[str, ...]:
    """The sets that are evaluated while training, the validation rows first; those of the others that exist."""
    names = ["validation", *(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations]
    return tuple(name for name in names if name not in experiment.evaluate.at_end)


def reported_sets(experiment: Experiment) -> tuple[str, ...]:
    """The sets that a run reports on at its end; those of them that exist."""
    return ("validation", "test", *(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations)


def _why_not(name: str) -> str:
    match name:
        case "train":
            return "is evaluated only with evaluate.train = true."
        case "validation":
            return "chooses the best model, and is evaluated while training."
        case "test":
            return "is evaluated for the final report only, whatever is set here."
    return "is not a set of data.evaluations."


def _known(names: list[str]) -> str:
    return f"Possible here: {listing(names, 8)}." if names else "Leave it out."
