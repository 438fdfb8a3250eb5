"""The training loop of `textune train`, bare: one `for` over `steps()`, and every line of it yours to change.

    python examples/bare_loop.py CONFIG FOLDER [KEY=VALUE ...]

It trains what the config says, to the same bits as `textune train`, and saves the best model in FOLDER/best, which
`textune predict FOLDER` and plain transformers open. The same command resumes from the last checkpoint in
FOLDER/checkpoints. Several processes share the work (`torchrun --nproc-per-node 2 examples/bare_loop.py ...`). Left
out are reports, logs, signals, early stopping, and what to say of a loss that is not finite. See docs/extending.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from textune.config import load_config
from textune.evaluation import all_metrics
from textune.pipeline import build_parts
from textune.prediction import Scorer
from textune.run import Earlier, Parts, RunFolder, SilentTracker, batches_of, joined_for, score_rows, scorer_of
from textune.training import BestTracker, Checkpoint, CheckpointKeeper, build_learner, newest, steps


class Notes(SilentTracker):
    """Prints what the parts have to say while they are built."""

    def notice(self, message: str) -> None:
        print("note:", message)


def main(config: str, folder: str, *overrides: str) -> None:
    """Build every part of the run in the order the data flows, and train."""
    experiment, run = load_config(config, overrides).experiment, RunFolder(Path(folder))
    checkpoint, _ = newest(run.checkpoints)
    earlier = None if checkpoint is None else Earlier(checkpoint.state["loader"]["max_tokens"])
    with joined_for(experiment.train) as ranks:  # a process alone, or those of a launcher
        parts = build_parts(experiment, tracker=Notes(), audit=earlier is None, ranks=ranks, earlier=earlier)
        train(parts, run, checkpoint)


def train(parts: Parts, run: RunFolder, checkpoint: Checkpoint | None) -> None:
    """From the first step, or from a checkpoint, to the last."""
    section, plan, ranks = parts.settings.train, parts.plan, parts.ranks
    learner = build_learner(parts.model, section, parts.device, ranks)
    loader = batches_of(parts, learner=learner, state=None if checkpoint is None else checkpoint.state["loader"])
    best = BestTracker(section.early_stopping, higher_is_better=parts.metric.higher_is_better)
    keeper = CheckpointKeeper(run.checkpoints, section.checkpoint, ranks)
    keeper.open(0 if checkpoint is None else checkpoint.step)
    if checkpoint is not None:
        learner.restore(checkpoint.names, checkpoint.read, checkpoint.state["learner"])
        best.load_state_dict(checkpoint.state["best"])
        if checkpoint.step >= plan.total_steps:
            return

    scorer = scorer_of(parts, learner)
    evaluate_every, log_every = plan.steps(section.evaluate_every), plan.steps(section.log_every)
    save_every = plan.steps(section.checkpoint.every) if section.checkpoint.every != "never" else plan.total_steps
    warmup = plan.steps(section.schedule.warmup)

    for result in steps(learner, parts.task, loader, section, total_steps=plan.total_steps, warmup_steps=warmup):
        step, is_last = result.step, result.step == plan.total_steps
        loss = float(ranks.sum(result.loss))  # each rank has its share
        if ranks.is_first and (is_last or step % log_every == 0):
            print(f"step {step}/{plan.total_steps}  loss {loss:.4f}  lr {result.lr:.3g}")

        if is_last or step % evaluate_every == 0 or step in section.evaluate_at:
            with learner.published():
                value = evaluate(parts, scorer)
                if value is None or best.update(value, step).is_best:
                    save_best(run, scorer, learner.model_state(), step, value)

        if is_last or step % save_every == 0 or step in section.checkpoint.at_steps:
            numbers = {"step": step, "learner": learner.numbers(), "best": best.state_dict()}
            keeper.save(learner, step, {**numbers, "loader": loader.state_dict()})
    keeper.wait()  # it writes while training continues


def evaluate(parts: Parts, scorer: Scorer) -> float | None:
    """The main metric on the rows that choose the best model, such as those of `validation`; None without them."""
    name, metric = parts.settings.evaluate.best_by, parts.metric
    if name not in parts.rows:
        return None
    scored = score_rows(
        scorer,
        parts.rows[name],
        Notes(),
        place=parts.data.splits[name].examples.place,
        stage=f"evaluating {name}",
        with_losses=metric.needs_losses,
    )
    value = all_metrics(scored, metric)[metric.name]
    if parts.ranks.is_first:
        print(f"{name}  {metric.name} {value:.4f}")
    return value


def save_best(run: RunFolder, scorer: Scorer, weights: dict | None, step: int, value: float | None) -> None:
    """Replace the model folder by the model as it is now; `weights` where ranks hold only pieces of them."""
    if scorer.ranks.is_first:
        run.save_best(lambda folder: scorer.save(folder, weights, step=step, value=value))
    scorer.ranks.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
