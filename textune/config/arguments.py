"""Checks the arguments of Python functions before any work is done; the command line and the config have their own
checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args, get_origin, get_type_hints

from textune.config.toml import shorten
from textune.errors import ConfigError


def require_words(function: Callable[..., object], **given: object) -> None:
    """Raise ConfigError unless each argument is one of the words in its parameter's annotation; None
    means not given.
    """
    annotations = get_type_hints(function)
    for name, value in given.items():
        words = _words(annotations[name])
        if value is not None and not (isinstance(value, str) and value in words):
            listed = ", ".join(f'"{word}"' for word in words)
            raise ConfigError(f"{name} = {shorten(repr(value))}: expected one of {listed}.", key=name, value=value)


def require_count(name: str, value: object) -> None:
    """Raise ConfigError unless an argument is a whole number of at least 1; None means not given."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(
            f"{name} = {shorten(repr(value))}: expected a whole number of at least 1.", key=name, value=value
        )


def _words(annotation: object) -> list[str]:
    """The words of a `Literal`, or of the `Literal` in a union with None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for option in get_args(annotation) for word in _words(option)]
