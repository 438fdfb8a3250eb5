"""From a model and a part to a report, and from a report to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from textune.atomic import write_text
from textune.evaluation import Metric, Reduction, Report, Scored, build_report
from textune.prediction import Predictor
from textune.run.parts import Tokenized
from textune.run.tracking import Tracker


def score_part(
    predictor: Predictor,
    tokenized: Tokenized,
    tracker: Tracker,
    *,
    stage: str,
    stop: Callable[[], bool] = lambda: False,
) -> Scored | None:
    """Score the rows of one part and keep of each what metrics and a report need; never all scores at once.

    Of several ranks each scores its share, and each gets the result of all: the same bits as those of a process alone. None
    where `stop`, asked after each batch, says so.
    """
    part, ranks = tokenized.part, predictor.ranks
    reduction = Reduction(predictor.task.head, num_rows=len(part))
    for positions, scores in predictor.score_batches(tokenized.store, part.indices, place=part.place):
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
) -> Report:
    """Score one part with a model and report on it."""
    part = tokenized.part
    scored = score_part(predictor, tokenized, tracker, stage=f"evaluating {part.name}")
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
    write_text(folder / f"{stem}.json", json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / f"{stem}.md", report.markdown())
