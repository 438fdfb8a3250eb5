"""Trains: builds a run, starts or resumes it, trains, and reports on the model that was kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textune.config import Experiment, Loaded, Overrides, Soup, show, user_path
from textune.data import GivenRows
from textune.errors import RunError
from textune.evaluation import Report, read_report, render
from textune.pipeline.build import build_parts
from textune.pipeline.cautions import require_as_launched
from textune.pipeline.completed import said_of_rows
from textune.pipeline.few import built_for_few, few_ahead
from textune.pipeline.heard import heard
from textune.pipeline.keptbatch import with_own_batch
from textune.pipeline.layouts import write_layout
from textune.pipeline.members import HeardOnce, resume_of_soup, train_members
from textune.pipeline.memory import SetsInMemory, load_with_rows
from textune.pipeline.rowsalone import Naming
from textune.ranks import Ranks, launched_rank
from textune.run import (
    AS_BEFORE,
    AUTO,
    NOT_YET,
    Drive,
    Driving,
    Facts,
    Parts,
    RunFolder,
    Session,
    SilentTracker,
    Start,
    Tracker,
    Trackers,
    WrittenConfig,
    adopted_state,
    build_targets,
    disk_warning,
    join_members,
    joined_for,
    one_batch_of_everything,
    plan_start,
    read_manifest,
    require_same_start,
    run_facts,
    scratch_folder,
    stopping_at_once,
)
from textune.training import StepResult, deterministic, learner_alone
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True, repr=False)
class TrainResult:
    """The result of a run; of a dry run, what the run would have been."""

    run: Path
    """The run folder."""
    steps: int
    """Optimizer steps done."""
    best_step: int
    """Step of the best model."""
    seconds: float
    """Wall time of the training loop, evaluations included."""
    reports: dict[str, Report]
    """By set: `validation`, `test`."""
    notices: tuple[str, ...] = ()
    """What the user should know about the run, as sentences."""
    complete_before: bool = False
    """Whether the run was already complete, so nothing was done."""
    facts: Facts | None = None
    """What was trained, or would be; None if the run was already complete."""
    dry_run: bool = False
    """Whether this was a dry run: nothing was trained or written."""

    def __repr__(self) -> str:
        said = [f"{name}: {report.headline()}" for name, report in self.reports.items()]
        return f"<TrainResult {'; '.join([self._done(), *said])}>"

    def _repr_html_(self) -> str:
        """As a notebook shows it: the reports of every set."""
        return render.cell.render(self.reports, self._done())

    def _done(self) -> str:
        if self.dry_run:
            return f"{self.run}: a dry run, nothing was trained or written"
        if self.complete_before:
            return f"{self.run}: complete before, {count(self.steps, 'step')}, the best one {self.best_step:,}"
        return f"{self.run}: {count(self.steps, 'step')} in {self.seconds:.0f} s, the best one {self.best_step:,}"

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "run": str(self.run),
            "dry_run": self.dry_run,
            "steps": self.steps,
            "best_step": self.best_step,
            "seconds": round(self.seconds, 1),
            "notices": list(self.notices),
            "numbers": {} if self.facts is None else self.facts.to_dict(),
            "reports": {name: report.to_dict() for name, report in self.reports.items()},
            "complete_before": self.complete_before,
        }


@heard
def train(
    config: object = None,
    *,
    text: str | None = None,
    label: str | Sequence[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    run: str | Path | None = None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    train: object = None,
    validation: object = None,
    test: object = None,
    evaluations: Mapping[str, object] | None = None,
    rows: GivenRows | None = None,
    resume: str | None = None,
    unpickle: str | Path | None = None,
    dry_run: bool = False,
    fast_dev_run: bool = False,
    tracker: Tracker | None = None,
    after_step: Callable[[StepResult], None] = lambda result: None,
) -> TrainResult:
    """Train, choose the best model, evaluate it and write the run folder.

    `config`: a TOML file, a preset (`preset:NAME`), a nested dictionary of the same form, or an `Experiment`; or rows
    in memory to train on, in any of the forms below: then everything that `textune init` proposes for a file is
    decided from them (columns, kind of task, rows set aside, backbone), and a notice says what.
    `text`, `label` (or several columns of 0 and 1, one for each label), `model`: the columns to read and the backbone,
    whatever the configuration says. `preset`: `fast`, `balanced` or `best`, which say how to train, laid over the
    configuration. `overrides`: values by dotted key, or `key=value` strings.
    `run`: the run folder; by default `runs/<name of the config>`, or the one that a foreign configuration names.
    `train`, `validation`, `test`, `evaluations` (by name): rows in memory, which stand in for what the configuration
    says of these sets (`kind = "given"`): a table of pandas, polars, Arrow or the datasets library, a dictionary of
    columns, a list of dictionaries, or a pair `(texts, labels)`. `rows`: rows in memory that the configuration itself
    names, for sources of `kind = "given"`.
    `resume`: "latest" resumes the run folder, "auto" does so if there is something to resume, a path names the
    checkpoint or run to start from (`textune.run.start`). `unpickle`: a `checkpoint-N` of transformers.Trainer whose
    step and optimizer the run takes over while it has no checkpoint of its own; its weights are those that
    `model.pretrained` names. `dry_run` builds every part and writes nothing;
    `fast_dev_run` does one batch of everything in a folder that it removes again. `after_step` is called after every
    optimizer step. Raises TextuneError before the first step for whatever does not fit, Preempted where a scheduler
    stopped the run.
    """
    sets = SetsInMemory(
        train, validation, test, {} if evaluations is None else evaluations, {} if rows is None else rows
    )
    loaded, rows = load_with_rows(config, overrides, unset, sets, Naming(text, label, model, preset))
    folder = RunFolder(user_path(loaded.run or Path("runs") / loaded.name if run is None else run))
    loaded = with_own_batch(loaded, folder.path, resume)
    if fast_dev_run and resume is not None:
        raise RunError(
            "--fast-dev-run and --resume cannot be combined.",
            hint="A fast development run always starts from scratch.",
        )
    adopt = None if unpickle is None else user_path(unpickle)
    asked = _Asked(rows, adopt, dry_run=dry_run, fast_dev_run=fast_dev_run, after_step=after_step)
    tracker = SilentTracker() if tracker is None else tracker
    soup = loaded.experiment.train.joining
    if adopt is not None and (soup is not None or fast_dev_run):
        raise RunError(
            "--unpickle is for one run that trains on.",
            hint="Leave --fast-dev-run out." if fast_dev_run else "Leave train.soup out.",
            key="unpickle",
        )
    if soup is None or dry_run or fast_dev_run:
        return _trained(loaded, folder, resume, asked, tracker)
    return _joined(loaded, folder, resume, asked, tracker, soup)


@dataclass(frozen=True)
class _Asked:
    """What is asked of a run, beside its configuration."""

    rows: GivenRows
    adopt: Path | None
    """A checkpoint of another program, whose step and optimizer are taken over."""
    dry_run: bool
    fast_dev_run: bool
    after_step: Callable[[StepResult], None]


def _joined(
    loaded: Loaded, folder: RunFolder, resume: str | None, asked: _Asked, tracker: Tracker, soup: Soup
) -> TrainResult:
    """The runs of a soup, one after the other, and the run that joins them."""
    with joined_for(loaded.experiment.train):  # once for all of them: ranks that parted cannot meet again
        heard_once, resume, driving = HeardOnce(tracker, loaded), resume_of_soup(folder, resume), None
        if plan_start(folder, loaded.resolved, resume).kind != "complete":
            members = train_members(
                loaded, folder, heard_once, lambda one, path: _trained(one, RunFolder(path), AUTO, asked, heard_once)
            )
            resume, driving = AUTO, join_members(members, soup)
        heard_once.is_last = True
        return _trained(loaded, folder, resume, asked, heard_once, driving=driving)


def _trained(
    loaded: Loaded,
    folder: RunFolder,
    resume: str | None,
    asked: _Asked,
    tracker: Tracker,
    *,
    driving: Driving | None = None,
) -> TrainResult:
    """One run. `driving`: what makes its model, where that is not training."""
    if launched_rank() == 0:
        build_targets(loaded.experiment.track, folder.path)  # refuses what cannot be sent to
    with joined_for(loaded.experiment.train) as ranks, deterministic(loaded.experiment.train):
        trackers = Trackers([tracker if ranks.is_first else SilentTracker()])
        start = Start("new") if asked.fast_dev_run else plan_start(folder, loaded.resolved, resume, adopt=asked.adopt)
        require_same_start(ranks, start)
        for note in (*loaded.notes, *start.notices):
            trackers.notice(note)
        if start.kind == "complete":
            if ranks.is_first and (said := said_of_rows(loaded.experiment, folder, asked.rows)):
                trackers.notice(said)
            result = _complete_before(folder, trackers)
            if ranks.is_first and not asked.dry_run:
                write_layout(folder, result, loaded.experiment)
            return result
        for note in require_as_launched(loaded.experiment, loaded.settled):
            trackers.notice(note)
        build = partial(_built, loaded.experiment, start, ranks, trackers, asked.rows)
        is_rehearsal = asked.dry_run or asked.fast_dev_run
        parts = build() if is_rehearsal else built_for_few(loaded.experiment, build, trackers, _few_before(start))
        if is_rehearsal and (ahead := few_ahead(loaded.experiment, parts)):
            trackers.notice(ahead)
        if asked.dry_run:
            adopted_state(start, parts, trackers)
            learner_alone(parts.model, loaded.experiment.train, parts.device)  # refuses what its engine cannot take
            return TrainResult(
                folder.path, 0, 0, 0.0, {}, tuple(trackers.notices), facts=run_facts(parts), dry_run=True
            )
        with contextlib.ExitStack() as stack:
            if asked.fast_dev_run:
                parts, folder = one_batch_of_everything(parts), stack.enter_context(scratch_folder(folder.path, ranks))
            elif warning := disk_warning(run_facts(parts), folder.path):
                trackers.notice(warning)
            written = WrittenConfig(show(loaded, diff=False), loaded.resolved, loaded.kept)
            done = Session(
                folder, written, parts, start, trackers, driving=driving or Drive, after_step=asked.after_step
            ).run()
            notices = tuple(trackers.notices)
            result = TrainResult(
                folder.path, done.steps, done.best_step, done.seconds, done.reports, notices, facts=done.facts
            )
            if ranks.is_first and not asked.fast_dev_run:
                write_layout(folder, result, loaded.experiment)
    return result


def _few_before(start: Start) -> dict[str, object] | None:
    """What the manifest of a run that resumes says of its few labels."""
    if start.checkpoint is None:
        return None
    found = read_manifest(start.checkpoint.folder.parent.parent).few
    return None if found is None else found.model_dump()


def _built(
    experiment: Experiment, start: Start, ranks: Ranks, trackers: Trackers, given: GivenRows, *, few: bool = False
) -> Parts:
    """The parts of the run; a signal meanwhile stops the process at once."""
    earlier = start.earlier(experiment.train)
    # A launcher ends ranks that wait for each other, so signals keep their usual effect there.
    with stopping_at_once(NOT_YET if earlier is None else AS_BEFORE) if ranks.alone else contextlib.nullcontext():
        return build_parts(
            experiment, ranks=ranks, tracker=trackers, audit=earlier is None, earlier=earlier, given=given, few=few
        )


def _complete_before(folder: RunFolder, trackers: Trackers) -> TrainResult:
    """The result of a run that was already complete, with its reports from the folder."""
    manifest = read_manifest(folder.path)
    return TrainResult(
        folder.path,
        manifest.steps or 0,
        manifest.best_step or 0,
        manifest.seconds or 0.0,
        reports={name: read_report(path) for name, path in folder.reports().items()},
        notices=tuple(trackers.notices),
        complete_before=True,
    )
