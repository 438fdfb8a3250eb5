"""Several runs, one after the other in this process, or several at once in processes of their own (`processes.py`).

    carry_out([PlannedRun("second", "config.toml", Path("runs/x/second"), ["train.seed=1"])]) -> [RunResult]

Every configuration is checked before the first run starts. A run that is complete is not repeated, and one that was
stopped resumes: the same call again goes on, whatever ended it.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from textune.config import (
    Config,
    Loaded,
    Overrides,
    Role,
    format_value,
    load_config,
    require_count,
    require_runnable,
    role_of,
)
from textune.data import GivenRows
from textune.errors import Preempted, RunError, TextuneError
from textune.evaluation import Report, read_report
from textune.exitcodes import code_of_error
from textune.pipeline import train
from textune.ranks import launched
from textune.run import (
    AUTO,
    Manifest,
    RunFolder,
    SilentTracker,
    Tracker,
    flat,
    plan_start,
    read_manifest,
    stopping_at_once,
)
from textune.studies.processes import carry_out_at_once, is_shared
from textune.wording import count

STOPPED = "runs that are complete stay, and the same command goes on with the others"


@dataclass(frozen=True)
class PlannedRun:
    """One of several runs."""

    name: str
    """What messages and tables call it; no other run of them has it."""
    config: Config
    folder: Path
    """Its run folder."""
    overrides: Overrides = ()
    rows: GivenRows = field(default_factory=dict)
    """Rows in memory by name, for sources of that kind."""


@dataclass(frozen=True)
class RunResult:
    """What became of one of several runs."""

    name: str
    folder: Path
    error: Exception | None = None
    """Why it failed, or was refused before it started; None if it is complete."""
    was_complete: bool = False
    """Whether it was complete before, so nothing was done."""

    @property
    def reason(self) -> str:
        """Why it failed, as a sentence without its name; empty if it is complete."""
        if self.error is None or isinstance(self.error, TextuneError):
            return str(self.error or "").removeprefix(f"{self.name}: ")
        return f"internal error in textune: {type(self.error).__name__}: {self.error}"

    @property
    def exit_code(self) -> int:
        """0 if it is complete; else a code of `exitcodes.py`."""
        return 0 if self.error is None else code_of_error(self.error)

    @property
    def reports(self) -> dict[str, Report]:
        """Of a complete run, by set: `validation`, `test`, then the others; read from its folder."""
        return {name: read_report(path) for name, path in RunFolder(self.folder).reports().items()}

    @property
    def manifest(self) -> Manifest:
        """Of a complete run, from its folder."""
        return read_manifest(self.folder)


class Watch(Protocol):
    """Told what happens to several runs."""

    def begin(self, run: PlannedRun, number: int, total: int) -> None:
        """A run starts or resumes, as number 1, 2, ... of `total`."""

    def tracker(self, run: PlannedRun) -> AbstractContextManager[Tracker]:
        """What tracks a run in this process; those in processes of their own are not tracked."""

    def end(self, result: RunResult, number: int, total: int) -> None:
        """A run is complete or has failed; called once for each, also for those that were complete or are refused."""


class SilentWatch:
    """Says nothing."""

    def begin(self, run: PlannedRun, number: int, total: int) -> None:
        """Ignored."""

    def tracker(self, run: PlannedRun) -> AbstractContextManager[Tracker]:
        """A silent one."""
        return contextlib.nullcontext(SilentTracker())

    def end(self, result: RunResult, number: int, total: int) -> None:
        """Ignored."""


def exit_code_of(results: Sequence[RunResult]) -> int:
    """0 if all runs are complete, else the lowest code of those that failed: 1 if one of them failed with a bug."""
    return min((result.exit_code for result in results if result.exit_code), default=0)


def carry_out(
    planned: Sequence[PlannedRun], *, jobs: int = 1, keep_going: bool = False, watch: Watch | None = None
) -> list[RunResult]:
    """Carry out every run that is not complete yet; what became of each, in the order of `planned`.

    `jobs`: how many at once. With more than one, each has a process of its own, and the devices of this machine are
    given to them in turn. `keep_going`: a run that fails, or whose configuration is refused, does not stop the others.

    Before the first run starts, raises the error of the first configuration that is refused, which names its run;
    later that of the first run that fails; KeyboardInterrupt or Preempted after a signal, with every run saved.
    """
    require_count("jobs", jobs)
    if launched():
        raise RunError(
            "several runs are carried out from one process, but a launcher started this one as one of its own.",
            hint="Start the command without a launcher; --jobs shares the devices of this machine.",
        )
    watch = watch or SilentWatch()
    checked = check_runs(planned, keep_going=keep_going)
    numbers = {run.name: number for number, run in enumerate(planned, 1)}
    results: dict[str, RunResult] = {}
    with stopping_at_once(STOPPED):  # between two runs there is nothing to save
        for name, error in _endings(checked, planned, jobs, watch):
            if error is not None and not keep_going:
                raise error
            folder = planned[numbers[name] - 1].folder
            results[name] = RunResult(name, folder, _without_frames(error), name in checked.complete)
            watch.end(results[name], numbers[name], len(planned))
    return [results[run.name] for run in planned]


@dataclass(frozen=True)
class CheckedRuns:
    """Runs whose configurations were read, checked, and compared with what is in their folders."""

    sound: dict[str, Loaded]
    """By the name of the run, in their order."""
    complete: frozenset[str]
    """Those of them that are complete already."""
    refused: dict[str, TextuneError]


def check_runs(planned: Sequence[PlannedRun], *, keep_going: bool = False) -> CheckedRuns:
    """Read and check the configuration of every run, and compare it with what is in its folder.

    Raises the error of the first that is refused, which names its run, unless `keep_going`.
    """
    sound: dict[str, Loaded] = {}
    refused: dict[str, TextuneError] = {}
    complete = set()
    for run in planned:
        assert run.name not in sound.keys() | refused.keys(), f"two runs are called {run.name}"
        try:
            loaded = load_config(run.config, run.overrides)
            require_runnable(loaded.experiment)
            if plan_start(RunFolder(run.folder), loaded.resolved, AUTO).kind == "complete":
                _require_same_places(run.folder, loaded)
                complete.add(run.name)
            sound[run.name] = loaded
        except TextuneError as error:
            error.introduce(f"{run.name}: ")
            refused[run.name] = error
    if refused and not keep_going:
        first, *others = refused.values()
        if others:
            first.advise(f"{count(len(others), 'more run')} of {len(planned)} would be refused.")
        raise first
    return CheckedRuns(sound, frozenset(complete), refused)


def _require_same_places(run: Path, loaded: Loaded) -> None:
    """RunError where a complete run has read its data or model from somewhere else.

    A run that resumes compares what it finds there; of a complete one nothing is read again.
    """
    before, after = flat(load_config(run / "config.toml").resolved), flat(loaded.resolved)
    for key in sorted(before.keys() | after.keys()):
        then, now = before.get(key), after.get(key)
        if then != now and role_of(key) is Role.LOCATED:
            shown = ["not set" if value is None else format_value(value, one_line=True) for value in (then, now)]
            reason = f"{key} was {shown[0]} and is {shown[1]}"
            raise RunError(
                f"{run} is complete, with another configuration: {reason}.",
                hint="Choose another folder with --run.",
                key=key,
                value=now,
                place=str(run),
                reason=reason,
            )


def _endings(
    checked: CheckedRuns, planned: Sequence[PlannedRun], jobs: int, watch: Watch
) -> Iterator[tuple[str, Exception | None]]:
    """The name of each run as it ends, and its error, or None for a run that is complete."""
    yield from checked.refused.items()
    in_memory = any(run.rows for run in planned)
    if in_memory and jobs > 1:
        raise RunError(
            "rows in memory are those of this process, where one run follows the other.",
            hint="Leave out jobs, or write the rows into a file.",
            key="jobs",
            value=jobs,
        )
    apart = jobs > 1 or (not in_memory and any(is_shared(one.experiment.train) for one in checked.sound.values()))
    if not apart:
        yield from _one_by_one(checked.sound, planned, watch)
        return
    for name in checked.complete:
        yield name, None
    left = {
        run.name: (number, run)
        for number, run in enumerate(planned, 1)
        if run.name in checked.sound.keys() - checked.complete
    }
    yield from carry_out_at_once(
        {name: (checked.sound[name], run.folder) for name, (_, run) in left.items()},
        jobs=jobs,
        begin=lambda name: watch.begin(left[name][1], left[name][0], len(planned)),
        said=STOPPED,
    )


@contextlib.contextmanager
def _scanning_what_is_new() -> Iterator[None]:
    """Within this, `_let_go` looks at the objects of the last run alone: a million others are older."""
    by_the_caller = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not by_the_caller:
            gc.unfreeze()


def _one_by_one(
    sound: dict[str, Loaded], planned: Sequence[PlannedRun], watch: Watch
) -> Iterator[tuple[str, Exception | None]]:
    with _scanning_what_is_new():
        for number, run in enumerate(planned, 1):
            if run.name not in sound:
                continue
            watch.begin(run, number, len(planned))
            failed: Exception | None = None
            try:
                with watch.tracker(run) as tracker:
                    train(sound[run.name], run=run.folder, rows=run.rows, resume=AUTO, tracker=tracker)
            except Preempted:
                raise
            except TextuneError as error:
                error.introduce(f"{run.name}: ")
                failed = error
            except Exception as error:  # a bug of ours in one run: the others may go on
                failed = error
            yield run.name, failed
            _let_go()


def _let_go() -> None:
    """Free the memory of the last run, whose parts refer to each other, before the next one measures what there is."""
    gc.collect()
    gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _without_frames(error: Exception | None) -> Exception | None:
    """The same error without its traceback, which would keep the model of its run in memory."""
    part: BaseException | None = error
    while part is not None:
        part.__traceback__ = None
        part = part.__cause__ or part.__context__
    return error
