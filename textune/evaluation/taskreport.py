"""The report on one evaluation of a task: of one head its report, of several a report on each and on their means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from textune.data import has_label
from textune.evaluation.baseline import THESE_ROWS, TRAINING_ROWS, mean_baseline
from textune.evaluation.heads import ScoredRows
from textune.evaluation.joint import main_interval
from textune.evaluation.mainmetric import MainMetric, all_metrics
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.report import Report, baseline_warnings, build_report, interval_notes
from textune.evaluation.scored import Scored
from textune.evaluation.slices import find_slices


def build_task_report(
    scored: ScoredRows,
    rows: EvaluatedRows,
    *,
    main: MainMetric,
    train_targets: Mapping[str, np.ndarray] | None = None,
    bootstrap: int = 1000,
    mistakes: int = 20,
    seed: int = 0,
) -> Report:
    """Report on one evaluation; arguments as in `build_report`, `train_targets` by head."""
    reports = {
        head.name: _of_head(
            scored.by_head[head.name],
            rows if len(scored.heads) == 1 else replace(rows, dataset=f"{head.name}, {rows.dataset}", warnings=()),
            main,
            train_targets=_labelled(train_targets, head.name),
            bootstrap=bootstrap,
            mistakes=mistakes,
            seed=seed,
        )
        for head in scored.heads
        if head.name in scored.by_head
    }
    facts = rows.facts
    slices = () if facts is None else find_slices(main, scored, facts, samples=bootstrap, seed=seed)
    if len(scored.heads) == 1:
        return replace(next(iter(reports.values())), slices=slices)
    source = THESE_ROWS if train_targets is None else TRAINING_ROWS
    whole = _of_all(scored, rows, main, reports, source=source, bootstrap=bootstrap, seed=seed)
    return replace(whole, slices=slices)


def _of_all(
    scored: ScoredRows,
    rows: EvaluatedRows,
    main: MainMetric,
    reports: Mapping[str, Report],
    *,
    source: str,
    bootstrap: int,
    seed: int,
) -> Report:
    """The report on several heads together; `reports` on each, `source`: the rows of the baselines."""
    metrics = all_metrics(scored, main)
    interval = main_interval(main, scored, samples=bootstrap, seed=seed)
    baselines = {name: report.baseline for name, report in reports.items() if report.baseline is not None}
    baseline = mean_baseline(baselines, main, metrics, source=source)
    return Report(
        problem="multitask",
        names=(),
        dataset=rows.dataset,
        fingerprint=rows.fingerprint,
        num_rows=scored.num_rows,
        metric=main.name,
        interval=interval.limits,
        interval_method=interval.method,
        metrics=metrics,
        baseline=baseline,
        classes=(),
        train_support=None,
        matrix=None,
        confusions=(),
        num_mistakes=None,
        mistakes=(),
        warnings=(
            *baseline_warnings(baseline, metrics),
            *(f"{name}: {warning}" for name, report in reports.items() for warning in report.warnings),
            *rows.warnings,
        ),
        notes=(
            *(f"No row here has a label for {name}: it is left out of the means." for name in scored.unlabelled),
            *interval_notes(main.name, interval, baseline),
        ),
        num_left_out=rows.num_left_out,
        higher_is_better=main.higher_is_better,
        tasks={name: _with_unlabelled(report, scored.num_rows) for name, report in reports.items()},
    )


def _with_unlabelled(report: Report, num_rows: int) -> Report:
    """The report on one of several heads, with a note of the rows, of `num_rows`, that have no label for it."""
    without = num_rows - report.num_rows
    if not without:
        return report
    note = f"{without:,} of {num_rows:,} rows have no label for this task and do not count in it."
    return replace(report, notes=(note, *report.notes))


def _of_head(
    scored: Scored,
    rows: EvaluatedRows,
    main: MainMetric,
    *,
    train_targets: np.ndarray | None,
    bootstrap: int,
    mistakes: int,
    seed: int,
) -> Report:
    """The report on one head, by what counts of it in the main metric; where nothing does, by its own."""
    metric = main.by_head.get(scored.head.name) or METRICS[scored.answers.measures.main]
    return build_report(
        scored,
        rows,
        metric=metric,
        train_targets=train_targets,
        bootstrap=bootstrap,
        mistakes=mistakes,
        seed=seed,
    )


def _labelled(train_targets: Mapping[str, np.ndarray] | None, head: str) -> np.ndarray | None:
    """The targets of the training rows that have a label for this head; None where they are not known."""
    if train_targets is None:
        return None
    targets = train_targets[head]
    has = has_label(targets)
    if has.all():
        return targets
    return targets[has] if has.any() else None
