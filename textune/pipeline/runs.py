"""The runs that lie in a folder: how good each is, how it stands, and which is the best on the same rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textune.config import user_path
from textune.errors import RunError, TextuneError
from textune.evaluation import Report, number, read_report
from textune.locks import is_held
from textune.run import Manifest, RunFolder, read_manifest
from textune.wording import clock

if TYPE_CHECKING:
    from pydantic import JsonValue

MANIFEST = "manifest.json"
MAX_DEPTH = 3
"""Folders below the one that is asked for: `runs/STUDY/fold-1` is two below `runs`."""
Standing = Literal["running", "complete", "interrupted", "preempted", "failed", "killed", "damaged"]
HEAD = ("run", "metric", "95 % interval", "best", "status", "time", "started", "task", "on", "steps")
"""The most important first, since a narrow terminal shows the first ones."""
MIN_COLUMNS = 2
GAP = 2
"""Blanks between columns."""


@dataclass(frozen=True)
class ListedRun:
    """One run of a folder."""

    run: str
    """Its folder."""
    status: Standing
    """As in its manifest; `killed` where that says running and no process of this machine holds the folder, `damaged`
    where the manifest cannot be read."""
    reason: str = ""
    """Why it failed or cannot be read."""
    task: str = ""
    started: str = ""
    """ISO 8601, in UTC."""
    seconds: float | None = None
    """Of the training loop."""
    steps: int | None = None
    part: str = ""
    """The set of the value: `validation`, which chooses the best model, or the first that was reported."""
    rows: int | None = None
    """Rows of that set."""
    metric: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval of the value."""
    higher_is_better: bool | None = None
    best: bool | None = None
    """Whether it is the best of the runs with the same metric on the same rows; None where no other run has these."""
    fingerprint: str = ""
    """Of the rows of that set."""

    def cells(self, folder: Path) -> tuple[str, ...]:
        """Its line in the table of the runs in `folder`, one text for each of `HEAD`."""
        path = Path(self.run)
        name = str(path.relative_to(folder)) if path != folder and path.is_relative_to(folder) else self.run
        interval = "" if self.interval is None else f"{number(self.interval[0])} to {number(self.interval[1])}"
        on = f"{self.part}, {self.rows:,}" if self.rows is not None else ""
        return (
            name,
            "" if self.value is None else f"{self.metric} {number(self.value)}",
            interval,
            "best" if self.best else "",
            self.status,
            "" if self.seconds is None else clock(self.seconds),
            self.started.replace("T", " ")[:16],
            self.task,
            on,
            "" if self.steps is None else f"{self.steps:,}",
        )


@dataclass(frozen=True)
class RunList:
    """The runs of a folder, the newest first."""

    folder: Path
    runs: tuple[ListedRun, ...]

    def table(self, width: int | None = None) -> list[tuple[str, ...]]:
        """A head and a line for each run, without columns in which nothing stands, and without the last ones that are
        too much for a terminal of `width` columns."""
        lines = [HEAD, *(run.cells(self.folder) for run in self.runs)]
        used = [index for index in range(len(HEAD)) if any(line[index] for line in lines[1:])]
        widths = [max(len(line[index]) for line in lines) + GAP for index in used]
        while width is not None and len(used) > MIN_COLUMNS and sum(widths) - GAP > width:
            used.pop()
            widths.pop()
        return [tuple(line[index] for index in used) for line in lines]

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {"folder": str(self.folder), "runs": [asdict(run) for run in self.runs]}


def runs(folder: str | Path = "runs") -> RunList:
    """The runs in a folder and in the studies in it, the newest first. Only files of the runs are read: no model.

    A run whose files are damaged is listed as such. RunError where there is no such folder.
    """
    place = user_path(folder)
    if not place.is_dir():
        what = "is a file" if place.exists() else "does not exist"
        raise RunError(
            f"{place} {what}; a folder of runs was expected.",
            hint="Name the folder that holds them: textune runs FOLDER.",
            place=str(place),
            reason=what,
        )
    found = [_listed(path) for path in _run_folders(place, MAX_DEPTH)]
    return RunList(place, tuple(sorted(_with_best(found), key=lambda run: (run.started, run.run), reverse=True)))


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a manifest, at most `depth` below `folder`; none within another run."""
    if (folder / MANIFEST).is_file():
        yield folder
    elif depth:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                yield from _run_folders(inner, depth - 1)


def _listed(path: Path) -> ListedRun:
    try:
        manifest = read_manifest(path)
    except TextuneError as error:
        return ListedRun(str(path), "damaged", error.reason or error.message)
    listed = ListedRun(
        str(path),
        _standing(manifest, path),
        manifest.reason or "",
        _task(manifest),
        manifest.started,
        manifest.seconds,
        manifest.steps,
    )
    reports = RunFolder(path).reports()
    if not reports:
        return listed
    part = next(iter(reports))
    try:
        report = read_report(reports[part])
    except TextuneError as error:
        return replace(listed, reason=listed.reason or error.message)
    return _with_report(listed, part, report)


def _with_report(listed: ListedRun, part: str, report: Report) -> ListedRun:
    value = report.value
    return replace(
        listed,
        task=listed.task or report.problem,
        part=part,
        rows=report.num_rows,
        metric=report.metric,
        value=value if value == value else None,  # NaN: not defined on these rows
        interval=report.interval,
        higher_is_better=report.higher_is_better,
        fingerprint=report.fingerprint,
    )


def _standing(manifest: Manifest, path: Path) -> Standing:
    if manifest.status == "running" and not is_held(path / "lock"):
        return "killed"
    return manifest.status


def _task(manifest: Manifest) -> str:
    problem, labels = manifest.facts.get("problem"), manifest.facts.get("labels")
    several = isinstance(labels, list) and len(labels) > 2
    return f"{problem} ({len(labels)})" if several and isinstance(labels, list) else str(problem or "")


def _with_best(listed: Sequence[ListedRun]) -> list[ListedRun]:
    """With `best` where several runs have the same metric on the same rows."""
    groups: dict[tuple[str, str], list[ListedRun]] = defaultdict(list)
    for run in listed:
        if run.value is not None:
            groups[run.metric, run.fingerprint].append(run)
    best: dict[str, bool] = {}
    for group in groups.values():
        if len(group) > 1:
            values = [run.value for run in group if run.value is not None]
            top = max(values) if group[0].higher_is_better else min(values)
            best |= {run.run: run.value == top for run in group}
    return [replace(run, best=best.get(run.run)) for run in listed]
