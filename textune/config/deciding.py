"""The section `decide`: which rule is fitted after training, by which scores become probabilities and answers; part of
`schema.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from textune.config.section import Computed, Section, ShortForm
from textune.config.values import Seed


class F1Thresholds(Section):
    """The threshold of the highest F1, label by label."""

    kind: Literal["f1"] = "f1"
    """The highest F1 of each label; of two classes, of the second one."""


class PrecisionThresholds(Section):
    """The threshold of the highest recall whose precision is high enough, label by label."""

    kind: Literal["precision"] = "precision"
    """The highest recall of each label at a precision of `floor` or more; of two classes, of the second one."""
    floor: Annotated[float, Field(gt=0, le=1, examples=[0.9])]
    """The precision that is wanted."""


class Costs(Section):
    """The answer of the lowest expected cost."""

    kind: Literal["cost"] = "cost"
    """The lowest expected cost."""
    matrix: Annotated[
        tuple[tuple[Annotated[float, Field(ge=0)], ...], ...], Field(min_length=2, examples=[[[0, 1], [5, 0]]])
    ]
    """A row for each class that may be true, in the order of the labels, with the cost of each answer: `[[0, 1], [5,
    0]]` says that missing the second class costs five times what a false alarm does. For labels, of which a row may
    have several: the costs of each by itself, `[[withheld, given] where it is untrue, [withheld, given] where it is
    true]`."""


Thresholds = Annotated[F1Thresholds | PrecisionThresholds | Costs, Field(discriminator="kind")]


class DecideSection(Section):
    """The decision of the model: fitted on the validation rows after training, and kept with the model. No weight
    depends on it, so a run that is resumed may change it."""

    calibrate: Computed[Literal["temperature", "platt", "none"]] = "temperature"
    """`temperature` divides logits by one number, so that probabilities say how often answers are right. `platt`
    multiplies the logit of each label, or of the second of two classes, by a number and adds another: for labels,
    whose rare ones need a shift that no temperature gives."""
    thresholds: Computed[Annotated[Thresholds | None, ShortForm("kind")]] = None
    """By what labels, or the second of two classes, are given: a table, or its `kind` alone, such as `"f1"`. Without
    it by the highest score, or 0.5."""
    abstain_below: Computed[Annotated[float | None, Field(gt=0, le=1)]] = None
    """Withhold the class of a row where its calibrated probability is lower. For classes of which each row has one."""
    folds: Computed[Annotated[int, Field(ge=2)]] = 5
    """Parts of the validation rows: each is decided by a rule that was fitted on the others, and a rule is kept only
    where it does better so."""
    seed: Computed[Seed] = 0
    """Seed of the folds."""
