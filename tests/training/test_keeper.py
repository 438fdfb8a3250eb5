"""Which checkpoints are kept, what is on the disk meanwhile (R9), and what happens where the disk takes no more."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.checkpoints import SMALL_FILES, Tensors, keeper_of, save

import textune.training.keeper as keeping
from textune.atomic import WRITING
from textune.errors import RunError
from textune.training.checkpoint import newest, open_checkpoint

MIB = 1 << 20


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def steps(folder: Path) -> list[int]:
    return sorted(int(name.removeprefix("step-")) for name in names(folder))


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        ({"keep": 1}, [7]),
        ({"keep": 3}, [5, 6, 7]),
        ({"keep": "all"}, [1, 2, 3, 4, 5, 6, 7]),
        ({"keep": 1, "at_steps": (2, 5)}, [2, 5, 7]),
        # Values are 0.1, 0.9, 0.5, 0.9, 0.3, none, 0.2: of the two best of 0.9 the first one is best.
        ({"keep": 1, "keep_best": 1}, [2, 7]),
        ({"keep": 2, "keep_best": 2}, [2, 4, 6, 7]),
        ({"keep": 1, "keep_best": 2, "at_steps": (1,)}, [1, 2, 4, 7]),
    ],
)
@pytest.mark.parametrize("background", [False, True])
def test_what_is_kept(tmp_path: Path, keys: dict[str, Any], kept: list[int], background: bool) -> None:
    keeper = keeper_of(tmp_path, background=background, **keys)
    for step, value in enumerate((0.1, 0.9, 0.5, 0.9, 0.3, None, 0.2), start=1):
        save(keeper, step, value=value)
    assert steps(tmp_path) == kept
    for step in kept:
        assert open_checkpoint(tmp_path / f"step-{step}").step == step


@pytest.mark.parametrize("keys", [{"keep": 1, "keep_best": 1}, {"keep": 1, "keep_best": 1, "at_steps": (3,)}])
def test_models_alone_are_kept_by_the_same_rules(tmp_path: Path, keys: dict[str, Any]) -> None:
    keeper = keeper_of(tmp_path, save_only_model=True, **keys)
    for step, value in enumerate((0.1, 0.9, 0.5, 0.2), start=1):
        keeper.save_model(step, lambda path: (path / "model.safetensors").write_bytes(b"x") and None, value=value)
    assert steps(tmp_path) == sorted({2, 4, *keys.get("at_steps", ())})


def test_what_was_kept_before_a_stop_counts_after_it(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, keep=2, keep_best=1)
    for step, value in ((1, 0.9), (2, 0.1), (3, 0.2)):
        save(keeper, step, value=value)
    assert steps(tmp_path) == [1, 2, 3]
    again = keeper_of(tmp_path, step=3, keep=2, keep_best=1)
    assert again.last_step == 3
    save(again, 4, value=0.3)
    assert steps(tmp_path) == [1, 3, 4]


def test_a_torn_checkpoint_that_was_passed_over_is_written_anew(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, keep=2)
    for step in (2, 4):
        save(keeper, step)
    (tmp_path / "step-4" / "state.json").write_text("{")
    again = keeper_of(tmp_path, step=2, keep=2)
    assert again.last_step == 2
    save(again, 4)
    found, passed = newest(tmp_path)
    assert found is not None and found.step == 4 and passed == []


def test_a_torn_checkpoint_is_put_aside_and_none_of_those_to_keep(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path, keep=2)
    for step in (2, 4):
        save(keeper, step)
    (tmp_path / "step-4" / "state.json").write_text("{")
    again = keeper_of(tmp_path, step=2, keep=2)
    save(again, 3)
    save(again, 5)
    assert names(tmp_path) == ["step-3", "step-4.damaged", "step-5"]


def test_what_a_killed_run_left_is_removed_at_the_start_and_nothing_else(tmp_path: Path) -> None:
    save(keeper_of(tmp_path), 2)
    shutil.copytree(tmp_path / "step-2", tmp_path / f"step-3{WRITING}")
    shutil.copytree(tmp_path / "step-2", tmp_path / "step-1.removing")
    (tmp_path / "notes").mkdir()
    keeper_of(tmp_path, step=2)
    assert names(tmp_path) == ["notes", "step-2"]


def test_in_the_background_or_not_the_files_are_the_same(tmp_path: Path) -> None:
    for name, background in (("here", False), ("there", True)):
        torch.manual_seed(1)
        save(keeper_of(tmp_path / name, background=background), 3, value=0.5)
    files = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert {str(path) for path in files} > {"step-3/manifest.json", "step-3/state.json"} and len(files) == 3 + len(
        SMALL_FILES
    )
    for path in files:
        assert (tmp_path / "here" / path).read_bytes() == (tmp_path / "there" / path).read_bytes(), path


def test_a_step_waits_for_the_copy_alone_and_what_changes_after_it_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    real = keeping.write_tensors

    def late(*args: Any) -> Any:
        may_write.wait()
        return real(*args)

    monkeypatch.setattr(keeping, "write_tensors", late)
    keeper, learner = keeper_of(tmp_path), Tensors()
    keeper.save(learner, 1, {"step": 1})
    assert keeper.phase == "writing"
    learner.weight += 7
    may_write.set()
    keeper.wait()
    assert keeper.phase == "idle" and keeper.last_step == 1
    assert torch.equal(open_checkpoint(tmp_path / "step-1").read("model/weight"), torch.zeros(64))


def test_never_more_on_the_disk_than_the_last_and_the_one_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at whenever a file is written, a folder is renamed or removed."""
    seen: set[tuple[str, ...]] = set()

    def watching(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.add(tuple(names(tmp_path)))
            result = real(*args, **kwargs)
            seen.add(tuple(names(tmp_path)))
            return result

        monkeypatch.setattr(owner, name, call)

    watching(keeping, "write_bytes")
    watching(keeping, "write_tensors")
    watching(Path, "rename")
    watching(shutil, "rmtree")
    keeper = keeper_of(tmp_path, keep=1)
    for step in range(1, 6):
        save(keeper, step)
    assert ("step-4", "step-5.writing") in seen and ("step-4", "step-5") in seen
    assert max(len(found) for found in seen) == 2
    assert steps(tmp_path) == [5]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("number", "message", "hint"),
    [
        (errno.ENOSPC, "no space left for the checkpoint of step 2", "Free space there"),
        (errno.EDQUOT, "no space left for the checkpoint of step 2", "Free space there"),
        (errno.EIO, "the checkpoint of step 2 cannot be written", "Fix that, then resume with --resume."),
    ],
)
def test_an_error_while_writing_stops_the_run_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool, number: int, message: str, hint: str
) -> None:
    keeper = keeper_of(tmp_path, background=background)
    save(keeper, 1)

    def failing(path: Path, tensors: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(keeping, "write_tensors", failing)
    with pytest.raises(RunError, match=message) as raised:
        save(keeper, 2)
    assert os.strerror(number) in str(raised.value) and hint in raised.value.hint
    assert "The checkpoint of step 1 is complete." in raised.value.message
    assert names(tmp_path) == ["step-1"]
    monkeypatch.undo()
    save(keeper, 3)
    assert steps(tmp_path) == [3]


def test_the_error_of_a_thread_surfaces_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, tensors: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(keeping, "write_tensors", failing)
    keeper, learner = keeper_of(tmp_path), Tensors()
    keeper.save(learner, 1, {"step": 1})
    while keeper.phase == "writing":
        pass
    assert keeper.phase == "written"
    with pytest.raises(RunError, match="the checkpoint of step 1 cannot be written"):
        keeper.wait()
    assert keeper.phase == "idle" and keeper.last_step == 0 and names(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_keeps_the_checkpoint_before_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    """Each checkpoint takes 4 MiB of tensors and a reserve of 1 MiB: two fit beside nothing else."""
    size = 2 * MIB // 4
    keeper = keeper_of(small_disk / "checkpoints")
    save(keeper, 1, size=size)
    other = small_disk / "other"
    with other.open("wb") as file:
        file.write(b"\1" * (32 * MIB))
    with pytest.raises(RunError, match="no space left for the checkpoint of step 2") as raised:
        save(keeper, 2, size=size)
    assert "The checkpoint of step 1 is complete." in str(raised.value) and "Free space there" in raised.value.hint
    assert names(small_disk / "checkpoints") == ["step-1"]
    found, passed = newest(small_disk / "checkpoints")
    assert found is not None and found.step == 1 and passed == []
    other.unlink()
    save(keeper, 3, size=size)
    assert steps(small_disk / "checkpoints") == [3]


def test_a_disk_that_fills_up_in_the_middle_of_a_file_keeps_the_checkpoint_before(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was room when writing began; someone else took it."""
    keeper = keeper_of(small_disk / "checkpoints")
    save(keeper, 1)
    monkeypatch.setattr(keeper, "_require_room", lambda needed: None)
    with pytest.raises(RunError, match=r"no space left for the checkpoint of step 2 .*No space left on device"):
        save(keeper, 2, size=16 * MIB)
    assert names(small_disk / "checkpoints") == ["step-1"]
    assert open_checkpoint(small_disk / "checkpoints" / "step-1").step == 1


def test_a_folder_that_became_read_only_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoints"
    keeper = keeper_of(folder)
    save(keeper, 1)
    real = Path.mkdir

    def refused(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.name.endswith(WRITING):  # root may write into read-only folders, so the system's answer is given here
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(RunError, match=r"the checkpoint of step 2 cannot be written to .*: Permission denied"):
        save(keeper, 2)
    assert open_checkpoint(folder / "step-1").step == 1


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("where", ["renaming", "removing"])
def test_a_checkpoint_that_cannot_be_removed_is_a_notice_and_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool, where: str
) -> None:
    """As a network file system answers while somebody has a file of it open; every new checkpoint is complete."""
    rename, rmtree = Path.rename, shutil.rmtree

    def refuse(path: Any) -> None:
        if Path(path).name.startswith("step-1"):
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    def refused_rename(path: Path, target: Path) -> Path:
        if not path.name.endswith(WRITING):
            refuse(path)
        return rename(path, target)

    def refused_rmtree(path: Any, *args: Any, **keys: Any) -> None:
        refuse(path)
        rmtree(path, *args, **keys)

    said: list[str] = []
    keeper = keeper_of(tmp_path, on_notice=said.append, background=background)
    save(keeper, 1)
    with monkeypatch.context() as patch:
        patch.setattr(
            *((Path, "rename", refused_rename) if where == "renaming" else (shutil, "rmtree", refused_rmtree))
        )
        for step in (2, 3):
            save(keeper, step)
            assert open_checkpoint(tmp_path / f"step-{step}").step == step == keeper.last_step
            assert names(tmp_path) == ["step-1" if where == "renaming" else "step-1.removing", f"step-{step}"]
    assert said == [
        f"the checkpoint step-1 is no longer needed but cannot be removed from {tmp_path}: Device or resource busy;"
        f" every save"
        " tries again"
    ]
    save(keeper, 4)
    assert names(tmp_path) == ["step-4"] and len(said) == 1


def test_a_model_in_the_way_that_cannot_be_removed_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run went on from before it: the checkpoint of its step takes its place."""

    def write(path: Path) -> None:
        (path / "model.safetensors").write_bytes(b"x")

    keeper_of(tmp_path, save_only_model=True).save_model(1, write)
    said: list[str] = []
    keeper = keeper_of(tmp_path, on_notice=said.append)

    def refused(path: Any, *args: Any, **keys: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refused)
        save(keeper, 1)
    assert open_checkpoint(tmp_path / "step-1").step == 1 and names(tmp_path) == ["step-1", "step-1.removing"]
    assert len(said) == 1
    save(keeper, 2)
    assert names(tmp_path) == ["step-2"]


def test_a_checkpoint_that_somebody_else_has_removed_is_no_fault(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = keeper_of(tmp_path, on_notice=said.append)
    save(keeper, 1)
    shutil.rmtree(tmp_path / "step-1")
    save(keeper, 2)
    assert names(tmp_path) == ["step-2"] and said == []
