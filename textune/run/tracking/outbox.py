"""The trackers of `[[track]]` as one tracker of a run: what they miss is said once, and never stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from textune.config import Track
from textune.errors import RunError
from textune.evaluation import ROWS_SUFFIX
from textune.run.folder import RunFolder
from textune.run.manifest import read_manifest
from textune.run.tracking.delivery import Delivery, Story
from textune.run.tracking.sender import Sender
from textune.run.tracking.sink import Ended
from textune.run.tracking.table import build_targets
from textune.run.tracking.tracker import EvaluationValues, SilentTracker, StepValues
from textune.wording import count, listing

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run.facts import Facts
    from textune.run.manifest import Ending

STATE = "sinks"
"""The name under which a checkpoint keeps the cursors, by place."""
STOPPED_SECONDS = 3.0
"""The longest wait at the end of a run that was stopped: whoever stopped it wants the machine, and it will go on."""


class Outbox(SilentTracker):
    """Has a sender for each tracker, which reads metrics.jsonl; the run itself only says that there is news."""

    def __init__(self, tracks: Sequence[Track], folder: RunFolder, say: Callable[[str], None]) -> None:
        """`say` is told what the user should know, in the thread of the run."""
        self._tracks = tracks
        self._folder = folder
        self._say = say
        self._senders: list[Sender] = []
        self._complained: set[Sender] = set()
        self._leaving_out: set[Sender] = set()
        """What was said already: a tracker does not work; it cannot take everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self._senders:
            sender.abandon()

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """Begin to send, from where each tracker is."""
        story = Story(config, facts.to_dict())
        kept = state.get(STATE)
        cursors = kept if isinstance(kept, dict) else {}
        for target in build_targets(self._tracks, self._folder.path):
            found, others = cursors.get(target.place), [sender.delivery for sender in self._senders]
            known = found if isinstance(found, dict) else {}
            try:
                delivery = Delivery(target, self._folder, story, kept=known, others=others)
            except (OSError, RunError) as error:
                self._say(f"nothing is sent to the tracker {target.name}: {error}")
                continue
            delivery.forget_files()
            self._senders.append(Sender(delivery))
        for sender in self._senders:
            sender.start()

    def notice(self, message: str) -> None:
        for sender in self._senders:
            sender.wake()

    def progress(self, stage: str, done: int, total: int) -> None:
        self._complain()

    def step(self, values: StepValues) -> None:
        self._wake()

    def evaluation(self, values: EvaluationValues) -> None:
        self._wake()

    def state(self) -> Mapping[str, JsonValue]:
        """How far each tracker came: the next session goes on in the same run of it."""
        cursors: dict[str, JsonValue] = {
            sender.delivery.target.place: sender.delivery.cursor.to_dict() for sender in self._senders
        }
        return {STATE: cursors} if cursors else {}

    def finish(self, status: Ending, files: Mapping[str, Path]) -> None:
        """Wait until every tracker has everything, but no longer than its `wait`, and say what it misses."""
        ended = ended_of(self._folder, status)
        started = time.monotonic()
        for sender in self._senders:
            sender.end(ended, files_for(sender.delivery.target.track, status, files))
        for sender in self._senders:
            longest = sender.delivery.target.track.wait
            longest = longest if status in ("complete", "failed") else min(longest, STOPPED_SECONDS)
            has_everything = sender.wait(max(0.0, started + longest - time.monotonic()))
            self._say_left_out(sender)
            if has_everything:
                continue
            sender.abandon()
            self._say(self._missing(sender, status))

    def _say_left_out(self, sender: Sender) -> None:
        """Say once of a tracker that there is something that it can never take."""
        if sender not in self._leaving_out and (reasons := sender.delivery.reasons):
            self._leaving_out.add(sender)
            self._say(
                f"the tracker {sender.delivery.target.name} cannot take everything ({listing(reasons, 3)}): the rest"
                f" is left out there, and stands in metrics.jsonl."
            )

    def _missing(self, sender: Sender, status: Ending) -> str:
        left, why = sender.delivery.num_left(), sender.complaint() or "it was too slow"
        what = f"misses {count(left, 'record')}" if left else "does not have everything"
        then = f"`textune tracking replay {self._folder.path}` sends the rest"
        if status in ("interrupted", "preempted"):
            then += ", and so does the run when it goes on"
        return f"the tracker {sender.delivery.target.name} {what} ({why}); {then}."

    def _wake(self) -> None:
        for sender in self._senders:
            sender.wake()
        self._complain()

    def _complain(self) -> None:
        """Say once of each tracker that it does not work."""
        for sender in self._senders:
            self._say_left_out(sender)
            if sender not in self._complained and (why := sender.complaint()):
                self._complained.add(sender)
                self._say(
                    f"the tracker {sender.delivery.target.name} does not work: {why}; the run goes on, and what the"
                    f" tracker misses is sent as soon as it works again."
                )


def ended_of(folder: RunFolder, status: Ending) -> Ended:
    """How the run in a folder ended, as trackers are told."""
    manifest = read_manifest(folder.path)
    return Ended(status, manifest.metrics, manifest.best_step, manifest.seconds)


def files_for(track: Track, status: Ending, files: Mapping[str, Path]) -> dict[str, Path]:
    """What a tracker gets of the files that a run leaves: those of a complete one, as its `files` says."""
    if status != "complete" or track.files == "none":
        return {}
    is_large = {name for name, path in files.items() if path.is_dir() or name.endswith(ROWS_SUFFIX)}
    return {name: path for name, path in files.items() if track.files == "all" or name not in is_large}
