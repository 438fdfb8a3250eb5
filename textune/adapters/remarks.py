"""What a foreign configuration became, beyond its lines, as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from textune.adapters.foreign import Foreign, LeftOut
from textune.config import printable

_WIDTH = 110


def about(foreign: Foreign) -> list[str]:
    """Comments: what it was made of, what is done otherwise, and what was left out, keys with one reason together."""
    lines = _wrapped(f"Made from {foreign.system}: {', '.join(foreign.source) or 'its defaults'}", first="# ")
    if foreign.notes:
        lines += ["#", "# What is done otherwise:", *(line for note in foreign.notes for line in _wrapped(note))]
    if foreign.left_out:
        lines += ["#", "# Left out:"]
        lines += [line for text in _left_out(foreign.left_out) for line in _wrapped(text)]
    return lines


def _left_out(found: Iterable[LeftOut]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for one in found:
        by_reason.setdefault(one.reason, []).append(one.key)
    for reason, keys in by_reason.items():
        yield f"{', '.join(keys)}: {reason}"


def _wrapped(text: str, *, first: str = "#   ") -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=f"{first}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
