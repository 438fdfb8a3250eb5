"""Keeps the checkpoints of a run: when one is due, what is copied, written in a thread, completed, and removed again.

    due? -> snapshot (a copy in memory, each rank its share) -> thread: files, synced -> all ranks done -> manifest, rename
         -> older ones removed

The step that saves waits for the copy alone. At most one checkpoint is being written; with `keep = 1` there is never more on
the disk than the last one, the one being written, and those that were asked for by name.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textune.atomic import sync_tree, system_errors
from textune.config import Checkpointing
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.ranks import Ranks
from textune.training.checkpoint import (
    STATE,
    WRITING,
    checkpoint_name,
    checkpoints_in,
    half_removed,
    models_in,
    remove,
    remove_unfinished,
    seal,
    shard_name,
)
from textune.training.learner import Learner
from textune.training.randomness import random_states
from textune.training.tensorfile import FileFacts, facts_of, write_bytes, write_tensors

SPARE_BYTES = 1 << 20
"""What the small files of a checkpoint, and the file system itself, may take beside the tensors."""
DAMAGED = ".damaged"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class _Pending:
    """A checkpoint that is being written."""

    step: int
    writing: Path
    thread: threading.Thread | None = None
    files: dict[str, FileFacts] | None = None
    """What this rank has written; None while it is at it."""
    error: BaseException | None = None


class CheckpointKeeper:
    """Saves and removes the checkpoints of one folder. Several ranks call every method together; all of them see the folder."""

    def __init__(
        self,
        folder: Path,
        section: Checkpointing,
        ranks: Ranks,
        *,
        small_files: Mapping[str, bytes] | None = None,
        on_notice: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`small_files`: what every checkpoint holds beside tensors and state, by path within it. `on_notice` is told, in the
        thread that calls, of what went wrong and costs no checkpoint.
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
        """Names of checkpoints that could not be removed, and the notice; said once, tried again at every save."""
        self._told: set[str] = set()

    def begin(self, step: int) -> None:
        """Clean up behind a run that was killed, and look at what is there up to `step`, where the run goes on.

        What came later is damaged, or the run would go on from there; it is put aside. RunError where a rank does not see the
        folder.
        """
        if self._ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.folder)
            models = models_in(self.folder)
            for _, path in (found for found in checkpoints_in(self.folder) if found[0] > step and found[1] not in models):
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
    def busy(self) -> bool:
        """Whether this rank is still writing."""
        return self._pending is not None and self._pending.files is None and self._pending.error is None

    @property
    def unfinished(self) -> bool:
        """Whether a checkpoint waits for its ranks."""
        return self._pending is not None

    def save(self, learner: Learner, step: int, state: dict[str, Any], *, value: float | None = None) -> None:
        """Copy everything and start writing it as the checkpoint of `step`; waits for one that is still being written.

        `state` is what `state.json` will hold. `value` is the metric of an evaluation at this step, the larger the better.
        """
        self.finish()
        if step == self.last_step:
            return
        tensors = self._snapshot(learner)
        files = dict(self._small_files) if self._ranks.is_first else {}
        if self._ranks.is_first:
            files[STATE] = json.dumps(state | {"evaluation": value}, allow_nan=False).encode()
        if value is not None:
            self._values[step] = value
        pending = _Pending(step, self.folder / (checkpoint_name(step) + WRITING))
        self._pending = pending
        work = (pending, tensors, files)
        pending.thread = threading.Thread(target=self._write, args=work, name="textune-checkpoint", daemon=True)
        pending.thread.start()
        if not self._section.background:
            self.finish()

    def save_model(self, step: int, write: Callable[[Path], None], *, value: float | None = None) -> None:
        """Write a model alone as the checkpoint of `step`: what `write(folder)`, called on the first rank, writes."""
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

    def completed(self) -> None:
        """Called when all ranks have written: the checkpoint gets its manifest and its name. RunError where writing failed."""
        pending = self._pending
        if pending is None:
            return
        assert pending.thread is not None
        pending.thread.join()
        if pending.error is not None:
            self._pending = None
            shutil.rmtree(pending.writing, ignore_errors=True)
            raise self._failure(pending.error, pending.writing) from pending.error
        if self._ranks.is_first and not self._ranks.alone:
            self._complete(pending)
        self._pending = None
        self.last_step = pending.step
        self._tell()

    def finish(self) -> None:
        """Wait until what is being written is complete. RunError where writing failed."""
        if self._pending is None:
            return
        assert self._pending.thread is not None
        self._pending.thread.join()
        failed = self._ranks.all_max([0 if self._pending.error is None else self._ranks.rank + 1])[0]
        if failed and self._pending.error is None:
            self._pending = None
            raise RunError(f"rank {failed - 1} could not write its part of a checkpoint.", hint="Its own message says why.")
        self.completed()
        self._ranks.wait()

    def abandon(self) -> None:
        """Leave what is being written to its thread, which ends by itself; for a run that stops on an error."""
        if self._pending is not None and self._pending.thread is not None:
            self._pending.thread.join()

    # --- copying ------------------------------------------------------------------------------------------------------

    def _snapshot(self, learner: Learner) -> dict[str, torch.Tensor]:
        """Copies of this rank's share of all tensors, on the CPU: each goes to the rank that has the fewest bytes so far."""
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
        # Pinning takes long, so the memory is kept for the next time.
        buffer = self._pinned_buffers.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._pinned_buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return buffer.copy_(tensor.detach(), non_blocking=True)

    # --- writing: in the thread ---------------------------------------------------------------------------------------

    def _write(self, pending: _Pending, tensors: dict[str, torch.Tensor], files: dict[str, bytes]) -> None:
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
                self._seal(pending, written)
            else:
                # The first rank reads these when all are there: hashes need not travel between processes.
                notes = json.dumps({name: facts.to_dict() for name, facts in written.items()}, allow_nan=False).encode()
                write_bytes(pending.writing / f"{shard}.json", notes)
            pending.files = written
        except BaseException as error:  # raised where the run looks for it
            pending.error = error

    def _complete(self, pending: _Pending) -> None:
        files: dict[str, FileFacts] = {}
        try:
            for rank in range(self._ranks.world):
                notes = pending.writing / f"{shard_name(rank, self._ranks.world)}.json"
                files |= {name: FileFacts(**facts) for name, facts in parse_json(notes.read_text()).items()}
                notes.unlink()
            self._seal(pending, files)
        except OSError as error:
            raise self._failure(error, pending.writing) from error

    def _seal(self, pending: _Pending, files: dict[str, FileFacts]) -> None:
        seal(pending.writing, files, kind="state")
        self._remove_old()

    def _require_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB free")

    def _failure(self, error: BaseException, writing: Path) -> RunError:
        step = writing.name.removesuffix(WRITING).rpartition("-")[2]
        shutil.rmtree(writing, ignore_errors=True)
        kept = f" The checkpoint of step {self.last_step} is whole." if self.last_step else ""
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return RunError(
                f"no space left for the checkpoint of step {step} in {self.folder}: {error.strerror}.{kept}",
                hint="Free space there (other runs, their checkpoints), then resume with --resume.",
            )
        reason = error.strerror or error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return RunError(
            f"the checkpoint of step {step} cannot be written to {self.folder}: {reason}.{kept}",
            hint="Fix that, then resume with --resume.",
        )

    # --- removing -----------------------------------------------------------------------------------------------------

    def _remove_old(self) -> None:
        """Remove what is neither among the last, nor the best, nor asked for by `at_steps`.

        What cannot be removed costs room and nothing else: the checkpoint that was just written is whole.
        """
        self._stuck = {}
        try:
            old = half_removed(self.folder) + self._no_longer_kept()
        except OSError as error:
            self._stuck[self.folder.name] = f"old checkpoints in {self.folder} cannot be looked for: {error.strerror or error}"
            return
        for path in old:
            try:
                remove(path)
            except OSError as error:
                name = path.name.partition(".")[0]
                self._stuck[name] = (
                    f"the checkpoint {name} is no longer needed and cannot be removed from {self.folder}:"
                    f" {error.strerror or error}; it is tried again at each save"
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
