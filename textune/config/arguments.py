"""Arguments of Python functions, held to what they may be before any work is done; the command line and the config have their
own checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from textune.config.toml import shorten
from textune.errors import ConfigError


def require_words(function: Callable[..., Any], **given: object) -> None:
    """ConfigError where an argument is none of the words in the annotation of its parameter; None stands for its absence."""
    annotations = get_type_hints(function)
    for name, value in given.items():
        words = _words(annotations[name])
        if value is not None and not (isinstance(value, str) and value in words):
            listed = ", ".join(f'"{word}"' for word in words)
            raise ConfigError(f"{name} = {shorten(repr(value))}: expected one of {listed}.", key=name, value=value)


def require_count(name: str, value: object) -> None:
    """ConfigError where an argument is no whole number of at least 1; None stands for its absence."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name} = {shorten(repr(value))}: expected a whole number of at least 1.", key=name, value=value)


def _words(annotation: Any) -> list[str]:
    """The words of a `Literal`, or of one beside None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for option in get_args(annotation) for word in _words(option)]
