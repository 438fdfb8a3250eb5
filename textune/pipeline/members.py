"""Trains the runs that a soup of weights joins, each in a run folder of its own: `members/seed-0` and so on.

configuration --another order and dropout--> one complete run after the other --> what `run/joining.py` averages
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textune.config import Loaded, load_config, require_runnable
from textune.errors import RunError, TextuneError
from textune.ranks import launched, launched_rank
from textune.run import AUTO, LATEST, Ending, Member, RunFolder, Tracker, read_manifest, stopping_at_once

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run import EvaluationValues, Facts, StepValues

STOPPED = "runs that are complete stay, and the same command goes on with the others"


class HeardOnce:
    """The caller's tracker while several runs like one are trained: what is the same of each is said once, and the
    end is that of the run that joins them."""

    def __init__(self, tracker: Tracker, loaded: Loaded) -> None:
        """`loaded`: the configuration of all."""
        self._tracker = tracker
        self._config = loaded.resolved
        self._soup = loaded.experiment.train.joining
        self._said: set[str] = set()
        self._is_started = False
        self.is_last = False
        """Whether the run that joins the others has begun."""

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """Passed on once, as the start of all."""
        if not self._is_started:
            seeds = None if self._soup is None else self._soup.seeds
            self._tracker.start(self._config, replace(facts, soup_seeds=seeds), state)
        self._is_started = True

    def notice(self, message: str) -> None:
        """Passed on once."""
        if message not in self._said:
            self._tracker.notice(message)
        self._said.add(message)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Passed on."""
        self._tracker.progress(stage, done, total)

    def step(self, values: StepValues) -> None:
        """Passed on."""
        self._tracker.step(values)

    def evaluation(self, values: EvaluationValues) -> None:
        """Passed on."""
        self._tracker.evaluation(values)

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """Passed on where it is the end of all."""
        if self.is_last or status != "complete":
            self._tracker.finish(status, files)

    def state(self) -> Mapping[str, JsonValue]:
        """That of the run which joins the others."""
        return self._tracker.state() if self.is_last else {}


def resume_of_soup(folder: RunFolder, resume: str | None) -> str | None:
    """What `--resume` means for a run that joins others: where their folders are all that there is, it goes on with
    them. RunError for a checkpoint to start from."""
    if resume is not None and resume not in (LATEST, AUTO):
        raise RunError(
            f"--resume {resume}: train.soup joins runs of its own, which have no checkpoint in common.",
            hint="Leave train.soup out, or resume the run folder with --resume.",
            key="resume",
            value=resume,
        )
    return AUTO if folder.members.is_dir() and not (folder.path / "manifest.json").is_file() else resume


def train_members(
    loaded: Loaded, folder: RunFolder, tracker: Tracker, train_one: Callable[[Loaded, Path], object]
) -> list[Member]:
    """Train every run that is not complete, by `train_one(configuration, run folder)`; all of them, in their order.

    Errors are those of the runs, and name theirs; KeyboardInterrupt or Preempted after a signal, with every run
    saved.
    """
    require_runnable(loaded.experiment)
    members = []
    with _alone(folder):
        seeds = list(_seeds(loaded))
        for number, seed in enumerate(seeds, 1):
            name = f"seed-{seed}"
            tracker.notice(f"run {number} of {len(seeds)}: {name}")
            try:
                train_one(_of_member(loaded, seed), folder.members / name)
            except TextuneError as error:
                error.introduce(f"{name}: ")
                raise
            manifest = read_manifest(folder.members / name)
            steps, seconds = manifest.steps or 0, manifest.seconds or 0.0
            members.append(Member(name, folder.members / name, seed, steps, seconds))
    return members


@contextlib.contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder meanwhile, in the first of the ranks; between two runs a signal stops the program at
    once."""
    with contextlib.ExitStack() as stack:
        if launched_rank() == 0:
            stack.enter_context(folder.lock())
        if not launched():
            stack.enter_context(stopping_at_once(STOPPED))
        yield


def _seeds(loaded: Loaded) -> range:
    """Of the order and dropout of each run."""
    train = loaded.experiment.train
    assert train.soup is not None
    return range(train.drawing_seed, train.drawing_seed + train.soup.seeds)


def _of_member(loaded: Loaded, seed: int) -> Loaded:
    """The configuration of one of the runs: not joined itself, sent to no tracker, without a rule of decision, which
    is fitted once they are joined."""
    own: dict[str, object] = {"train.soup": None, "train.layout": "textune", "decide": None, "track": []}
    if seed != loaded.experiment.train.drawing_seed:
        own["train.order_seed"] = seed
    return load_config(loaded, own)
