"""Trains: gathers the parts, starts or resumes the run, drives it, and reports on the model that was kept."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save

from textune.config import Config, Duration, Loaded, Overrides, load_config, show, user_path
from textune.data import Part
from textune.errors import Preempted, RunError
from textune.evaluation import Report, read_report
from textune.pipeline.build import gather
from textune.pipeline.facts import describe, disk_warning, measure
from textune.prediction import load
from textune.ranks import Ranks, explain_lost_rank, joined
from textune.run import (
    AS_BEFORE,
    NOT_YET,
    REPORTS,
    Drive,
    Ingredients,
    Interruption,
    JsonlTracker,
    NoticeKeeper,
    RunFolder,
    SilentTracker,
    Start,
    Tokenized,
    Tracker,
    Trackers,
    best_of,
    bring_best,
    command_line,
    compare_facts,
    cut_lines,
    facts_of_run,
    finishing_steps,
    plan_start,
    read_manifest,
    report_part,
    stopping_at_once,
    write_report,
)
from textune.training import (
    KEPT_IDS,
    VERSION,
    WRITING,
    Checkpoint,
    CheckpointKeeper,
    Learner,
    build_learner,
    restore_random_states,
)

MAX_SKIPPED_SHOWN = 100
"""Rows left out whose place and reason stand in the manifest."""


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves; of a dry run, which leaves nothing, what it would have been."""

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
    complete_before: bool = False
    """Whether the run was complete already, and nothing was done."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Rows, tokens, parameters, steps and the like of what was trained, or would be; empty where it was complete already."""
    dry_run: bool = False
    """Whether nothing was trained or written, as asked."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "run": str(self.run),
            "dry_run": self.dry_run,
            "steps": self.steps,
            "best_step": self.best_step,
            "seconds": round(self.seconds, 1),
            "notices": list(self.notices),
            "numbers": self.numbers,
            "reports": {name: report.to_dict() for name, report in self.reports.items()},
            "complete_before": self.complete_before,
        }


def train(
    config: Config | None = None,
    *,
    run: str | Path | None = None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    resume: str | None = None,
    dry_run: bool = False,
    fast_dev_run: bool = False,
    tracker: Tracker | None = None,
) -> TrainResult:
    """Train, choose the best model, evaluate it and write the run folder (by default `runs/<name of the config>`).

    `config`: a TOML file, a nested dictionary of the same form or an `Experiment`; `overrides`: `key=value` words, or values by
    dotted key. `resume`: "latest" resumes the run folder, "auto" does so where there is something to resume, a path names the
    checkpoint or run to start from (`textune.run.start`). `dry_run` builds every part and writes nothing;
    `fast_dev_run` does one batch of everything in a folder that it removes again. Raises TextuneError before the first step
    for whatever does not fit, Preempted where a scheduler stopped the run.
    """
    loaded = load_config(config, overrides, unset)
    name = loaded.path.stem if loaded.path else "model"
    folder = RunFolder(user_path(run) if run is not None else Path("runs") / name)
    kept = NoticeKeeper()
    if fast_dev_run and resume is not None:
        raise RunError("--fast-dev-run and --resume do not go together.", hint="A run for development always starts anew.")
    with _joined(loaded) as ranks:
        tracker = tracker if tracker is not None and ranks.is_first else SilentTracker()
        everyone = Trackers([kept, tracker])
        start = Start("new") if fast_dev_run else plan_start(folder, loaded.experiment, resume)
        _require_same_start(ranks, start)
        for note in (*loaded.notes, *start.notices):
            everyone.notice(note)
        if start.kind == "complete":
            return _complete_before(folder, kept)
        before: dict[str, Any] = {
            "resumed": start.checkpoint is not None,
            "bound": start.bound(loaded.experiment.train),
            "way": start.way,
        }
        # A launcher ends ranks that wait for each other: there its signals do as they always do.
        with stopping_at_once(AS_BEFORE if before["resumed"] else NOT_YET) if ranks.alone else contextlib.nullcontext():
            parts = gather(loaded.experiment, ranks=ranks, tracker=everyone, audit=not before["resumed"], **before)
        tracker.header(describe(parts))
        if dry_run:
            return TrainResult(folder.path, 0, 0, 0.0, {}, tuple(kept.notices), numbers=measure(parts), dry_run=True)
        if (warning := disk_warning(parts, folder.path)) and not fast_dev_run:
            everyone.notice(warning)
        if not fast_dev_run:
            return _Session(folder, loaded, parts, start, tracker=tracker, kept=kept).run()
        with _scratch(folder.path, ranks) as scratch:
            small = _one_batch_of_everything(parts)
            return _Session(RunFolder(scratch), loaded, small, start, tracker=tracker, kept=kept).run()


def _complete_before(folder: RunFolder, kept: NoticeKeeper) -> TrainResult:
    """The result of a run that had come to its end already, with its reports from the folder."""
    manifest = read_manifest(folder.path)
    paths = {name: folder.path / f"{stem}.json" for name, stem in REPORTS.items()}
    return TrainResult(
        folder.path,
        manifest["steps"],
        manifest["best_step"],
        manifest["seconds"],
        reports={name: read_report(path) for name, path in paths.items() if path.is_file()},
        notices=tuple(kept.notices),
        complete_before=True,
    )


@contextlib.contextmanager
def _joined(loaded: Loaded) -> Iterator[Ranks]:
    """The ranks of this run, for as long as it takes."""
    section = loaded.experiment.train
    with joined(group_needed=section.distributed.kind != "ddp", device=section.device) as ranks:
        if ranks.world > section.batch_size:
            raise RunError(
                f"{ranks.world} processes cannot share batches of train.batch_size = {section.batch_size} rows.",
                hint="Start fewer processes, or raise train.batch_size (which changes the training).",
            )
        yield ranks


def _require_same_start(ranks: Ranks, start: Start) -> None:
    """RunError where a rank sees another run folder than the first one does."""
    mine = [start.kind, start.step]
    first = ranks.broadcast(mine)
    if mine != first:
        raise RunError(
            f"rank {ranks.rank} sees another run folder than rank 0: {mine[0]}, step {mine[1]}, not {first[0]}, {first[1]}.",
            hint="Put it on a file system that all machines share, with --run.",
        )


@contextlib.contextmanager
def _scratch(path: Path, ranks: Ranks) -> Iterator[Path]:
    """A folder beside `path` that is removed again."""
    parent = path.absolute().parent
    made = next(ancestor for ancestor in [parent, *parent.parents] if ancestor.is_dir())
    with contextlib.ExitStack() as stack:
        name = None
        if ranks.is_first:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=".fast-dev-run-", dir=made))
        yield Path(ranks.broadcast(name))
        ranks.wait()


def _one_batch_of_everything(parts: Ingredients) -> Ingredients:
    """The same run with one training step and one batch of every other part."""
    size = parts.experiment.train.batch_size

    def first(part: Part | None) -> Part | None:
        return None if part is None else replace(part, indices=part.indices[:size])

    duration = Duration(1, "steps")
    section = parts.experiment.train.model_copy(update={"duration": duration})
    data = replace(parts.data, validation=first(parts.data.validation), test=first(parts.data.test))
    return replace(
        parts,
        experiment=parts.experiment.model_copy(update={"train": section}),
        data=data,
        plan=replace(parts.plan, duration=duration),
        parts={part.name: Tokenized(part, parts.parts[part.name].store) for part in data.parts},
    )


class _Session:
    """One process's work on a run, from the first write to the last."""

    def __init__(
        self,
        folder: RunFolder,
        loaded: Loaded,
        parts: Ingredients,
        start: Start,
        *,
        tracker: Tracker,
        kept: NoticeKeeper,
    ) -> None:
        self.folder = folder
        self.loaded = loaded
        self.parts = parts
        self.start = start
        self.ranks = parts.ranks
        self.tracker = tracker
        self.kept = kept
        self._is_open = False

    def run(self) -> TrainResult:
        """Train and report; the run folder says how it ended, whatever happens."""
        # Signals are handled until the run is marked: torchrun sends one as soon as the first of the ranks has ended.
        with self.folder.lock() if self.ranks.is_first else contextlib.nullcontext(), finishing_steps() as interruption:
            try:
                with explain_lost_rank():
                    return self._run(interruption)
            except (KeyboardInterrupt, Preempted) as stop:
                self._mark("preempted" if isinstance(stop, Preempted) else "interrupted")
                # All ranks have stopped after the same step; while reporting, or on a second signal, each stops by itself.
                if not (interruption.at_once or interruption.repeated):
                    self.ranks.end_together()
                raise
            except Exception as error:
                self._mark("failed", str(error))
                raise

    def _mark(self, status: Literal["interrupted", "preempted", "failed"], reason: str = "") -> None:
        # On a full disk the error that is on its way says more than this one would.
        with contextlib.suppress(OSError):
            # What is refused before the first write leaves the run as it was.
            if self._is_open and self.ranks.is_first:
                self.folder.stop(status, reason)

    def _run(self, interruption: Interruption) -> TrainResult:
        if self.start.seen and self.ranks.is_first and self.folder.witness() != self.start.seen:
            raise RunError(
                f"another process has worked in {self.folder.path} since this one looked.", hint="Start the same command again."
            )
        parts, checkpoint = self.parts, self.start.checkpoint
        learner = build_learner(parts.model, parts.experiment.train, parts.device, self.ranks)
        facts = facts_of_run(parts, learner)
        if checkpoint is not None:
            for note in compare_facts(checkpoint.state, facts, where=str(self.folder.path)):
                Trackers([self.kept, self.tracker]).notice(note)
        if self.ranks.is_first:
            self._open_folder()
        self._is_open = True
        self.ranks.wait()
        with self._lines() as lines:
            tracker = Trackers([lines, self.kept, self.tracker])
            loader = parts.loader(
                parts.training_rows(), learner=learner, state=None if checkpoint is None else checkpoint.state["loader"]
            )
            keeper = CheckpointKeeper(self.folder.checkpoints, parts.experiment.train.checkpoint, self.ranks)
            keeper.begin(self.start.step)
            keeper.small_files = self._small_files()
            drive = Drive(parts, learner, loader, self.folder, keeper=keeper, tracker=tracker, interruption=interruption)
            drive.other_state = lambda: {
                "version": VERSION,
                "config": self.loaded.experiment.model_dump(mode="json"),
                "trackers": {"metrics_bytes": lines.synced_size()},
                **facts,
            }
            if checkpoint is not None:
                self._restore(drive, learner, checkpoint)
            self._adopt_best(drive)
            try:
                seconds = drive.run()
            finally:
                keeper.abandon()
        interruption.at_once = True
        if interruption.signal:  # it came when nothing was left to finish
            interruption.stop(interruption.signal)
        return self._finish(drive, seconds)

    def _open_folder(self) -> None:
        """Make the run folder, or take up the one that is there; only the first rank writes."""
        parts, start = self.parts, self.start
        if start.kind == "resumed" and (self.folder.path / "manifest.json").is_file():
            position, checkpoint = 0, start.checkpoint
            if checkpoint is not None and checkpoint.folder.parent.resolve() == self.folder.checkpoints.resolve():
                position = checkpoint.state["trackers"]["metrics_bytes"]
            cut_lines(self.folder.metrics, position)
            self.folder.settle_model("best")
            changes = start.notices
            self.folder.resume(
                config_text=show(self.loaded, diff=False), step=start.step, resolved=describe(parts), said=changes
            )
            return
        self.folder.start(
            config_text=show(self.loaded, diff=False),
            command=command_line(),
            resolved=describe(parts),
            data={part.name: part.fingerprint for part in parts.data.parts},
            rows=parts.data.num_rows,
            steps_per_epoch=parts.plan.steps_per_epoch,
            truncated=parts.num_truncated,
            skipped=[f"{row.place}: {row.reason}" for row in parts.data.skipped[:MAX_SKIPPED_SHOWN]],
            num_skipped=len(parts.data.skipped),
            left_out={part.name: part.num_left_out for part in parts.data.parts},
            **({} if start.checkpoint is None else {"from_checkpoint": str(start.checkpoint.folder.resolve())}),
        )

    def _lines(self) -> JsonlTracker:
        """What is written to metrics.jsonl, with what was said before there was a run folder; nothing on other ranks."""
        lines = JsonlTracker(self.folder.metrics if self.ranks.is_first else Path(os.devnull))
        for notice in self.kept.notices:
            lines.notice(notice)
        return lines

    def _small_files(self) -> dict[str, bytes]:
        """What every checkpoint holds beside tensors and state: enough to make a plain model folder of it."""
        if not self.ranks.is_first:
            return {}
        # Where a run that is killed right here is cleaned up behind.
        with tempfile.TemporaryDirectory(suffix=WRITING, dir=self.folder.checkpoints) as scratch:
            folder = Path(scratch)
            self.parts.model.save_config(folder)
            self.parts.predictor().save_card(folder)
            files = {f"model/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        kept = self.parts.model.kept_ids
        if kept is not None:
            files["model/kept.safetensors"] = save({KEPT_IDS: kept})
        return files | {"config.toml": (self.folder.path / "config.toml").read_bytes()}

    def _restore(self, drive: Drive, learner: Learner, checkpoint: Checkpoint) -> None:
        try:
            learner.restore(checkpoint.names, checkpoint.read, checkpoint.state["learner"])
            drive.restore(checkpoint.state)
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise RunError(
                f"the checkpoint {checkpoint.folder} does not fit the model of this configuration: {error}.",
                hint="Resume with the backbone and the configuration that it was made with.",
            ) from error
        restore_random_states(self.ranks.rank, checkpoint.names, checkpoint.read)

    def _adopt_best(self, drive: Drive) -> None:
        """Make what the run knows of its best model, and the model in the folder, agree again.

        The folder may hold a model that was saved after the checkpoint: it stays until the run is there again, and better than
        what the evaluations on the way find. The first of the ranks looks, since it alone writes.
        """
        checkpoint, best = self.start.checkpoint, drive.best
        if self.ranks.is_first and checkpoint is not None and best.best_step is not None:
            source = checkpoint.folder.parent.parent
            if source.resolve() != self.folder.path.resolve() and not bring_best(source, self.folder, step=best.best_step):
                drive.tracker.notice(
                    f"the best model of {source} up to step {checkpoint.step} is no longer there: the best from here on is kept"
                )
        found = self.ranks.broadcast(None if self.start.kind == "new" else best_of(self.folder.path))
        if found is None:
            best.best_step = best.best_value = None
        else:
            drive.kept = (found.step, found.value)

    def _finish(self, drive: Drive, seconds: float) -> TrainResult:
        reports = self._write_reports()
        best = best_of(self.folder.path)
        steps = drive.progress.step
        best_step = steps if best is None else best.step
        notices = self.kept.notices
        if self.ranks.is_first:
            self.folder.finish(
                steps=steps,
                best_step=best_step,
                seconds=round(seconds, 1),
                notices=notices,
                metrics={name: report.to_dict()["metrics"] for name, report in reports.items()},
            )
        self.ranks.wait()
        return TrainResult(self.folder.path, steps, best_step, seconds, reports, tuple(notices), numbers=measure(self.parts))

    def _write_reports(self) -> dict[str, Report]:
        """Report on the saved folder, not on the live model: what is reported is what was kept."""
        parts = self.parts
        device: Any = parts.device.torch.type
        saved = load(self.folder.best, device=device, precision=parts.device.precision, ranks=self.ranks)
        saved.on_notice = self.tracker.notice
        reports: dict[str, Report] = {}
        for name, stem in REPORTS.items():
            if name in parts.parts:
                reports[name] = report_part(
                    saved,
                    parts.parts[name],
                    metric=parts.metric,
                    train_targets=parts.data.train_targets,
                    bootstrap=parts.experiment.evaluate.bootstrap,
                    mistakes=parts.experiment.evaluate.mistakes,
                    tracker=self.tracker,
                )
                if self.ranks.is_first:
                    write_report(reports[name], self.folder.path, stem)
        return reports
