"""The uninterrupted run that the others are compared with, and how long its parts take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from textune.chaos.alike import End, end_of, lines_of
from textune.config import Checkpointing, Loaded, load_config
from textune.errors import RunError
from textune.run import Manifest, compare, read_manifest


@dataclass
class Pace:
    """How long the parts of a run take, in seconds; learnt from the runs that were watched."""

    training: float
    reporting: float
    start_up: float = 2.0
    writing: float = 0.01


@dataclass(frozen=True)
class Reference:
    """A complete run."""

    end: End
    steps: int
    """Optimizer steps."""
    evaluations: tuple[int, ...]
    """Steps after which it evaluated; the one before the first step does not count."""
    seconds_per_line: float
    """Of metrics.jsonl."""

    def is_last_line_before(self, step: int, evaluation: int) -> bool:
        """Whether the line of `step` is the last one before that of an evaluation, or later."""
        steps = [int(str(line["step"])) for line in self.end.lines if line["kind"] == "step"]
        before = [number for number in steps if number <= evaluation]
        return step >= (before[-1] if before else 0)


def learn(run: Path, section: Checkpointing) -> tuple[Reference, Pace]:
    """Look at a complete run; RunError where it saves nothing before its end, so that each kill would only start it
    again."""
    manifest, lines = read_manifest(run), lines_of(run)
    steps, seconds = manifest.steps or 0, manifest.seconds or 0.0
    _require_saves(section, manifest, run)
    evaluated = dict.fromkeys(int(str(line["step"])) for line in lines if line["kind"] == "evaluation")
    reference = Reference(end_of(run), steps, tuple(step for step in evaluated if step), seconds / len(lines))
    return reference, Pace(training=seconds, reporting=max(0.05, _seconds_in(manifest) - seconds))


def require_same(loaded: Loaded, run: Path) -> None:
    """RunError where a reference is not complete, or of another config."""
    status = read_manifest(run).status
    if status != "complete":
        raise RunError(f"--reference {run} is not complete: {status}.", hint="Let it come to its end first.")
    before = load_config(run / "config.toml").resolved
    harmless = compare(before, loaded.resolved, where=f"--reference {run}")
    # What may change when a run is resumed (when to evaluate, say) still makes another run.
    other = [change.removesuffix(" from here on") for change in harmless if not change.startswith("tokens.cache")]
    if other:
        raise RunError(
            f"--reference {run} was trained with another configuration: {'; '.join(other)}.",
            hint="Leave --reference out, and an uninterrupted run is trained first.",
        )


def is_complete(run: Path) -> bool:
    """Whether a folder holds a run that came to its end."""
    try:
        return read_manifest(run).status == "complete"
    except RunError:
        return False


def _require_saves(section: Checkpointing, manifest: Manifest, run: Path) -> None:
    steps, steps_per_epoch = manifest.steps or 0, manifest.facts.get("steps_per_epoch")
    if not isinstance(steps_per_epoch, int):
        raise RunError(
            f"--reference {run} was trained by an earlier version of textune, which noted no facts in its manifest.",
            hint="Leave --reference out, and an uninterrupted run is trained first.",
        )
    every = steps if section.every == "never" else max(1, section.every.steps(steps_per_epoch, steps))
    if every >= steps and not any(step < steps for step in section.at_steps):
        raise RunError(
            f"the run of {steps} steps saves nothing before its end, so that a kill would only start it again.",
            hint=f"Add 'train.checkpoint.every={max(1, steps // 5)} steps' or the like to the command.",
        )


def _seconds_in(manifest: Manifest) -> float:
    """From the start of a run's training to its end, to the second."""
    started, finished = (datetime.fromisoformat(moment or "") for moment in (manifest.started, manifest.finished))
    return (finished - started).total_seconds()
