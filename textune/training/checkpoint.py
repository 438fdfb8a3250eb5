"""A checkpoint on disk: everything that decides the future of a run, complete or absent; written by `keeper.py`.

    checkpoints/step-120/
      state-1-of-2.safetensors   weights, optimizer and random states: whole tensors, dealt to the ranks
      state-2-of-2.safetensors
      state.json                 the rest: step, position in the data, best metric, early stopping, configuration,
                                 fingerprints
      config.toml, model/        the run's configuration; config.json, tokenizer and textune.json of the model
      manifest.json              size and hash of every file; written last

`step-120.writing` gets its name when the manifest is on the disk; what ends in `.removing` is about to go.
`open_checkpoint` reads one and checks every file; `newest` finds the last complete one of a run.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from textune.atomic import REMOVING, WRITING, publish, put_aside, sync_folder
from textune.errors import RunError
from textune.inside import within
from textune.jsontext import parse_json
from textune.training.tensorfile import FileFacts, Place, facts_of, places_in, write_bytes

VERSION = 2
"""Of the form of a checkpoint. The state of form 1 has sentences for some names; it is read."""
KEPT_IDS = "vocabulary/kept"
"""The tensor of the token ids whose embeddings a run trains, int64 [K], where it does not train them all."""
MANIFEST, STATE = "manifest.json", "state.json"
_NAME = re.compile(r"step-(\d+)")
START_AGAIN = "Resume from an earlier checkpoint, or train again."


class LaterVersionError(RunError):
    """A checkpoint that only a later version of textune understands: it is not damaged, so no earlier one replaces
    it."""


class ModelOnlyError(RunError):
    """A complete checkpoint that holds a model and no state to resume from."""


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step}"


def shard_name(rank: int, world: int) -> str:
    """The name of the file of tensors that a rank writes."""
    return f"state-{rank + 1}-of-{world}.safetensors"


def seal(writing: Path, files: dict[str, FileFacts], *, kind: str) -> Path:
    """Write the manifest of a folder whose files are synced, and give the folder its final name; returns that."""
    for inner in {(writing / name).parent for name in files} - {writing}:
        sync_folder(inner)
    manifest = {
        "version": VERSION,
        "kind": kind,
        "files": {name: facts.to_dict() for name, facts in sorted(files.items())},
    }
    write_bytes(writing / MANIFEST, json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n")
    sync_folder(writing)
    final = writing.with_name(writing.name.removesuffix(WRITING))
    if final.exists():  # a model alone, which a run saved before it resumed from an earlier step
        put_aside(final)
    publish(writing, final)
    return final


class Manifest(TypedDict):
    """What `manifest.json` holds."""

    version: int
    kind: str
    """`state`: everything to resume from; `model`: a model alone."""
    files: dict[str, dict[str, int | str]]
    """`FileFacts` by the path of a file within the folder."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are what its manifest says."""

    folder: Path
    state: dict[str, Any]
    """What `state.json` holds."""
    places: dict[str, Place]
    """Where each tensor stands."""
    files: frozenset[str]
    """Names of its files, as in the manifest."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.state["step"])

    @property
    def names(self) -> set[str]:
        """The names of its tensors."""
        return set(self.places)

    def read(self, name: str) -> torch.Tensor:
        """A tensor, on the CPU, in memory of its own; KeyError where no tensor has that name."""
        return self.places[name].read()


def require_whole(folder: Path) -> Manifest:
    """Check every file of a checkpoint and return its manifest; RunError says what is missing, cut short or
    changed."""
    manifest = _manifest(folder)
    for name, facts in manifest["files"].items():
        try:
            path = within(folder, name)
        except (ValueError, OSError, RuntimeError) as error:  # the latter: links in a circle
            raise RunError(
                f"the checkpoint {folder} is refused: {error}.", hint=START_AGAIN, place=str(folder), reason=str(error)
            ) from error
        if not path.is_file():
            raise RunError(f"the checkpoint {folder} lacks {name}.", hint=START_AGAIN, place=str(folder), value=name)
        try:
            whole = path.stat().st_size == facts["bytes"] and facts_of(path).blake2b == facts["blake2b"]
        except OSError as error:
            # A failing disk is treated like a damaged file: an earlier checkpoint may be readable.
            raise RunError(
                f"the checkpoint {folder} cannot be read: {name}: {error}.",
                hint=START_AGAIN,
                place=str(folder),
                value=name,
            ) from error
        if not whole:
            raise RunError(
                f"the checkpoint {folder} is damaged: {name} is not what was written.",
                hint=START_AGAIN,
                place=str(folder),
                value=name,
            )
    return manifest


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open and check a checkpoint; RunError as in `require_whole`."""
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
        raise RunError(
            f"the checkpoint {folder} cannot be read: {error}.", hint=START_AGAIN, place=str(folder), reason=str(error)
        ) from error
    return Checkpoint(folder, state, places, frozenset(manifest["files"]))


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RunError(
            f"there is no checkpoint {folder}.",
            hint="Give a folder such as runs/x/checkpoints/step-120, or runs/x.",
            place=str(folder),
        )
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        version = manifest["version"]
        if not isinstance(version, int) or version < 1 or (version <= VERSION and not _has_this_format(manifest)):
            raise ValueError("unexpected content")
    except FileNotFoundError:
        if (folder / "config.json").is_file():
            raise RunError(
                f"{folder} is a model, not a checkpoint to resume from.",
                hint=f'Start another run from it: model.pretrained = "{folder}".',
                place=str(folder),
                reason="a model, not a checkpoint",
            ) from None
        raise RunError(
            f"{folder} is not a complete checkpoint: it has no {MANIFEST}.", hint=START_AGAIN, place=str(folder)
        ) from None
    except KeyError as error:
        raise RunError(
            f"the checkpoint {folder} is damaged: {path.name} lacks {error}.", hint=START_AGAIN, place=str(path)
        ) from error
    except (ValueError, TypeError, OSError) as error:
        raise RunError(
            f"the checkpoint {folder} is damaged: {path.name}: {error}.",
            hint=START_AGAIN,
            place=str(path),
            reason=str(error),
        ) from error
    if manifest["version"] > VERSION:
        raise LaterVersionError(
            f"the checkpoint {folder} was written by a later version of textune (format {manifest['version']}, this"
            f" one reads"
            f" {VERSION}).",
            hint="Upgrade textune to resume from it.",
            place=str(folder),
            key="version",
            value=manifest["version"],
        )
    found: Manifest = manifest
    return found


def _has_this_format(manifest: dict[str, Any]) -> bool:
    kind, files = manifest["kind"], manifest["files"]
    if not isinstance(files, dict) or (STATE not in files if kind == "state" else kind != "model"):
        return False
    return all(isinstance(facts, dict) and facts.keys() == {"bytes", "blake2b"} for facts in files.values())


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of the checkpoints in a folder, in the order of steps; their files are not checked."""
    if not folder.is_dir():
        return []
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return sorted((int(match[1]), path) for match, path in named if match)


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest complete checkpoint in a folder, and a sentence for each newer one that was skipped.

    RunError where a newer one was written by a later version.
    """
    skipped: list[str] = []
    for _, path in reversed(checkpoints_in(folder)):
        try:
            return open_checkpoint(path), skipped
        except ModelOnlyError:
            continue
        except LaterVersionError:
            raise
        except RunError as error:
            skipped.append(error.message)
    return None, skipped


def models_in(folder: Path) -> list[Path]:
    """The folders of models that were saved alone, in the order of steps."""
    found = []
    for _, path in checkpoints_in(folder):
        with contextlib.suppress(RunError):
            if _manifest(path)["kind"] == "model":
                found.append(path)
    return found


def remove_unfinished(folder: Path) -> None:
    """Remove what a run left that was killed while it was writing."""
    for path in _ending(folder, WRITING, REMOVING):
        shutil.rmtree(path, ignore_errors=True)


def half_removed(folder: Path) -> list[Path]:
    """Checkpoints that were put aside and are not gone yet."""
    return _ending(folder, REMOVING)


def _ending(folder: Path, *ends: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ends)) if folder.is_dir() else []


def remove(path: Path) -> None:
    """Remove a checkpoint so that no part of it ever looks complete. OSError where the system refuses."""
    with contextlib.suppress(FileNotFoundError):  # someone else has removed it
        shutil.rmtree(path if path.name.endswith(REMOVING) else put_aside(path))
