"""A report as the text of a JSON file, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textune.errors import RunError
from textune.evaluation.baseline import Baseline
from textune.evaluation.curves import Curves, Reliability, Thresholds
from textune.evaluation.decisionpart import decision_of
from textune.evaluation.drawn import drawn_of
from textune.evaluation.hardest import Amounts, HardDocument
from textune.evaluation.lift import Lift
from textune.evaluation.metrics import ClassMetrics
from textune.evaluation.mistakes import Mistake
from textune.evaluation.report import Confusion, Report
from textune.evaluation.slices import Slice
from textune.evaluation.undefined import from_json
from textune.jsontext import parse_json

Tree = dict[str, Any]
"""A JSON object; what its values are is checked as they are read."""


def render(report: Report) -> str:
    """The whole report."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(path: Path) -> Report:
    """The report in a file that `render` filled; RunError where it is damaged or of a later version."""
    again = "Make it again: `textune evaluate`."
    try:
        tree: Tree = parse_json(path.read_text(encoding="utf-8"))
        if tree["version"] != 1:
            raise RunError(f"{path} was written by a later version of textune.", hint="Upgrade textune to read it.")
        return _report(tree)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__}, {error}.", hint=again) from error


def _report(tree: Tree) -> Report:
    main, classes = tree["main"], [dict(row) for row in tree["classes"]]
    support = [row.pop("train_support", None) for row in classes]
    return Report(
        problem=tree["problem"],
        names=tuple(tree["names"]),
        dataset=tree["dataset"],
        fingerprint=tree["fingerprint"],
        num_rows=tree["rows"],
        metric=main["metric"],
        higher_is_better=main["higher_is_better"],
        interval=None if main["interval_95"] is None else (main["interval_95"][0], main["interval_95"][1]),
        interval_method=main.get("interval_method") or "",
        metrics=from_json(tree["metrics"]),
        baseline=_baseline(tree["baseline"]),
        classes=tuple(ClassMetrics(**from_json(row)) for row in classes),
        train_support=None if not support or support[0] is None else tuple(support),
        matrix=None if tree["confusion_matrix"] is None else tuple(tuple(row) for row in tree["confusion_matrix"]),
        confusions=tuple(Confusion(**pair) for pair in tree["confusions"]),
        num_mistakes=tree["num_mistakes"],
        mistakes=tuple(_mistake(row) for row in tree["mistakes"]),
        warnings=tuple(tree["warnings"]),
        notes=tuple(tree["notes"]),
        num_left_out=tree.get("rows_left_out", 0),
        curves=tuple(_curves(row) for row in tree.get("curves", ())),
        drawn=drawn_of(tree.get("drawn", {})),
        amounts=Amounts(**tree["amounts"]) if "amounts" in tree else None,
        hardest=tuple(HardDocument(**from_json(row)) for row in tree.get("hardest", ())),
        decision=decision_of(tree["decision"]) if "decision" in tree else None,
        slices=tuple(_slice(row) for row in tree.get("slices", ())),
        lifts=tuple(_lift(row) for row in tree.get("lifts", ())),
        tasks={name: _report(task) for name, task in tree.get("tasks", {}).items()},
    )


def _baseline(row: Tree | None) -> Baseline | None:
    return None if row is None else Baseline(**{**row, "metrics": from_json(row["metrics"])})


def _lift(row: Tree) -> Lift:
    values = from_json({name: row[name] for name in ("without", "lift")})
    return Lift(**{**row, **values, "interval": None if row["interval"] is None else tuple(row["interval"])})


def _slice(row: Tree) -> Slice:
    interval = None if row["interval"] is None else tuple(row["interval"])
    return Slice(**{**row, **from_json({"value": row["value"]}), "interval": interval})


def _mistake(row: Tree) -> Mistake:
    answers = {name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in ("true", "predicted")}
    return Mistake(**{**row, **answers})


def _curves(row: Tree) -> Curves:
    thresholds, reliability = (
        {name: tuple(values) for name, values in row[key].items()} for key in ("thresholds", "reliability")
    )
    return Curves(row["name"], Thresholds(**thresholds), Reliability(**reliability))
