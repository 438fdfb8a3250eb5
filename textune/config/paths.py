"""Makes the paths in a configuration absolute, starting from where they were written."""

from __future__ import annotations

import glob
import importlib.util
import os
from pathlib import Path

from textune.config.toml import format_string
from textune.errors import ConfigError

_PACKAGE = "package:"


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path with `~` expanded, and without `..` where that does not change its meaning.

    ConfigError for a value that is not a path, and for the home of a user who does not exist.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(
            f"{path!r:.80} is not a path.", value=path, hint='Give the name of a file or folder, such as "runs/x".'
        )
    text = os.fspath(path)
    expanded = os.path.expanduser(text)
    if expanded == text and text.startswith("~") and not os.path.lexists(text):
        raise ConfigError(
            f"{text}: there is no user {text[1:].split('/')[0]!r}.",
            value=text,
            hint=f"For a file whose name begins with ~, write ./{text}.",
        )
    # While a folder does not exist, `new/..` looks free although it leads to a folder that may be occupied.
    return Path(_without_parents(expanded))


def absolute(text: str, folder: Path, *, hub: bool = False) -> str:
    """The absolute path of `text`, which was written relative to `folder`; glob patterns are kept.

    `~` is the user's home; `package:NAME/PATH` is a file inside an installed Python package. With `hub`, the text may
    be the name of a hub repository: it stays as it is unless such a folder exists or it can only be a path. Raises
    ConfigError for a package that is not installed.
    """
    if "\0" in text:
        raise ConfigError("a path cannot hold a NUL character.", value=text)
    if text.startswith(_PACKAGE):
        return _in_package(text)
    if not text or "://" in text:
        return text
    path = _join(folder, os.path.expanduser(text) if text.startswith("~") else text)
    if not text.isprintable():
        _require_meant(text, path)
    if hub and not os.path.isdir(path) and not _can_only_be_a_path(text):
        return text
    return path


def _require_meant(text: str, path: str) -> None:
    """ConfigError for a path with a tab or the like that does not exist: usually backslashes that TOML read as
    escapes.
    """
    odd = [character for character in text if character in _ESCAPED]
    if not odd or os.path.lexists(path) or any(glob.iglob(path, recursive=True)):
        return
    written = format_string(text)[1:-1]
    hint = f"Write a path with backslashes in single quotes: '{written}'."
    raise ConfigError(f'"{written}" does not exist, and contains {_ESCAPED[odd[0]]}.', hint=hint, value=written)


_ESCAPED = {"\b": "a backspace", "\t": "a tab", "\n": "a line break", "\f": "a form feed", "\r": "a carriage return"}


def _can_only_be_a_path(text: str) -> bool:
    return text.startswith((".", "~")) or os.path.isabs(text) or text.count("/") > 1 or "\\" in text


def _join(folder: Path, text: str) -> str:
    path = os.path.join(os.path.abspath(folder), text)
    return _without_parents(path) if ".." in Path(path).parts else os.path.normpath(path)


def _without_parents(path: str) -> str:
    if ".." not in Path(path).parts:
        return path
    plain = os.path.normpath(path)
    # `link/..` is not always the folder that holds the link.
    return plain if os.path.realpath(plain) == os.path.realpath(path) else path


def _in_package(text: str) -> str:
    name, _, inside = text.removeprefix(_PACKAGE).partition("/")
    inside = inside.lstrip("/")
    module = name.replace("-", "_")
    if not module.isidentifier():
        raise ConfigError(
            f'"{text}" does not name a package.', hint='Write "package:NAME/PATH/IN/THE/PACKAGE".', value=text
        )
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:
        spec = None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if not folders:
        pip_name = module.replace("_", "-")
        raise ConfigError(
            f'"{text}": the Python package {module} is not installed.',
            hint=f"Install it with `pip install {pip_name}`.",
        )
    found = [_join(Path(folder), inside) for folder in folders]
    return next((path for path in found if os.path.exists(path)), found[0])
