"""From a model and a split to a report, and from a report to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from textune.atomic import write_text
from textune.batches import TokenRows
from textune.data import Split
from textune.evaluation import EvaluatedRows, Metric, Reduction, Report, RowLosses, Scored, build_report, render
from textune.model import CallerBudget
from textune.prediction import Predictor, load
from textune.run.folder import RunFolder, report_stem
from textune.run.parts import Parts
from textune.run.tracking import Tracker


def score_rows(
    predictor: Predictor,
    rows: TokenRows,
    tracker: Tracker,
    *,
    place: Callable[[int], str],
    stage: str,
    budget: CallerBudget | None = None,
    with_losses: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Scored | None:
    """Score rows and keep of each what metrics and a report need; never all scores at once.

    Of several ranks each scores its share, and each gets the result of all: the same bits as those of a process alone.
    `with_losses`: keep the task's own loss of each as well. None where `stop`, asked after each batch, says so.
    `place` names an example; `budget` as in `Predictor.score_batches`.
    """
    budget = budget or predictor.budget(tracker.notice)
    head, ranks, num_rows = predictor.task.head, predictor.ranks, len(rows)

    def place_of(position: int) -> str:
        return place(int(rows.examples[position]))

    def targets_of(positions: np.ndarray) -> dict[str, np.ndarray]:
        return rows.at(positions).targets

    reduction = Reduction(head, num_rows=num_rows, with_losses=with_losses)
    batches = predictor.score_batches(
        rows.store, rows.examples, place=place_of, budget=budget, targets=targets_of if with_losses else None
    )
    for batch in batches:
        targets = targets_of(batch.positions)
        losses = None
        if batch.losses is not None:
            weights = predictor.task.row_weights({head.name: torch.from_numpy(targets[head.name])}, None)
            losses = RowLosses(batch.losses[head.name], weights[head.name].numpy())
        reduction.add(batch.positions, targets[head.name], batch.scores[head.name], losses)
        if ranks.alone:
            tracker.progress(stage, reduction.num_added, num_rows)
        else:  # the others are about as far
            tracker.progress(stage, min(reduction.num_added * ranks.world, num_rows - 1), num_rows)
        if stop():
            return None
    reduction.merge(ranks)
    if not ranks.alone:
        tracker.progress(stage, num_rows, num_rows)
    return reduction.finish()


def report_split(
    predictor: Predictor,
    split: Split,
    rows: TokenRows,
    *,
    metric: Metric,
    train_targets: Mapping[str, np.ndarray] | None,
    bootstrap: int,
    mistakes: int,
    tracker: Tracker,
    budget: CallerBudget | None = None,
) -> Report:
    """Score one split with a model and report on it. `budget` as in `Predictor.score_batches`."""
    place, stage = split.examples.place, f"evaluating {split.name}"
    scored = score_rows(
        predictor, rows, tracker, place=place, stage=stage, budget=budget, with_losses=metric.needs_losses
    )
    assert scored is not None
    examples = split.chosen_examples
    return build_report(
        scored,
        EvaluatedRows(
            texts=examples.text,
            pairs=examples.text_pair,
            place=examples.place,
            dataset=f"{split.name}: {examples.rows.source}",
            fingerprint=split.fingerprint,
            num_left_out=split.num_left_out,
            warnings=tuple(
                f"{lost} The scores say nothing about such rows." for lost in (split.unread, split.too_long) if lost
            ),
        ),
        metric=metric,
        train_targets=None if train_targets is None else train_targets[predictor.task.head.name],
        bootstrap=bootstrap,
        mistakes=mistakes,
    )


def write_report(report: Report, folder: Path, stem: str) -> None:
    """Write `stem.json` and `stem.md` into a folder."""
    write_text(folder / f"{stem}.json", render.json.render(report))
    write_text(folder / f"{stem}.md", render.markdown.render(report))


def write_reports(parts: Parts, folder: RunFolder, tracker: Tracker) -> dict[str, Report]:
    """Report on the saved model, not on the live one: what is reported is what was kept. Called by all ranks
    together."""
    device: Literal["cpu", "cuda"] = "cuda" if parts.device.torch.type == "cuda" else "cpu"
    saved = load(
        folder.best,
        device=device,
        precision=parts.device.precision,
        code=parts.card.code,  # which the run's own configuration names
        ranks=parts.ranks,
        on_notice=tracker.notice,
    )
    budget = saved.budget()
    reports: dict[str, Report] = {}
    for name in [name for name in parts.settings.reported if name in parts.rows]:
        reports[name] = report_split(
            saved,
            parts.data.splits[name],
            parts.rows[name],
            metric=parts.metric,
            train_targets=parts.data.train_targets,
            bootstrap=parts.settings.evaluate.bootstrap,
            mistakes=parts.settings.evaluate.mistakes,
            tracker=tracker,
            budget=budget,
        )
        if parts.ranks.is_first:
            write_report(reports[name], folder.path, report_stem(name))
    if parts.ranks.is_first:
        folder.keep_reports(reports)
    return reports
