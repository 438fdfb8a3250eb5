"""Checks the names of evaluation sets, and lists which sets a run evaluates when."""

from __future__ import annotations

import re

from textune.config.problems import Problem
from textune.config.rendering import arm_of_set, set_by_type
from textune.config.schema import Experiment
from textune.config.sources import Absent, SetsByType
from textune.config.taskkinds import ConditionalLmTask
from textune.config.toml import format_key
from textune.wording import listing, nearest, repeated_names

SPLITS = ("train", "validation", "test")
"""Names that are taken."""
VALIDATION = "validation"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def evaluation_problems(experiment: Experiment) -> list[Problem]:
    """Names in `data.evaluations` that cannot name a report, names in `evaluate.at_end` and `evaluate.best_by` that no
    set has there, arms with the name of a set, and steps to evaluate at without anything to evaluate."""
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
    known = [name for name in _while_training(experiment) if name != VALIDATION]
    known += [] if experiment.evaluate.best_by == VALIDATION else [VALIDATION]
    for name in experiment.evaluate.at_end:
        if name not in known:
            problems.append(
                Problem(("evaluate", "at_end"), f'evaluate.at_end: "{name}" {_why_not(name)}', _known(known))
            )
    problems += [*_arm_problems(experiment), *_best_by_problems(experiment), *_step_problems(experiment)]
    return problems


def _arm_problems(experiment: Experiment) -> list[Problem]:
    """An arm of one set that has the name of another set."""
    named = {*SPLITS, *experiment.data.evaluations}
    names = [found for name in sorted(named) for found in sets_of_rows(experiment, name)]
    arms = {arm_of_set(name, arm) for name in names for arm in experiment.evaluate.arms}
    return [
        Problem(
            ("evaluate", "arms"),
            f"evaluate.arms makes a set {name}, but another set has that name.",
            "Give the other set another name, or leave the arm out.",
            experiment.evaluate.arms,
        )
        for name in repeated_names(names)
        if name in arms
    ]


def _best_by_problems(experiment: Experiment) -> list[Problem]:
    """A set that chooses the best model must be there, and must be evaluated while training."""
    chosen, evaluated = experiment.evaluate.best_by, sets_at_each_evaluation(experiment)
    if chosen in evaluated or chosen == VALIDATION:  # whose place at the end is refused already
        return []
    if chosen in experiment.evaluate.at_end:
        why = "is evaluated at the end only (evaluate.at_end), but the best model is chosen while training."
    elif chosen in SPLITS:
        why = _why_not(chosen)
    else:
        why = "is not a set in data.evaluations."
    near = nearest(chosen, evaluated)
    hint = f'Did you mean "{near}"?' if near else _known(list(evaluated))
    message = f'evaluate.best_by = "{chosen}": {chosen} {why}'
    return [Problem(("evaluate", "best_by"), message, hint, value=chosen)]


def _step_problems(experiment: Experiment) -> list[Problem]:
    at = experiment.train.evaluate_at
    missing = isinstance(experiment.data.validation, Absent)
    others = set(sets_at_each_evaluation(experiment)).difference(sets_of_rows(experiment, VALIDATION))
    if not at or not missing or others:
        return []
    message = f"train.evaluate_at = {list(at)}, but there are no rows to evaluate while training."
    return [Problem(("train", "evaluate_at"), message, "Set data.validation or data.evaluations.", value=at)]


def sets_at_each_evaluation(experiment: Experiment) -> tuple[str, ...]:
    """The sets evaluated during training, first the one that chooses the best model; some of them may not exist."""
    found = [name for name in _while_training(experiment) if name not in experiment.evaluate.at_end]
    return tuple(sorted(found, key=lambda name: name != experiment.evaluate.best_by))


def reported_sets(experiment: Experiment) -> tuple[str, ...]:
    """The sets that the final reports cover; some of them may not exist."""
    train = ["train"] if experiment.evaluate.train else []
    names = [("validation",), ("test",), train, experiment.data.evaluations]
    return tuple(found for some in names for name in some for found in sets_of_rows(experiment, name))


def sets_of_rows(experiment: Experiment, name: str) -> tuple[str, ...]:
    """The sets that the rows of one source become: those of a language model's documents also by type, each of them
    with its arms beside it. Texts alone are written in one way."""
    section = experiment.metadata
    if not isinstance(experiment.task, ConditionalLmTask) or section is None or not section.types:
        return (name,)
    arms = experiment.evaluate.arms
    source = {"validation": experiment.data.validation, "test": experiment.data.test, **experiment.data.evaluations}
    by_type = own.by_type if isinstance(own := source.get(name), SetsByType) else ()
    with_metadata = [name, *(set_by_type(name, type_) for type_ in by_type)]
    sets = [found for one in with_metadata for found in (one, *(arm_of_set(one, arm) for arm in arms))]
    return (*sets, *([set_by_type(name)] if by_type else []))


def _while_training(experiment: Experiment) -> list[str]:
    """The sets that are evaluated while training unless they are for the end."""
    names = ["validation", *(["train"] if experiment.evaluate.train else []), *experiment.data.evaluations]
    return [found for name in names for found in sets_of_rows(experiment, name)]


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
