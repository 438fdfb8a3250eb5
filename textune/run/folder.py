"""The run folder: the only place, besides the token cache, where a run writes.

runs/x/
  config.toml     the resolved configuration: train it again with `textune train runs/x/config.toml --run runs/y`
  manifest.json   versions, machine, git commit, command, data fingerprints, status, result
  metrics.jsonl   one line for every logged step and evaluation
  best/           the best model: a plain Hugging Face folder plus textune.json
  checkpoints/    all that a run needs to go on where it stopped: step-120/ and the like
  lock            held by the process that is at work here
  report.json, report.md                  the best model on the validation rows
  report-test.json, report-test.md        the best model on the test rows, where there are any
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from textune.atomic import REMOVING, put_aside, sync_folder, sync_tree, system_errors, write_text
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.model import complete_model, hint_for_no_run

if sys.platform != "win32":
    import fcntl

REPORTS = {"validation": "report", "test": "report-test"}
"""The names of a run's reports, without their suffix, by the rows that they are about."""
PACKAGES = ("textune", "torch", "transformers", "tokenizers", "pyarrow", "numpy")


_BEFORE_THE_MANIFEST = {"lock", "config.toml", "config.toml.writing", "manifest.json.writing"}


class RunFolder:
    """Writes one run; every file is complete or absent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def best(self) -> Path:
        """Folder of the best model."""
        return self.path / "best"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """For as long as a process writes here; RunError where another one does. A process that is killed lets go of it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"the run folder {self.path} cannot be written: {error.strerror or error}.",
                hint="Fix that, or choose another with --run.",
            ) from error
        with file:
            try:
                # Windows has no such locks; there two processes are not kept apart.
                if sys.platform != "win32":
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise RunError(
                    f"another process is at work in {self.path} ({file.read().strip() or 'it does not say which'}).",
                    hint="Wait for it or stop it, or choose another folder with --run.",
                ) from None
            except OSError:
                pass  # a file system without locks
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            yield

    def require_free(self) -> None:
        """RunError where the folder cannot take a new run; writes nothing."""
        if self.path.is_file():
            raise RunError(f"--run {self.path} is a file; a new folder was expected.", hint="Choose another name.")
        # The lock alone is what a run leaves that was refused before it wrote.
        if self.path.is_dir() and any(item.name != "lock" for item in self.path.iterdir()):
            holds_run = (self.path / "manifest.json").is_file()
            what = "already holds a run" if holds_run else "is not empty"
            if self.was_killed_early:
                raise RunError(
                    f"the run folder {self.path} holds what a run left that was killed as it began.",
                    hint="Start it again with --resume auto.",
                )
            raise RunError(
                f"the run folder {self.path} {what}; nothing is ever overwritten.",
                hint=("Resume it with --resume, or choose another" if holds_run else "Choose another")
                + f" with --run, such as --run {self.next_free()}.",
            )
        self.require_writable()

    def require_writable(self) -> None:
        """RunError where nothing can be written to the folder, or where it cannot be made; leaves nothing there.

        Said before any data is read, which may take long.
        """
        path = self.path.absolute()
        try:
            nearest = next(folder for folder in [path, *path.parents] if os.path.lexists(folder))
            if not nearest.is_dir():
                raise NotADirectoryError(None, f"{nearest} is a file")
            for folder in (nearest, self.checkpoints) if self.checkpoints.is_dir() else (nearest,):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise RunError(
                f"the run folder {self.path} cannot be written: {error.strerror or error}.",
                hint="Fix that, or choose another with --run.",
            ) from error

    @property
    def was_killed_early(self) -> bool:
        """Whether the folder holds no more than a run writes before its manifest; the lock comes first."""
        names = {item.name for item in self.path.iterdir()} if self.path.is_dir() else set()
        return "lock" in names and names <= _BEFORE_THE_MANIFEST

    def next_free(self) -> Path:
        """The same path with the first number behind it that is not taken."""
        path, number = self.path, 2
        if not path.name:  # "." and ".."
            path = path.absolute()
        name = path.name or "run"
        while (candidate := path.parent / f"{name}-{number}").exists():
            number += 1
        return candidate

    def witness(self) -> tuple[object, ...]:
        """What tells that nobody else has worked here meanwhile: the manifest as it stands, and the names of checkpoints."""
        manifest = self.path / "manifest.json"
        text = manifest.read_text(encoding="utf-8") if manifest.is_file() else None
        names = sorted(path.name for path in self.checkpoints.iterdir()) if self.checkpoints.is_dir() else []
        return text, tuple(names)

    def start(self, *, config_text: str, command: list[str], **facts: Any) -> None:
        """Make the folder, with the configuration and a manifest that says `running` and holds the facts."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "config.toml", config_text)
        self._write_manifest(
            {
                "status": "running",
                "started": _now(),
                "command": command,
                "versions": versions(),
                "machine": machine(),
                "git": git_state(),
                **facts,
            }
        )

    def resume(self, *, config_text: str, **facts: Any) -> None:
        """Mark a run that had stopped as running again, with its configuration of now; `facts` stand under `resumed`."""
        write_text(self.path / "config.toml", config_text)
        manifest = {name: value for name, value in read_manifest(self.path).items() if name not in ("finished", "reason")}
        again = {"started": _now(), "command": command_line(), "versions": versions(), "machine": machine(), **facts}
        self._write_manifest({**manifest, "status": "running", "resumed": [*manifest.get("resumed", []), again]})

    def finish(self, **facts: Any) -> None:
        """Mark the run complete and add its results to the manifest."""
        self._write_manifest({**read_manifest(self.path), "status": "complete", "finished": _now(), **facts})

    def stop(self, status: Literal["interrupted", "preempted", "failed"], reason: str = "") -> None:
        """Mark the run as ended early; what was saved stays."""
        self._write_manifest({**read_manifest(self.path), "status": status, "finished": _now(), "reason": reason})

    def save_model(self, name: Literal["best"], write: Callable[[Path], None]) -> None:
        """Replace `best/` by what `write(folder)` writes.

        `NAME.writing` is incomplete; `NAME.new` and `NAME` are complete. A crash at any moment leaves at least one complete
        model where there was one before (`complete_model` finds it). RunError where the disk does not take it.
        """
        model = self.path / name
        writing, new, old = (self.path / f"{name}.{state}" for state in ("writing", "new", "old"))
        try:
            with system_errors():
                self.settle_model(name)
                writing.mkdir()
                write(writing)
                sync_tree(writing)
                writing.rename(new)
                if model.exists():
                    model.rename(old)
                new.rename(model)
        except OSError as error:
            shutil.rmtree(writing, ignore_errors=True)
            kept = " The one before is still there." if complete_model(self.path) is not None else ""
            raise RunError(
                f"the {name} model cannot be written to {self.path}: {error.strerror or error}.{kept}",
                hint="Fix that (free space: other runs, their checkpoints), then resume with --resume.",
            ) from error
        sync_folder(self.path)
        self._discard(old)

    def settle_model(self, name: Literal["best"]) -> None:
        """Give a complete model its name where a process was killed before it could, and remove what it left unfinished."""
        found = complete_model(self.path)
        if found is not None and found != self.path / name:
            found.rename(self.path / name)
        for state in ("writing", "new", "old"):
            self._discard(self.path / f"{name}.{state}")
        for path in self.path.glob(f"{name}.*{REMOVING}"):
            shutil.rmtree(path, ignore_errors=True)

    def _discard(self, folder: Path) -> None:
        """Remove a folder; where the system holds its files (a network file system), at least its name becomes free."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(put_aside(folder), ignore_errors=True)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        write_text(self.path / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder; RunError where there is none or it is damaged."""
    path = run / "manifest.json"
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{run} is not a run folder: it has no manifest.json.", hint=hint_for_no_run(run)) from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}.", hint="Restore it from a copy, or train again.") from error
    if not isinstance(manifest, dict):
        raise RunError(f"{path} is damaged: not a JSON object.", hint="Restore it from a copy, or train again.")
    return manifest


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def machine() -> dict[str, str]:
    """What computed the run."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
    }


def git_state() -> dict[str, str]:
    """Commit of the current directory and whether it has changes; empty outside a git checkout or without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "changed": "yes" if _git("status", "--porcelain") else "no"}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_line() -> list[str]:
    """The command that started this process."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
