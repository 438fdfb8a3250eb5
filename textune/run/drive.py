"""Drives the training loop: logs, evaluates, keeps the best model, saves checkpoints, stops; made and read by `training.py`.

Whatever decides how the run goes on is in `Drive.state`, so that a checkpoint holds it.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from textune.batches import Batches
from textune.errors import ModelError, Preempted
from textune.evaluation import compute_metrics, num_ranked, ranking_note
from textune.run.folder import RunFolder
from textune.run.parts import Ingredients
from textune.run.report import score_part
from textune.run.signals import Interruption
from textune.run.tracking import Tracker
from textune.training import BestTracker, CheckpointKeeper, Learner, StepResult, steps


@dataclass
class Progress:
    """Where a run is, as a checkpoint holds it."""

    step: int = 0
    """Optimizer steps done."""
    evaluated: bool = False
    """Whether the evaluation that is due at this step was made."""
    stopped: bool = False
    """Whether early stopping has ended the training."""
    losses: list[float] = field(default_factory=list)
    """Losses since the last logged step."""
    tokens: int = 0
    rows: int = 0
    """Real tokens and rows since then."""
    since_logged: float = 0.0
    """Seconds of training in which they were computed."""
    seconds: float = 0.0
    """Wall time of the training loop in all sessions together, evaluations included."""


class Drive:
    """One session of a run: from its first step, or from a checkpoint, to its end or to a signal."""

    def __init__(
        self,
        parts: Ingredients,
        learner: Learner,
        loader: Batches,
        folder: RunFolder,
        *,
        keeper: CheckpointKeeper,
        tracker: Tracker,
        interruption: Interruption,
    ) -> None:
        section = parts.experiment.train
        self.parts = parts
        self.learner = learner
        self.progress = Progress()
        self.best = BestTracker(section.early_stopping, higher_is_better=parts.metric.higher_is_better)
        self.other_state: Callable[[], dict[str, Any]] = dict
        """Gives what a checkpoint holds beside the state of this drive."""
        self.kept: tuple[int, float | None] = (0, None)
        """Step and metric of the best model that the folder held when this session began; step 0 where there was none."""
        self._loader = loader
        self._folder = folder
        self._keeper = keeper
        self.tracker = tracker
        self._interruption = interruption
        self._section = section
        self._ranks = learner.ranks
        self._predictor = parts.predictor(learner)
        self._predictor.on_notice = keeper.on_notice = tracker.notice
        self._validation = parts.parts.get("validation")
        self._log_every, self._evaluate_every = (
            max(1, period.steps(parts.steps_per_epoch)) for period in (section.log_every, section.evaluate_every)
        )
        every = section.checkpoint.every
        self._save_every = 0 if every == "never" else max(1, every.steps(parts.steps_per_epoch))
        self._owed = False
        self._untold: list[str] = []
        self._pending_norms: list[torch.Tensor] = []
        self._pending_losses: list[torch.Tensor] = []
        self._started = self._logged_at = time.perf_counter()

    # --- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors, as JSON holds it."""
        self._read_losses()
        since_logged = time.perf_counter() - self._logged_at
        progress = vars(self.progress) | {"seconds": self._seconds(), "since_logged": since_logged}
        return {
            "step": self.progress.step,
            "progress": progress,
            "best": self.best.state_dict(),
            "loader": self._loader.state_dict(),
            "learner": self.learner.numbers(),
            **self.other_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave; the learner's and the loader's own states are theirs to restore."""
        self.progress = Progress(**state["progress"])
        self.best.load_state_dict(state["best"])
        # Early stopping may have become more patient.
        self.progress.stopped = self.progress.stopped and self.best.is_exhausted

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self._started

    # --- the session --------------------------------------------------------------------------------------------------

    def run(self) -> float:
        """Train to the end; returns the seconds in all sessions together.

        KeyboardInterrupt or Preempted, once everything is saved, where a signal asked for it; ModelError where training
        diverges, RunError where a checkpoint cannot be written.
        """
        parts, section, total = self.parts, self._section, self.parts.total_steps
        self._started = time.perf_counter()
        self._logged_at = self._started - self.progress.since_logged
        self._note_ranking()
        self._evaluate_if_due()
        # An evaluation that was given up is to be made before any step is.
        if asked := self._ranks.all_max([self._interruption.signal])[0]:
            self._stop(asked)
        warmup = section.schedule.warmup.steps(parts.steps_per_epoch)
        if not self._is_over():
            results = steps(self.learner, parts.task, self._loader, section, total_steps=total, warmup_steps=warmup)
            for result in results:
                self._take(result)
                self._evaluate_if_due()
                self._control()
                if self._is_over():
                    break
            results.close()
        if self.best.best_step is None:
            if self._validation is not None:
                self.tracker.notice(
                    f"{parts.metric.name} was undefined in every evaluation; the model of the last step is kept."
                )
            self.save_best()
        self._save()
        self._keeper.finish()
        return self._seconds()

    def _is_over(self) -> bool:
        return self.progress.stopped or self.progress.step >= self.parts.total_steps

    def _take(self, result: StepResult) -> None:
        """Count a step, and log where it is time."""
        progress = self.progress
        for notice in result.notices:
            self.tracker.notice(notice)
            if not self._ranks.is_first:
                self._untold.append(f"rank {self._ranks.rank}: {notice}")
        progress.step, progress.evaluated = result.step, False
        progress.tokens, progress.rows = progress.tokens + result.num_tokens, progress.rows + result.num_rows
        self._pending_losses.append(result.loss)
        if self.learner.device.precision != "fp16":  # whose scaler leaves out the steps that overflow, as it should
            self._pending_norms.append(result.grad_norm)
            # On a GPU to ask in every step would hold it up: the step was left out, and that is noticed with the losses.
            if result.grad_norm.device.type == "cpu" and not torch.isfinite(result.grad_norm):
                self._read_losses()
        if result.step % self._log_every and result.step != self.parts.total_steps:
            return
        self._read_losses()
        loss = sum(progress.losses) / len(progress.losses)
        seconds = time.perf_counter() - self._logged_at
        self.tracker.step(
            {
                "step": result.step,
                "total_steps": self.parts.total_steps,
                "epoch": result.step / self.parts.steps_per_epoch,
                "loss": loss,
                "lr": result.lr,
                "grad_norm": float(result.grad_norm),
                "tokens_per_second": progress.tokens / seconds,
                "rows_per_second": progress.rows / seconds,
            }
        )
        progress.losses, progress.tokens, progress.rows = [], 0, 0
        self._logged_at = time.perf_counter()

    def _read_losses(self) -> None:
        """Losses from the device to the host, summed over the ranks, which each hold their own share; ModelError where a loss,
        or the norm of a gradient, is not finite. The norm is that of all ranks, so that all of them stop."""
        if not self._pending_losses:
            return
        losses, norms = self._ranks.sum(torch.stack(self._pending_losses)).tolist(), self._pending_norms
        first = self.progress.step - len(losses) + 1
        self.progress.losses += losses
        self._pending_losses, self._pending_norms = [], []
        measured = torch.stack(norms).tolist() if norms else [0.0] * len(losses)
        for step, loss, norm in zip(range(first, first + len(losses)), losses, measured, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise self._divergence(loss, norm, step)

    def _divergence(self, loss: float, norm: float, step: int) -> ModelError:
        found = f"the loss is {loss} at step {step}"
        if math.isfinite(loss):
            found = f"the loss is {loss:.4g} at step {step}, but the norm of its gradient is {norm}"
        exact = self.learner.device.precision == "fp32"
        if step == 1:
            return ModelError(
                f"{found}, before any weight was changed.",
                hint="The weights of the backbone are damaged"
                + (", or a target is too large" if self.parts.task.head.problem == "regression" else "")
                + ("." if exact else ', or exceed what the precision holds: use train.precision = "fp32".'),
            )
        unchanged = " That step changed no weight." if math.isfinite(loss) else ""
        kept = " Checkpoints from before are in the run folder." if self._keeper.last_step else ""
        return ModelError(
            f"{found}: training diverged.{unchanged}",
            hint="Lower train.optimizer.lr, lengthen train.schedule.warmup"
            + ("." if exact else ', or use train.precision = "fp32".')
            + kept,
        )

    def _control(self) -> None:
        """What all ranks agree on after a step: whether a signal came, and whether a checkpoint is complete or due."""
        step, checkpoint = self.progress.step, self._section.checkpoint
        self._ranks.require_launcher()
        asked, busy, told = self._ranks.all_max([self._interruption.signal, int(self._keeper.busy), int(bool(self._untold))])
        if told:  # what another rank has to say: the first one speaks for all
            for notices in self._ranks.gathered(self._untold)[1:]:
                for notice in notices:
                    self.tracker.notice(notice)
            self._untold = []
        if self._keeper.unfinished and not busy:
            self._keeper.finish()
        if asked:
            self._stop(asked)
        self._owed = self._owed or (self._save_every > 0 and step % self._save_every == 0)
        is_best = checkpoint.keep_best > 0 and self.best.best_step == step
        if step in checkpoint.at_steps or is_best or (self._owed and not self._keeper.unfinished):
            self._save()

    def _save(self, *, whole: bool = False) -> None:
        """A checkpoint of this step; `whole`: with all state, even where only models are saved."""
        self._owed = False
        step = self.progress.step
        self._read_losses()  # a good checkpoint is never replaced by one of a run that diverged
        value = self.best.last_value if self.progress.evaluated else None
        if self._section.checkpoint.save_only_model and not whole:
            weights = self.learner.model_state()
            self._keeper.save_model(step, lambda path: self._predictor.save(path, weights), value=value)
            return
        self._keeper.save(self.learner, step, self.state(), value=value)

    def _stop(self, number: int) -> None:
        self._save(whole=True)
        self._keeper.finish()
        step = self.progress.step
        when = f"after step {step}" if step else "before the first step"
        if number == signal.SIGINT:
            raise KeyboardInterrupt(f"Stopped {when}; everything is saved, and the same command resumes from there.")
        name = signal.Signals(number).name
        message = f"stopped by {name} {when}; everything is saved, and the same command resumes from there."
        raise Preempted(message, signal_number=number)

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def _evaluate_if_due(self) -> None:
        step, progress = self.progress.step, self.progress
        due = self._section.evaluate_first if step == 0 else step % self._evaluate_every == 0 or step == self.parts.total_steps
        if self._validation is None or not due or progress.evaluated or progress.stopped:
            return
        paused = time.perf_counter()
        scored = score_part(self._predictor, self._validation, self.tracker, stage="evaluating", stop=self._stopped_alone)
        if scored is None:  # a signal came: the checkpoint says that this evaluation is still to be made
            return
        values = compute_metrics(scored)
        value, metric = values[self.parts.metric.name], self.parts.metric.name
        verdict = self.best.update(value, step)
        progress.evaluated = True
        self.tracker.evaluation(
            {
                "step": step,
                "epoch": step / self.parts.steps_per_epoch,
                "main": metric,
                "is_best": verdict.is_best,
                "metrics": values,
            }
        )
        if verdict.is_best:
            self.save_best()
        if verdict.should_stop:
            progress.stopped = True
            patience = self._section.early_stopping.patience
            self.tracker.notice(
                f"stopped early after step {step}: {metric} did not improve for {patience} evaluations; the best was at step"
                f" {self.best.best_step}."
            )
        self._logged_at += time.perf_counter() - paused  # the speed is that of training alone

    def _stopped_alone(self) -> bool:
        """Whether to give an evaluation up. Several ranks finish it: they could not all stop at the same batch."""
        return self._ranks.alone and self._interruption.signal != 0

    def save_best(self) -> None:
        """Make the model as it is now the best one, unless the folder holds a better one, of steps that are done again."""
        step, value = self.progress.step, self.best.best_value
        kept_step, kept_value = self.kept
        if step < kept_step and kept_value is not None and not self.best.is_better(value, kept_value):
            return
        weights = self.learner.model_state()
        if self._ranks.is_first:
            self._folder.save_model("best", lambda path: self._predictor.save(path, weights, step=step, value=value))
        self._ranks.wait()

    def _note_ranking(self) -> None:
        if self._validation is None:
            return
        label_map, num_rows = self.parts.data.label_map, len(self._validation.part)
        note = ranking_note(num_rows, num_ranked(label_map.problem, num_rows, len(label_map.names)))
        if note and self.progress.step == 0:
            self.tracker.notice(note)
