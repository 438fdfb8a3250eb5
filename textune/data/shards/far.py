"""What remote files have in common: their bytes from any position, and another try where a connection breaks; after
`shard.py`, below `web.py` and `stores.py`."""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
from abc import abstractmethod
from typing import Any

from textune.data.shards.shard import Shard
from textune.data.shards.urls import scrubbed, secrets, shown
from textune.errors import DataError
from textune.exitcodes import worth_a_retry

TRIES = 5
"""How often a position of a shard is requested before its server or store counts as lost."""
RETRY_SECONDS = 1.0
"""Seconds before the second try; doubled after each further try."""
BUFFER_BYTES = 1 << 20
BROKEN = (http.client.HTTPException, OSError)
"""What a broken connection raises; URLError and timeouts are OSErrors."""


def lost(url: str, error: Exception) -> DataError:
    """What a user reads where a shard cannot be read for good; it shows no secret of the URL."""
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}"
    else:
        reason = str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)
    reason = " ".join(scrubbed(reason, url).split()).rstrip(".")
    refused = isinstance(error, urllib.error.HTTPError) and not worth_a_retry(error.code)
    return DataError(
        f"{shown(url)} cannot be read: {reason or type(error).__name__}.",
        hint="Check the URL, and whether it needs a key."
        if refused
        else "Check that the shard is still there and readable.",
    )


def cause(url: str, error: Exception) -> Exception | None:
    """The library's error, unless its text may hold a secret of the URL."""
    return None if secrets(url) else error


def wait_or_give_up(url: str, number: int, error: Exception) -> None:
    """After try `number` (from 0) has failed: wait before the next one, or raise DataError after the last."""
    if number + 1 == TRIES:
        raise lost(url, error) from cause(url, error)
    time.sleep(RETRY_SECONDS * 2**number)


class FarFile(io.RawIOBase):
    """A remote file, read from any position: a broken connection is renewed, with `TRIES` tries in all for one
    position."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._at = 0

    @abstractmethod
    def _read_at(self, buffer: memoryview) -> int:
        """Bytes from `_at` on, connecting if there is no connection.

        One of `_broken` if another try may help, DataError if none will.
        """

    @abstractmethod
    def _hang_up(self) -> None:
        """Close the connection, if there is one."""

    _broken: tuple[type[Exception], ...] = BROKEN

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._shard.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._shard.size - self._at)
        if wanted <= 0:
            return 0
        for number in range(TRIES):
            try:
                if num_read := self._read_at(memoryview(buffer)[:wanted]):
                    self._at += num_read
                    return num_read
                raise OSError("the connection ended before the file did")
            except DataError:
                raise
            except self._broken as error:
                self._hang_up()
                wait_or_give_up(self._shard.location, number, error)
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        if not self.closed:
            self._hang_up()
        super().close()
