"""What only a run knows, as values: `textune/run` fills it in from its folder, a page shows it beside its reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from textune.data import Finding


@dataclass(frozen=True)
class Series:
    """Values over steps; at most a few hundred."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class History:
    """How training went."""

    loss: Series
    """Mean training loss."""
    rates: Series
    """Learning rate."""
    evaluations: Mapping[str, tuple[Series, ...]]
    """By metric, a series for each set that was evaluated while training; the main metric first."""


@dataclass(frozen=True)
class SplitRows:
    """What became of the rows of a split."""

    name: str
    rows: int | None
    """None where nobody knows, as of a stream."""
    left_out: int
    truncated: int | None


@dataclass(frozen=True)
class Story:
    """A run beside its reports."""

    name: str
    status: str
    started: str
    seconds: float | None
    """Of training."""
    steps: int | None
    best_step: int | None
    facts: Mapping[str, str]
    """Its header: what was trained on what and how, in words."""
    splits: tuple[SplitRows, ...]
    history: History | None
    findings: tuple[Finding, ...] | None
    """What the audit of the rows found; None where it was not kept or not made."""
    notices: tuple[str, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    commit: str = ""
    backbone: str = ""
    """Name of the model that the run started from, where others can find it by that name; else empty."""
    license: str = ""
    """What that model states, such as `apache-2.0`; empty where it states none."""
    writes_texts: bool = False
    """Whether the model is a language model; where there is a report, that says so."""
    limits: tuple[str, ...] = ()
    """What whoever opens the model with something else than textune has to know, besides what reports warn of."""
    labels: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the data, by split."""
