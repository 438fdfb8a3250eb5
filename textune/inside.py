"""Checks that names and links in an untrusted folder do not lead out of it; below every room that
reads such folders.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath


def within(folder: Path, name: object) -> Path:
    """The path of the file `name` in `folder`. ValueError if the name, or a link on the way, leads out of the folder.

    A folder may come from anybody, so a file that it names is never read, copied or shown from elsewhere.
    """
    path = folder / require_inner(name)
    require_inside(folder, path)
    return path


def require_inner(name: object) -> str:
    """The name, if it is a relative file name that does not lead out of its folder; else ValueError."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{name!r} is not the name of a file")
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or PureWindowsPath(name).drive:
        raise ValueError(f"the name {name!r} leads out of the folder")
    return name


def require_inside(folder: Path, path: Path) -> None:
    """Raise ValueError if a path in `folder` is a link that leads out of it."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path.relative_to(folder)} is a link that leads out of the folder")
