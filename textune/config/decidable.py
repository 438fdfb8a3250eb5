"""What a section `decide` cannot go with: by the kind of task, and, once rows are read, by the labels and the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from textune.config.deciding import Costs, DecideSection
from textune.config.problems import Problem, refuse
from textune.config.schema import Experiment
from textune.config.sources import Absent
from textune.config.toml import format_value
from textune.wording import count

_ABSTAIN, _RULE = ("decide", "abstain_below"), ("decide", "thresholds")
_NOTHING = {
    "regression": "numbers are answered as they are",
    "conditional_lm": "a language model has no labels to decide on",
    "python": "your own class decides by itself (its method `decide`)",
}
"""Why there is nothing to decide, by the kind of a task or problem."""


class Decidable(NamedTuple):
    """One thing that a model decides."""

    problem: str
    """`binary`, `multiclass`, `multilabel` or `regression`."""
    num_labels: int


def decide_problems(experiment: Experiment) -> list[Problem]:
    """What is wrong with the section whatever the rows are."""
    section, kind = experiment.decide, experiment.task.kind
    if section is None:
        return []
    if kind in _NOTHING:
        return [_nothing(kind, f'task.kind = "{kind}"')]
    problems = [*_about_costs(section)]
    if isinstance(experiment.data.validation, Absent):
        hint = "Set data.validation, such as data.validation.ratio = 0.1, or leave the section out."
        message = "decide is fitted on the validation rows, but data.validation leaves none."
        problems.append(Problem(("decide",), message, hint))
    if kind == "multilabel":
        problems += _about_labels(section)
    if kind == "multiclass":
        problems += _about_classes(section)
    return problems


def require_decidable(section: DecideSection | None, choices: Mapping[str, Decidable], num_rows: int) -> None:
    """ConfigError where the section does not fit what the model decides (by head), or the number of validation
    rows."""
    if section is None:
        return
    problems: list[Problem] = []
    several = [*choices.values()]
    for choice in several:
        if choice.problem in _NOTHING:
            problems.append(_nothing(choice.problem, "the labels are numbers"))
        elif choice.problem == "multilabel":
            problems += _about_labels(section)
        else:
            problems += _about_costs_of(section, choice.num_labels)
    if all(choice.problem == "multiclass" for choice in several):
        problems += _about_classes(section)
    if num_rows < 2 * section.folds:
        message = f"decide.folds = {section.folds}, but there are only {count(num_rows, 'validation row')}."
        hint = (
            f"Each fold needs two of them: set data.validation to {2 * section.folds} rows or more, or decide.folds"
            " lower, or leave the section out."
        )
        problems.append(Problem(("decide", "folds"), message, hint, section.folds))
    refuse(problems)


def _nothing(kind: str, why: str) -> Problem:
    message = f"decide has nothing to decide: {why}, and {_NOTHING[kind]}."
    return Problem(("decide",), message, "Leave the section out.", kind)


def _about_costs(section: DecideSection) -> Iterator[Problem]:
    """A matrix that is none, or that says nothing."""
    if not isinstance(section.thresholds, Costs):
        return
    matrix = section.thresholds.matrix
    sizes = [len(row) for row in matrix]
    if sizes != [len(matrix)] * len(matrix):
        message = f"decide.thresholds.matrix has {len(matrix)} rows of {' and '.join(map(str, sorted(set(sizes))))}."
        hint = "It needs a row for each class that may be true, each with the cost of every answer."
        yield Problem((*_RULE, "matrix"), message, hint, matrix)
    elif all(cost == matrix[0][0] for row in matrix for cost in row):
        message = "decide.thresholds.matrix gives all answers the same cost, so it decides nothing."
        hint = "Give mistakes costs, such as [[0, 1], [5, 0]]."
        yield Problem((*_RULE, "matrix"), message, hint, matrix)


def _about_costs_of(section: DecideSection, num_labels: int) -> Iterator[Problem]:
    """A matrix for another number of classes."""
    if isinstance(section.thresholds, Costs) and len(section.thresholds.matrix) != num_labels:
        size = len(section.thresholds.matrix)
        message = f"decide.thresholds.matrix is for {size} classes, but there are {num_labels}."
        hint = f"Write {num_labels} rows of {num_labels} costs, in the order of the labels."
        yield Problem((*_RULE, "matrix"), message, hint, section.thresholds.matrix)


def _about_labels(section: DecideSection) -> Iterator[Problem]:
    """What does not go with several labels per row."""
    if section.abstain_below is not None:
        message = (
            f"decide.abstain_below = {section.abstain_below:g} withholds the class of a row, but here a row may have"
            " several labels, or none, which is an answer too."
        )
        hint = 'Leave it out; decide.thresholds = { kind = "precision", floor = 0.9 } gives only labels that are sure.'
        yield Problem(_ABSTAIN, message, hint, section.abstain_below)
    if isinstance(section.thresholds, Costs) and len(section.thresholds.matrix) != 2:
        message = (
            f"decide.thresholds.matrix has {len(section.thresholds.matrix)} rows, but here each label is decided by"
            " itself."
        )
        hint = "Write two rows of two costs: [withheld, given] where it is untrue, and where it is true."
        yield Problem((*_RULE, "matrix"), message, hint, section.thresholds.matrix)


def _about_classes(section: DecideSection) -> Iterator[Problem]:
    """A threshold, or a shift of a logit, where one of many classes is answered."""
    rule = section.thresholds
    if section.calibrate == "platt":
        message = (
            'decide.calibrate = "platt" needs labels that are given one by one, or two classes, but here a row has one'
            " of several classes."
        )
        yield Problem(("decide", "calibrate"), message, 'Set decide.calibrate = "temperature".', section.calibrate)
    if rule is not None and not isinstance(rule, Costs):
        message = (
            f"decide.thresholds = {format_value(rule.kind)} needs labels that are given one by one, or two classes,"
            " but here a row has one of several classes."
        )
        hint = (
            'Leave it out, set decide.abstain_below, or give costs: decide.thresholds = { kind = "cost", matrix ='
            " [...] }."
        )
        yield Problem(_RULE, message, hint, rule.kind)
