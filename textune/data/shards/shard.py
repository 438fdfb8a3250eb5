"""One file of a stream: where it is and how large; below `far.py`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from textune.data.reading import Rows
from textune.errors import DataError


@dataclass(frozen=True)
class Shard:
    """One file of a stream."""

    location: str = field(repr=False)
    """Path or URL, with all that opening it needs."""
    name: str
    """For messages and the stream's fingerprint: a URL as `shown`, or as much of a path's end as makes it unique."""
    size: int
    """Bytes."""
    store: Any = field(default=None, repr=False, compare=False)
    """fsspec's file system, of a file in a store."""
    path: str = field(default="", repr=False)
    """Its path in that store."""
    rows: Rows | None = field(default=None, repr=False, compare=False)
    """The rows themselves, of a source that has been read whole; it then has no location and no size."""

    @property
    def is_local(self) -> bool:
        """Whether it is a local file."""
        return "://" not in self.location

    @property
    def listed(self) -> tuple[str, int | str]:
        """What the fingerprint of a stream knows of it: its name and size; of rows in memory, their fingerprint."""
        return (self.name, self.size if self.rows is None else self.rows.fingerprint)

    @property
    def fingerprint(self) -> str:
        """Hash of its name and size, as its content is unknown until it is read; of rows in memory, of these."""
        if self.rows is not None:
            return self.rows.fingerprint
        listed = json.dumps(self.listed, allow_nan=False)
        return hashlib.sha256(f"textune shard 1 {listed}".encode()).hexdigest()[:32]


def require_size(shard: Shard, size: int | None) -> None:
    """DataError if a shard no longer has its size; None where that is not known."""
    if size is not None and size != shard.size:
        raise DataError(
            f"{shard.name} changed while the run was reading it: it had {shard.size:,} bytes and now has {size:,}.",
            hint="Shards must not change until the run has ended.",
        )
