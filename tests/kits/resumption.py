"""Resuming in one process, quickly: a run that saves every step, and its folder as it was after any of them.

Reading, tokenising and loading the backbone happen once for each configuration; every run gets a copy of the model.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kits.resume import End, end_of
from kits.runs import Listener
from textune.config.explain import show
from textune.config.load import Loaded, load_config
from textune.pipeline.build import build_parts
from textune.run.best import best_of
from textune.run.folder import RunFolder
from textune.run.parts import Parts
from textune.run.session import Session, WrittenConfig
from textune.run.start import plan_start
from textune.run.tracking.tracker import Trackers
from textune.training.checkpoint import checkpoint_name
from textune.training.loop import StepResult

SMALL = (
    "train.duration=3 epochs",
    "train.batch_size=32",
    "train.log_every=3 steps",
    "train.evaluate_every=2 steps",
    "train.checkpoint.every=1 step",
    "train.checkpoint.keep=all",
    "train.checkpoint.background=false",
    "data.test.kind=none",
    "evaluate.bootstrap=0",
    "model.compile=off",
)
"""Three epochs of five steps. Neither the logged steps nor the evaluations fall together with the ends of epochs."""


@dataclass
class Kit:
    """One configuration."""

    loaded: Loaded
    parts: Parts

    @classmethod
    def of(cls, config: Path, overrides: Sequence[str]) -> Kit:
        known = [word for word in SMALL if "model.kind=python" not in overrides or not word.startswith("model.")]
        loaded = load_config(config, [*known, *overrides])
        return cls(loaded, build_parts(loaded.experiment, tracker=Listener(), audit=False))

    def run(
        self,
        folder: Path,
        *,
        resume: str | None = None,
        after_step: Callable[[StepResult], None] = lambda result: None,
    ) -> Listener:
        """What `train` does behind `build_parts`; without the reports, which are not part of the state."""
        listener, target = Listener(), RunFolder(folder)
        parts = replace(self.parts, model=copy.deepcopy(self.parts.model))
        start = plan_start(target, self.loaded.resolved, resume)
        tracker = Trackers([listener])
        config = WrittenConfig(show(self.loaded, diff=False), self.loaded.resolved)
        Session(target, config, parts, start, tracker, report=lambda *_: {}, after_step=after_step).run()
        return listener


@contextmanager
def quick() -> Iterator[None]:
    """Without waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@dataclass
class Recorded:
    """A run that was never stopped, and what is needed to put its folder back to any step."""

    folder: Path
    bests: dict[int, Path]
    """Step to the best model that was saved there."""
    steps: int

    def at(self, step: int, target: Path) -> Path:
        """The run folder as a stop after `step` would have left it."""
        target.mkdir()
        for name in ("config.toml", "metrics.jsonl"):
            shutil.copy(self.folder / name, target)
        manifest = json.loads((self.folder / "manifest.json").read_text())
        (target / "manifest.json").write_text(json.dumps(manifest | {"status": "preempted"}))
        shutil.copytree(
            self.folder / "checkpoints" / checkpoint_name(step), target / "checkpoints" / checkpoint_name(step)
        )
        best = max((saved for saved in self.bests if saved <= step), default=None)
        if best is not None:
            shutil.copytree(self.bests[best], target / "best")
        return target


def record(kit: Kit, folder: Path) -> Recorded:
    """Run to the end, keeping every best model."""
    bests: dict[int, Path] = {}

    def keep(result: StepResult | None = None) -> None:
        """The best model as it is right behind the next step, before anything changes it."""
        best = best_of(folder)
        if best is not None and best.step not in bests:
            bests[best.step] = shutil.copytree(best.folder, folder.with_name(f"{folder.name}-best-{best.step}"))

    kit.run(folder, after_step=keep)
    keep()
    return Recorded(folder, bests, json.loads((folder / "manifest.json").read_text())["steps"])


def end(run: Path) -> End:
    """What `end_of` says, also of a run without reports."""
    if not (run / "report.json").is_file():
        (run / "report.json").write_text("{}")
    return end_of(run)
