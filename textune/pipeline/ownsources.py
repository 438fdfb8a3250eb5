"""The user's own classes and functions that the data of a run comes from, which may run only where they are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textune.config import ConcatSource, DataSection, PythonSource, Section
from textune.owncode import require_allowed


def require_own_sources(data: DataSection, code: str | Sequence[str], run: Path) -> None:
    """CodeError where the data of a run comes from code that `code` does not name."""
    left: list[Section] = [data.train, *data.held_out.values()]
    found = []
    while left:
        source = left.pop()
        if isinstance(source, ConcatSource):
            left += source.sources
        elif isinstance(source, PythonSource):
            found.append(source.object)
    allowed = [code] if isinstance(code, str) else code
    require_allowed(list(dict.fromkeys(found)), allowed, where=str(run / "config.toml"))
