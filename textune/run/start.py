"""Where a run starts: at its first step, where it stopped, or from a checkpoint of another run.

--resume            the run folder's newest complete checkpoint
--resume auto       the same if there is one, else a new run: for a scheduler, which repeats the same command
--resume PATH       the newest checkpoint of another run folder, or one checkpoint; with --run, into a new folder
(nothing)           a new run; but a run that was stopped by a signal (Ctrl+C, a scheduler) is resumed

A run without a checkpoint of its own may go on from one of transformers.Trainer (`adopt`, `--unpickle`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from textune.config import TrainSection, load_config, load_tree, user_path
from textune.errors import RunError
from textune.ranks import Ranks, joined
from textune.run.folder import RunFolder
from textune.run.manifest import read_manifest
from textune.run.same import FROM_HERE_ON, compare
from textune.run.state import RunState, state_of
from textune.training import Adopted, Checkpoint, models_in, newest, open_adopted, open_checkpoint

LATEST, AUTO = "latest", "auto"


Config = Mapping[str, JsonValue]
"""A resolved configuration, as JSON holds it."""


@dataclass(frozen=True)
class Earlier:
    """What a resumed run knew when it stopped."""

    max_tokens: int | None = None
    """Its token budget; None where it is to be found, or is set, anew."""
    kernels: str | None = None
    """The kernels it computed with; None where it has to choose."""
    max_length: int | None = None
    """Its longest row in tokens; None where that is found anew."""
    pair_separator: str | None = None
    """What stands between the texts of its pairs; None where the configuration says it."""
    loader: Mapping[str, JsonValue] = field(default_factory=dict)
    """Where its batches were, and what it had found out of its documents."""
    data: Mapping[str, JsonValue] = field(default_factory=dict)
    """Hashes of its sources, by set."""


@dataclass(frozen=True)
class Start:
    """How a run begins."""

    kind: Literal["new", "resumed", "complete"]
    """`complete`: the run is over, and nothing is left to do."""
    checkpoint: Checkpoint | None = None
    """Where it resumes; None at the first step."""
    notices: list[str] = field(default_factory=list)
    seen: tuple[object, ...] = ()
    """What was in the run folder when this was planned (`RunFolder.witness`)."""
    adopted: Adopted | None = None
    """The checkpoint of another program whose step and optimizer the run takes over; never beside `checkpoint`."""

    @cached_property
    def state(self) -> RunState | None:
        """The state of the run at its checkpoint."""
        return None if self.checkpoint is None else state_of(self.checkpoint)

    @property
    def step(self) -> int:
        """Optimizer steps done already."""
        goes_on = self.checkpoint or self.adopted
        return goes_on.step if goes_on else 0

    def earlier(self, section: TrainSection) -> Earlier | None:
        """What the run knew at its checkpoint; None for a run that begins."""
        if self.state is None:
            return None
        same_bound = self._trained_with("max_tokens") == section.max_tokens
        max_tokens, kernels = self.state.max_tokens if same_bound else None, self.state.identity.kernels
        return Earlier(
            max_tokens,
            kernels,
            self.state.max_length,
            self.state.pair_separator,
            self.state.loader,
            self.state.identity.data,
        )

    def has_duration(self, config: Config) -> bool:
        """Whether the checkpoint is of a run of the same duration."""
        section = config["train"]
        assert isinstance(section, dict)
        return self.state is None or self._trained_with("duration") == section["duration"]

    def is_within(self, folder: RunFolder) -> bool:
        """Whether the checkpoint is one of this run folder's own."""
        return self.checkpoint is not None and self.checkpoint.folder.parent.resolve() == folder.checkpoints.resolve()

    def _trained_with(self, key: str) -> object:
        section = self.state.config["train"] if self.state is not None else None
        return section.get(key) if isinstance(section, dict) else None


def plan_start(folder: RunFolder, config: Config, resume: str | None, *, adopt: Path | None = None) -> Start:
    """What `--resume` means for this run folder; RunError if that is impossible, or if the run is no longer the same
    one. `adopt`: a checkpoint of transformers.Trainer from which the run goes on while it has none of its own."""
    seen = folder.witness()
    if adopt is not None and resume and resume not in (LATEST, AUTO):
        raise RunError(
            f"--resume {resume} and --unpickle ({adopt}) both name what the run goes on from.",
            hint="Leave one of them out.",
            key="unpickle",
            value=str(adopt),
        )
    start = _planned(folder, config, resume, adopt=adopt)
    if start.kind != "complete":
        folder.require_writable()
        if adopt is not None and start.checkpoint is None:
            start = replace(start, adopted=open_adopted(adopt))
        elif adopt is not None and not _began_with(folder, adopt):
            start.notices.append(f"--unpickle takes over nothing of {adopt}: the run goes on from its own checkpoint")
    return replace(start, seen=seen)


def _began_with(folder: RunFolder, adopted: Path) -> bool:
    """Whether the run in this folder began with what that checkpoint holds."""
    return read_manifest(folder.path).from_checkpoint == str(adopted.resolve())


def _planned(
    folder: RunFolder,
    config: Config,
    resume: str | None,
    *,
    branch_from: Checkpoint | None = None,
    adopt: Path | None = None,
) -> Start:
    """`branch_from`: the checkpoint that the command names, and from which the run in this folder branched off."""
    if resume == "":
        raise RunError(
            "--resume= is empty.",
            hint="Write --resume, --resume auto, or the path of a run or checkpoint.",
            key="resume",
        )
    if resume is not None and resume not in (LATEST, AUTO):
        return _start_elsewhere(folder, config, user_path(resume))
    if not (folder.path / "manifest.json").is_file():
        if resume == LATEST and not folder.was_killed_early:
            raise RunError(
                f"there is no run in {folder.path} to resume.",
                hint="Start it without --resume, or with --resume auto.",
                key="resume",
                place=str(folder.path),
            )
        if resume is None or not folder.was_killed_early:
            folder.require_free()
        return Start("new")
    manifest = read_manifest(folder.path)
    status = manifest.status
    if resume is None and status not in ("preempted", "interrupted"):
        folder.require_free()
    checkpoint, passed = newest(folder.checkpoints)
    adopts = adopt is not None and _began_with(folder, adopt)
    if checkpoint is None and manifest.from_checkpoint and not adopts:
        # Only the command may name files outside the run folder, whose own content may come from anybody.
        if branch_from is None:
            raise RunError(
                f"{folder.path} branched off from a checkpoint of another run ({manifest.from_checkpoint})"
                " and has none of its own.",
                hint="Give the command that began it again, which names that checkpoint.",
                key="resume",
                place=str(folder.path),
            )
        checkpoint = branch_from  # the run stopped before it had a checkpoint of its own
    if status == "complete" and checkpoint is None and models_in(folder.checkpoints):  # it saved only models
        changes = compare(load_config(folder.path / "config.toml").resolved, config, where=str(folder.path))
        return Start("complete", notices=[_complete(folder), *_without_effect(changes)])
    start = _resumed(folder, config, checkpoint, passed)
    # Where `compare` accepts another duration, the run is no longer complete.
    if status == "complete" and start.has_duration(config):
        return Start("complete", notices=[_complete(folder), *_without_effect(start.notices)])
    return start


def _complete(folder: RunFolder) -> str:
    return f"{folder.path} is complete: nothing is left to do."


def _without_effect(notices: list[str]) -> list[str]:
    """What is said of the changes that a run would take up, where it is complete."""
    changes = [notice.removesuffix(FROM_HERE_ON) for notice in notices if notice.endswith(FROM_HERE_ON)]
    said = [f"{change}: without effect on a complete run." for change in changes]
    if any(change.startswith("decide.") for change in changes):
        said.append("`textune decide RUN` sets another rule of decision.")
    return said


def _refuse_models(run: Path) -> None:
    """RunError where a run saved models and no checkpoint that can be resumed."""
    if models := models_in(run / "checkpoints"):
        raise RunError(
            f"{run} has saved only models (train.checkpoint.save_only_model = true) and cannot resume.",
            hint=f'Start another run from the last one: model.pretrained = "{models[-1]}".',
            key="train.checkpoint.save_only_model",
            value=True,
            place=str(run),
        )


def _resumed(folder: RunFolder, config: Config, checkpoint: Checkpoint | None, passed: list[str]) -> Start:
    if checkpoint is None:
        _refuse_models(folder.path)
    if checkpoint is None and passed:
        raise RunError(
            f"none of the checkpoints in {folder.path} can be resumed: {' '.join(passed)}",
            hint=f"Restore one of them from a copy, or remove {folder.checkpoints} to start from the first step.",
            place=str(folder.path),
            reason=" ".join(passed),
        )
    if checkpoint is None:
        before = load_config(folder.path / "config.toml").resolved
        where = "no checkpoint was complete when the run stopped: it starts from its first step"
    else:
        where = f"resumes from {checkpoint.folder.name} ({checkpoint.folder.parent.parent})"
        # Keys that a later version added get their defaults, which mean what was done before.
        before = load_tree(dict(state_of(checkpoint).config), base=Path.cwd()).resolved
    changes = compare(before, config, where=str(folder.path))
    return Start("resumed", checkpoint, [*passed, where, *changes])


def _start_elsewhere(folder: RunFolder, config: Config, path: Path) -> Start:
    """From a checkpoint, or the newest one of a run folder, into this run folder."""
    passed: list[str] = []
    if (path / "checkpoints").is_dir() or ((path / "config.toml").is_file() and (path / "metrics.jsonl").is_file()):
        found, passed = newest(path / "checkpoints")
        if found is None:
            _refuse_models(path)
            raise RunError(
                " ".join([*passed, f"{path} has no complete checkpoint to resume from."]),
                hint="Start a new run without --resume.",
                key="resume",
                place=str(path),
            )
    else:
        found = open_checkpoint(path)
    source = found.folder.parent.parent
    if source.resolve() != folder.path.resolve():
        if _is_branch_of(folder, found):
            return _planned(folder, config, LATEST, branch_from=found)
        folder.require_free()
        return _resumed(folder, config, found, passed)
    last = newest(folder.checkpoints)[0]
    if last is not None and last.step > found.step:
        raise RunError(
            f"{found.folder} is not the newest checkpoint of its run: {last.folder.name} is newer and would be lost.",
            hint="Name another folder for the new run with --run.",
            key="resume",
            place=str(found.folder),
        )
    return _resumed(folder, config, found, passed)


def _is_branch_of(folder: RunFolder, checkpoint: Checkpoint) -> bool:
    """Whether a run folder holds a run that branched off from this checkpoint: then the same command resumes it."""
    if not (folder.path / "manifest.json").is_file():
        return False
    return read_manifest(folder.path).from_checkpoint == str(checkpoint.folder.resolve())


@contextlib.contextmanager
def joined_for(section: TrainSection) -> Iterator[Ranks]:
    """The ranks that share a run, for as long as it takes; RunError where there are more of them than rows in a
    batch."""
    with joined(group_needed=section.distributed.kind != "ddp", device=section.device) as ranks:
        if ranks.world > section.batch_size:
            raise RunError(
                f"{ranks.world} processes cannot share batches of train.batch_size = {section.batch_size} rows.",
                hint="Start fewer processes, or raise train.batch_size (which changes the training).",
                key="train.batch_size",
                value=section.batch_size,
            )
        yield ranks


def require_same_start(ranks: Ranks, start: Start) -> None:
    """RunError where a rank sees another run folder than the first one does."""
    mine = [start.kind, start.step]
    first = ranks.broadcast(mine)
    if mine != first:
        raise RunError(
            f"rank {ranks.rank} sees another run folder than rank 0: {mine[0]}, step {mine[1]}, not {first[0]},"
            f" {first[1]}.",
            hint="Put it on a file system that all machines share, with --run.",
        )
