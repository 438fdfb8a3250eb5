"""Sends a run to its trackers afterwards: what they missed while it trained, or all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textune.config import Overrides, load_config, user_path
from textune.errors import RunError
from textune.run import (
    FAULTS,
    Delivery,
    RunFolder,
    Story,
    build_targets,
    ended_of,
    files_for,
    read_manifest,
    trouble_of,
)
from textune.wording import count, listing

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run import Ending


@dataclass(frozen=True)
class Replayed:
    """What one tracker was sent."""

    tracker: str
    place: str
    records: int
    left_out: int
    """Records that it can never take, by now."""
    files: int
    reasons: tuple[str, ...] = ()
    """Why records were left out."""
    trouble: str = ""
    """Why it does not have everything; empty where it does."""

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return asdict(self) | {"reasons": list(self.reasons)}

    def __str__(self) -> str:
        said = f"{count(self.records, 'record')} and {count(self.files, 'file')} sent"
        if not self.records + self.files:
            said = "nothing sent" if self.trouble else "has everything"
        why = f" ({listing(self.reasons, 3)})" if self.reasons else ""
        said += f", {count(self.left_out, 'record')} left out{why}" if self.left_out else ""
        return f"{self.tracker} ({self.place}): {said}{f'; {self.trouble}' if self.trouble else ''}"


def replay(
    run: str | Path,
    *,
    only: Sequence[str] = (),
    overrides: Overrides = (),
    say: Callable[[Replayed], None] = lambda replayed: None,
) -> tuple[Replayed, ...]:
    """Send what the trackers of a run have not received: into the same run of each, nothing twice.

    `only`: names of trackers, such as `mlflow`. `overrides` change the configuration of the run folder, so that
    `track=[...]` sends a run to trackers that it did not have. `say` hears of each tracker when it is done. Raises
    RunError where another process works on the run, where it has no such tracker, and, once all were tried, where one
    of them does not work.
    """
    folder = RunFolder(user_path(run))
    manifest = read_manifest(folder.path)
    loaded = load_config(folder.path / "config.toml", overrides)
    targets = build_targets(loaded.experiment.track, folder.path)
    unknown = [name for name in only if name not in {target.name for target in targets}]
    if unknown or not targets:
        names = listing(sorted({target.name for target in targets})) or "none"
        raise RunError(
            f"{folder.path} has no tracker{f' called {unknown[0]}' if unknown else ''}: its trackers are {names}.",
            hint=f"Name one of them, or send the run to another: textune tracking replay {folder.path}"
            """ 'track=[{kind = "tensorboard"}]'.""",
            key="only" if unknown else "track",
            value=unknown[0] if unknown else None,
            place=str(folder.path),
        )
    # A process that was killed could not say so.
    status: Ending = "interrupted" if manifest.status == "running" else manifest.status
    story = Story(loaded.resolved, manifest.facts)
    found: list[Replayed] = []
    deliveries: list[Delivery] = []
    with folder.lock():
        for target in targets:
            if not only or target.name in only:
                deliveries.append(Delivery(target, folder, story, others=deliveries))
                found.append(_replayed(deliveries[-1], folder, status))
                say(found[-1])
    if troubled := [one for one in found if one.trouble]:
        raise RunError(
            f"{listing(one.tracker for one in troubled)} does not have everything: {troubled[0].trouble}.",
            hint="Mend that, then give the same command again: what was sent is not sent twice.",
            key="track",
            value=troubled[0].tracker,
            place=troubled[0].place,
            reason=troubled[0].trouble,
        )
    return tuple(found)


def _replayed(delivery: Delivery, folder: RunFolder, status: Ending) -> Replayed:
    files = files_for(delivery.target.track, status, folder.files())
    before, trouble = delivery.cursor, ""
    if before.status != status or not set(files) <= set(before.files) or delivery.num_left():
        try:
            delivery.open()
            while delivery.send_next():
                pass
            delivery.finish(ended_of(folder, status), files)
        except FAULTS as error:
            trouble = trouble_of(error)
        finally:
            delivery.close()
    after = delivery.cursor
    return Replayed(
        delivery.target.name,
        delivery.target.place,
        delivery.num_sent,
        after.left_out,
        len(after.files) - len(before.files),
        tuple(delivery.reasons),
        trouble,
    )
