"""What the rows that a model was validated on looked like to it, in numbers: `usual.json` in a model folder, no text.

validation rows with scores --evaluation/usual.py--> usual.json --read_usual--> a server compares what it is sent

Histograms and counts are made here for both sides, so that what is compared was counted alike. Shapes: N rows, K
labels of a head, G labels that the rows were given.
"""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from textune.atomic import write_text
from textune.config import TokensSection
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.tasks import Decision, Head

USUAL_NAME = "usual.json"
VERSION = 1
PROBABILITIES = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0),
)
"""Bounds of the bins of probabilities: narrow near 1, where most answers of a good model are."""
MAX_BINS_OF_NUMBERS = 10
"""Bins of the values of a regression, each with about as many validation rows as the others."""
_MOST_TOKENS = 65536
"""The last bound where a text may be of any length."""
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Histogram(BaseModel):
    """Numbers counted in bins."""

    model_config = _FROZEN

    bounds: tuple[float, ...]
    """The upper bound of each bin, ascending; a number that equals it is within. One more bin holds what is above."""
    counts: tuple[int, ...]
    """Numbers in each bin; one more than bounds."""

    @model_validator(mode="after")
    def _sensible(self) -> Histogram:
        if len(self.counts) != len(self.bounds) + 1 or min(self.counts) < 0:
            raise ValueError("a histogram has a count of at least 0 for each bin")
        if any(low >= high for low, high in pairwise(self.bounds)):
            raise ValueError("the bounds of a histogram ascend")
        return self


class UsualHead(BaseModel):
    """The answers of one head."""

    model_config = _FROZEN

    name: str
    decision: Decision
    """The rule that gave them; counts say nothing about answers by another rule."""
    labels: tuple[int, ...] = ()
    """Rows that were given each label, by its id; none for a regression."""
    none: int = Field(default=0, ge=0)
    """Rows that were given no label: withheld, or without one of several labels."""
    scores: Histogram
    """The calibrated probability of the answer (of several labels: of the most probable one), or the number."""


class UsualRows(BaseModel):
    """What the validation rows looked like."""

    model_config = _FROZEN

    version: int = VERSION
    rows: int = Field(ge=1)
    """Their number; of so many that not all scores were kept, those whose were have been counted in the heads."""
    lengths: Histogram
    """Tokens that the model reads of a text: those of all its windows together."""
    heads: tuple[UsualHead, ...]

    def of(self, head: Head) -> UsualHead | None:
        """What was counted of this head; None where it was not, or where it decided by another rule then."""
        found = next((one for one in self.heads if one.name == head.name), None)
        if found is None or found.decision != head.decision:
            return None
        expected = len(head.labels) if head.label_map.choices else 0
        return found if len(found.labels) == expected else None


class Given(NamedTuple):
    """What N rows were answered, as a counter sees it."""

    row_G: np.ndarray
    """int64 [G] a row, ascending; each row at least once where answers are labels."""
    label_G: np.ndarray
    """int64 [G] the id of a label that it was given; K where it was given none."""
    score_N: np.ndarray
    """float64 [N] as `UsualHead.scores` counts them."""


def given(head: Head, scores: np.ndarray) -> Given:
    """What a head answers to rows with these scores [N, K] or [N]: `tasks.shown` in ids instead of names."""
    calibrated, decided = head.calibrated(scores), head.decide(scores)
    every_N = np.arange(len(scores))
    if not head.label_map.choices:
        nothing = np.zeros(0, np.int64)
        return Given(nothing, nothing, np.asarray(calibrated, np.float64))
    num_labels = len(head.labels)
    if head.label_map.exclusive:
        best_N = calibrated[every_N, decided]
        withheld_N = head.decision.withholds(best_N, decided)
        return Given(every_N, np.where(withheld_N, num_labels, decided), best_N)
    given_NK = np.asarray(decided > 0)
    nothing_N1 = ~given_NK.any(axis=1, keepdims=True)
    row_G, label_G = np.nonzero(np.concatenate([given_NK, nothing_N1], axis=1))
    return Given(row_G, label_G, calibrated.max(axis=1))


def bins_of(bounds: tuple[float, ...], numbers: np.ndarray) -> np.ndarray:
    """int64, same shape: which bin of a histogram each number is in."""
    return np.searchsorted(np.asarray(bounds), numbers, side="left")


def histogram(bounds: tuple[float, ...], numbers: np.ndarray) -> Histogram:
    """Numbers [N] counted."""
    counts = np.bincount(bins_of(bounds, numbers), minlength=len(bounds) + 1)
    return Histogram(bounds=bounds, counts=tuple(counts.tolist()))


def score_bounds(head: Head, numbers: np.ndarray) -> tuple[float, ...]:
    """Bounds for the scores of a head: those of probabilities, or tenths of these numbers."""
    if head.label_map.choices:
        return PROBABILITIES
    shares = np.arange(1, MAX_BINS_OF_NUMBERS) / MAX_BINS_OF_NUMBERS
    return tuple(np.unique(np.quantile(numbers, shares)).tolist())


def length_bounds(section: TokensSection) -> tuple[float, ...]:
    """Bounds for numbers of tokens: 4, 6, 8, 12, 16, 24 and so on, up to the longest row that the model reads."""
    longest = _MOST_TOKENS if section.window_pooling is not None else section.longest
    steps = (size for power in range(2, 17) for size in (2**power, 3 * 2 ** (power - 1)))
    return (*(float(size) for size in steps if size < longest), float(longest))


def write_usual(usual: UsualRows, folder: Path) -> None:
    """Write `usual.json` into a model folder; readers see the old one or the new."""
    write_text(folder / USUAL_NAME, usual.model_dump_json() + "\n")


def take_usual(source: Path, folder: Path) -> None:
    """Write `usual.json` of one model folder into another, where there is one that can be read: the model is the same
    without it."""
    with contextlib.suppress(RunError):
        if (usual := read_usual(source)) is not None:
            write_usual(usual, folder)


def read_usual(folder: Path) -> UsualRows | None:
    """`usual.json` of a model folder; None where there is none, such as in those of earlier versions. RunError where
    it is damaged or of a later version."""
    path = folder / USUAL_NAME
    if not path.is_file():
        return None
    try:
        tree = parse_json(path.read_text(encoding="utf-8"))
        version = tree.get("version") if isinstance(tree, dict) else VERSION
        if version != VERSION:
            raise RunError(
                f"{path} was written by a later version of textune.",
                hint="Upgrade textune to read it, or remove it: drift is then not measured.",
                key="version",
                value=version,
                place=str(path),
            )
        return UsualRows.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        reason = str(error).splitlines()[0]
    raise RunError(
        f"{path} is damaged: {reason}.",
        hint="Restore it from a copy, or remove it: drift is then not measured.",
        place=str(path),
        reason=reason,
    )
