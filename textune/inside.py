"""Names and links in a folder that anybody may have made must not lead out of it; below every room that reads such folders."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath


def within(folder: Path, name: object) -> Path:
    """The file that a file in `folder` names. ValueError where the name, or a link on the way, leads out of the folder.

    A folder may come from anybody: what it names is never read, copied or shown from elsewhere.
    """
    path = folder / require_inner(name)
    require_inside(folder, path)
    return path


def require_inner(name: object) -> str:
    """A name that a file gives to another; ValueError where it is none, or leads out of a folder by itself."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{name!r} is no name of a file")
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or PureWindowsPath(name).drive:
        raise ValueError(f"the name {name!r} leads out of the folder")
    return name


def require_inside(folder: Path, path: Path) -> None:
    """ValueError where a path in `folder` is a link that leads out of it."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path.relative_to(folder)} is a link that leads out of the folder")
