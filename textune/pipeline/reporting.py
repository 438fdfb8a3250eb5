"""From a model and a part to a report, and from a report to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from textune.evaluation import Metric, Report, build_report
from textune.pipeline.gather import Tokenized
from textune.prediction import Predictor
from textune.rundir import write_text
from textune.tracking import Tracker


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
    scores = predictor.score_store(
        tokenized.store, part.indices, progress=lambda done: tracker.progress(f"evaluating {part.name}", done, len(part))
    )
    examples = part.chosen_examples
    return build_report(
        problem=predictor.card.problem,
        names=predictor.card.names,
        targets=part.chosen_targets,
        scores=scores,
        texts=examples.text,
        pairs=examples.text_pair,
        place=examples.place,
        metric=metric,
        dataset=f"{part.name}: {examples.rows.source}",
        fingerprint=part.fingerprint,
        train_targets=train_targets,
        bootstrap=bootstrap,
        mistakes=mistakes,
    )


def write_report(report: Report, folder: Path, stem: str) -> None:
    """Write `stem.json` and `stem.md` into a folder."""
    write_text(folder / f"{stem}.json", json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / f"{stem}.md", report.markdown())
