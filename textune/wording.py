"""Counts, lists and names as messages write them; below every room."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable

LIKELY = 0.6
"""How much alike two names are, from 0 to 1, when one was probably meant for the other."""
_USER_OF_AN_ADDRESS = re.compile(r"(?<=://)[^/?#\s'\"]*@")


def without_passwords(text: str) -> str:
    """The text without the user and the password of each address in it: `http://host` for `http://me:secret@host`."""
    return _USER_OF_AN_ADDRESS.sub("", text)


def shorten(text: object, width: int = 60) -> str:
    """The text on one line, quoted, and cut off if it is long."""
    raw = str(text)[: width * 4]
    line = " ".join(raw.split())
    cut = line if len(line) <= width and len(raw) == len(str(text)) else line[: width - 3] + "..."
    return f"'{cut}'"


def count(num: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,500 rows`."""
    return f"{num:,} {one if num == 1 else many or one + 's'}"


def millions(num: int) -> str:
    """`22.7 M`, `0.027 M`."""
    return f"{num / 1e6:.1f} M" if num >= 100_000 else f"{num / 1e6:.2g} M"


def clock(seconds: float) -> str:
    """`1:02:03`, `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def listing(names: Iterable[object], limit: int = 12) -> str:
    """Names separated by commas; beyond `limit`, the rest is counted."""
    items = [str(name) for name in names]
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit:,} more"


def repeated_names(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    return sorted(name for name, num in Counter(names).items() if num > 1)


def nearest(name: str, options: Iterable[str], *, cutoff: float = LIKELY) -> str | None:
    """The option that was probably meant; None if nothing is close."""
    found = closest(name, options, num=1, cutoff=cutoff)
    return found[0] if found else None


def closest(name: str, options: Iterable[str], *, num: int = 3, cutoff: float = LIKELY) -> list[str]:
    """The options that look most like `name`, best first, at most `num`; case and outer white space do not count.

    `cutoff`: how much alike they have to be, from 0 to 1.
    """
    by_lower = {option.lower().strip(): option for option in options}
    wanted = name.lower().strip()
    if wanted in by_lower:
        return [by_lower[wanted]]
    return [by_lower[match] for match in difflib.get_close_matches(wanted, by_lower, n=num, cutoff=cutoff)]


def escaped(text: str) -> str:
    """The text with terminal control characters escaped; line ends, as in a list of problems, stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\u00a0\u3000" else letter.encode("unicode_escape").decode()
        for letter in text
    )
