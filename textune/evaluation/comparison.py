"""How much less a language model needs for the same characters where it reads their metadata; after `joint.py`.

the same documents scored in two arms --> what each needs --> the difference, documents resampled in pairs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from textune.evaluation.hardest import amounts_of
from textune.evaluation.heads import ScoredRows
from textune.evaluation.intervals import MIN_RESAMPLED, Around, Interval
from textune.evaluation.joint import Part, Resamples, bootstrap
from textune.evaluation.metrics import METRICS
from textune.evaluation.scored import Scored
from textune.evaluation.undefined import to_json

BITS = "bits_per_character"
"""The metric of the differences."""


@dataclass(frozen=True)
class ArmResult:
    """What a model needs for the documents in one arm."""

    tokens: int
    """Scored tokens, into which the same characters are cut here."""
    bits_per_character: float
    bits_per_byte: float
    perplexity: float


@dataclass(frozen=True)
class Gain:
    """Bits per character that another arm needs more than the one with metadata: above 0 where metadata helps."""

    value: float
    interval: tuple[float, float] | None
    """95 % interval over the choice of documents, each resampled with its scores in both arms."""
    reason: str = ""
    """Why there is no interval, as the end of a sentence; empty where it was not asked for."""


@dataclass(frozen=True)
class CompareGroup:
    """One group of documents, scored by one model."""

    group: str
    """`all`: every document, with all the metadata that it has; the name of a type: the documents that have it, and
    no other metadata; `together`: the documents that have all of the types, with these."""
    model: str
    """`trained`, or the name of a backbone."""
    style: str
    """`tags`: metadata as in training; `prompt`: as a few words."""
    documents: int
    characters: int
    """Scored, in every arm."""
    bytes: int
    """Of these characters, in UTF-8."""
    arms: Mapping[str, ArmResult]
    """By name: `with`, `without`, `same-context`."""
    gains: Mapping[str, Gain]
    """Of each arm but the first."""


@dataclass(frozen=True)
class Comparison:
    """What metadata is worth to a language model, group by group."""

    dataset: str
    """What was evaluated, for a reader."""
    fingerprint: str
    groups: tuple[CompareGroup, ...]
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Which documents, and how they were written."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: NaN as None."""
        groups = [asdict(group) for group in self.groups]
        plain: dict[str, Any] = to_json(
            {
                "version": 1,
                "dataset": self.dataset,
                "fingerprint": self.fingerprint,
                "options": dict(self.options),
                "groups": groups,
                "notes": self.notes,
            }
        )
        return plain


def compare(
    scored: Mapping[str, ScoredRows], *, group: str, model: str, style: str, samples: int = 1000, seed: int = 0
) -> CompareGroup:
    """The arms of one group, by name, the one with metadata first; `samples`: resamples for the intervals, 0 for
    none."""
    rows = {arm: next(iter(found.by_head.values())) for arm, found in scored.items()}
    first, *others = rows.values()
    amounts = amounts_of(first)
    assert amounts is not None and all(_same_texts(first, other) for other in others), "arms score the same characters"
    return CompareGroup(
        group=group,
        model=model,
        style=style,
        documents=len(first),
        characters=amounts.characters,
        bytes=amounts.bytes,
        arms={arm: _result(found) for arm, found in rows.items()},
        gains={arm: gain(first, found, samples=samples, seed=seed) for arm, found in list(rows.items())[1:]},
    )


def gain(with_metadata: Scored, other: Scored, *, samples: int = 1000, seed: int = 0) -> Gain:
    """How many bits per character the other arm of the same documents needs more; arguments as of `compare`."""
    metric, num = METRICS[BITS], len(with_metadata)
    value = metric.of(other) - metric.of(with_metadata)
    if samples < 1:
        return Gain(value, None)
    if num < MIN_RESAMPLED:
        return Gain(value, None, f"there are only {num} documents, too few to resample")
    parts = [Part(metric, rows, np.arange(num)) for rows in (other, with_metadata)]
    around = Around(value, value, 1.0, higher_is_better=True, bounded=False)
    found: Interval = bootstrap(parts, lambda values: values[0] - values[1], around, num, Resamples(samples, seed))
    return Gain(value, found.limits, found.reason)


def _result(scored: Scored) -> ArmResult:
    amounts = amounts_of(scored)
    assert amounts is not None
    values = {name: METRICS[name].of(scored) for name in (BITS, "bits_per_byte", "perplexity")}
    return ArmResult(tokens=amounts.tokens, **values)


def _same_texts(one: Scored, other: Scored) -> bool:
    """Whether both have the same documents, with as many characters and bytes of each."""
    same_rows = np.array_equal(np.asarray(one.rows), np.asarray(other.rows))
    return same_rows and np.array_equal(one.targets[:, 1:], other.targets[:, 1:])
