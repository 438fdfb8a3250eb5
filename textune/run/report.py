"""From a model and a split to a report, and from a report to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from textune.atomic import write_text
from textune.config import reported_sets
from textune.evaluation import Metric, Reduction, Report, Scored, build_report, render
from textune.model import CallerBudget
from textune.prediction import Predictor, load
from textune.run.folder import RunFolder, report_stem
from textune.run.parts import Ingredients, Tokenized
from textune.run.tracking import Tracker


def score_part(
    predictor: Predictor,
    tokenized: Tokenized,
    tracker: Tracker,
    *,
    stage: str,
    budget: CallerBudget | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Scored | None:
    """Score the rows of one part and keep of each what metrics and a report need; never all scores at once.

    Of several ranks each scores its share, and each gets the result of all: the same bits as those of a process alone. None
    where `stop`, asked after each batch, says so. `budget` as in `Predictor.score_batches`.
    """
    budget = budget or predictor.budget(tracker.notice)
    part, ranks = tokenized.part, predictor.ranks
    reduction = Reduction(predictor.task.head, num_rows=len(part))
    for positions, scores in predictor.score_batches(tokenized.store, part.indices, place=part.place, budget=budget):
        reduction.add(positions, part.targets[part.indices[positions]], scores)
        if ranks.alone:
            tracker.progress(stage, reduction.num_added, len(part))
        else:  # the others are about as far
            tracker.progress(stage, min(reduction.num_added * ranks.world, len(part) - 1), len(part))
        if stop():
            return None
    reduction.merge(ranks)
    if not ranks.alone:
        tracker.progress(stage, len(part), len(part))
    return reduction.finish()


def report_part(
    predictor: Predictor,
    tokenized: Tokenized,
    *,
    metric: Metric,
    train_targets: np.ndarray | None,
    bootstrap: int,
    mistakes: int,
    tracker: Tracker,
    budget: CallerBudget | None = None,
) -> Report:
    """Score one part with a model and report on it. `budget` as in `Predictor.score_batches`."""
    part = tokenized.part
    scored = score_part(predictor, tokenized, tracker, stage=f"evaluating {part.name}", budget=budget)
    assert scored is not None
    examples = part.chosen_examples
    return build_report(
        scored,
        texts=examples.text,
        pairs=examples.text_pair,
        place=examples.place,
        metric=metric,
        dataset=f"{part.name}: {examples.rows.source}",
        fingerprint=part.fingerprint,
        train_targets=train_targets,
        bootstrap=bootstrap,
        mistakes=mistakes,
        left_out=part.num_left_out,
        warnings=tuple(f"{lost} The scores say nothing about such rows." for lost in (part.unread, part.too_long) if lost),
    )


def write_report(report: Report, folder: Path, stem: str) -> None:
    """Write `stem.json` and `stem.md` into a folder."""
    write_text(folder / f"{stem}.json", render.json.render(report))
    write_text(folder / f"{stem}.md", render.markdown.render(report))


def write_reports(parts: Ingredients, folder: RunFolder, tracker: Tracker) -> dict[str, Report]:
    """Report on the saved model, not on the live one: what is reported is what was kept. Called by all ranks together."""
    device: Literal["cpu", "cuda"] = "cuda" if parts.device.torch.type == "cuda" else "cpu"
    saved = load(folder.best, device=device, precision=parts.device.precision, ranks=parts.ranks, on_notice=tracker.notice)
    budget = saved.budget()
    reports: dict[str, Report] = {}
    for name in [name for name in reported_sets(parts.experiment) if name in parts.parts]:
        reports[name] = report_part(
            saved,
            parts.parts[name],
            metric=parts.metric,
            train_targets=parts.data.train_targets,
            bootstrap=parts.experiment.evaluate.bootstrap,
            mistakes=parts.experiment.evaluate.mistakes,
            tracker=tracker,
            budget=budget,
        )
        if parts.ranks.is_first:
            write_report(reports[name], folder.path, report_stem(name))
    return reports
