"""Trains: gathers the parts, drives the loop, keeps the best model and reports on it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textune.config import Duration, Loaded, load_config, show
from textune.data.prepare import Part
from textune.errors import ModelError
from textune.evaluation import Report, compute_metrics, num_ranked, ranking_note
from textune.pipeline.gather import Ingredients, Tokenized, describe, gather
from textune.pipeline.interruption import Interruption, finishing_steps
from textune.pipeline.reporting import report_part, score_part, write_report
from textune.prediction import Predictor, load
from textune.rundir import RunFolder, command_line
from textune.tracking import JsonlTracker, NoticeKeeper, SilentTracker, Tracker, Trackers
from textune.training import BestTracker, steps

MAX_SKIPPED_SHOWN = 100
"""Rows left out whose place and reason stand in the manifest."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves."""

    run: Path
    """The run folder."""
    steps: int
    """Optimizer steps done."""
    best_step: int
    """Step of the best model."""
    seconds: float
    """Wall time of the training loop, evaluations included."""
    reports: dict[str, Report]
    """By part: `validation`, `test`."""
    notices: tuple[str, ...] = ()
    """What a person should know about the run, in sentences."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "run": str(self.run),
            "steps": self.steps,
            "best_step": self.best_step,
            "seconds": round(self.seconds, 1),
            "notices": list(self.notices),
            "reports": {name: report.to_dict() for name, report in self.reports.items()},
        }


def train(
    config: str | Path | None = None,
    *,
    run: str | Path | None = None,
    overrides: Sequence[str] = (),
    unset: Sequence[str] = (),
    dry_run: bool = False,
    fast_dev_run: bool = False,
    tracker: Tracker | None = None,
) -> TrainResult | None:
    """Train, choose the best model, evaluate it and write the run folder (by default `runs/<name of the config>`).

    `dry_run` builds every part and writes nothing (returns None); `fast_dev_run` does one batch of everything in a folder that
    it removes again. Raises TextuneError before the first step for whatever does not fit.
    """
    loaded = load_config(config, overrides, unset)
    name = loaded.path.stem if loaded.path else "model"
    folder = RunFolder(Path(run) if run is not None else Path("runs") / name)
    if not fast_dev_run:
        folder.require_free()
    tracker = tracker or SilentTracker()
    kept = NoticeKeeper()
    everyone = Trackers([kept, tracker])
    for note in loaded.notes:
        everyone.notice(note)
    ingredients = gather(loaded.experiment, tracker=everyone, audit=True)
    tracker.header(describe(ingredients))
    if dry_run:
        return None
    if not fast_dev_run:
        return _train_into(folder, loaded, ingredients, tracker, kept)
    parent = folder.path.absolute().parent
    made = next(ancestor for ancestor in [parent, *parent.parents] if ancestor.is_dir())
    with tempfile.TemporaryDirectory(prefix=".fast-dev-run-", dir=made) as scratch:
        return _train_into(RunFolder(Path(scratch)), loaded, _one_batch_of_everything(ingredients), tracker, kept)


def _one_batch_of_everything(parts: Ingredients) -> Ingredients:
    """The same run with one training step and one batch of every other part."""
    size = parts.experiment.train.batch_size

    def first(part: Part | None) -> Part | None:
        return None if part is None else replace(part, indices=part.indices[:size])

    section = parts.experiment.train.model_copy(update={"duration": Duration(1, "steps")})
    data = replace(parts.data, validation=first(parts.data.validation), test=first(parts.data.test))
    return replace(
        parts,
        experiment=parts.experiment.model_copy(update={"train": section}),
        data=data,
        parts={part.name: Tokenized(part, parts.parts[part.name].store) for part in data.parts},
    )


def _train_into(folder: RunFolder, loaded: Loaded, parts: Ingredients, tracker: Tracker, kept: NoticeKeeper) -> TrainResult:
    folder.start(
        config_text=show(loaded, diff=False),
        command=command_line(),
        resolved=describe(parts),
        data={part.name: part.fingerprint for part in parts.data.parts},
        rows=parts.num_rows,
        truncated=parts.num_truncated,
        skipped=[f"{row.place}: {row.reason}" for row in parts.data.skipped[:MAX_SKIPPED_SHOWN]],
        num_skipped=len(parts.data.skipped),
    )
    started = time.perf_counter()
    try:
        with JsonlTracker(folder.metrics) as lines, finishing_steps() as interruption:
            for notice in kept.notices:
                lines.notice(notice)
            done, best_step = _drive(parts, folder, Trackers([lines, kept, tracker]), interruption)
        seconds = time.perf_counter() - started
        reports = _write_reports(parts, folder, tracker)
        result = TrainResult(folder.path, done, best_step, seconds, reports, tuple(kept.notices))
        folder.finish(
            steps=done,
            best_step=best_step,
            seconds=round(seconds, 1),
            notices=kept.notices,
            metrics={name: report.to_dict()["metrics"] for name, report in reports.items()},
        )
    except KeyboardInterrupt:
        folder.stop("interrupted")
        raise
    except Exception as error:
        folder.stop("failed", str(error))
        raise
    return result


def _write_reports(parts: Ingredients, folder: RunFolder, tracker: Tracker) -> dict[str, Report]:
    """Report on the saved folder, not on the live model: what is reported is what was kept."""
    saved = load(
        folder.best,
        device=_device_name(parts),
        precision=parts.device.precision,
    )
    saved.on_notice = tracker.notice
    reports: dict[str, Report] = {}
    for name in ("validation", "test"):
        if name in parts.parts:
            reports[name] = _report(saved, parts.parts[name], parts, tracker)
            write_report(reports[name], folder.path, "report" if name == "validation" else "report-test")
    return reports


def _device_name(parts: Ingredients) -> Any:
    return parts.device.torch.type


def _drive(parts: Ingredients, folder: RunFolder, tracker: Tracker, interruption: Interruption) -> tuple[int, int]:
    """Run the loop; returns (steps done, step of the best model). KeyboardInterrupt, once saved, where a person stopped it."""
    section, total = parts.experiment.train, parts.total_steps
    log_every = max(1, section.log_every.steps(parts.steps_per_epoch))
    evaluate_every = max(1, section.evaluate_every.steps(parts.steps_per_epoch))
    best = BestTracker(section.early_stopping, higher_is_better=parts.metric.higher_is_better)
    predictor = parts.predictor()
    predictor.on_notice = tracker.notice
    validation = parts.parts.get("validation")

    def evaluate_now(step: int) -> bool:
        """Evaluate, keep the model if it is the best; whether to stop."""
        assert validation is not None
        values = _metrics(predictor, validation, tracker, stage="evaluating")
        verdict = best.update(values[parts.metric.name], step)
        tracker.evaluation(
            {
                "step": step,
                "epoch": step / parts.steps_per_epoch,
                "main": parts.metric.name,
                "is_best": verdict.is_best,
                "metrics": values,
            }
        )
        if verdict.is_best:
            folder.save_model("best", predictor.save)
        return verdict.should_stop

    if validation is not None and (note := _ranking_note(parts, validation)):
        tracker.notice(note)
    if validation is not None and section.evaluate_first:
        evaluate_now(0)
    done, logged_at, tokens, rows, losses = 0, time.perf_counter(), 0, 0, []
    warmup = section.schedule.warmup.steps(parts.steps_per_epoch)
    loader = parts.loader(parts.training_rows())
    results = steps(parts.model, parts.task, loader, section, device=parts.device, total_steps=total, warmup_steps=warmup)
    for result in results:
        for notice in result.notices:
            tracker.notice(notice)
        done, tokens, rows = result.step, tokens + result.num_tokens, rows + result.num_rows
        losses.append(result.loss)
        if done % log_every == 0 or done == total:
            loss = float(torch.stack(losses).mean())
            seconds = time.perf_counter() - logged_at
            _refuse_divergence(loss, done, section.precision)
            tracker.step(
                {
                    "step": done,
                    "total_steps": total,
                    "epoch": done / parts.steps_per_epoch,
                    "loss": loss,
                    "lr": result.lr,
                    "grad_norm": float(result.grad_norm),
                    "tokens_per_second": tokens / seconds,
                    "rows_per_second": rows / seconds,
                }
            )
            logged_at, tokens, rows, losses = time.perf_counter(), 0, 0, []
        if interruption.asked:
            folder.save_model("best" if best.best_step is None else "last", predictor.save)
            raise KeyboardInterrupt
        if validation is not None and (done % evaluate_every == 0 or done == total):
            paused = time.perf_counter()
            should_stop = evaluate_now(done)
            logged_at += time.perf_counter() - paused  # the speed is that of training alone
            if should_stop:
                tracker.notice(
                    f"stopped early after step {done}: {parts.metric.name} did not improve for"
                    f" {section.early_stopping.patience} evaluations; the best was at step {best.best_step}."
                )
                break
    results.close()
    if best.best_step is None:
        if validation is not None:
            tracker.notice(f"{parts.metric.name} was undefined in every evaluation; the model of the last step is kept.")
        folder.save_model("best", predictor.save)
    return done, done if best.best_step is None else best.best_step


def _refuse_divergence(loss: float, step: int, precision: str) -> None:
    if not math.isfinite(loss):
        raise ModelError(
            f"the loss is {loss} at step {step}: training diverged, and the weights are lost from here on.",
            hint="Lower train.optimizer.lr, lengthen train.schedule.warmup"
            + (', or use train.precision = "fp32".' if precision != "fp32" else "."),
        )


def _ranking_note(parts: Ingredients, tokenized: Tokenized) -> str:
    label_map, num_rows = parts.data.label_map, len(tokenized.part)
    return ranking_note(num_rows, num_ranked(label_map.problem, num_rows, len(label_map.names)))


def _metrics(predictor: Predictor, tokenized: Tokenized, tracker: Tracker, *, stage: str) -> dict[str, float]:
    return compute_metrics(score_part(predictor, tokenized, tracker, stage=stage))


def _report(predictor: Predictor, tokenized: Tokenized, parts: Ingredients, tracker: Tracker) -> Report:
    return report_part(
        predictor,
        tokenized,
        metric=parts.metric,
        train_targets=parts.train_targets,
        bootstrap=parts.experiment.evaluate.bootstrap,
        mistakes=parts.experiment.evaluate.mistakes,
        tracker=tracker,
    )
