"""Kills a run at random moments, lets it go on, and compares its end with that of a run that nobody killed.

    FOLDER/reference    the uninterrupted run
    FOLDER/run-1, ...   runs that were killed; one whose end is the reference's is removed again, its output stays in run-1.log
    FOLDER/tokens       a token cache of its own

Every process is `textune train CONFIG --run FOLDER/run-1 --resume auto`, and every kill is a SIGKILL, which no program can see
coming. A run that ends before all kills have happened is followed by another one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from textune.chaos.compare import End, end_of, first_difference, lines_of
from textune.chaos.watch import Phase, Watcher
from textune.config import Checkpointing, Loaded, load_config, user_path
from textune.errors import ConfigError, Preempted, RunError
from textune.run import Manifest, RunFolder, compare, noting_signals, read_manifest, stop_saying
from textune.training import AUTO, newest
from textune.wording import count

AIMS: dict[Phase, float] = {"start-up": 0.15, "training": 0.25, "writing": 0.35, "evaluating": 0.15, "reporting": 0.1}
"""What the kills aim at, and which share of them: a write is short, and chance alone would seldom meet one."""

MAX_MISSES = 3
"""Fresh runs in a row that may end before they are killed."""

POLL_SECONDS = 0.002
_BUSY_WITH_DYING_SECONDS = 60.0


class Running(Protocol):
    """A process at work on a run."""

    def poll(self) -> int | None:
        """Its exit code; None while it is at work."""

    def kill(self) -> None:
        """End it and all that it started with SIGKILL, and wait until they are gone."""


Starter = Callable[[Sequence[str], Path], Running]
"""Starts `textune WORDS`, whose output is appended to a file."""


@dataclass(frozen=True)
class Kill:
    """One kill and what it left."""

    number: int
    """From 1."""
    run: str
    """Name of the run's folder."""
    seconds: float
    """After the start of the process."""
    phase: Phase
    """What the process was at."""
    moment: str
    """The same in some more words."""
    resumes_from: int
    """Step of the newest whole checkpoint: 0 where there was none yet."""
    torn: tuple[str, ...]
    """What was not complete, and is passed over or removed by the run that goes on."""

    def sentence(self) -> str:
        """For a person."""
        after = f"resumes from step {self.resumes_from}" if self.resumes_from else "starts again"
        torn = f"; torn and passed over: {', '.join(self.torn)}" if self.torn else ""
        return f"{self.run}, {self.seconds:.2f} s after its start, {self.moment}; {after}{torn}"


@dataclass
class ChaosResult:
    """What became of the runs."""

    reference: Path
    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    """Runs that came to their end."""
    difference: str = ""
    """The first thing that was not as in the uninterrupted run; empty where all was."""

    @property
    def during(self) -> dict[str, int]:
        """Number of kills by what they interrupted."""
        return dict(Counter(kill.phase for kill in self.kills))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "reference": str(self.reference),
            "equal": not self.difference,
            "difference": self.difference,
            "runs": self.runs,
            "during": self.during,
            "kills": [asdict(kill) for kill in self.kills],
        }


def chaos(
    config: str | Path,
    *,
    kills: int = 20,
    seed: int = 0,
    folder: str | Path | None = None,
    reference: str | Path | None = None,
    overrides: Sequence[str] = (),
    unset: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    start: Starter | None = None,
) -> ChaosResult:
    """Kill the run of a config `kills` times, at moments drawn with `seed`, and compare every end with an uninterrupted one.

    `folder` (by default `runs/NAME-chaos`, or `-2` where that is taken) holds everything; `reference` is a complete run of the
    same config that saves the first training. `say` is told of each kill. ConfigError where the config never saves what a run
    can go on from; RunError where the folder is occupied, the reference is of another config, or the run is too short to be
    killed so often.
    KeyboardInterrupt or Preempted where a signal asked for an end: the process at work is ended, and what it made removed.
    """
    loaded = load_config(config, overrides, unset)
    _require_saving(loaded.experiment.train.checkpoint)
    if os.name != "posix":
        raise RunError("chaos needs SIGKILL, which this system does not have.", hint="Run it on Linux or macOS.")
    if kills < 1:
        raise RunError(f"--kills {kills} is not at least 1.")
    target = RunFolder(user_path(folder) if folder is not None else Path("runs") / f"{Path(config).stem}-chaos")
    if folder is None and target.path.is_dir() and any(target.path.iterdir()):  # an earlier proof, or what it found
        target = RunFolder(target.next_free())
    target.require_free()
    target.path.mkdir(parents=True, exist_ok=True)
    words = ["train", str(config), *(word for key in unset for word in ("--unset", key)), *overrides]
    words.append(f"tokens.cache={(target.path / 'tokens').absolute()}")
    with noting_signals() as asked:
        session = _Chaos(target.path, words, start or _Process, say, asked, seed=seed)
        try:
            session.learn(loaded, None if reference is None else user_path(reference))
            return session.run(kills)
        except (KeyboardInterrupt, Preempted):
            session.clean_up()
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


class _Process:
    """`python -m textune WORDS` in a process group of its own."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "textune", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        # The processes of several ranks are in the group too; they hold the run folder until they are gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + _BUSY_WITH_DYING_SECONDS
        while time.monotonic() < until:
            try:
                os.killpg(self._process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(POLL_SECONDS)


@dataclass
class _Pace:
    """How long the parts of a run take, in seconds."""

    start_up: float = 2.0
    training: float = 1.0
    reporting: float = 0.1
    writing: float = 0.01


class _Chaos:
    """The runs of one folder."""

    def __init__(
        self,
        folder: Path,
        words: list[str],
        start: Starter,
        say: Callable[[str], None],
        asked: Callable[[], int],
        *,
        seed: int,
    ) -> None:
        self._folder = folder
        self._words = words
        self._start = start
        self._say = say
        self._asked = asked
        self._random = random.Random(seed)
        self._pace = _Pace()
        self._steps = 0
        self._evaluations: tuple[int, ...] = ()
        self._seconds_per_line = 0.0
        self._end: End | None = None
        self.result = ChaosResult(folder / "reference")

    # --- the uninterrupted run ----------------------------------------------------------------------------------------

    def learn(self, loaded: Loaded, reference: Path | None) -> None:
        """Train without a kill, or look at the run that is given, and measure how long its parts take."""
        if reference is None:
            watcher, code = self._to_the_end(self.result.reference)
            if code:
                words = self._last_words(self.result.reference)
                self.clean_up()  # the same command, once that is mended, needs the folder
                raise RunError(f"the uninterrupted run failed: {words}", hint=_LOOK)
            self._pace.start_up = (watcher.opened or watcher.started) - watcher.started
        else:
            self.result.reference = reference
            _require_same(loaded, reference)
        manifest = read_manifest(self.result.reference)
        self._end = end_of(self.result.reference)
        self._steps = manifest.steps or 0
        self._pace.training = manifest.seconds or 0.0
        self._pace.reporting = max(0.05, _seconds_in(manifest) - self._pace.training)
        lines = lines_of(self.result.reference)
        self._evaluations = tuple(line["step"] for line in lines if line["kind"] == "evaluation" and line["step"])
        self._seconds_per_line = self._pace.training / len(lines)
        _require_saves(loaded.experiment.train.checkpoint, lines, steps=self._steps)
        self._say(f"uninterrupted: {self._steps:,} steps in {self._pace.training:.1f} s of training ({self.result.reference})")

    def _to_the_end(self, run: Path) -> tuple[Watcher, int]:
        watcher = Watcher(run)
        process = self._launch(run)
        try:
            while (code := process.poll()) is None:
                self._require_unasked()
                watcher.look()
                time.sleep(POLL_SECONDS)
            self._require_unasked()
        finally:
            process.kill()
        self._pace.writing = watcher.usual_writing or self._pace.writing
        return watcher, code

    def _require_unasked(self) -> None:
        """Ends where a signal has come; looked at where a process that is at work is ended with it."""
        if number := self._asked():
            kills = count(len(self.result.kills), "kill")
            whole = self._folder / "reference"
            kept = f"; --reference {whole} spares its training next time" if _is_complete(whole) else ""
            stop_saying(
                number, f"{kills} had happened, nothing is proved, and the unfinished runs in {self._folder} are removed{kept}"
            )

    def clean_up(self) -> None:
        """Remove everything but an uninterrupted run that is complete: the folder was free when this began."""
        reference = self._folder / "reference"
        for path in self._folder.iterdir():
            if path == reference and _is_complete(reference):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with contextlib.suppress(OSError):  # it holds the reference
            self._folder.rmdir()

    def _launch(self, run: Path) -> Running:
        return self._start([*self._words, "--run", str(run), "--resume", AUTO], self._log(run))

    def _log(self, run: Path) -> Path:
        return self._folder / f"{run.name}.log"

    def _last_words(self, run: Path) -> str:
        lines = [line for line in self._log(run).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix("Error: ") if lines else "it says nothing."

    # --- the runs that are killed -------------------------------------------------------------------------------------

    def run(self, kills: int) -> ChaosResult:
        """Kill until all kills have happened, then let the last run come to its end."""
        result = self.result
        aims = self._draw_aims(kills)
        misses = 0
        while aims:
            run = self._folder / f"run-{result.runs + 1}"
            before = len(result.kills)
            self._kill_until_it_ends(run, aims)
            if result.difference:
                break
            result.runs += 1
            done = len(result.kills) - before
            misses = 0 if done else misses + 1
            if misses == MAX_MISSES and aims[-1] != "training":
                aims[-1], misses = "training", 0
            elif misses == MAX_MISSES:
                raise RunError(
                    f"the run is too short to be killed so often: it trains for {self._pace.training:.2f} s and came to its end"
                    f" {MAX_MISSES} times in a row before it was killed; {len(result.kills)} of {kills} kills happened.",
                    hint="Ask for fewer --kills, or train longer, such as 'train.duration=10 epochs'.",
                )
        return result

    def _draw_aims(self, kills: int) -> list[Phase]:
        """What each kill aims at: the shares are kept to, in random order."""
        names = [name for name in AIMS if self._evaluations or name != "evaluating"]
        total = sum(AIMS[name] for name in names)
        edges = [sum(AIMS[name] for name in names[: index + 1]) / total for index in range(len(names))]
        aims = [
            next((name for name, edge in zip(names, edges, strict=True) if (number + 0.5) / kills <= edge), names[-1])
            for number in range(kills)
        ]
        self._random.shuffle(aims)
        return aims

    def _kill_until_it_ends(self, run: Path, aims: list[Phase]) -> None:
        """One run: killed and started again until it comes to its end; takes what it did from `aims`."""
        expected: int | None = None
        while True:
            watcher = Watcher(run, last_step=self._steps, evaluations=frozenset(self._evaluations))
            process = self._launch(run)
            try:
                moment = self._moment(aims[-1], watcher, done=expected or 0) if aims else lambda: False
                killed = False
                while process.poll() is None and not killed:
                    self._require_unasked()
                    watcher.look()
                    killed = moment()
                    time.sleep(0 if killed else POLL_SECONDS)
                self._require_unasked()
            finally:
                process.kill()
            seconds = time.monotonic() - watcher.started
            watcher.look()
            if watcher.opened is not None:
                self._pace.start_up = watcher.opened - watcher.started
                self._pace.writing = watcher.usual_writing or self._pace.writing
                self._check_step(run, expected)
            code = process.poll()
            assert code is not None
            if self.result.difference:
                return
            if code >= 0 or not killed:  # it ended by itself, maybe just before the kill
                self._judge(run, code)
                return
            aims.pop()
            expected = self._note_kill(run, watcher, seconds)

    def _moment(self, aim: Phase, watcher: Watcher, *, done: int) -> Callable[[], bool]:
        """Says whether the moment to kill has come, each time the folder was looked at.

        `done` steps need not be done again, so that what is left of the training is shorter.
        """
        share, left = self._random.random(), 1 - done / self._steps
        ahead = [step for step in self._evaluations if step > done]
        evaluation = self._random.choice(ahead) if ahead else None
        waits = {
            "start-up": share * self._pace.start_up,
            "training": share * self._pace.training * left,
            "writing": self._random.random() * self._pace.writing,
            "evaluating": share * self._seconds_per_line,
            "reporting": share * self._pace.reporting,
        }
        since: list[float] = []

        def ready() -> bool:
            """Whether that at which the kill aims has begun."""
            if aim == "start-up":
                return True
            if watcher.opened is None:
                return False
            if aim == "writing":
                return bool(watcher.writing) and time.monotonic() >= watcher.opened + share * waits["training"]
            if aim == "evaluating":
                line = watcher.last_line()
                return evaluation is not None and line.get("kind") == "step" and self._is_before(line["step"], evaluation)
            return aim == "training" or watcher.trained is not None

        def come() -> bool:
            if not since and ready():
                since.append(time.monotonic())
            return bool(since) and time.monotonic() >= since[0] + waits[aim]

        return come

    def _is_before(self, step: int, evaluation: int) -> bool:
        """Whether the line of `step` is the last one before that of an evaluation, or later."""
        assert self._end is not None
        before = [line["step"] for line in self._end.lines if line["kind"] == "step" and line["step"] <= evaluation]
        return step >= (before[-1] if before else 0)

    def _note_kill(self, run: Path, watcher: Watcher, seconds: float) -> int:
        """Look at what the kill has left; returns the step from which the next process has to go on."""
        phase, moment = watcher.phase()
        checkpoint, passed = newest(run / "checkpoints")
        step = 0 if checkpoint is None else checkpoint.step
        torn = (*sorted(watcher.writing), *passed)
        kill = Kill(len(self.result.kills) + 1, run.name, round(seconds, 3), phase, moment, step, torn)
        self.result.kills.append(kill)
        self._say(f"kill {kill.number}: {kill.sentence()}")
        return step

    def _check_step(self, run: Path, expected: int | None) -> None:
        """Whether the process went on where the newest whole checkpoint was when it started."""
        resumed = read_manifest(run).resumed
        if expected is not None and resumed and resumed[-1].step != expected:
            self.result.difference = (
                f"{run} was to resume from step {expected} after kill {len(self.result.kills)}, and resumed from step"
                f" {resumed[-1].step}."
            )

    def _judge(self, run: Path, code: int) -> None:
        """Compare a run that has ended with the reference; one that ended alike is removed."""
        assert self._end is not None
        after = f"after kill {len(self.result.kills)} of {run}"
        if code:
            self.result.difference = f"{after} it could not resume: {self._last_words(run)} (all it said: {self._log(run)})"
            return
        try:
            difference = first_difference(end_of(run), self._end)
        except RunError as error:
            difference = error.message
        if difference:
            self.result.difference = f"{after} its end is not that of the uninterrupted run: {difference}"
            return
        kills = sum(kill.run == run.name for kill in self.result.kills)
        self._say(f"{run.name} ended after {count(kills, 'kill')} as the uninterrupted run did, bit for bit")
        shutil.rmtree(run)


def _is_complete(run: Path) -> bool:
    try:
        return read_manifest(run).status == "complete"
    except RunError:
        return False


_LOOK = "See that `textune train` with the same config comes to its end."


def _require_same(loaded: Loaded, reference: Path) -> None:
    """RunError where a reference is not complete, or of another config."""
    status = read_manifest(reference).status
    if status != "complete":
        raise RunError(f"--reference {reference} is not complete: {status}.", hint="Let it come to its end first.")
    before = load_config(reference / "config.toml").experiment.model_dump(mode="json")
    harmless = compare(before, loaded.experiment.model_dump(mode="json"), where=f"--reference {reference}")
    # What may change while a run goes on (when to evaluate, say) still makes another run.
    other = [change.removesuffix(" from here on") for change in harmless if not change.startswith("tokens.cache")]
    if other:
        raise RunError(
            f"--reference {reference} was trained with another configuration: {'; '.join(other)}.",
            hint="Leave --reference out, and an uninterrupted run is trained first.",
        )


def _require_saves(section: Checkpointing, lines: list[dict[str, Any]], *, steps: int) -> None:
    """RunError where a run saves at its end alone: each kill would only start it again."""
    steps_per_epoch = round(lines[-1]["step"] / lines[-1]["epoch"]) if lines and lines[-1].get("epoch") else steps
    every = steps if section.every == "never" else max(1, section.every.steps(steps_per_epoch))
    if every >= steps and not any(step < steps for step in section.at_steps):
        raise RunError(
            f"the run of {steps} steps saves nothing before its end, so that a kill would only start it again.",
            hint=f"Add 'train.checkpoint.every={max(1, steps // 5)} steps' or the like to the command.",
        )


def _seconds_in(manifest: Manifest) -> float:
    """From the start of a run's training to its end, to the second."""
    from datetime import datetime

    started, finished = (datetime.fromisoformat(time or "") for time in (manifest.started, manifest.finished))
    return (finished - started).total_seconds()
