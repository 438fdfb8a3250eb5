"""A checkpoint on disk: everything that decides the future of a run, complete or absent; after `learner.py`.

    checkpoints/step-120/
      state-1-of-2.safetensors   weights, optimizer and random states: whole tensors, dealt to the ranks that wrote them
      state-2-of-2.safetensors
      state.json                 the rest: step, position in the data, best metric, early stopping, configuration, fingerprints
      config.toml, model/        the run's configuration; config.json, tokenizer and textune.json of the model
      manifest.json              size and hash of every file; written last

A folder is written as `step-120.writing` and renamed when its manifest is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textune.atomic import REMOVING, put_aside, sync_folder
from textune.errors import RunError
from textune.inside import within
from textune.jsontext import parse_json
from textune.training.tensorfile import FileFacts, Place, facts_of, places_in, write_bytes

VERSION = 2
"""Of the form of a checkpoint. The state of form 1 has sentences for some names; it is read."""
KEPT_IDS = "vocabulary/kept"
"""The tensor of the token ids whose embeddings a run trains, int64 [K], where it does not train them all."""
MANIFEST, STATE = "manifest.json", "state.json"
WRITING = ".writing"
_NAME = re.compile(r"step-(\d+)")
START_AGAIN = "Resume from an earlier checkpoint, or train again."


class LaterVersionError(RunError):
    """A checkpoint that only a later version of textune understands: whole, and so never passed over for an earlier one."""


class ModelOnlyError(RunError):
    """A whole checkpoint that holds a model and no state to go on from."""


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step}"


def shard_name(rank: int, world: int) -> str:
    """The name of the file of tensors that a rank writes."""
    return f"state-{rank + 1}-of-{world}.safetensors"


def seal(writing: Path, files: dict[str, FileFacts], *, kind: str) -> Path:
    """Write the manifest of a folder whose files are on the disk, and give it its name; returns that."""
    for inner in {(writing / name).parent for name in files} - {writing}:
        sync_folder(inner)
    manifest = {"version": VERSION, "kind": kind, "files": {name: facts.to_dict() for name, facts in sorted(files.items())}}
    write_bytes(writing / MANIFEST, json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n")
    sync_folder(writing)
    final = writing.with_name(writing.name.removesuffix(WRITING))
    if final.exists():  # a model alone, from before a run went on from an earlier step
        put_aside(final)
    writing.rename(final)
    sync_folder(final.parent)
    return final


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are what its manifest says."""

    folder: Path
    state: dict[str, Any]
    """What `state.json` holds."""
    places: dict[str, Place]
    """Where each tensor stands."""
    files: frozenset[str]
    """Names of its files, as the manifest has them."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])

    @property
    def names(self) -> set[str]:
        """The names of its tensors."""
        return set(self.places)

    def read(self, name: str) -> torch.Tensor:
        """A tensor, on the CPU, in memory of its own; KeyError where there is none of that name."""
        return self.places[name].read()


def require_whole(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are what it says; RunError says what is missing, torn or changed."""
    manifest = _manifest(folder)
    for name, facts in manifest["files"].items():
        try:
            path = within(folder, name)
        except (ValueError, OSError, RuntimeError) as error:  # the latter: links in a circle
            raise RunError(f"the checkpoint {folder} is refused: {error}.", hint=START_AGAIN) from error
        if not path.is_file():
            raise RunError(f"the checkpoint {folder} lacks {name}.", hint=START_AGAIN)
        try:
            whole = path.stat().st_size == facts["bytes"] and facts_of(path).blake2b == facts["blake2b"]
        except OSError as error:  # a disk that fails is as good as a torn file: an earlier checkpoint may be readable
            raise RunError(f"the checkpoint {folder} cannot be read: {name}: {error}.", hint=START_AGAIN) from error
        if not whole:
            raise RunError(f"the checkpoint {folder} is damaged: {name} is not what was written.", hint=START_AGAIN)
    return manifest


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open and check a checkpoint; RunError says what is missing, torn or changed."""
    manifest = require_whole(folder)
    if manifest["kind"] == "model":
        raise ModelOnlyError(
            f"the checkpoint {folder} holds only the model (train.checkpoint.save_only_model = true).",
            hint=f'It can start another run: model.pretrained = "{folder}".',
        )
    try:
        state = parse_json((folder / STATE).read_text(encoding="utf-8"))
        places: dict[str, Place] = {}
        for name in manifest["files"]:
            if name.endswith(".safetensors"):
                places |= places_in(folder / name)
    except (OSError, ValueError) as error:
        raise RunError(f"the checkpoint {folder} cannot be read: {error}.", hint=START_AGAIN) from error
    return Checkpoint(folder, state, places, frozenset(manifest["files"]))


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RunError(
            f"there is no checkpoint {folder}.", hint="Give a folder such as runs/x/checkpoints/step-120, or runs/x."
        )
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        version = manifest["version"]
        if not isinstance(version, int) or version < 1 or (version <= VERSION and not _is_of_this_form(manifest)):
            raise ValueError("it is not what was written")
    except FileNotFoundError:
        if (folder / "config.json").is_file():
            raise RunError(
                f"{folder} is a model, not a checkpoint to resume from.",
                hint=f'Start another run from it: model.pretrained = "{folder}".',
            ) from None
        raise RunError(f"{folder} is no complete checkpoint: it has no {MANIFEST}.", hint=START_AGAIN) from None
    except KeyError as error:
        raise RunError(f"the checkpoint {folder} is damaged: {path.name} lacks {error}.", hint=START_AGAIN) from error
    except (ValueError, TypeError, OSError) as error:
        raise RunError(f"the checkpoint {folder} is damaged: {path.name}: {error}.", hint=START_AGAIN) from error
    if manifest["version"] > VERSION:
        raise LaterVersionError(
            f"the checkpoint {folder} was written by a later version of textune (form {manifest['version']}, here {VERSION}).",
            hint="Upgrade textune to resume from it.",
        )
    found: dict[str, Any] = manifest
    return found


def _is_of_this_form(manifest: dict[str, Any]) -> bool:
    kind, files = manifest["kind"], manifest["files"]
    if not isinstance(files, dict) or (STATE not in files if kind == "state" else kind != "model"):
        return False
    return all(isinstance(facts, dict) and facts.keys() == {"bytes", "blake2b"} for facts in files.values())


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of the checkpoints in a folder, the first step first; whether they are whole is not looked at."""
    if not folder.is_dir():
        return []
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return sorted((int(match[1]), path) for match, path in named if match)


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint in a folder that is whole, and a sentence for each newer one that was passed over.

    RunError where a newer one is of a later version.
    """
    passed: list[str] = []
    for _, path in reversed(checkpoints_in(folder)):
        try:
            return open_checkpoint(path), passed
        except ModelOnlyError:
            continue
        except LaterVersionError:
            raise
        except RunError as error:
            passed.append(error.message)
    return None, passed


def models_in(folder: Path) -> list[Path]:
    """The folders of models that were saved alone, the first step first."""
    found = []
    for _, path in checkpoints_in(folder):
        with contextlib.suppress(RunError):
            if _manifest(path)["kind"] == "model":
                found.append(path)
    return found


def remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed while it wrote has left."""
    for path in _ending(folder, WRITING, REMOVING):
        shutil.rmtree(path, ignore_errors=True)


def half_removed(folder: Path) -> list[Path]:
    """Checkpoints that were put aside, and are not gone yet."""
    return _ending(folder, REMOVING)


def _ending(folder: Path, *ends: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ends)) if folder.is_dir() else []


def remove(path: Path) -> None:
    """Remove a checkpoint so that no half of it ever looks like a whole one. OSError where the system does not let it go."""
    with contextlib.suppress(FileNotFoundError):  # someone else has removed it
        shutil.rmtree(path if path.name.endswith(REMOVING) else put_aside(path))
