"""From a model and a split to a report, and from a report to files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from textune.atomic import write_text
from textune.batches import PrefixedStore, TokenRows
from textune.config import DecideSection
from textune.data import Examples, Split, groups_in
from textune.evaluation import (
    EvaluatedRows,
    EvaluatedSet,
    Lift,
    MainMetric,
    Report,
    RowLosses,
    RowRules,
    ScoredRows,
    TaskReduction,
    build_task_report,
    labelled_rows,
    measure_lift,
    page_of,
    render,
    usual_rows,
    write_rows,
)
from textune.model import CallerBudget, change_in_words
from textune.prediction import ModelCard, Scorer, load_scorer, write_usual
from textune.run.deciding import RunDecision, decided_again, fit_decisions, keep_decisions
from textune.run.folder import RunFolder, report_stem
from textune.run.parts import Parts
from textune.run.probing import keep_probe
from textune.run.rowfacts import facts_of
from textune.run.tracking import Tracker
from textune.tasks import Task

FITTED_ON = "validation"
"""The set that a decision is fitted on."""


def score_rows(
    scorer: Scorer,
    rows: TokenRows,
    tracker: Tracker,
    *,
    place: Callable[[int], str],
    stage: str,
    budget: CallerBudget | None = None,
    with_losses: bool = False,
    rules: Mapping[str, RowRules] = MappingProxyType({}),
    stop: Callable[[], bool] = lambda: False,
) -> ScoredRows | None:
    """Score rows and keep of each, head by head, what metrics and a report need; never all scores at once.

    Of several ranks each scores its share, and each gets the result of all: the same bits as those of a process alone.
    `with_losses`: keep the task's own loss of each as well. `rules`: by head, what decides each of the rows that have
    a label for it, where that is not the head's own decision. None where `stop`, asked after each batch, says so.
    Of rows that know their documents, those of a document are added up. `place` names an example, or such a document;
    `budget` as in `Scorer.score_batches`.
    """
    budget = budget or scorer.budget(tracker.notice)
    task, ranks, num_rows = scorer.task, scorer.ranks, len(rows)

    numbers = rows.examples if rows.documents is None else rows.documents

    def place_of(position: int) -> str:
        return place(int(numbers[position]))

    def targets_of(positions: np.ndarray) -> dict[str, np.ndarray]:
        return rows.at(positions).targets

    reduction = TaskReduction(task.heads, labelled_rows(rows), num_rows=num_rows, with_losses=with_losses, rules=rules)
    num_done = 0
    batches = scorer.score_batches(
        rows.store, rows.examples, place=place_of, budget=budget, targets=targets_of if with_losses else None
    )
    for batch in batches:
        targets = targets_of(batch.positions)
        losses = None if batch.losses is None else _weighted(task, batch.losses, targets)
        reduction.add(batch.positions, targets, batch.scores, losses)
        num_done += len(batch.positions)
        if ranks.alone:
            tracker.progress(stage, num_done, num_rows)
        else:  # the others are about as far
            tracker.progress(stage, min(num_done * ranks.world, num_rows - 1), num_rows)
        if stop():
            return None
    reduction.merge(ranks)
    if not ranks.alone:
        tracker.progress(stage, num_rows, num_rows)
    return reduction.finish().by_document(rows.documents)


def _weighted(task: Task, losses: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, RowLosses]:
    """The losses of a batch by head, with what each row weighs in them."""
    weights = task.row_weights({name: torch.from_numpy(values) for name, values in targets.items()}, None)
    return {name: RowLosses(losses_B, weights[name].numpy()) for name, losses_B in losses.items()}


class Reported(NamedTuple):
    """The report on a set, and its rows with their answers."""

    report: Report
    evaluated: EvaluatedSet


def report_split(
    scorer: Scorer,
    split: Split,
    rows: TokenRows,
    *,
    metric: MainMetric,
    train_targets: Mapping[str, np.ndarray] | None,
    bootstrap: int,
    mistakes: int,
    tracker: Tracker,
    slices: Sequence[str] = (),
    budget: CallerBudget | None = None,
    rules: Mapping[str, RowRules] = MappingProxyType({}),
    scored: ScoredRows | None = None,
) -> Reported:
    """Score one split with a model and report on it. `slices`: columns by whose values it is measured as well;
    `budget` as in `Scorer.score_batches`, `rules` as in `score_rows`; `scored`: the rows, where they are scored
    already."""
    score = partial(
        score_rows,
        scorer,
        tracker=tracker,
        place=split.examples.place,
        budget=budget,
        with_losses=metric.needs_losses,
        rules=rules,
    )
    scored = scored or score(rows=rows, stage=f"evaluating {split.name}")
    assert scored is not None
    examples = split.chosen_examples
    facts = facts_of(examples, rows, scored, slices)
    dataset = f"{split.name}: {examples.rows.source}"
    report = build_task_report(
        scored,
        EvaluatedRows(
            texts=_readable(examples, scorer),
            pairs=examples.text_pair,
            place=examples.place,
            dataset=dataset,
            fingerprint=split.fingerprint,
            num_left_out=split.num_left_out,
            facts=facts,
            warnings=tuple(
                f"{lost} The scores say nothing about such rows." for lost in (split.unread, split.too_long) if lost
            ),
        ),
        main=metric,
        train_targets=train_targets,
        bootstrap=bootstrap,
        mistakes=mistakes,
    )
    lifts = tuple(_lifts(score, rows, scored, metric, name=split.name, samples=bootstrap))
    evaluated = EvaluatedSet(split.name, dataset, split.fingerprint, metric, scored, facts)
    return Reported(replace(report, lifts=lifts), evaluated)


def _readable(examples: Examples, scorer: Scorer) -> pa.ChunkedArray:
    """Texts for people, large_string [N]: those of rows that came as token ids alone are decoded."""
    tokens = examples.tokens
    if examples.has_text or tokens is None:
        return examples.text
    rows = [row.tolist() for row in np.split(tokens.ids, tokens.offsets[1:-1])]
    return pa.chunked_array([scorer.tokenizer.backend_tokenizer.decode_batch(rows)], pa.large_string())


def _lifts(
    score: Callable[..., ScoredRows | None],
    rows: TokenRows,
    scored: ScoredRows,
    metric: MainMetric,
    *,
    name: str,
    samples: int,
) -> Iterator[Lift]:
    """What each column of the prefix is worth: the rows of the set `name`, with scores `scored`, scored again without
    it."""
    if not isinstance(rows.store, PrefixedStore):
        return
    has_NK = rows.store.present[rows.examples]
    for field, num_rows in zip(rows.store.fields, has_NK.sum(axis=0).tolist(), strict=True):
        left = replace(rows, store=rows.store.without(field.name))
        without = score(rows=left, stage=f"evaluating {name} without {field.name}")
        assert without is not None
        yield measure_lift(field.name, metric, scored, without, num_rows=num_rows, samples=samples)


def write_report(report: Report, folder: Path, stem: str, *, page: bool = False) -> None:
    """Write `stem.json` and `stem.md` into a folder; `page`: and `stem.html`."""
    write_text(folder / f"{stem}.json", render.json.render(report))
    write_text(folder / f"{stem}.md", render.markdown.render(report))
    if page:
        write_text(folder / f"{stem}.html", page_of({stem: report}))


def write_reports(parts: Parts, folder: RunFolder, tracker: Tracker) -> dict[str, Report]:
    """Report on the saved model, not on the live one: what is reported is what was kept. Its decision is fitted first,
    and kept with it. Called by all ranks together."""
    device: Literal["cpu", "cuda"] = "cuda" if parts.device.torch.type == "cuda" else "cpu"
    saved = load_scorer(
        folder.best,
        device=device,
        precision=parts.device.precision,
        code=parts.card.code,  # which the run's own configuration names
        decision=False,
        ranks=parts.ranks,
        on_notice=tracker.notice,
    )
    if (change := saved.card.merge_change) is not None:
        tracker.notice(change_in_words(change))
    budget = saved.budget()
    report = partial(
        report_split,
        metric=parts.metric,
        train_targets=parts.data.train_targets,
        bootstrap=parts.settings.evaluate.bootstrap,
        mistakes=parts.settings.evaluate.mistakes,
        tracker=tracker,
        slices=parts.settings.evaluate.slices,
        budget=budget,
    )
    found = None if parts.settings.decide is None else _decide(parts.settings.decide, saved, parts, tracker, budget)
    decided = saved if found is None else saved.with_decisions(found.decision.decisions)
    if parts.ranks.is_first and (kept := keep_decisions(found.decision.decisions if found else {}, folder.best)):
        tracker.notice(kept)
    reports: dict[str, Report] = {}
    for name in [name for name in parts.settings.reported if name in parts.rows]:
        split, rows = parts.data.splits[name], parts.rows[name]
        if found is None or name != FITTED_ON:
            reports[name], evaluated = report(decided, split, rows)
        else:
            again, evaluated = report(decided, split, rows, rules=found.rules, scored=found.scored)
            reports[name] = found.decision.explained(again)
            for line in found.decision.summary(reports[name]):
                tracker.notice(line)
        if parts.ranks.is_first:
            write_report(reports[name], folder.path, report_stem(name))
            folder.evaluations.mkdir(exist_ok=True)
            write_rows(evaluated, folder.rows_of(name))
            if name == FITTED_ON:
                keep_usual(evaluated, rows, saved.card, folder.best)
    if parts.ranks.is_first:
        folder.keep_reports(reports)
        if said := keep_probe(parts, folder.best, saved, FITTED_ON):
            tracker.notice(said)
    return reports


def keep_usual(evaluated: EvaluatedSet, rows: TokenRows, card: ModelCard, folder: Path) -> None:
    """Write into a model's folder what its validation rows looked like, by which a server tells drift."""
    if (usual := usual_rows(evaluated, rows.lengths, card.tokens)) is not None:
        write_usual(usual, folder)


class _Found(NamedTuple):
    """A decision, and the rows that it was fitted on."""

    decision: RunDecision
    rules: Mapping[str, RowRules]
    scored: ScoredRows | None
    """They, decided by the rules of the other folds; None where too many scores would be kept for that."""


def _decide(
    section: DecideSection, scorer: Scorer, parts: Parts, tracker: Tracker, budget: CallerBudget
) -> _Found | None:
    """Score the validation rows and fit the decision on them; None where there are none."""
    if FITTED_ON not in parts.rows:
        return None
    split, rows, column = parts.data.splits[FITTED_ON], parts.rows[FITTED_ON], parts.settings.grouped_by
    scored = score_rows(
        scorer,
        rows,
        tracker,
        place=split.examples.place,
        stage=f"evaluating {split.name}",
        budget=budget,
        with_losses=parts.metric.needs_losses,
    )
    assert scored is not None
    groups_N = None
    if column is not None:
        numbers = split.examples.indices[split.indices]
        groups_N = groups_in(split.examples.rows, numbers, column, key="data.validation")
    decision = fit_decisions(section, scored, groups_N, parts.ranks)
    rules = decision.rules(scored)
    return _Found(decision, rules, decided_again(scored, scorer.with_decisions(decision.decisions).task, rules))
