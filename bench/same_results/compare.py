"""Compares two run folders: numbers and names exactly, tensors bit for bit, predictions byte for byte; wording is
noted."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

MACHINE = re.compile(
    r"(^|\.)(tokens_per_second|rows_per_second|seconds|since_logged|started|finished"
    r"|command|versions|machine|git|resolved"
    r"|resumed|metrics_bytes|transformers_version|cache)(\.|$)"
)
"""Parts of keys that tell where, when and how fast something was computed."""
WORDING = re.compile(
    r"(^|\.)(warnings|notes|notices|interval_method|reason|skipped|message|strategy|facts|version)(\.|$)"
)
"""Sentences, which may be put better, and the versions of files' forms."""
IGNORED = ("lock", "checkpoints/*/manifest.json")
"""Files with nothing of their own to compare: the hashes of files that are compared themselves."""


@dataclass
class Comparison:
    """What was found in one run."""

    name: str = ""
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Wording, and what only one side has but no result depends on."""
    numbers: int = 0
    tensors: int = 0
    files: int = 0

    def line(self) -> str:
        """The run in one line."""
        compared = f"{self.numbers:,} values, {self.tensors:,} tensors, {self.files} files; {len(self.notes)} notes"
        found = f"{len(self.differences)} DIFFERENCES" if self.differences else "equal"
        return f"{self.name:20} {found} ({compared})"

    def add(self, name: str, part: Comparison) -> None:
        """What was found in a part of the run."""
        self.differences += [f"{name}: {text}" for text in part.differences]
        self.notes += [f"{name}: {text}" for text in part.notes]
        self.numbers += part.numbers
        self.tensors += part.tensors
        self.files += part.files

    def value(self, place: str, old: Any, new: Any, *, is_wording: bool = False) -> None:
        """Two numbers, texts or the like that stand at the same place."""
        self.numbers += 1
        if type(old) is not type(new) or old != new:
            (self.notes if is_wording else self.differences).append(f"{place}: {_cut(old)} is now {_cut(new)}")


def compare_folders(
    old: Path,
    new: Path,
    *,
    roots: tuple[Path, Path],
    is_resumed: bool = False,
    allowed: Sequence[str] = (),
) -> Comparison:
    """Compare the files of two folders; in texts the `roots` of their records stand for each other.

    `is_resumed`: `new` is a run that resumed, which nobody evaluated on other rows. `allowed`: patterns of files that
    may be on one side only.
    """
    found = Comparison()
    if not (old.is_dir() and new.is_dir()):
        found.differences.append(f"there is no folder {new if old.is_dir() else old}")
        return found
    left_out = [*IGNORED, *(("evaluations/*",) if is_resumed else ())]
    before, after = files_in(old, left_out), files_in(new, left_out)
    for path in sorted(before ^ after):
        is_allowed = any(fnmatch.fnmatch(path, pattern) for pattern in allowed)
        what = f"{path} {'is no longer written' if path in before else 'is new'}"
        (found.notes if is_allowed else found.differences).append(what)
    for path in sorted(before & after):
        found.files += 1
        _compare_file(found, path, _Text(old / path, roots), _Text(new / path, roots))
    for folder in sorted({str(Path(path).parent) for path in before & after if path.endswith(".safetensors")}):
        _compare_tensors(found, folder, tensors_in(old / folder), tensors_in(new / folder))
    if is_resumed:  # which says other things at its start
        found.notes = [note for note in found.notes if not note.startswith("manifest.json notices")]
    return found


def files_in(folder: Path, left_out: Sequence[str] = ()) -> set[str]:
    """Relative paths of all files below a folder."""
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in paths if not any(fnmatch.fnmatch(path, pattern) for pattern in left_out)}


@dataclass(frozen=True)
class _Text:
    """A file of a record, whose folder is called the same in all records."""

    path: Path
    roots: tuple[Path, Path]

    def read(self) -> str:
        text = self.path.read_text(encoding="utf-8")
        for root in self.roots:
            text = text.replace(f"{root}/", "RECORD/")
        return text

    def lines(self) -> list[dict[str, Any]]:
        """Of metrics.jsonl, the results."""
        return [line for line in map(json.loads, self.read().splitlines()) if line["kind"] != "notice"]


def _compare_file(found: Comparison, path: str, old: _Text, new: _Text) -> None:
    match Path(path).suffix:
        case ".safetensors":
            pass  # by their names in the whole folder
        case ".jsonl" if path == "metrics.jsonl":
            mine, theirs = old.lines(), new.lines()
            found.value("metrics.jsonl: number of lines", len(mine), len(theirs))
            for before, after in zip(mine, theirs, strict=False):
                _compare_trees(found, f"metrics.jsonl {before['kind']} {before['step']}", before, after)
        case ".json":
            strict = Path(path).name != "textune.json" and not path.endswith("state.json") and path != "manifest.json"
            _compare_trees(found, path, json.loads(old.read()), json.loads(new.read()), old_keys_stay=strict)
        case ".toml":
            _compare_trees(found, path, tomllib.loads(old.read()), tomllib.loads(new.read()))
            if old.read().split() != new.read().split():  # comments stand below each other, behind paths
                found.notes.append(f"{path}: the comments differ")
        case ".md":
            if old.read() != new.read():
                found.notes.append(f"{path}: the text differs")
        case _:
            if old.path.read_bytes() != new.path.read_bytes():
                found.differences.append(f"{path}: the bytes differ")


def _compare_trees(found: Comparison, path: str, old: Any, new: Any, *, old_keys_stay: bool = True) -> None:
    """Values by dotted key. Where `old_keys_stay` a key that is gone is a difference; a new one is always a note."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for key in sorted(before.keys() | after.keys()):
        place = f"{path} {key}"
        if MACHINE.search(key):
            continue
        is_wording = WORDING.search(key) is not None
        if key in before and key in after:
            found.value(place, before[key], after[key], is_wording=is_wording)
        elif key in before:
            gone = found.differences if old_keys_stay and not is_wording else found.notes
            gone.append(f"{place} is gone (it was {_cut(before[key])})")
        else:
            found.notes.append(f"{place} is new: {_cut(after[key])}")


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for name, value in tree.items():
            yield from _leaves(value, f"{key}.{name}" if key else name)
    elif isinstance(tree, list) and tree:
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{key}.{number}")
    else:
        yield key, tree


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the files in a folder."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def _compare_tensors(
    found: Comparison, folder: str, old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor]
) -> None:
    for name in sorted(old.keys() ^ new.keys()):
        found.differences.append(f"{folder}: the tensor {name} is {'gone' if name in old else 'new'}")
    for name in sorted(old.keys() & new.keys()):
        found.tensors += 1
        before, after = old[name], new[name]
        if before.dtype != after.dtype or before.shape != after.shape:
            found.differences.append(
                f"{folder}: the tensor {name} was {before.dtype} {list(before.shape)}, is {after.dtype} ..."
            )
        elif not torch.equal(_bits(before), _bits(after)):
            furthest = float((before.double() - after.double()).abs().max())
            found.differences.append(f"{folder}: the tensor {name} differs, by at most {furthest:.3g}")


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
