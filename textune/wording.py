"""Counts, lists and names as messages write them; below every room."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable


def shorten(text: object, width: int = 60) -> str:
    """The text on one line, quoted, and cut off if it is long."""
    raw = str(text)[: width * 4]
    line = " ".join(raw.split())
    cut = line if len(line) <= width and len(raw) == len(str(text)) else line[: width - 3] + "..."
    return f"'{cut}'"


def count(num: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,500 rows`."""
    return f"{num:,} {one if num == 1 else many or one + 's'}"


def listing(names: Iterable[object], limit: int = 12) -> str:
    """Names separated by commas; beyond `limit`, the rest is counted."""
    items = [str(name) for name in names]
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit:,} more"


def repeated_names(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    return sorted(name for name, num in Counter(names).items() if num > 1)


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that was probably meant; None if nothing is close."""
    by_lower = {option.lower().strip(): option for option in options}
    wanted = name.lower().strip()
    if wanted in by_lower:
        return by_lower[wanted]
    close = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None
