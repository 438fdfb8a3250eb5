"""Drives the training loop: counts and logs steps, evaluates, saves checkpoints, stops; started by `session.py`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from textune.errors import Preempted
from textune.run.best import BestModel
from textune.run.evaluator import Evaluator
from textune.run.losses import Losses
from textune.run.setup import Setup
from textune.run.state import Progress, RunState
from textune.run.use import Use
from textune.training import StepResult, steps


class Drive:
    """One session of a run: from its first step, or from a checkpoint, to its end or to a signal.

    When a checkpoint is written, and what it waits for:

        every N steps -------------------> due --(nothing is being written)--> written in a thread
        at_steps, a new best model (keep_best) ----(waits for that)---------->        |
        a signal, the last step ------------------------------------------>           | (all ranks have written)
                                                                                      v
                                                                              complete: has its name

    What decides how the run continues is in `progress` and in `_state`, so that a checkpoint holds it.
    """

    def __init__(
        self,
        setup: Setup,
        progress: Progress,
        *,
        kept: BestModel | None = None,
        after_step: Callable[[StepResult], None] = lambda result: None,
    ) -> None:
        """`kept`: the best model that the folder holds already. `after_step` is called with every step before it is
        counted."""
        parts, section = setup.parts, setup.parts.settings.train
        self.progress = progress
        self._setup = setup
        self._ranks = setup.learner.ranks
        self._after_step = after_step
        self._evaluator = Evaluator(setup, progress, kept=kept)
        self._losses = Losses(setup, progress)
        self._log_every = max(1, parts.plan.steps(section.log_every))
        every = section.checkpoint.every
        self._save_every = 0 if every == "never" else max(1, parts.plan.steps(every))
        self._is_save_due = False
        self._use = Use(parts.device.torch)
        self._unsaid: list[str] = []
        """Notices of this rank that the first one, which alone writes, has not been given yet."""
        self._seconds_before = progress.seconds
        self._started = time.perf_counter()
        self._logged_at = self._started - progress.since_logged

    def run(self) -> float:
        """Train to the end; returns the seconds in all sessions together.

        KeyboardInterrupt or Preempted, once everything is saved, where a signal asked for it; ModelError where
        training diverges, RunError where a checkpoint cannot be written.
        """
        self._evaluator.note_ranking()
        self._evaluate_if_due()
        self._stop_if_asked()  # an evaluation that was given up is made before any step is
        for result in self._steps():
            self._after_step(result)
            self._count(result)
            self._log_if_due(result)
            self._evaluate_if_due()
            self._agree()
            self._save_if_due()
        self._evaluator.finish()
        self._save()
        self._setup.keeper.wait()
        return self._seconds()

    def _steps(self) -> Generator[StepResult]:
        """The steps that are left."""
        setup, section = self._setup, self._setup.parts.settings.train
        if self._is_over():
            return
        warmup = setup.parts.plan.steps(section.schedule.warmup)
        total = setup.parts.plan.total_steps
        results = steps(setup.learner, setup.parts.task, setup.loader, section, total_steps=total, warmup_steps=warmup)
        with closing(results):
            for result in results:
                yield result
                if self._is_over():
                    return

    def _is_over(self) -> bool:
        return self.progress.stopped or self.progress.step >= self._setup.parts.plan.total_steps

    # --- counting and logging ----------------------------------------------------------------------------------------

    def _count(self, result: StepResult) -> None:
        progress = self.progress
        for notice in result.notices:
            self._setup.tracker.notice(notice)
            if not self._ranks.is_first:
                self._unsaid.append(f"rank {self._ranks.rank}: {notice}")
        progress.step, progress.evaluated, progress.evaluated_sets = result.step, False, []
        progress.tokens, progress.rows = progress.tokens + result.num_tokens, progress.rows + result.num_rows
        self._losses.add(result)

    def _log_if_due(self, result: StepResult) -> None:
        progress, parts = self.progress, self._setup.parts
        if result.step % self._log_every and result.step != parts.plan.total_steps:
            return
        self._losses.read()
        seconds = time.perf_counter() - self._logged_at
        self._setup.tracker.step(
            {
                "step": result.step,
                "total_steps": parts.plan.total_steps,
                "epoch": parts.plan.epochs_at(result.step),
                "loss": sum(progress.losses) / len(progress.losses),
                "lr": result.lr,
                "grad_norm": float(result.grad_norm),
                "tokens_per_second": progress.tokens / seconds,
                "rows_per_second": progress.rows / seconds,
                "use": self._use.since_last(),
            }
        )
        progress.losses, progress.tokens, progress.rows = [], 0, 0
        self._logged_at = time.perf_counter()

    def _evaluate_if_due(self) -> None:
        paused = time.perf_counter()
        self._evaluator.evaluate_if_due()
        self._logged_at += time.perf_counter() - paused  # the speed is that of training alone

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    # --- agreeing, saving and stopping -------------------------------------------------------------------------------

    def _agree(self) -> None:
        """After a step, learn of the other ranks: whether one was sent a signal, is still writing, or has something to
        say."""
        keeper = self._setup.keeper
        self._ranks.require_launcher()
        asked, is_writing, has_notices = self._ranks.all_max(
            [self._setup.interruption.signal, int(keeper.phase == "writing"), int(bool(self._unsaid))]
        )
        if has_notices:  # the first rank speaks for all
            for notices in self._ranks.gathered(self._unsaid)[1:]:
                for notice in notices:
                    self._setup.tracker.notice(notice)
            self._unsaid = []
        if keeper.phase != "idle" and not is_writing:
            keeper.wait()
        if asked:
            self._stop(asked)

    def _save_if_due(self) -> None:
        step, section = self.progress.step, self._setup.parts.settings.train.checkpoint
        if self._save_every and step % self._save_every == 0:
            self._is_save_due = True
        is_best = section.keep_best > 0 and self._setup.best.best_step == step
        if step in section.at_steps or is_best or (self._is_save_due and self._setup.keeper.phase == "idle"):
            self._save()

    def _save(self, *, can_resume: bool = False) -> None:
        """Start a checkpoint of this step; `can_resume`: with all state, even where only models are saved."""
        setup, step, value = self._setup, self.progress.step, self._evaluator.value
        self._is_save_due = False
        self._losses.read()  # a good checkpoint is never replaced by one of a run that diverged
        if setup.parts.settings.train.checkpoint.save_only_model and not can_resume:
            with setup.learner.published():
                weights = setup.learner.model_state()
                bound = setup.budget.max_tokens
                setup.keeper.save_model(
                    step, lambda path: setup.scorer.save(path, weights, max_tokens=bound), value=value
                )
        else:
            setup.keeper.save(setup.learner, step, self._state().to_dict(), value=value)

    def _state(self) -> RunState:
        setup = self._setup
        now = time.perf_counter()
        return RunState(
            progress=replace(self.progress, seconds=self._seconds(), since_logged=now - self._logged_at),
            best=setup.best.state_dict(),
            loader=setup.loader.state_dict(),
            learner=setup.learner.numbers(),
            config=setup.config,
            trackers=setup.tracker.state(),
            identity=setup.identity,
            folder=str(setup.folder.path.resolve()),
        )

    def _stop_if_asked(self) -> None:
        if asked := self._ranks.all_max([self._setup.interruption.signal])[0]:
            self._stop(asked)

    def _stop(self, number: int) -> None:
        self._save(can_resume=True)
        self._setup.keeper.wait()
        step = self.progress.step
        when = f"after step {step}" if step else "before the first step"
        if number == signal.SIGINT:
            raise KeyboardInterrupt(f"Stopped {when}; everything is saved, and the same command resumes from there.")
        name = signal.Signals(number).name
        message = f"stopped by {name} {when}; everything is saved, and the same command resumes from there."
        raise Preempted(message, signal_number=number)
