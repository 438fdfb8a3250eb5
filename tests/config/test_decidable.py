"""What a section `decide` can say, and what it is told about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from textune.config.decidable import Decidable, decide_problems, require_decidable
from textune.config.deciding import Costs, DecideSection, F1Thresholds, PrecisionThresholds
from textune.config.load import load_config
from textune.config.schema import Experiment
from textune.errors import ConfigError

BINARY, CLASSES = Decidable("binary", 2), Decidable("multiclass", 3)
LABELS, NUMBER = Decidable("multilabel", 4), Decidable("regression", 1)
SQUARE = [[0, 1], [5, 0]]


def section_of(**values: Any) -> DecideSection:
    section = load_config({"decide": values}).experiment.decide
    assert section is not None
    return section


def test_without_the_section_nothing_is_decided() -> None:
    assert Experiment().decide is None
    assert section_of() == DecideSection() == DecideSection(calibrate="temperature", folds=5)


def test_a_rule_is_its_kind_alone_or_a_table() -> None:
    assert section_of(thresholds="f1").thresholds == F1Thresholds()
    assert section_of(thresholds={"kind": "precision", "floor": 0.9}).thresholds == PrecisionThresholds(floor=0.9)
    assert section_of(thresholds={"kind": "cost", "matrix": SQUARE}).thresholds == Costs(matrix=((0, 1), (5, 0)))
    words = ["decide.thresholds=f1", "decide.abstain_below=0.5"]
    assert load_config({}, words).experiment.decide == DecideSection(thresholds=F1Thresholds(), abstain_below=0.5)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"thresholds": "f2"}, "decide.thresholds.kind"),
        ({"thresholds": "precision"}, "decide.thresholds.floor"),
        ({"thresholds": {"kind": "precision", "floor": 0}}, "decide.thresholds.floor"),
        ({"thresholds": {"kind": "precision", "floor": 1.2}}, "decide.thresholds.floor"),
        ({"thresholds": {"kind": "cost"}}, "decide.thresholds.matrix"),
        ({"thresholds": {"kind": "cost", "matrix": [[0, -1], [1, 0]]}}, "decide.thresholds.matrix[0][1]"),
        ({"thresholds": {"kind": "cost", "matrix": [[0]]}}, "decide.thresholds.matrix"),
        ({"calibrate": "isotonic"}, "decide.calibrate"),
        ({"abstain_below": 0}, "decide.abstain_below"),
        ({"folds": 1}, "decide.folds"),
    ],
)
def test_a_value_that_is_none_is_named(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section_of(**values)
    assert caught.value.key == key


def experiment_of(kind: str, decide: DecideSection, **data: Any) -> Experiment:
    task = {"kind": kind} | ({"object": "m:C"} if kind == "python" else {})
    tree = {"task": task, "data": data}
    return load_config(tree).experiment.model_copy(update={"decide": decide})


@pytest.mark.parametrize(
    ("kind", "section", "place"),
    [
        ("regression", DecideSection(), ("decide",)),
        ("conditional_lm", DecideSection(), ("decide",)),
        ("python", DecideSection(), ("decide",)),
        ("multilabel", DecideSection(abstain_below=0.5), ("decide", "abstain_below")),
        ("multilabel", DecideSection(thresholds=Costs(matrix=((0, 1, 1),) * 3)), ("decide", "thresholds", "matrix")),
        ("multiclass", DecideSection(thresholds=F1Thresholds()), ("decide", "thresholds")),
        ("multiclass", DecideSection(calibrate="platt"), ("decide", "calibrate")),
        ("multiclass", DecideSection(thresholds=PrecisionThresholds(floor=0.9)), ("decide", "thresholds")),
        ("auto", DecideSection(thresholds=Costs(matrix=((0, 1), (1,)))), ("decide", "thresholds", "matrix")),
        ("auto", DecideSection(thresholds=Costs(matrix=((1, 1), (1, 1)))), ("decide", "thresholds", "matrix")),
    ],
)
def test_a_rule_without_meaning_for_the_task_is_refused(
    kind: str, section: DecideSection, place: tuple[str, ...]
) -> None:
    (problem,) = decide_problems(experiment_of(kind, section))
    assert problem.place == place and problem.hint
    assert decide_problems(experiment_of(kind, section).model_copy(update={"decide": None})) == []


def test_there_must_be_validation_rows() -> None:
    without = experiment_of("auto", DecideSection(), validation={"kind": "none"})
    (problem,) = decide_problems(without)
    assert problem.place == ("decide",) and "data.validation" in problem.hint


@pytest.mark.parametrize(
    ("section", "choice", "key"),
    [
        (DecideSection(), NUMBER, "decide"),
        (DecideSection(thresholds=Costs(matrix=((0, 1), (1, 0)))), CLASSES, "decide.thresholds.matrix"),
        (
            DecideSection(thresholds=Costs(matrix=((0, 1, 1), (1, 0, 1), (1, 1, 0)))),
            LABELS,
            "decide.thresholds.matrix",
        ),
        (DecideSection(thresholds=F1Thresholds()), CLASSES, "decide.thresholds"),
        (DecideSection(abstain_below=0.9), LABELS, "decide.abstain_below"),
        (DecideSection(folds=60), BINARY, "decide.folds"),
    ],
)
def test_what_only_the_rows_tell_is_refused(section: DecideSection, choice: Decidable, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require_decidable(section, {"label": choice}, 100)
    assert caught.value.key == key and caught.value.hint
    require_decidable(None, {"label": choice}, 100)


def test_one_of_several_tasks_may_take_thresholds() -> None:
    section = DecideSection(thresholds=F1Thresholds())
    require_decidable(section, {"tone": CLASSES, "urgent": BINARY}, 100)
    with pytest.raises(ConfigError):
        require_decidable(section, {"tone": CLASSES, "topic": CLASSES}, 100)
    with pytest.raises(ConfigError):  # costs are for all of them
        require_decidable(
            DecideSection(thresholds=Costs(matrix=((0, 1), (1, 0)))), {"tone": CLASSES, "urgent": BINARY}, 100
        )


def test_what_fits_is_taken() -> None:
    for choice in (BINARY, LABELS):
        require_decidable(DecideSection(thresholds=Costs(matrix=((0, 1), (5, 0)))), {"label": choice}, 10)
        require_decidable(DecideSection(thresholds=F1Thresholds()), {"label": choice}, 10)
    require_decidable(DecideSection(abstain_below=0.4), {"label": CLASSES}, 10)
