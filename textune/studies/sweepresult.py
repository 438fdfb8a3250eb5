"""What came of a sweep: the table of its cells, the best one, and what is to be said of it; after `sweep.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textune.evaluation import Report, number, read_report
from textune.jsontext import finite
from textune.run import RunFolder
from textune.studies.cells import Values
from textune.wording import clock, count, listing

if TYPE_CHECKING:
    from pydantic import JsonValue

HEAD = ("cell", "{metric}", "95 % interval", "time", "")
BEST_CONFIG = "best.toml"
"""The configuration of the best run, in the folder of a sweep."""


@dataclass(frozen=True)
class CellResult:
    """What became of one cell."""

    name: str
    values: Values
    run: Path
    """Its run folder."""
    status: Literal["done", "failed", "refused", "planned"]
    reason: str = ""
    """Why it failed, or why its configuration is refused."""
    exit_code: int = 0
    """That of the failure: 2 for what the user can fix, 1 for a bug."""
    report: Report | None = None
    """On the rows that runs are compared on."""
    seconds: float | None = None
    """Of training and evaluation, in all sessions together."""
    measured_on: str = ""
    """Which rows of their source were evaluated, as a hash; empty where the values of a cell cannot change that."""

    @property
    def value(self) -> float | None:
        """The metric; None where the run is not done, or has none."""
        return None if self.report is None or math.isnan(self.report.value) else self.report.value

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        shown = None if self.report is None else self.report.to_dict()["main"]
        values: JsonValue = finite(dict(self.values))
        return {
            "cell": self.name,
            "values": values,
            "status": self.status,
            "run": str(self.run),
            "reason": self.reason,
            "exit_code": self.exit_code,
            "main": shown,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class StageResult:
    """What became of one search."""

    name: str
    """Empty for a sweep of one search."""
    cells: tuple[CellResult, ...]
    chain: tuple[str, ...] = ()
    """The best cells of the stages before, which it goes on with."""

    @property
    def measured(self) -> list[CellResult]:
        """The cells with a value."""
        return [cell for cell in self.cells if cell.value is not None]

    @property
    def best(self) -> CellResult | None:
        """The cell with the best value; of several, the first."""
        found: CellResult | None = None
        for cell in self.measured:
            if found is None or _better(cell, found):
                found = cell
        return found

    @property
    def metric(self) -> str:
        """What was compared; empty where no run is done."""
        reports = [cell.report for cell in self.cells if cell.report is not None]
        return reports[0].metric if reports else ""

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "stage": self.name,
            "after": list(self.chain),
            "metric": self.metric,
            "best": self.best.name if self.best else None,
            "cells": [cell.to_dict() for cell in self.cells],
        }


def _better(one: CellResult, other: CellResult) -> bool:
    assert one.value is not None and other.value is not None and one.report is not None
    return one.value > other.value if one.report.higher_is_better else one.value < other.value


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep."""

    folder: Path
    """Where the runs, the tables, the plot and `best.toml` are."""
    config: str
    """What was swept over, in words."""
    stages: tuple[StageResult, ...]
    dry_run: bool = False
    """Whether nothing was trained or written."""
    notices: tuple[str, ...] = ()
    """What the user should know, as sentences."""

    @property
    def best(self) -> CellResult | None:
        """The best cell of the last stage; None where there is none yet."""
        return self.stages[-1].best if self.stages else None

    @property
    def best_config(self) -> Path | None:
        """The configuration of the best run, which `textune train` takes."""
        return self.folder / BEST_CONFIG if self.best is not None else None

    @property
    def test(self) -> Report | None:
        """The best run's report on the test rows; None where there are none."""
        best = self.best
        path = None if best is None else RunFolder(best.run).reports().get("test")
        return None if path is None else read_report(path)

    @property
    def exit_code(self) -> int:
        """0 if no cell failed, 1 if one failed with a bug, else 2."""
        codes = [cell.exit_code for stage in self.stages for cell in stage.cells]
        return min((code for code in codes if code), default=0)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        test = self.test
        return {
            "version": 1,
            "folder": str(self.folder),
            "config": self.config,
            "dry_run": self.dry_run,
            "best": None if self.best is None else self.best.to_dict(),
            "best_config": None if self.best_config is None else str(self.best_config),
            "test": None if test is None else {"rows": test.num_rows, **test.to_dict()["main"]},
            "stages": [stage.to_dict() for stage in self.stages],
            "notes": list(self.notes()),
        }

    def markdown(self) -> str:
        """The table of each stage, and what is to be said of it."""
        parts = [f"# {count(sum(len(stage.cells) for stage in self.stages), 'run')} of {self.config}"]
        for stage in self.stages:
            if stage.name:
                after = f", after {stage.chain[-1]}" if stage.chain else ""
                parts.append(f"## {stage.name}{after}")
            parts.append(_table(stage))
        notes = self.notes()
        return "\n\n".join([*parts, *(["\n".join(f"- {note}" for note in notes)] if notes else [])]) + "\n"

    def notes(self) -> list[str]:
        """How the table is to be read, what failed, and where the best run is."""
        found = [
            f"{cell.name} {'is refused' if cell.status == 'refused' else 'failed'}: {cell.reason}"
            for stage in self.stages
            for cell in stage.cells
            if cell.status in ("refused", "failed")
        ]
        stage, best = (self.stages[-1] if self.stages else None), self.best
        if stage is None or best is None or best.report is None:
            return [*found, *self.notices]
        found += [*_of_chance(stage, best), *_other_rows(stage, best), *self._better_before(best)]
        test = self.test
        if test is not None:
            found.append(f"The best run on rows that chose nothing: {test.headline()} (test).")
        elif len(stage.measured) > 1:
            found.append(
                "There is no test set: rows that chose nothing ([data.test]) would say what the best is worth."
            )
        found.append(f"The best run is {best.run}; its configuration is {self.best_config}.")
        return [*found, *self.notices]

    def _better_before(self, best: CellResult) -> list[str]:
        """That a stage before the last had a better run."""
        return [
            f"The best of stage {stage.name} was better: {earlier.run}, {stage.metric} {number(earlier.report.value)}."
            for stage in self.stages[:-1]
            if (earlier := stage.best) is not None
            and earlier.report is not None
            and _rows(earlier) == _rows(best)
            and _better(earlier, best)
        ]


def _rows(cell: CellResult) -> tuple[object, ...]:
    """Which rows it was measured on, and by what."""
    report = cell.report
    return () if report is None else (report.fingerprint, report.num_rows, report.metric, cell.measured_on)


def _of_chance(stage: StageResult, best: CellResult) -> list[str]:
    """That the best of many is optimistic, and which others are as good within chance."""
    report, others = best.report, [cell for cell in stage.measured if cell is not best]
    if not others or report is None:
        return []
    found = [
        f"The best of {count(len(stage.measured), 'run')} was chosen on the rows that it is measured on, so"
        f" {report.metric} {number(report.value)} is optimistic."
    ]
    if report.interval is not None:
        low, high = report.interval
        inside = [cell.name for cell in others if cell.value is not None and low <= cell.value <= high]
        if inside:
            found.append(
                f"Within its interval {'lies' if len(inside) == 1 else 'lie'} {listing(inside, 5)}: the difference may"
                " be chance."
            )
    return found


def _other_rows(stage: StageResult, best: CellResult) -> list[str]:
    """The cells that were measured on other rows than the best."""
    names = [cell.name for cell in stage.measured if _rows(cell) != _rows(best)]
    return [f"Measured on other rows than {best.name}, so not comparable: {listing(names, 5)}."] if names else []


def _table(stage: StageResult) -> str:
    head = [cell.format(metric=stage.metric or "metric") for cell in HEAD]
    rule = ["---", "---:", "---:", "---:", "---"]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *(_line(stage, cell) for cell in stage.cells)))


def _line(stage: StageResult, cell: CellResult) -> tuple[str, ...]:
    mark = "best" if cell is stage.best else "" if cell.status == "done" else cell.status
    took = "" if cell.seconds is None else clock(cell.seconds)
    if cell.report is None:
        return (cell.name, "", "", took, mark)
    interval = cell.report.interval
    limits = "none" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
    return (cell.name, number(cell.report.value), limits, took, mark)
