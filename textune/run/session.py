"""One process's work on a run, from the first write to the last: open the folder, train, write the reports."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue
from safetensors.torch import save

from textune.atomic import WRITING
from textune.errors import Preempted
from textune.evaluation import Report
from textune.ranks import explain_lost_rank
from textune.run.adopting import adopted_state, loader_state
from textune.run.best import BestModel, best_of, bring_best
from textune.run.drive import Drive
from textune.run.facts import Facts, run_facts
from textune.run.folder import RunFolder
from textune.run.header import describe
from textune.run.manifest import Ending, Manifest, Resumption, command_line, git_state, machine, now, versions
from textune.run.page import write_page, write_plots
from textune.run.parts import Parts, batches_of, num_truncated, scorer_of
from textune.run.report import write_reports
from textune.run.same import compare_identity, identity_at, identity_of, not_fitting
from textune.run.setup import Setup
from textune.run.signals import Interruption, finishing_steps
from textune.run.start import Start
from textune.run.state import Identity, Progress
from textune.run.tracking import TRACKERS, Outbox, Tracker, Trackers, cut_lines
from textune.training import (
    KEPT_IDS,
    BestTracker,
    CheckpointKeeper,
    Learner,
    OptimizerState,
    StepResult,
    build_learner,
    restore_random_states,
)

MAX_SKIPPED_SHOWN = 100
"""Rows left out whose place and reason are in the manifest."""


class Reporting(Protocol):
    """Reports on the best model of a run folder and writes that there."""

    def __call__(self, parts: Parts, folder: RunFolder, tracker: Tracker) -> dict[str, Report]:
        """The reports by the name of their set; called by all ranks together."""


class Driven(Protocol):
    """What makes the model of a run."""

    progress: Progress
    """How far it has come."""

    def run(self) -> float:
        """Make it, and save the best one; returns the seconds of all sessions together."""


class Driving(Protocol):
    """Begins that with everything open, where a checkpoint left it."""

    def __call__(
        self, setup: Setup, progress: Progress, *, kept: BestModel | None, after_step: Callable[[StepResult], None]
    ) -> Driven:
        """As of `Drive`, which trains."""


@dataclass(frozen=True)
class WrittenConfig:
    """The configuration as a run keeps it."""

    text: str
    """`config.toml` of the run folder."""
    resolved: dict[str, JsonValue]
    """Every value, for checkpoints."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """The files and words of another system that it was made from, by name."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    steps: int
    """Optimizer steps done."""
    best_step: int
    seconds: float
    """Wall time of the training loop in all sessions, evaluations included."""
    reports: dict[str, Report]
    facts: Facts


class Session:
    """One process of a run. `run` is called once."""

    def __init__(
        self,
        folder: RunFolder,
        config: WrittenConfig,
        parts: Parts,
        start: Start,
        tracker: Trackers,
        *,
        report: Reporting = write_reports,
        driving: Driving = Drive,
        after_step: Callable[[StepResult], None] = lambda result: None,
    ) -> None:
        """`tracker` has heard everything that was said so far. `driving` makes the model; `after_step` is called after
        every optimizer step."""
        self._folder = folder
        self._config = config
        self._parts = parts
        self._start = start
        self._tracker = tracker
        self._report = report
        self._driving = driving
        self._after_step = after_step
        self._ranks = parts.ranks
        self._facts = run_facts(parts)
        self._is_open = False
        """Whether the run folder is made or taken up, and the run in it not complete yet."""
        self._own: list[Tracker] = []
        """The run's own trackers, closed with `_opened`."""
        self._opened = contextlib.ExitStack()
        self._is_told = False
        """Whether the trackers know that the run has started."""

    def run(self) -> Outcome:
        """Train and report; the run folder says how it ended, whatever happens."""
        # Signals are handled until the run is marked: torchrun sends one as soon as the first of the ranks has ended.
        with (
            self._folder.lock() if self._ranks.is_first else contextlib.nullcontext(),
            finishing_steps() as interruption,
            self._opened,
        ):
            try:
                with explain_lost_rank():
                    return self._run(interruption)
            except (KeyboardInterrupt, Preempted) as stop:
                self._mark("preempted" if isinstance(stop, Preempted) else "interrupted")
                # All ranks have stopped after the same step; while reporting, or on a second signal, each stops by
                # itself.
                if not (interruption.at_once or interruption.repeated):
                    self._ranks.end_together()
                raise
            except Exception as error:
                self._mark("failed", str(error))
                raise

    def _run(self, interruption: Interruption) -> Outcome:
        self._require_untouched()
        identity = identity_of(self._parts)
        state, checkpoint = self._start.state, self._start.checkpoint
        if state is not None and checkpoint is not None:
            before = identity_at(checkpoint, state, self._parts.model)
            for note in compare_identity(before, identity, where=str(self._folder.path)):
                self._tracker.notice(note)
        adopted = adopted_state(self._start, self._parts, self._tracker)
        learner = build_learner(self._parts.model, self._parts.settings.train, self._parts.device, self._ranks)
        self._open_folder()
        tracker = self._open_trackers()
        setup = self._set_up(learner, identity, tracker, interruption)
        trackers = state.trackers if state is not None and self._start.is_within(self._folder) else {}
        self._is_told = True
        tracker.start(setup.config, self._facts, trackers)
        progress = self._restore(setup, adopted)
        drive = self._driving(setup, progress, kept=self._adopt_best(setup), after_step=self._after_step)
        try:
            seconds = drive.run()
        finally:
            setup.keeper.close()
        interruption.at_once = True
        if interruption.signal:  # it came when nothing was left to finish
            interruption.stop(interruption.signal)
        return self._finish(drive.progress.step, seconds, tracker)

    # --- before the first step ---------------------------------------------------------------------------------------

    def _require_untouched(self) -> None:
        """RunError where another process has worked in the folder since this one read it."""
        if self._start.seen and self._ranks.is_first and self._folder.witness() != self._start.seen:
            raise self._folder.touched()

    def _open_folder(self) -> None:
        """Make the run folder, or take up the one that is there; only the first rank writes."""
        if self._ranks.is_first:
            text = self._config.text
            if self._start.kind == "resumed" and (self._folder.path / "manifest.json").is_file():
                state = self._start.state if self._start.is_within(self._folder) else None
                cut_lines(self._folder.metrics, 0 if state is None else state.metrics_bytes)
                self._folder.resume(self._resumption(), config_text=text, foreign=self._config.foreign)
            else:
                self._folder.start(self._manifest(), config_text=text, foreign=self._config.foreign)
        self._is_open = True
        self._ranks.wait()

    def _resumption(self) -> Resumption:
        return Resumption(
            started=now(),
            command=command_line(),
            versions=versions(),
            machine=machine(),
            step=self._start.step,
            resolved=describe(self._facts),
            said=tuple(self._start.notices),
        )

    def _manifest(self) -> Manifest:
        parts, goes_on = self._parts, self._start.checkpoint or self._start.adopted
        manifest = Manifest(
            status="running",
            started=now(),
            command=command_line(),
            versions=versions(),
            machine=machine(),
            git=git_state(),
            resolved=describe(self._facts),
            facts=self._facts.to_dict(),
            data=parts.data.fingerprints,
            rows=parts.data.num_rows,
            truncated=num_truncated(parts),
            skipped=tuple(f"{row.place}: {row.reason}" for row in parts.data.skipped[:MAX_SKIPPED_SHOWN]),
            num_skipped=len(parts.data.skipped),
            left_out=parts.data.num_left_out,
        )
        known: dict[str, object] = {} if parts.findings is None else {"findings": parts.findings}
        known |= {} if parts.few is None else {"few": parts.few}
        known |= {} if goes_on is None else {"from_checkpoint": str(goes_on.folder.resolve())}
        return manifest.model_copy(update=known)

    def _open_trackers(self) -> Trackers:
        """All trackers as one. The run's own, none on other ranks, are given the notices from before there was a run
        folder."""

        def say(message: str) -> None:
            everyone.notice(message)

        if self._ranks.is_first:
            opened = [open_tracker(self._folder, say) for open_tracker in TRACKERS.values()]
            opened.append(Outbox(self._parts.settings.track, self._folder, say))
            self._own = [self._opened.enter_context(tracker) for tracker in opened]
        everyone = Trackers([*self._own, self._tracker])
        for tracker in self._own:
            for notice in self._tracker.notices:
                tracker.notice(notice)
        return everyone

    def _say_finished(self, status: Ending) -> None:
        files = self._folder.files()
        for tracker in (*self._own, self._tracker):
            tracker.finish(status, files)

    def _set_up(self, learner: Learner, identity: Identity, tracker: Tracker, interruption: Interruption) -> Setup:
        parts, section = self._parts, self._parts.settings.train
        keeper = CheckpointKeeper(
            self._folder.checkpoints,
            section.checkpoint,
            self._ranks,
            small_files=small_files(parts, self._folder) if self._ranks.is_first else {},
            on_notice=tracker.notice,
        )
        keeper.open(self._start.step)
        scorer = scorer_of(parts, learner)
        return Setup(
            parts=parts,
            config=self._config.resolved,
            identity=identity,
            learner=learner,
            loader=batches_of(parts, learner=learner, state=loader_state(self._start, parts)),
            scorer=scorer,
            budget=scorer.budget(tracker.notice),
            best=BestTracker(
                section.early_stopping,
                higher_is_better=parts.metric.higher_is_better,
                keep=parts.settings.evaluate.keep,
            ),
            folder=self._folder,
            keeper=keeper,
            tracker=tracker,
            interruption=interruption,
        )

    def _restore(self, setup: Setup, adopted: OptimizerState | None) -> Progress:
        """Give everything the state that it had at the checkpoint; returns how far the run had come. `adopted`: what
        the optimizer had in a checkpoint of another program."""
        checkpoint, state = self._start.checkpoint, self._start.state
        if adopted is not None:
            setup.learner.adopt(adopted)
            return Progress(step=self._start.step)
        if checkpoint is None or state is None:
            return Progress()
        try:
            setup.learner.restore(checkpoint.names, checkpoint.read, state.learner)
            setup.best.load_state_dict(dict(state.best))
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise not_fitting(checkpoint, error) from error
        restore_random_states(self._ranks.rank, checkpoint.names, checkpoint.read)
        # Early stopping may have become more patient.
        state.progress.stopped = state.progress.stopped and setup.best.is_exhausted
        return state.progress

    def _adopt_best(self, setup: Setup) -> BestModel | None:
        """Make what the run knows of its best model, and the model in the folder, agree again; returns the latter.

        The folder may hold a model that was saved after the checkpoint: it stays until the run is there again, and
        better than what the evaluations on the way find. The first of the ranks looks, since it alone writes.
        """
        checkpoint, best = self._start.checkpoint, setup.best
        if self._ranks.is_first and checkpoint is not None and best.best_step is not None:
            source = checkpoint.folder.parent.parent
            if source.resolve() != self._folder.path.resolve() and not bring_best(
                source, self._folder, step=best.best_step
            ):
                setup.tracker.notice(
                    f"the best model of {source} up to step {checkpoint.step} is no longer there: the best from here"
                    f" on is kept"
                )
        found: BestModel | None = self._ranks.broadcast(
            None if self._start.kind == "new" else best_of(self._folder.path)
        )
        if found is None:
            best.best_step = best.best_value = None
        return found

    # --- after the last step -----------------------------------------------------------------------------------------

    def _finish(self, steps: int, seconds: float, tracker: Tracker) -> Outcome:
        reports = self._report(self._parts, self._folder, tracker)
        best = best_of(self._folder.path)
        outcome = Outcome(steps, steps if best is None else best.step, seconds, reports, self._facts)
        if self._ranks.is_first:
            self._folder.end(
                "complete",
                steps=steps,
                best_step=outcome.best_step,
                seconds=round(seconds, 1),
                notices=tuple(self._tracker.notices),
                metrics={name: report.to_dict()["metrics"] for name, report in reports.items()},
            )
        self._ranks.wait()
        self._is_open = False  # the run stays complete, even if its page cannot be written or a tracker cannot finish
        if self._ranks.is_first:
            self._write_page()
        self._say_finished("complete")
        return outcome

    def _write_page(self) -> None:
        try:
            write_page(self._folder)
            if self._parts.settings.evaluate.plots:
                write_plots(self._folder)
        except OSError as error:  # such as a full disk; everything that the page is made of is there
            self._tracker.notice(
                f"the page about the run, or its plots, was not written: {error.strerror or error}; `textune report"
                f" {self._folder.path}` writes it"
            )

    def _mark(self, status: Ending, reason: str = "") -> None:
        """Say in the run folder, and to the trackers, how the run ended early; a run that was refused stays as it
        was."""
        if not self._is_open:
            return
        # On a full disk the error that is on its way says more than this one would.
        with contextlib.suppress(OSError):
            if self._ranks.is_first:
                self._folder.end(status, reason=reason)
        if self._is_told:
            try:
                self._say_finished(status)
            except Exception as error:  # what stopped the run is on its way, and says more
                self._tracker.notice(f"a tracker could not finish: {type(error).__name__}: {error}")


def small_files(parts: Parts, folder: RunFolder) -> dict[str, bytes]:
    """What every checkpoint holds beside tensors and state: enough to make a plain model folder of it."""
    # In the folder of the checkpoints, where a run that is killed right here is cleaned up behind.
    with tempfile.TemporaryDirectory(suffix=WRITING, dir=folder.checkpoints) as scratch:
        model = Path(scratch)
        parts.model.save_config(model)
        scorer_of(parts).save_card(model)
        files = {f"model/{path.relative_to(model)}": path.read_bytes() for path in model.rglob("*") if path.is_file()}
    kept = parts.model.kept_ids
    if kept is not None:
        files["model/kept.safetensors"] = save({KEPT_IDS: kept})
    return files | {"config.toml": (folder.path / "config.toml").read_bytes()}
