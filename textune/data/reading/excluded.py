"""Files that a source leaves out by name or pattern (`exclude`); beside `files.py`."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from textune.errors import DataError, Setting, Words
from textune.wording import count, listing, nearest


def without_excluded(locations: Sequence[str], patterns: Sequence[str], *, key: str = "exclude") -> list[int]:
    """Which files stay, as ascending indices; `locations` are paths or URLs with forward slashes.

    A pattern names the end of a path: the file, or the file in its last folders. DataError for one that names no file,
    and where none stays.
    """
    excluded: set[int] = set()
    for pattern in patterns:
        matches = {index for index, location in enumerate(locations) if _ends_as(location, pattern)}
        if not matches:
            raise _names_nothing(pattern, locations, key)
        excluded |= matches
    kept = [index for index in range(len(locations)) if index not in excluded]
    if not kept:
        raise DataError(
            Words(Setting(key, listing(patterns, 4)), f" leaves none of {count(len(locations), 'file')}."),
            hint="Name fewer files.",
            key=key,
            value=listing(patterns, 4),
            reason="no file is left",
        )
    return kept


def _ends_as(location: str, pattern: str) -> bool:
    parts, wanted = PurePosixPath(location).parts, PurePosixPath(pattern).parts
    ends = parts[len(parts) - len(wanted) :]
    return 0 < len(wanted) <= len(parts) and all(
        part == one or fnmatchcase(part, one) for part, one in zip(ends, wanted, strict=True)
    )


def _names_nothing(pattern: str, locations: Sequence[str], key: str) -> DataError:
    names = [PurePosixPath(location).name for location in locations]
    close = nearest(PurePosixPath(pattern).name, names)
    return DataError(
        Words(Setting(key, pattern), f" names none of {count(len(locations), 'file')}."),
        hint=f"Did you mean {close!r}?" if close else f"The files are {listing(names, 4)}.",
        key=key,
        value=pattern,
        reason="it names no file",
    )
