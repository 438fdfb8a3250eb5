"""The tasks of GLUE, what became of them, and the table that compares them with published scores; below `glue.py`.

Published: the README of run_glue.py in transformers, bert-base-cased in fp32, 128 tokens, batches of 32, 2e-5, 3
epochs (MRPC and WNLI 5), on one Titan RTX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textune.evaluation import Report
from textune.wording import clock

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True)
class Measure:
    """A metric of a task on one of its sets, and the published value in per cent."""

    metric: str
    published: float
    part: str = "validation"


@dataclass(frozen=True)
class GlueTask:
    """A task of GLUE as it is published."""

    title: str
    measures: tuple[Measure, ...]
    seconds: int
    """Of the published training."""


TASKS: dict[str, GlueTask] = {
    "cola": GlueTask("CoLA", (Measure("mcc", 56.53),), 197),
    "sst2": GlueTask("SST-2", (Measure("accuracy", 92.32),), 1566),
    "mrpc": GlueTask("MRPC", (Measure("f1", 88.85), Measure("accuracy", 84.07)), 141),
    "stsb": GlueTask("STS-B", (Measure("pearson", 88.64), Measure("spearman", 88.48)), 133),
    "qqp": GlueTask("QQP", (Measure("accuracy", 90.71), Measure("f1", 87.49)), 8546),
    "mnli": GlueTask("MNLI", (Measure("accuracy", 83.91), Measure("accuracy", 84.10, "mismatched")), 9323),
    "qnli": GlueTask("QNLI", (Measure("accuracy", 90.66),), 2457),
    "rte": GlueTask("RTE", (Measure("accuracy", 65.70),), 57),
    "wnli": GlueTask("WNLI", (Measure("accuracy", 56.34),), 24),
}
"""By their names in `preset:glue/NAME`."""

HEAD = ("task", "metric", "score", "95 % interval", "bert-base-cased", "rows", "time", "its time")
SAMPLE = "/sample"
"""How the names of presets end that read a sample of a task."""


@dataclass(frozen=True)
class TaskResult:
    """What became of one task."""

    task: str
    """Its name in `preset:glue/NAME`."""
    status: Literal["done", "missing", "failed"]
    preset: str = ""
    """The preset that was trained; empty where there are no rows."""
    run: Path | None = None
    reason: str = ""
    """Why it is missing or failed."""
    exit_code: int = 0
    """That of the failure: 2 for what the user can fix, 1 for a bug."""
    reports: dict[str, Report] = field(default_factory=dict)
    num_train: int | None = None
    """Training rows."""
    seconds: float | None = None
    """Of training and evaluation, in all sessions together."""

    @property
    def measures(self) -> list[Measure]:
        """The measures of the task on the sets that there are."""
        return [measure for measure in TASKS[self.task].measures if measure.part in self.reports]

    @property
    def reports_shown(self) -> list[Report]:
        """The reports that these measures are taken from."""
        return [self.reports[part] for part in dict.fromkeys(measure.part for measure in self.measures)]

    @property
    def is_sample(self) -> bool:
        """Whether only a sample of the task's rows was there."""
        return self.preset.endswith(SAMPLE)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "task": self.task,
            "status": self.status,
            "preset": self.preset,
            "run": None if self.run is None else str(self.run),
            "reason": self.reason,
            "exit_code": self.exit_code,
            "train_rows": self.num_train,
            "seconds": self.seconds,
            "reports": {
                name: {key: value for key, value in report.to_dict().items() if key in ("rows", "main", "metrics")}
                for name, report in self.reports.items()
            },
            "published": [
                {"set": measure.part, "metric": measure.metric, "value": measure.published}
                for measure in TASKS[self.task].measures
            ],
        }


@dataclass(frozen=True)
class GlueResult:
    """What became of every task that was asked for."""

    folder: Path
    """Where the runs and the tables are."""
    pretrained: str
    tasks: tuple[TaskResult, ...]

    @property
    def exit_code(self) -> int:
        """0 if no task failed, 1 if one failed with a bug, else 2."""
        return min((task.exit_code for task in self.tasks if task.exit_code), default=0)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {"pretrained": self.pretrained, "tasks": [task.to_dict() for task in self.tasks]}

    def markdown(self) -> str:
        """The table, and what is to be said of it."""
        parts = [f"GLUE with {self.pretrained}"]
        if done := self._of("done"):
            rule = ["---"] * 2 + ["---:"] * (len(HEAD) - 2)
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in (HEAD, rule, *map(_cells, done))))
        return "\n\n".join([*parts, "\n".join(f"- {note}" for note in self.notes())]) + "\n"

    def notes(self) -> list[str]:
        """How the table is to be read, what is missing from it and why, and what failed."""
        done, found = self._of("done"), []
        if done:
            found.append("Scores and intervals in per cent; rows: trained on / evaluated on; time: with evaluation.")
        if any(len(task.measures) > len(task.reports_shown) for task in done):
            found.append("Where one set has two metrics, the interval is that of their mean.")
        if any(task.is_sample for task in done):
            found.append("(sample): trained and evaluated on parts of the task's training rows, not on its dev set.")
        found += [f"{TASKS[task.task].title} has no rows: {task.reason}" for task in self._of("missing")]
        return found + [f"{TASKS[task.task].title} failed: {task.reason}" for task in self._of("failed")]

    def _of(self, status: str) -> list[TaskResult]:
        return [task for task in self.tasks if task.status == status]


def _cells(result: TaskResult) -> tuple[str, ...]:
    """One line of the table, as `HEAD` names its columns."""
    task = TASKS[result.task]
    measures, reports = result.measures, result.reports_shown
    trained = "?" if result.num_train is None else f"{result.num_train:,}"
    return (
        f"{task.title} (sample)" if result.is_sample else task.title,
        " / ".join(_metric(measure) for measure in measures),
        " / ".join(_percent(result.reports[measure.part].metrics[measure.metric]) for measure in measures),
        " / ".join(_interval(report) for report in reports),
        " / ".join(f"{measure.published:.2f}" for measure in measures),
        f"{trained} / {' + '.join(f'{report.num_rows:,}' for report in reports)}",
        "?" if result.seconds is None else clock(result.seconds),
        clock(task.seconds),
    )


def _metric(measure: Measure) -> str:
    return measure.metric if measure.part == "validation" else f"{measure.metric} ({measure.part})"


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:.2f}"


def _interval(report: Report) -> str:
    if report.interval is None:
        return "none"
    low, high = report.interval
    return f"{100 * low:.1f} to {100 * high:.1f}"
