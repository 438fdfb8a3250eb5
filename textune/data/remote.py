"""Where the shards of a stream are, and their bytes: files, `http://` and `https://`, and every store that fsspec reaches.

A web server needs nothing but Python; a store needs the package that fsspec names. Below `shards.py`.
"""

from __future__ import annotations

import glob
import http.client
import io
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.data.files import find_files
from textune.errors import DataError

TRIES = 5
"""Times that a request is made before a server counts as lost."""
RETRY_SECONDS = 1.0
"""Wait before the second try; it doubles from try to try."""
TIMEOUT_SECONDS = 60.0
BUFFER_BYTES = 1 << 20

_WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504}
_BROKEN = (http.client.HTTPException, OSError)
"""What a connection that breaks raises; URLError and timeouts are OSErrors."""


@dataclass(frozen=True)
class Shard:
    """One file of a stream."""

    location: str
    """Path or URL."""
    name: str
    """For messages: without the query of a URL, which may hold a key."""
    size: int
    """Bytes."""

    @property
    def is_local(self) -> bool:
        """Whether it is a file here."""
        return "://" not in self.location


def find_shards(files: Sequence[str]) -> tuple[Shard, ...]:
    """The shards of `data.train.files` in order, the matches of one pattern sorted, each once.

    DataError where there is none, where a protocol is unknown or lacks its package, where a server cannot be reached.
    """
    found: dict[str, Shard] = {}
    if not files:
        find_files(files, key="data.train.files")
    for entry in files:
        protocol = entry.partition("://")[0] if "://" in entry else "file"
        if protocol == "file":
            shards = _local(entry)
        elif protocol in {"http", "https"}:
            shards = [_on_the_web(entry)]
        else:
            shards = _in_a_store(entry, protocol)
        found |= {shard.location: shard for shard in shards}
    return tuple(found.values())


def open_shard(shard: Shard) -> io.BufferedReader:
    """The bytes of a shard, from its beginning; they can be sought in.

    DataError, here or while reading, where it is gone, has another size than it had, or cannot be read.
    """
    if shard.is_local:
        try:
            _require_size(shard, Path(shard.location).stat().st_size)
            return open(shard.location, "rb")
        except OSError as error:
            raise _lost(shard.name, error) from error
    raw = _WebFile(shard) if shard.location.startswith(("http://", "https://")) else _StoreFile(shard)
    return io.BufferedReader(raw, BUFFER_BYTES)


def _require_size(shard: Shard, size: int | None) -> None:
    if size is not None and size != shard.size:
        raise DataError(
            f"{shard.name} has changed while the run reads it: it had {shard.size:,} bytes and has {size:,} now.",
            hint="A run needs its shards as they are until it has ended.",
        )


def _lost(name: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
    return DataError(
        f"{name} cannot be read: {' '.join(str(reason).split()).rstrip('.') or type(error).__name__}.",
        hint="Check that the shard is still there and may be read.",
    )


# --- files --------------------------------------------------------------------------------------------------------------


def _local(entry: str) -> list[Shard]:
    if entry.startswith("file://"):
        host, slash, rest = entry.removeprefix("file://").partition("/")
        if host not in {"", "localhost"}:
            raise DataError(f"{entry} names the computer {host!r}.", hint="A file here is file:///folder/name.")
        entry = urllib.parse.unquote(slash + rest)
    paths = find_files([entry], key="data.train.files")
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is no regular file, and a stream is read more than once.")
    return [Shard(str(path.absolute()), path.name, path.stat().st_size) for path in paths]


# --- web servers --------------------------------------------------------------------------------------------------------


def _on_the_web(url: str) -> Shard:
    name = url.partition("?")[0]
    if glob.has_magic(name):
        raise DataError(
            f"{name} is a pattern, but a web server does not list its files.", hint="Name every shard in data.train.files."
        )
    # The first byte instead of HEAD, which signed URLs refuse.
    response = _request(url, name, first=0, last=0)
    with response:
        size = _whole_size(response)
    if size is None:
        raise DataError(f"The server of {name} does not say how large it is.", hint="Fetch the file and name its copy.")
    return Shard(url, name, size)


def _request(url: str, name: str, *, first: int, last: int | None = None) -> Any:
    """The answer to a request for bytes from `first` on; DataError where it is refused or nobody answers."""
    headers = {
        "Range": f"bytes={first}-{'' if last is None else last}",
        "Accept-Encoding": "identity",
        "User-Agent": "textune",
    }
    for number in range(TRIES):
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # no byte there: the file is empty
                return error
            error.close()
            if error.code not in _WORTH_A_RETRY or number + 1 == TRIES:
                raise DataError(
                    f"{name} cannot be read: the server answers {error.code} {error.reason}.",
                    hint="Check the URL, and whether it needs a key.",
                ) from error
        except _BROKEN as error:
            if number + 1 == TRIES:
                raise _lost(name, error) from error
        except ValueError as error:
            raise DataError(f"{name} is not a URL: {error}.", hint="Check data.train.files.") from error
        time.sleep(RETRY_SECONDS * 2**number)
    raise AssertionError("the last try returns or raises")


def _whole_size(response: Any) -> int | None:
    """Bytes of the whole file, as the head of an answer says."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status in {206, 416}:
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


class _WebFile(io.RawIOBase):
    """A file on a web server: each place that is sought is one request, and a connection that breaks is made again."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._at = 0
        self._answer: Any = None
        self._answer_at = 0

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
                if self._answer is None or self._answer_at != self._at:
                    self._ask()
                num_read = int(self._answer.readinto(memoryview(buffer)[:wanted]))
                if num_read:
                    self._at += num_read
                    self._answer_at = self._at
                    return num_read
                error: Exception = OSError("the connection ended before the file did")
            except _BROKEN as broken:
                error = broken
            self._hang_up()
            if number + 1 < TRIES:
                time.sleep(RETRY_SECONDS * 2**number)
        raise _lost(self._shard.name, error) from error

    def _ask(self) -> None:
        self._hang_up()
        self._answer = _request(self._shard.location, self._shard.name, first=self._at)
        _require_size(self._shard, _whole_size(self._answer))
        if self._answer.status != 206:  # the whole file, from a server that knows no parts
            left = self._at
            while left:
                skipped = len(self._answer.read(min(left, BUFFER_BYTES)))
                if not skipped:
                    raise OSError("the connection ended before the file did")
                left -= skipped
        self._answer_at = self._at

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def close(self) -> None:
        self._hang_up()
        super().close()


# --- stores -------------------------------------------------------------------------------------------------------------


def _in_a_store(url: str, protocol: str) -> list[Shard]:
    store, path = _store(url, protocol)
    name = url.partition("?")[0]
    try:
        matches = sorted(store.glob(path)) if glob.has_magic(path) else [path]
        infos = [store.info(match) for match in matches]
    except Exception as error:  # each store raises errors of its own
        raise _lost(name, error) from error
    if not infos:
        raise DataError(f"No file matches the pattern {name!r}.", hint="Check data.train.files.")
    shards = []
    for match, info in zip(matches, infos, strict=True):
        location = url if len(infos) == 1 and match == path else str(store.unstrip_protocol(match))
        if info.get("type") != "file" or info.get("size") is None:
            raise DataError(f"{location} is not a file.", hint="Name its files, such as .../*.jsonl.gz.")
        shards.append(Shard(location, location.partition("?")[0], int(info["size"])))
    return shards


def _store(url: str, protocol: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise DataError(
            f"{protocol}:// needs a package that is not installed: {error}.", hint="Install it with pip."
        ) from error
    except ValueError as error:
        known = "https, s3, gs, az, hf and file"
        raise DataError(
            f"{url.partition('?')[0]}: {str(error).rstrip('.')}.", hint=f"Usual protocols are {known}; see data.train.files."
        ) from error
    except Exception as error:  # such as credentials that are not there
        raise _lost(url.partition("?")[0], error) from error
    return store, str(path)


class _StoreFile(io.RawIOBase):
    """A file of a store, whose own errors become sentences."""

    def __init__(self, shard: Shard) -> None:
        self._name = shard.name
        store, path = _store(shard.location, shard.location.partition("://")[0])
        try:
            self._file = store.open(path, "rb")
        except Exception as error:  # each store raises errors of its own
            raise _lost(shard.name, error) from error
        _require_size(shard, getattr(self._file, "size", None))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:  # each store raises errors of its own
            raise _lost(self._name, error) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
