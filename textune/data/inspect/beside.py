"""Decides by name which files are for training, validation and test, and which hold the labels of another file.

It also looks next to the given files: for the `dev.tsv` of a `train.tsv`, or the labels of a text file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from textune.config import Labels
from textune.data.labels import given_names
from textune.data.reading import COMPRESSION, ENDINGS, bare_suffix
from textune.errors import DataError
from textune.wording import listing

PartName = Literal["train", "validation", "test"]

_WORDS: dict[PartName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("dev", "val", "valid", "validation", "eval"),
    "test": ("test", "testing"),
}
_HELD_OUT: tuple[PartName, PartName] = ("validation", "test")
_LABEL_WORDS = ("labels", "label")
_TEXT_WORDS = ("text", "texts", "sentences", "sentence", "reviews", "data", "")


_NAME_FILES = ("labels", "label_names", "classes", "class_names", "categories", "label", "mapping")


@dataclass(frozen=True)
class FileSet:
    """The files of one split, with their label files if they have any."""

    files: tuple[str, ...]
    labels: tuple[str, ...] = ()
    given: bool = True
    """Whether the user named the files; False if they were found next to those that the user named."""


@dataclass(frozen=True)
class FileParts:
    """Files by split."""

    train: FileSet
    validation: FileSet | None = None
    test: FileSet | None = None
    notes: tuple[str, ...] = ()


def sort_files(paths: Sequence[Path], given: Sequence[str]) -> FileParts:
    """These files by split, `given` as patterns; DataError where label files have no texts."""
    labels = [path for path in paths if _is_lines(path) and set(_words(_stem(path))) & set(_LABEL_WORDS)]
    texts = [path for path in paths if path not in labels] or list(paths)
    labels = [path for path in labels if path not in texts]
    by_part: dict[PartName, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in texts:
        by_part[part_of(_stem(path))].append(path)
    if not by_part["train"]:
        by_part = {"train": texts, "validation": [], "test": []}
    sets = {part: _with_labels(files, labels) for part, files in by_part.items() if files}
    if len(sets) == 1 and not labels:
        sets["train"] = replace(sets["train"], files=tuple(given))
    parts = FileParts(sets["train"], sets.get("validation"), sets.get("test"))
    return _look_beside(parts, texts) if len(sets) == 1 else replace(parts, notes=_assignment(parts))


def part_of(name: str) -> PartName:
    """The split that a name suggests; training if it suggests none."""
    words = set(_words(name))
    return next((part for part, known in _WORDS.items() if words & set(known)), "train")


def is_training(name: str) -> bool:
    """Whether a name suggests training."""
    return bool(set(_words(name)) & set(_WORDS["train"]))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())


def _stem(path: Path) -> str:
    """The file's name without the suffix of its format."""
    bare = path.name.removesuffix(path.suffix) if path.suffix.lower() in COMPRESSION else path.name
    return Path(bare).stem if ENDINGS.get(bare_suffix(path)) else path.name


def _is_lines(path: Path) -> bool:
    return ENDINGS.get(bare_suffix(path), "text") == "text"


def _with_labels(files: Sequence[Path], labels: Sequence[Path]) -> FileSet:
    """The files with the label files that belong to them."""
    if not labels:
        return FileSet(tuple(map(str, files)))
    chosen = [next((one for one in labels if _core(one) == _core(file)), None) for file in files]
    if None in chosen and len(labels) == len(files):
        chosen = list(labels)
    if None in chosen:
        lacking = listing(file.name for file, one in zip(files, chosen, strict=True) if one is None)
        raise DataError(f"No label file was given for {lacking}.", hint="Each text file needs its own label file.")
    return FileSet(tuple(map(str, files)), tuple(str(one) for one in chosen))


def _core(path: Path) -> tuple[str, tuple[str, ...]]:
    """The part of a name that a text file and its label file share."""
    return str(path.parent), tuple(word for word in _words(_stem(path)) if word not in (*_LABEL_WORDS, *_TEXT_WORDS))


def _look_beside(parts: FileParts, texts: Sequence[Path]) -> FileParts:
    """One training file, with the label file and the held-out files next to it."""
    if len(texts) != 1:
        return parts
    notes = []
    if _is_lines(texts[0]) and not parts.train.labels:
        labels = _label_file(texts[0])
        if labels is not None:
            parts = replace(parts, train=FileSet(parts.train.files, (str(labels),)))
            notes.append(f"{labels.name}, next to {texts[0].name}, is taken as its label file.")
    with_labels = bool(parts.train.labels)
    validation, test = (_held_out(texts[0], part, with_labels=with_labels) for part in _HELD_OUT)
    return replace(parts, validation=validation, test=test, notes=tuple(notes))


def _label_file(path: Path) -> Path | None:
    names = [_swapped(path.name, text, label) for text in _TEXT_WORDS if text for label in _LABEL_WORDS]
    names += [path.with_suffix(f".{label}").name for label in _LABEL_WORDS]
    return _first_file(path.parent, [name for name in names if name != path.name])


def names_beside(folder: Path, num: int) -> Path | None:
    """A file in a data folder that names exactly this many labels."""
    for name in (f"{stem}{ending}" for stem in _NAME_FILES for ending in (".txt", ".json")):
        path = folder / name
        try:
            names = given_names(Labels(names_file=str(path))) if path.is_file() else ()
        except DataError:  # another kind of file of that name
            continue
        if len(names) == num and not any(map(str.isdigit, names)):
            return path
    return None


def _held_out(path: Path, part: PartName, *, with_labels: bool) -> FileSet | None:
    names = [_swapped(path.name, train, word) for train in _WORDS["train"] for word in _WORDS[part]]
    found = _first_file(path.parent, [name for name in names if name != path.name])
    if found is None or not with_labels:
        return None if found is None else FileSet((str(found),), given=False)
    labels = _label_file(found)
    return None if labels is None else FileSet((str(found),), (str(labels),), given=False)


def _swapped(name: str, old: str, new: str) -> str:
    """The file name with one of its words replaced."""
    return re.sub(rf"(?i)(?<![a-z]){old}(?![a-z])", new, name)


def _first_file(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _assignment(parts: FileParts) -> tuple[str, ...]:
    """How the given files were assigned to splits, as a sentence."""
    shown = [
        f"{listing((Path(file).name for file in one.files), 4)} for {name}"
        for name, one in (("training", parts.train), ("validation", parts.validation), ("the test", parts.test))
        if one is not None
    ]
    return (f"Going by their names, the files are {', '.join(shown)}.",) if len(shown) > 1 else ()
