"""Keeps the checkpoints of a run: copied between two steps, written in a thread, completed by all ranks, removed when
old.

    open(step)   cleans up behind a run that was killed           wait()    until the checkpoint in flight is complete
    save(...)    begins a checkpoint; save_model: a model alone   close()   however a run ends

At most one checkpoint is in flight, and `phase` says how far it is on this rank:

           save: a copy in memory             thread: files, synced             wait: all ranks have written
    idle ------------------------> writing ------------------------> written ------------------------------> idle
                                                                        |    manifest, rename, old ones removed
                                                                        |
                                                                        +--> idle, RunError: some rank could not write;
                                                                             the checkpoint before is untouched

The step that saves waits for the copy alone. With `keep = 1` there is never more on the disk than the last checkpoint,
the one in flight, and those that were asked for by name.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from textune.atomic import WRITING, sync_tree, system_errors
from textune.config import Checkpointing
from textune.errors import NO_ROOM, RunError
from textune.jsontext import parse_json
from textune.ranks import Ranks
from textune.training.checkpoint import (
    STATE,
    checkpoint_name,
    checkpoints_in,
    half_removed,
    models_in,
    remove,
    remove_unfinished,
    seal,
    shard_name,
)
from textune.training.randomness import random_states
from textune.training.tensorfile import FileFacts, facts_of, write_bytes, write_tensors

if TYPE_CHECKING:
    from pydantic import JsonValue

SPARE_BYTES = 1 << 20
"""Room for the small files of a checkpoint and the file system's own records, beside the tensors."""
DAMAGED = ".damaged"
"""Ends the name of a checkpoint that is put aside, since it cannot be read."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class _Pending:
    """A checkpoint that is being written."""

    step: int
    writing: Path
    thread: threading.Thread
    is_written: bool = False
    """Whether this rank's thread has ended."""
    error: BaseException | None = None
    """What ended it."""


class Saved(Protocol):
    """What a keeper asks of a learner."""

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Whole tensors by name, each valid until the next one is asked for; the same order on all ranks."""


class CheckpointKeeper:
    """Saves and removes the checkpoints of one folder. All ranks call every method together and see the same
    folder."""

    def __init__(
        self,
        folder: Path,
        section: Checkpointing,
        ranks: Ranks,
        *,
        small_files: Mapping[str, bytes] | None = None,
        on_notice: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`small_files`: what every checkpoint holds beside tensors and state, by path within it. `on_notice`
        receives, in the calling thread, problems that cost no checkpoint.
        """
        self.folder = folder
        self._section = section
        self._ranks = ranks
        self._small_files = small_files or {}
        self._on_notice = on_notice
        self._pending: _Pending | None = None
        self._values: dict[int, float] = {}
        self._pinned_buffers: dict[str, torch.Tensor] = {}
        self.last_step = 0
        """The step of the newest complete checkpoint; 0 before the first."""
        self._stuck: dict[str, str] = {}
        """By the name of a checkpoint that could not be removed, the notice; given once, while every save tries
        again."""
        self._told: set[str] = set()

    def open(self, step: int) -> None:
        """Clean up behind a run that was killed, and read what is there up to `step`, from which the run resumes.

        Later checkpoints are damaged, or the run would resume from them: they are put aside. RunError where a rank
        does not see the folder.
        """
        if self._ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.folder)
            models = models_in(self.folder)
            for _, path in (
                found for found in checkpoints_in(self.folder) if found[0] > step and found[1] not in models
            ):
                aside = path.with_name(path.name + DAMAGED)
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        self._ranks.wait()
        missing = self._ranks.all_max([0 if self.folder.is_dir() else self._ranks.rank + 1])[0]
        if missing:
            raise RunError(
                f"rank {missing - 1} does not see the run folder {self.folder.parent}.",
                hint="Put it on a file system that all machines share, with --run.",
            )
        self._ranks.wait()
        for saved, path in checkpoints_in(self.folder):
            if saved > step:
                break
            self.last_step = saved
            value = _evaluation_value(path)
            if value is not None:
                self._values[saved] = value

    @property
    def phase(self) -> Literal["idle", "writing", "written"]:
        """How far the checkpoint in flight is on this rank; `written` also where that failed."""
        if self._pending is None:
            return "idle"
        return "written" if self._pending.is_written else "writing"

    def save(self, learner: Saved, step: int, state: Mapping[str, JsonValue], *, value: float | None = None) -> None:
        """Copy everything and start writing it as the checkpoint of `step`; waits for the one in flight first.

        `state` is what `state.json` will hold. `value` is the metric of an evaluation at this step, the larger the
        better.
        """
        self.wait()
        if step == self.last_step:
            return
        tensors = self._snapshot(learner)
        files = dict(self._small_files) if self._ranks.is_first else {}
        if self._ranks.is_first:
            files[STATE] = json.dumps({**state, "evaluation": value}, allow_nan=False).encode()
        if value is not None:
            self._values[step] = value
        thread = threading.Thread(target=self._write, args=(tensors, files), name="textune-checkpoint", daemon=True)
        self._pending = _Pending(step, self.folder / (checkpoint_name(step) + WRITING), thread)
        thread.start()
        if not self._section.background:
            self.wait()

    def save_model(self, step: int, write: Callable[[Path], None], *, value: float | None = None) -> None:
        """Save what `write(folder)` writes, called on the first rank, as the checkpoint of `step`: a model alone."""
        if step == self.last_step:
            return
        if value is not None:
            self._values[step] = value
        writing = self.folder / (checkpoint_name(step) + WRITING)
        if self._ranks.is_first:
            try:
                with system_errors():
                    writing.mkdir(parents=True)
                    write(writing)
                    sync_tree(writing)
                    files = {str(p.relative_to(writing)): facts_of(p) for p in writing.rglob("*") if p.is_file()}
                    seal(writing, files, kind="model")
            except OSError as error:
                raise self._failure(error, writing) from error
            self._remove_old()
        self.last_step = step
        self._tell()
        self._ranks.wait()

    def wait(self) -> None:
        """Wait until all ranks have written the checkpoint in flight, and complete it. RunError where one could
        not."""
        pending = self._pending
        if pending is None:
            return
        pending.thread.join()
        self._pending = None
        failed = self._ranks.all_max([0 if pending.error is None else self._ranks.rank + 1])[0]
        if pending.error is not None:
            raise self._failure(pending.error, pending.writing) from pending.error
        if failed:
            raise RunError(
                f"rank {failed - 1} could not write its part of a checkpoint.", hint="Its own message says why."
            )
        if self._ranks.is_first and not self._ranks.alone:
            self._seal_shards(pending.writing)
        self.last_step = pending.step
        self._tell()
        self._ranks.wait()

    def close(self) -> None:
        """Let the thread of a checkpoint in flight end; `wait` alone completes it. A run that failed calls only
        this."""
        if self._pending is not None:
            self._pending.thread.join()

    # --- copying -----------------------------------------------------------------------------------------------------

    def _snapshot(self, learner: Saved) -> dict[str, torch.Tensor]:
        """Copies of this rank's share of all tensors, on the CPU: each goes to the rank that has the fewest bytes so
        far."""
        loads = [0] * self._ranks.world
        copies: dict[str, torch.Tensor] = {}
        on_gpu = False
        for name, tensor in learner.tensors():
            owner = loads.index(min(loads))
            loads[owner] += tensor.nbytes
            if owner != self._ranks.rank:
                continue
            on_gpu = on_gpu or tensor.is_cuda
            copies[name] = self._copy(name, tensor)
        if on_gpu:
            torch.cuda.synchronize()
        return copies | random_states(self._ranks.rank)

    def _copy(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_cuda:
            return tensor.detach().clone(memory_format=torch.contiguous_format)
        # Pinning is slow, so the memory is kept for the next checkpoint.
        buffer = self._pinned_buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._pinned_buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return buffer.copy_(tensor.detach(), non_blocking=True)

    # --- writing: in the thread --------------------------------------------------------------------------------------

    def _write(self, tensors: dict[str, torch.Tensor], files: dict[str, bytes]) -> None:
        pending = self._pending
        assert pending is not None
        try:
            needed = sum(tensor.nbytes for tensor in tensors.values()) + sum(map(len, files.values())) + SPARE_BYTES
            self._require_room(needed)
            written: dict[str, FileFacts] = {}
            pending.writing.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                path = pending.writing / name
                path.parent.mkdir(parents=True, exist_ok=True)
                written[name] = write_bytes(path, data)
            shard = shard_name(self._ranks.rank, self._ranks.world)
            written[shard] = write_tensors(pending.writing / shard, tensors)
            if self._ranks.alone:
                self._seal(pending.writing, written)
            else:
                # The first rank reads these when all are there: hashes are not sent between processes.
                notes = json.dumps(
                    {name: facts.to_dict() for name, facts in written.items()}, allow_nan=False
                ).encode()
                write_bytes(pending.writing / f"{shard}.json", notes)
        except BaseException as error:  # raised by `wait`
            pending.error = error
        pending.is_written = True

    def _seal_shards(self, writing: Path) -> None:
        """Complete a checkpoint that all ranks have written; on the first one."""
        files: dict[str, FileFacts] = {}
        try:
            for rank in range(self._ranks.world):
                notes = writing / f"{shard_name(rank, self._ranks.world)}.json"
                files |= {name: FileFacts(**facts) for name, facts in parse_json(notes.read_text()).items()}
                notes.unlink()
            self._seal(writing, files)
        except OSError as error:
            raise self._failure(error, writing) from error

    def _seal(self, writing: Path, files: dict[str, FileFacts]) -> None:
        seal(writing, files, kind="state")
        self._remove_old()

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB free")

    def _failure(self, error: BaseException, writing: Path) -> RunError:
        step = writing.name.removesuffix(WRITING).rpartition("-")[2]
        shutil.rmtree(writing, ignore_errors=True)
        kept = f" The checkpoint of step {self.last_step} is complete." if self.last_step else ""
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return RunError(
                f"no space left for the checkpoint of step {step} in {self.folder}: {error.strerror}.{kept}",
                hint="Free space there (other runs, their checkpoints), then resume with --resume.",
                exit_code=NO_ROOM,
            )
        reason = error.strerror or error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return RunError(
            f"the checkpoint of step {step} cannot be written to {self.folder}: {reason}.{kept}",
            hint="Fix that, then resume with --resume.",
        )

    # --- removing ----------------------------------------------------------------------------------------------------

    def _remove_old(self) -> None:
        """Remove what is neither among the last, nor the best, nor asked for by `at_steps`.

        What cannot be removed only takes space: the checkpoint that was just written is complete.
        """
        self._stuck = {}
        try:
            old = half_removed(self.folder) + self._no_longer_kept()
        except OSError as error:
            self._stuck[self.folder.name] = (
                f"old checkpoints in {self.folder} cannot be listed: {error.strerror or error}"
            )
            return
        for path in old:
            try:
                remove(path)
            except OSError as error:
                name = path.name.partition(".")[0]
                self._stuck[name] = (
                    f"the checkpoint {name} is no longer needed but cannot be removed from {self.folder}:"
                    f" {error.strerror or error}; every save tries again"
                )

    def _no_longer_kept(self) -> list[Path]:
        section = self._section
        if section.keep == "all":
            return []
        best = sorted(self._values, key=lambda step: (-self._values[step], step))[: section.keep_best]
        steps = [step for step, _ in checkpoints_in(self.folder)]
        kept = {*steps[-section.keep :], *best, *section.at_steps}
        return [self.folder / checkpoint_name(step) for step in steps if step not in kept]

    def _tell(self) -> None:
        for name in self._stuck.keys() - self._told:
            self._on_notice(self._stuck[name])
        self._told |= self._stuck.keys()


def _evaluation_value(path: Path) -> float | None:
    try:
        value = parse_json((path / STATE).read_text(encoding="utf-8")).get("evaluation")
    except (OSError, ValueError, AttributeError):
        return None
    return float(value) if isinstance(value, int | float) else None
