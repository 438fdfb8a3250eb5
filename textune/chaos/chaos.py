"""Kills a run at random moments, resumes it, and compares its end with that of a run that nobody killed.

    FOLDER/reference    the uninterrupted run
    FOLDER/run-1, ...   runs that were killed; one that ends like the reference is removed again, its output stays in
                        run-1.log
    FOLDER/tokens       a token cache of its own

Every process is `textune train CONFIG --run FOLDER/run-1 --resume auto`, and every kill is a SIGKILL, which no program
can see coming. A run that ends before all kills have happened is followed by another one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from textune.chaos.aims import Moment, draw_aims
from textune.chaos.alike import end_of, first_difference
from textune.chaos.process import POLL_SECONDS, Launcher, Process, Starter
from textune.chaos.reference import Pace, Reference, is_complete, learn, require_same
from textune.chaos.result import ChaosResult, Kill
from textune.chaos.watch import Phase, Watcher
from textune.config import Checkpointing, Loaded, Overrides, load_config, override_words, user_path
from textune.errors import ConfigError, Preempted, RunError
from textune.run import RunFolder, noting_signals, read_manifest, stop_saying
from textune.training import newest
from textune.wording import count

MAX_MISSES = 3
"""Fresh runs in a row that may end before they are killed."""


def chaos(
    config: str | Path,
    *,
    kills: int = 20,
    seed: int = 0,
    folder: str | Path | None = None,
    reference: str | Path | None = None,
    overrides: Overrides = (),
    unset: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    start: Starter = Process,
) -> ChaosResult:
    """Kill the run of a config `kills` times, at moments drawn with `seed`, and compare every end with an
    uninterrupted one.

    `folder` (by default `runs/NAME-chaos`, or `-2` where that is taken) holds everything; `reference` is a complete
    run of the same config that saves the first training. `say` is called for each kill. ConfigError where the config
    never saves anything that can be resumed; RunError where the folder is occupied, the reference is of another
    config, or the run is too short to be killed so often. KeyboardInterrupt or Preempted where a signal asked for an
    end: the process at work is ended, and what it made removed.
    """
    loaded = load_config(config, overrides, unset)
    _require_saving(loaded.experiment.train.checkpoint)
    if os.name != "posix":
        raise RunError("chaos needs SIGKILL, which this system does not have.", hint="Run it on Linux or macOS.")
    if kills < 1:
        raise RunError(f"--kills {kills} is not at least 1.", hint="Ask for one kill or more.")
    target = RunFolder(user_path(folder) if folder is not None else Path("runs") / f"{loaded.name}-chaos")
    if folder is None and target.path.is_dir() and any(target.path.iterdir()):  # an earlier proof, or what it found
        target = RunFolder(target.next_free())
    target.require_free()
    target.path.mkdir(parents=True, exist_ok=True)
    words = ["train", str(config), *(word for key in unset for word in ("--unset", key)), *override_words(overrides)]
    words.append(f"tokens.cache={(target.path / 'tokens').absolute()}")
    with noting_signals() as asked:
        workplace = _Workplace(target.path, Launcher(words, start), say, asked)
        try:
            known, pace = _reference(workplace, loaded, None if reference is None else user_path(reference))
            return _Proof(workplace, known, pace, random.Random(seed)).prove(kills)
        except (KeyboardInterrupt, Preempted):
            workplace.clean_up()
            raise


def _require_saving(section: Checkpointing) -> None:
    if section.save_only_model:
        raise ConfigError(
            "train.checkpoint.save_only_model = true: no run can resume from its checkpoints.",
            hint="Add train.checkpoint.save_only_model=false to the command.",
        )
    if section.every == "never" and not section.at_steps:
        raise ConfigError(
            'train.checkpoint.every = "never": a run that is killed has nothing to resume from.',
            hint="Add 'train.checkpoint.every=10 steps' or the like to the command.",
        )


class _Workplace:
    """The folder of a proof: where processes are started and watched, and who is notified."""

    def __init__(self, folder: Path, launcher: Launcher, say: Callable[[str], None], asked: Callable[[], int]) -> None:
        self.folder = folder
        self.launcher = launcher
        self.say = say
        self.result = ChaosResult(folder / "reference")
        self._asked = asked

    def watch(self, watcher: Watcher, until: Callable[[], bool] = lambda: False) -> tuple[int, bool]:
        """Run the process of a run to its end, or kill it when `until` says so: its exit code, and whether it was
        killed."""
        process = self.launcher.launch(watcher.run)
        try:
            is_killed = False
            while process.poll() is None and not is_killed:
                self._stop_if_asked()
                watcher.look()
                is_killed = until()
                time.sleep(0 if is_killed else POLL_SECONDS)
            self._stop_if_asked()
        finally:
            process.kill()
        code = process.poll()
        assert code is not None, "it is dead"
        return code, is_killed

    def clean_up(self) -> None:
        """Remove everything but an uninterrupted run that is complete: the folder was free when this began."""
        reference = self.folder / "reference"
        for path in self.folder.iterdir():
            if path == reference and is_complete(reference):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with contextlib.suppress(OSError):  # it holds the reference
            self.folder.rmdir()

    def _stop_if_asked(self) -> None:
        """End where a signal has come; asked where the process at work is ended with it."""
        if number := self._asked():
            kills, whole = count(len(self.result.kills), "kill"), self.folder / "reference"
            kept = f"; --reference {whole} spares its training next time" if is_complete(whole) else ""
            said = (
                f"{kills} had happened, nothing is proved, and the unfinished runs in {self.folder} are removed{kept}"
            )
            stop_saying(number, said)


def _reference(workplace: _Workplace, loaded: Loaded, given: Path | None) -> tuple[Reference, Pace]:
    """Train without a kill, or look at the run that is given; and how long its parts take."""
    result, section = workplace.result, loaded.experiment.train.checkpoint
    if given is not None:
        result.reference = given
        require_same(loaded, given)
        reference, pace = learn(given, section)
    else:
        watcher = Watcher(result.reference)
        code, _ = workplace.watch(watcher)
        if code:
            words = workplace.launcher.last_words(result.reference)
            workplace.clean_up()  # the same command, once that is fixed, needs the folder
            hint = "See that `textune train` with the same config comes to its end."
            raise RunError(f"the uninterrupted run failed: {words}", hint=hint)
        reference, pace = learn(result.reference, section)
        pace.start_up = (watcher.opened or watcher.started) - watcher.started
        pace.writing = watcher.usual_writing or pace.writing
    workplace.say(
        f"uninterrupted: {reference.steps:,} steps in {pace.training:.1f} s of training ({result.reference})"
    )
    return reference, pace


class _Proof:
    """The runs that are killed."""

    def __init__(self, workplace: _Workplace, reference: Reference, pace: Pace, generator: random.Random) -> None:
        self._workplace = workplace
        self._reference = reference
        self._pace = pace
        self._random = generator
        self._result = workplace.result

    def prove(self, kills: int) -> ChaosResult:
        """Kill until all kills have happened, then let the last run come to its end."""
        result = self._result
        aims = draw_aims(self._random, kills, evaluates=bool(self._reference.evaluations))
        misses = 0
        while aims:
            before = len(result.kills)
            self._kill_until_it_ends(self._workplace.folder / f"run-{result.runs + 1}", aims)
            if result.difference:
                break
            result.runs += 1
            misses = 0 if len(result.kills) > before else misses + 1
            if misses == MAX_MISSES and aims[-1] != "training":
                aims[-1], misses = "training", 0
            elif misses == MAX_MISSES:
                raise RunError(
                    f"the run is too short to be killed so often: it trains for {self._pace.training:.2f} s and came"
                    f" to its end"
                    f" {MAX_MISSES} times in a row before it was killed; {len(result.kills)} of {kills} kills"
                    f" happened.",
                    hint="Ask for fewer --kills, or train longer, such as 'train.duration=10 epochs'.",
                )
        return result

    def _kill_until_it_ends(self, run: Path, aims: list[Phase]) -> None:
        """One run: killed and resumed until it comes to its end; takes what it did from `aims`."""
        expected: int | None = None
        while True:
            watcher = Watcher(run, last_step=self._reference.steps, evaluations=frozenset(self._reference.evaluations))
            code, is_killed = self._workplace.watch(watcher, self._moment(aims, watcher, done=expected or 0))
            seconds = time.monotonic() - watcher.started
            watcher.look()
            if watcher.opened is not None:
                self._pace.start_up = watcher.opened - watcher.started
                self._pace.writing = watcher.usual_writing or self._pace.writing
                self._check_step(run, expected)
            if self._result.difference:
                return
            if code >= 0 or not is_killed:  # it ended by itself, maybe just before the kill
                self._judge(run, code)
                return
            aims.pop()
            expected = self._note_kill(run, watcher, seconds)

    def _moment(self, aims: list[Phase], watcher: Watcher, *, done: int) -> Callable[[], bool]:
        if not aims:
            return lambda: False
        return Moment(aims[-1], watcher, self._reference, self._pace, generator=self._random, done=done).has_come

    def _note_kill(self, run: Path, watcher: Watcher, seconds: float) -> int:
        """Look at what the kill has left; returns the step from which the next process has to resume."""
        phase, moment = watcher.phase()
        checkpoint, passed = newest(run / "checkpoints")
        step = 0 if checkpoint is None else checkpoint.step
        torn = (*sorted(watcher.writing), *passed)
        kill = Kill(len(self._result.kills) + 1, run.name, round(seconds, 3), phase, moment, step, torn)
        self._result.kills.append(kill)
        self._workplace.say(f"kill {kill.number}: {kill.sentence()}")
        return step

    def _check_step(self, run: Path, expected: int | None) -> None:
        """Whether the process resumed where the newest complete checkpoint was when it started."""
        resumed = read_manifest(run).resumed
        if expected is not None and resumed and resumed[-1].step != expected:
            self._result.difference = (
                f"{run} was to resume from step {expected} after kill {len(self._result.kills)}, and resumed from step"
                f" {resumed[-1].step}."
            )

    def _judge(self, run: Path, code: int) -> None:
        """Compare a run that has ended with the reference; one that ended like it is removed."""
        result, launcher = self._result, self._workplace.launcher
        after = f"after kill {len(result.kills)} of {run}"
        if code:
            said = f"{launcher.last_words(run)} (all it said: {launcher.log_of(run)})"
            result.difference = f"{after} it could not resume: {said}"
            return
        try:
            difference = first_difference(end_of(run), self._reference.end)
        except RunError as error:
            difference = error.message
        if difference:
            result.difference = f"{after} its end is not that of the uninterrupted run: {difference}"
            return
        kills = sum(kill.run == run.name for kill in result.kills)
        self._workplace.say(f"{run.name} ended after {count(kills, 'kill')} as the uninterrupted run did, bit for bit")
        shutil.rmtree(run)
