"""Runs over the values that a file names, one stage after the other; which values were the best.

    sweep("sweep.toml") -> SweepResult

FOLDER/
  study.json            which sweep this is
  CELL/                 the run of each cell; of stages STAGE/CELL/, and STAGE/BEST/CELL/ after the best of the one
                        before
  proposals.json        beside the runs of a search by Optuna: what it has proposed
  sweep.md, sweep.json  the table, after each stage; sweep.svg: as a figure
  best.toml             the configuration of the best run
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from textune.atomic import write_text
from textune.config import (
    EXTENDS,
    Overrides,
    parse_key,
    require_count,
)
from textune.errors import RunError, TextuneError
from textune.evaluation import read_rows
from textune.run import RunFolder, Tracker, read_manifest
from textune.studies.cells import (
    Cell,
    Ground,
    Values,
    named,
    require_some_sound,
    values_in_words,
)
from textune.studies.folder import opened_study
from textune.studies.proposing import Trial, keep_proposals, propose, read_proposals, values_of
from textune.studies.runs import PlannedRun, RunResult, SilentWatch, Watch, carry_out
from textune.studies.sweepplan import PlannedStage, SweepPlan, continued, plan_sweep
from textune.studies.sweepplot import plot
from textune.studies.sweepresult import BEST_CONFIG, CellResult, StageResult, SweepResult
from textune.wording import count


def sweep(
    sweep: str | os.PathLike[str] | Mapping[str, object],
    *,
    run: str | Path | None = None,
    jobs: int | None = None,
    keep_going: bool = False,
    overrides: Overrides = (),
    dry_run: bool = False,
    watch: Watch | None = None,
) -> SweepResult:
    """Carry out a sweep: train a configuration with every combination of some values, and say which were the best.

    `sweep`: a TOML file, or a dictionary of the same form. `run`: the folder of the sweep. `jobs`: runs at once. Both
    are by default what the file says. `overrides` apply to every run. `keep_going`: a cell that is refused or fails
    does not stop the others. `dry_run` only says which cells there are. The same call again goes on: runs that are
    complete are not repeated, and one that was stopped resumes.

    Before the first run starts, raises ConfigError for a key that does not exist and for every cell whose
    configuration is refused. RunError where the folder holds another sweep, or where no run of a stage was completed.
    """
    plan = plan_sweep(sweep, overrides=overrides, keep_going=keep_going)
    folder = plan.folder(run)
    if dry_run:
        stages = tuple(_planned(stage, folder) for stage in plan.stages)
        return SweepResult(folder, plan.config, stages, dry_run=True, notices=plan.notices())
    jobs = plan.loaded.sweep.jobs if jobs is None else jobs
    require_count("jobs", jobs)
    done: list[StageResult] = []
    with opened_study(folder, plan.study):
        for stage in plan.stages:
            work = _Work(folder, stage, jobs, keep_going, watch or SilentWatch())
            try:
                result = work.carried_out(plan, done)
            except BaseException:
                _write(SweepResult(folder, plan.config, (*done, work.so_far())))
                raise
            done.append(result)
            _write(SweepResult(folder, plan.config, tuple(done)))
            if result.best is None:
                raise _nothing_done(result)
    return SweepResult(folder, plan.config, tuple(done))


def _planned(stage: PlannedStage, folder: Path) -> StageResult:
    where = folder / stage.place(())
    cells = tuple(
        CellResult(cell.name, cell.values, where / cell.name, "refused", str(cell.refusal), 2)
        if cell.refusal is not None
        else CellResult(cell.name, cell.values, where / cell.name, "planned")
        for cell in stage.cells
    )
    return StageResult(stage.name, cells)


class _Work:
    """A stage that is carried out."""

    def __init__(self, folder: Path, stage: PlannedStage, jobs: int, keep_going: bool, watch: Watch) -> None:
        self._folder, self._stage, self._jobs, self._keep_going = folder, stage, jobs, keep_going
        self._watch = watch
        self._chain: tuple[str, ...] = ()
        self._cells: list[Cell] = list(stage.cells)
        self._ended: dict[str, RunResult] = {}

    @property
    def _runs(self) -> Path:
        """Where its runs are."""
        return self._folder / self._stage.place(self._chain)

    def _folder_of(self, cell: Cell) -> Path:
        return self._runs / cell.name

    def carried_out(self, plan: SweepPlan, before: Sequence[StageResult]) -> StageResult:
        """What became of its cells; `before`: the stages before it."""
        ground = self._stage.ground
        bests = [stage.best for stage in before if stage.best is not None]
        if bests:
            self._chain = tuple(best.name for best in bests)
            ground = continued(plan.stages, [best.values for best in bests], bests[-1].run)
            self._cells = [ground.check(replace(cell, refusal=None)) for cell in self._cells]
            require_some_sound(self._cells, keep_going=self._keep_going)
        if self._stage.search.optuna is None:
            self._run(self._cells, len(self._cells))
        else:
            self._search(ground)
        return self.so_far()

    def so_far(self) -> StageResult:
        """What became of its cells until now."""
        cells = tuple(_result(cell, self._folder_of(cell), self._ended.get(cell.name)) for cell in self._cells)
        return StageResult(self._stage.name, cells, self._chain)

    def _run(self, cells: Sequence[Cell], total: int) -> None:
        planned = [
            PlannedRun(cell.name, cell.loaded, self._folder_of(cell)) for cell in cells if cell.loaded is not None
        ]
        watch = _Numbered(self._watch, self._ended, len(self._ended), total)
        carry_out(planned, jobs=self._jobs, keep_going=self._keep_going, watch=watch)

    def _search(self, ground: Ground) -> None:
        """As many proposals at a time as there are jobs: what they are does not depend on which run ends first."""
        search = self._stage.search.optuna
        assert search is not None
        trials = [Trial(proposed) for proposed in read_proposals(self._runs)][: search.trials]
        higher_is_better = True
        while True:
            waiting = [number for number, trial in enumerate(trials) if trial.value is None]
            if not waiting:
                waiting = list(range(len(trials), min(len(trials) + self._jobs, search.trials)))
                for _ in waiting:
                    trials.append(propose(search, trials, higher_is_better=higher_is_better))
                keep_proposals(self._runs, [trial.proposed for trial in trials])
            if not waiting:
                return
            waiting = waiting[: self._jobs]
            names = [cell.name for cell in self._cells]
            new = named([values_of(search, trials[number]) for number in waiting], numbered=True, taken=names)
            checked = [ground.check(cell) for cell in new]
            self._cells += checked
            if not self._keep_going:
                require_some_sound(checked, keep_going=False)
            self._run(checked, search.trials)
            for number, cell in zip(waiting, checked, strict=True):
                result = _result(cell, self._folder_of(cell), self._ended.get(cell.name))
                trials[number] = Trial(trials[number].proposed, math.nan if result.value is None else result.value)
                higher_is_better = higher_is_better if result.report is None else result.report.higher_is_better


def _result(cell: Cell, run: Path, ended: RunResult | None) -> CellResult:
    if cell.refusal is not None:
        return CellResult(cell.name, cell.values, run, "refused", str(cell.refusal), cell.refusal.exit_code)
    if ended is None:
        return CellResult(cell.name, cell.values, run, "planned")
    if ended.error is not None:
        return CellResult(cell.name, cell.values, run, "failed", ended.reason, ended.exit_code)
    assert cell.loaded is not None
    chosen = cell.loaded.experiment.evaluate.best_by
    report, seconds = ended.reports.get(chosen), read_manifest(run).seconds
    measured_on = _rows_in(RunFolder(run).rows_of(chosen)) if _may_change_rows(cell.values) else ""
    return CellResult(cell.name, cell.values, run, "done", report=report, seconds=seconds, measured_on=measured_on)


def _may_change_rows(values: Values) -> bool:
    """Whether they could decide which rows are held out."""
    return any(parse_key(key)[0] in ("data", EXTENDS) for key in values)


def _rows_in(path: Path) -> str:
    """A hash of the numbers of the rows in the file of an evaluated set; empty where there is none."""
    return hashlib.sha256(np.sort(read_rows(path).facts.row).tobytes()).hexdigest() if path.is_file() else ""


@dataclass(frozen=True)
class _Numbered:
    """A watch that counts runs through several parts of one search, and keeps what became of them."""

    inner: Watch
    ended: dict[str, RunResult]
    before: int
    total: int

    def begin(self, run: PlannedRun, number: int, total: int) -> None:
        self.inner.begin(run, self.before + number, self.total)

    def tracker(self, run: PlannedRun) -> AbstractContextManager[Tracker]:
        return self.inner.tracker(run)

    def end(self, result: RunResult, number: int, total: int) -> None:
        self.ended[result.name] = result
        self.inner.end(result, self.before + number, self.total)


def _nothing_done(stage: StageResult) -> TextuneError:
    what = f"of stage {stage.name} " if stage.name else ""
    reasons = [cell.reason for cell in stage.cells if cell.reason]
    reason = f" The first one: {reasons[0]}" if reasons else ""
    return RunError(f"no run {what}has a value to compare.{reason}", hint="Mend that, and start the sweep again.")


def _write(result: SweepResult) -> None:
    """The tables, the figure and the configuration of the best run."""
    folder = result.folder
    folder.mkdir(parents=True, exist_ok=True)
    best = result.best
    if best is not None:
        assert best.report is not None
        text = (best.run / "config.toml").read_text(encoding="utf-8")
        head = [
            f"# The best of {count(len(result.stages[-1].measured), 'run')}: {values_in_words(best.values)}",
            f"# {best.report.headline()}",
            f"# run: {best.run}",
        ]
        write_text(folder / BEST_CONFIG, "\n".join(head) + "\n" + text)
    write_text(folder / "sweep.md", result.markdown())
    write_text(
        folder / "sweep.json", json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )
    write_text(folder / "sweep.svg", plot(result))
