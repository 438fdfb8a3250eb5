"""Fits the decision of a run's best model on its validation rows, and keeps it with the model.

validation rows --score once--> scores --first rank: fit, cross-fit--> decisions of all heads --> best/textune.json

Scores are kept of at most `MAX_SCORES` (rows x labels); of more, the decision is fitted on a sample, and the others of
these rows are scored once more to be decided. Checkpoints were written before, and have no decision.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from textune.config import DecideSection
from textune.evaluation import (
    CrossFitted,
    Fit,
    Report,
    RowRules,
    ScoredRows,
    cross_fit,
    decision_in_words,
    fit_rows,
    redecided,
)
from textune.prediction import read_card, write_card
from textune.run.best import best_of
from textune.run.folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from textune.ranks import Ranks
    from textune.tasks import Decision, Task


GUARANTEES = "guarantees.json"
"""The proofs of a model's thresholds, in its folder: as long as they are there, no other rule is fitted over them."""


@dataclass(frozen=True)
class RunDecision:
    """What was fitted, by head."""

    fitted: Mapping[str, CrossFitted]

    @property
    def decisions(self) -> dict[str, Decision]:
        """The decisions that are kept."""
        return {name: one.fitted.decision for name, one in self.fitted.items()}

    def rules(self, scored: ScoredRows) -> dict[str, RowRules]:
        """What decides each of the rows that the decision was fitted on; those beyond the sample, which it has not
        seen, are decided by the decision itself."""
        return {name: _of_all_rows(one.rules, scored, name) for name, one in self.fitted.items()}

    def summary(self, report: Report) -> list[str]:
        """In a line for each head, what is kept and what it is worth on the rows of the report."""
        tasks = report.tasks or {"": report}
        return [
            f"decision{f' of {name}' if name else ''}: {decision_in_words(task.decision)}"
            for name, task in tasks.items()
            if task.decision is not None
        ]

    def explained(self, report: Report) -> Report:
        """The report on the rows that the decision was fitted on, with how that was done."""
        if report.tasks:
            tasks = {
                name: _with_fit(task, self.fitted[name].fitted.fit) if name in self.fitted else task
                for name, task in report.tasks.items()
            }
            return replace(report, tasks=tasks)
        (one,) = self.fitted.values()
        return _with_fit(report, one.fitted.fit)


def fit_decisions(
    section: DecideSection, scored: ScoredRows, groups_N: np.ndarray | None, ranks: Ranks
) -> RunDecision:
    """The decision of every head that has a labelled row; the first of the ranks fits. `groups_N`: int64 of each row,
    those of equal numbers stay in one fold."""
    fitted: dict[str, CrossFitted] = {}
    if ranks.is_first:
        fitted = {
            name: cross_fit(one.head, section, fit_rows(one.ranked, groups_N)) for name, one in scored.by_head.items()
        }
    return RunDecision(ranks.broadcast(fitted))


def decided_again(scored: ScoredRows, task: Task, rules: Mapping[str, RowRules]) -> ScoredRows | None:
    """The same rows, by the decisions of `task` and `rules`; None where not all of their scores are kept."""
    if any(one.sample is not None for one in scored.by_head.values()):
        return None
    heads = {head.name: head for head in task.heads}
    by_head = {name: redecided(one, heads[name], rules[name]) for name, one in scored.by_head.items()}
    return ScoredRows(task.heads, scored.num_rows, by_head)


def keep_decisions(decisions: Mapping[str, Decision], folder: Path) -> str:
    """Write them into the card of a model folder, and the usual ones of the other heads. A rule that a guarantee locks
    stays; returns what to say of that."""
    card = read_card(folder)
    if (decided := card.with_decisions(decisions)) == card:
        return ""
    if (folder / GUARANTEES).is_file():
        return (
            f"{folder / GUARANTEES} locks the model's rule of decision: it stays as `textune decide` set it; the"
            " reports here are without it"
        )
    write_card(decided, folder)
    return ""


def keep_proof(folder: RunFolder) -> str:
    """Before another model takes the place of the best one: put the proof of its guarantees into the run folder.
    Returns what to say of that."""
    best = best_of(folder.path)
    proof = folder.best / GUARANTEES
    if best is None or not proof.is_file():
        return ""
    kept = folder.path / f"guarantees-step-{best.step}.json"
    shutil.copy2(proof, kept)
    return (
        f"a better model takes the place of that of step {best.step}, whose guarantees do not hold for it (their proof"
        f" is now {kept}): prove them again with `textune decide`"
    )


def _of_all_rows(rules: RowRules, scored: ScoredRows, head: str) -> RowRules:
    whole = scored.by_head[head]
    if whole.sample is None:
        return rules
    which_N = np.full(len(whole), len(rules.decisions) - 1)
    which_N[_places(whole.sample.rows, whole.rows)] = rules.which_N
    return RowRules(rules.decisions, which_N)


def _places(sampled_M: np.ndarray | None, rows: np.ndarray | None) -> np.ndarray:
    """Where the sampled rows are among those of the head."""
    assert sampled_M is not None
    return sampled_M if rows is None else np.searchsorted(rows, sampled_M)


def _with_fit(report: Report, fit: Fit) -> Report:
    return report if report.decision is None else replace(report, decision=replace(report.decision, fit=fit))
