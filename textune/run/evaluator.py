"""Evaluations while a run trains: when they are due, of which sets, and which model they make the best one."""

from __future__ import annotations

from textune.batches import TokenRows
from textune.evaluation import all_metrics, ranking_notes
from textune.run.best import BestModel
from textune.run.deciding import keep_proof
from textune.run.report import score_rows
from textune.run.setup import Setup
from textune.run.state import Progress


class Evaluator:
    """Evaluates the model in training on one set after the other; the first of them, `evaluate.best_by`, chooses the
    best one.

    A signal may end an evaluation between two batches; `progress` then says which sets are done, and the next session
    makes the others.
    """

    def __init__(self, setup: Setup, progress: Progress, *, kept: BestModel | None) -> None:
        """`kept`: the best model that the folder held when this session began."""
        self._setup = setup
        self._progress = progress
        self._kept = kept
        self._sets = evaluated_sets(setup)
        self._judge = setup.parts.settings.evaluate.best_by
        """The set that chooses the best model."""
        self._every = max(1, setup.parts.plan.steps(setup.parts.settings.train.evaluate_every))

    @property
    def value(self) -> float | None:
        """The main metric at this step, signed so that larger is better; None where it was not evaluated."""
        done = self._progress.evaluated or self._judge in self._progress.evaluated_sets
        return self._setup.best.last_value if done else None

    def evaluate_if_due(self) -> None:
        """Evaluate every set that is due at this step and not done yet, unless a signal comes."""
        progress = self._progress
        if progress.evaluated or not self._is_due():
            return
        with self._setup.learner.published():
            for name, rows in self._sets.items():
                if name not in progress.evaluated_sets and not self._evaluate(name, rows):
                    return  # a signal came: the checkpoint says that this set is still to be evaluated
        progress.evaluated, progress.evaluated_sets = True, []

    def finish(self) -> None:
        """Keep the model of the last step if no evaluation found a best one."""
        setup = self._setup
        if setup.best.best_step is not None:
            return
        if self._judge in self._sets:
            setup.tracker.notice(
                f"{setup.parts.metric.name} was undefined in every evaluation; the model of the last step is kept."
            )
        with setup.learner.published():
            self._save_best()

    def note_ranking(self) -> None:
        """Say once what the metrics of rankings are computed of, where that is not every class."""
        rows = self._sets.get(self._judge)
        if rows is None or self._progress.step:
            return
        for note in ranking_notes(self._setup.parts.task.heads, len(rows)):
            self._setup.tracker.notice(note)

    def _is_due(self) -> bool:
        step, section = self._progress.step, self._setup.parts.settings.train
        if not self._sets or (self._progress.stopped and not self._progress.evaluated_sets):
            return False
        if step == 0:
            return section.evaluate_first
        return step % self._every == 0 or step in section.evaluate_at or step == self._setup.parts.plan.total_steps

    def _evaluate(self, name: str, rows: TokenRows) -> bool:
        """Evaluate one set; whether that came to its end."""
        setup, step = self._setup, self._progress.step
        stage = "evaluating" if name == "validation" else f"evaluating {name}"
        scored = score_rows(
            setup.scorer,
            rows,
            setup.tracker,
            place=setup.parts.data.splits[name].examples.place,
            stage=stage,
            budget=setup.budget,
            with_losses=setup.parts.metric.needs_losses,
            stop=self._is_interrupted,
        )
        if scored is None:
            return False
        metrics, main = all_metrics(scored, setup.parts.metric), setup.parts.metric.name
        verdict = setup.best.update(metrics[main], step) if name == self._judge else None
        self._progress.evaluated_sets.append(name)
        is_best = verdict is not None and verdict.is_best
        epoch = setup.parts.plan.epochs_at(step)
        setup.tracker.evaluation(
            {"set": name, "step": step, "epoch": epoch, "main": main, "is_best": is_best, "metrics": metrics}
        )
        if is_best:
            self._save_best()
        if verdict is not None and verdict.should_stop:
            self._progress.stopped = True
            patience = setup.parts.settings.train.early_stopping.patience
            setup.tracker.notice(
                f"stopped early after step {step}: {main} did not improve for {patience} evaluations; the best was at"
                f" step"
                f" {setup.best.best_step}."
            )
        return True

    def _is_interrupted(self) -> bool:
        """Whether to give an evaluation up. Several ranks finish it: they could not all stop at the same batch."""
        return self._setup.learner.ranks.alone and self._setup.interruption.signal != 0

    def _save_best(self) -> None:
        """Make the model as it is now the best one, unless the folder holds a better one, of steps that are done
        again."""
        setup, step, value = self._setup, self._progress.step, self._setup.best.best_value
        kept = self._kept
        if (
            kept is not None
            and step < kept.step
            and kept.value is not None
            and not setup.best.is_better(value, kept.value)
        ):
            return
        weights = setup.learner.model_state()
        if setup.learner.ranks.is_first:
            bound = setup.budget.max_tokens
            if notice := keep_proof(setup.folder):
                setup.tracker.notice(notice)
            setup.folder.save_best(
                lambda path: setup.scorer.save(path, weights, step=step, value=value, max_tokens=bound)
            )
        setup.learner.ranks.wait()


def evaluated_sets(setup: Setup) -> dict[str, TokenRows]:
    """The sets that are evaluated while training, in this order."""
    rows = setup.parts.rows
    return {name: rows[name] for name in setup.parts.settings.evaluated if name in rows}
