"""Where the shards of a stream are, and their bytes: files, `http://` and `https://`, and every store that fsspec
reaches.

A web server needs only Python; a store needs the package that fsspec names. Below `reader.py`.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textune.data.reading import Rows, find_files, short_names, without_excluded
from textune.data.shards.urls import is_on_the_web, scrubbed, secrets, shown, web_address
from textune.errors import DataError

TRIES = 5
"""How often a position of a shard is requested before its server or store counts as lost."""
RETRY_SECONDS = 1.0
"""Seconds before the second try; doubled after each further try."""
TIMEOUT_SECONDS = 60.0
BUFFER_BYTES = 1 << 20

_WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504}
_BROKEN = (http.client.HTTPException, OSError)
"""What a broken connection raises; URLError and timeouts are OSErrors."""


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


def find_shards(files: Sequence[str], exclude: Sequence[str] = ()) -> tuple[Shard, ...]:
    """The shards of `data.train.files` in order, each once, without those of `data.train.exclude`; the matches of a
    pattern are sorted.

    DataError where there are none, where a protocol or its package is missing, or where a server cannot be reached.
    """
    found: dict[str, Shard] = {}
    if not files:
        find_files(files, key="data.train.files")
    for entry in files:
        protocol = entry.partition("://")[0] if "://" in entry else "file"
        if protocol == "file":
            shards = _local(entry)
        elif is_on_the_web(entry):
            shards = [_on_the_web(entry)]
        else:
            shards = _in_a_store(entry, protocol)
        found |= {shard.location: shard for shard in shards}
    shards = list(found.values())
    locations = [Path(shard.location).as_posix() if shard.is_local else shard.name for shard in shards]
    kept = without_excluded(locations, list(map(shown, exclude)), key="data.train.exclude")
    shards = [shards[index] for index in kept]
    here = [shard.location for shard in shards if shard.is_local]
    names = dict(zip(here, short_names([Path(location) for location in here]), strict=True))
    return tuple(replace(shard, name=names.get(shard.location, shard.name)) for shard in shards)


def open_shard(shard: Shard) -> io.BufferedReader:
    """The bytes of a shard, from its beginning; seekable.

    DataError, here or while reading, if it is gone, its size has changed, or it cannot be read.
    """
    if shard.is_local:
        try:
            _require_size(shard, Path(shard.location).stat().st_size)
            return open(shard.location, "rb")
        except OSError as error:
            raise _lost(shard.name, error) from error
    raw: _FarFile = _StoreFile(shard) if shard.store is not None else _WebFile(shard)
    return io.BufferedReader(raw, BUFFER_BYTES)


def _require_size(shard: Shard, size: int | None) -> None:
    if size is not None and size != shard.size:
        raise DataError(
            f"{shard.name} changed while the run was reading it: it had {shard.size:,} bytes and now has {size:,}.",
            hint="Shards must not change until the run has ended.",
        )


def _lost(url: str, error: Exception) -> DataError:
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server answers {error.code} {error.reason}"
    else:
        reason = str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)
    reason = " ".join(scrubbed(reason, url).split()).rstrip(".")
    refused = isinstance(error, urllib.error.HTTPError) and error.code not in _WORTH_A_RETRY
    return DataError(
        f"{shown(url)} cannot be read: {reason or type(error).__name__}.",
        hint="Check the URL, and whether it needs a key."
        if refused
        else "Check that the shard is still there and readable.",
    )


def _cause(url: str, error: Exception) -> Exception | None:
    """The library's error, unless its text may hold a secret of the URL."""
    return None if secrets(url) else error


# --- files -----------------------------------------------------------------------------------------------------------


def _local(entry: str) -> list[Shard]:
    if entry.startswith("file://"):
        host, slash, rest = entry.removeprefix("file://").partition("/")
        if host not in {"", "localhost"}:
            host = host.rpartition("@")[2]
            raise DataError(f"{shown(entry)} names the host {host!r}.", hint="A local file is file:///folder/name.")
        entry = urllib.parse.unquote(slash + rest)
    paths = find_files([entry], key="data.train.files")
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is not a regular file, and a stream is read more than once.")
    return [Shard(str(path.absolute()), path.name, path.stat().st_size) for path in paths]


# --- web servers -----------------------------------------------------------------------------------------------------


def _on_the_web(url: str) -> Shard:
    name = shown(url)
    if glob.has_magic(urllib.parse.urlsplit(web_address(url).url).path):
        raise DataError(
            f"{name} is a pattern, but a web server does not list its files.",
            hint="Name every shard in data.train.files.",
        )
    for number in range(TRIES):
        try:
            # The first byte instead of HEAD, which signed URLs refuse.
            with _request(url, first=0, last=0) as response:
                size = _whole_size(response)
            break
        except _BROKEN as error:
            _wait_or_give_up(url, number, error)
    if size is None:
        raise DataError(f"The server of {name} does not report its size.", hint="Download the file and name the copy.")
    return Shard(url, name, size)


def _wait_or_give_up(url: str, number: int, error: Exception) -> None:
    """After try `number` (from 0) has failed: wait before the next one, or raise DataError after the last."""
    if number + 1 == TRIES:
        raise _lost(url, error) from _cause(url, error)
    time.sleep(RETRY_SECONDS * 2**number)


def _request(url: str, *, first: int, last: int | None = None) -> Any:
    """The answer to one request for bytes from `first` on.

    DataError if it is refused for good, one of `_BROKEN` if another try may help.
    """
    address = web_address(url)
    headers = {
        "Range": f"bytes={first}-{'' if last is None else last}",
        "Accept-Encoding": "identity",
        "User-Agent": "textune",
    }
    request = urllib.request.Request(address.url, headers=headers)
    if address.authorization:  # not for a server that this one may redirect to
        request.add_unredirected_header("Authorization", address.authorization)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no byte there: the file is empty
            return error
        error.close()
        if error.code not in _WORTH_A_RETRY:
            raise _lost(url, error) from _cause(url, error)
        raise
    except (http.client.InvalidURL, ValueError) as error:
        raise DataError(
            f"{shown(url)} is not a URL: {scrubbed(str(error), url)}.", hint="Check data.train.files."
        ) from _cause(url, error)


def _whole_size(response: Any) -> int | None:
    """Bytes of the whole file, from the headers of an answer."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status in {206, 416}:
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


class _FarFile(io.RawIOBase):
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

    _broken: tuple[type[Exception], ...] = _BROKEN

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
                _wait_or_give_up(self._shard.location, number, error)
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        if not self.closed:
            self._hang_up()
        super().close()


class _WebFile(_FarFile):
    """A file on a web server: each seek is one request."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self._answer: Any = None
        self._answer_at = 0

    def _read_at(self, buffer: memoryview) -> int:
        if self._answer is None or self._answer_at != self._at:
            self._ask()
        num_read = int(self._answer.readinto(buffer))
        self._answer_at = self._at + num_read
        return num_read

    def _ask(self) -> None:
        self._hang_up()
        self._answer = _request(self._shard.location, first=self._at)
        _require_size(self._shard, _whole_size(self._answer))
        if self._answer.status != 206:  # the whole file, from a server without range requests
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


# --- stores ----------------------------------------------------------------------------------------------------------


_GONE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
"""What a store raises if another try cannot help."""
_HERE = "\0"
"""Marks a path that is shown unchanged."""


def _in_a_store(url: str, protocol: str) -> list[Shard]:
    store, path = _store(url, protocol)
    is_pattern = glob.has_magic(shown("store://" + path))  # without a query, whose question mark is not a wildcard
    try:
        matches = sorted(map(str, store.glob(path))) if is_pattern else [path]
        infos = [store.info(match) for match in matches]
    except Exception as error:  # each store raises errors of its own
        raise _lost(url, error) from _cause(url, error)
    if not infos:
        raise DataError(f"No file matches the pattern {shown(url)!r}.", hint="Check data.train.files.")
    shards = []
    for match, info in zip(matches, infos, strict=True):
        location, name = _of_match(url, path, match) if is_pattern else (url, shown(url))
        if info.get("type") != "file" or info.get("size") is None:
            raise DataError(f"{name} is not a file.", hint="Name its files, such as .../*.jsonl.gz.")
        shards.append(Shard(location, name, int(info["size"]), store, match))
    return shards


def _of_match(url: str, pattern: str, match: str) -> tuple[str, str]:
    """URL and name of one match: the pattern's URL with the match filled in, since stores drop host and user."""
    before, found, after = url.rpartition(pattern)
    if not found:
        before, after = url.partition("://")[0] + "://", ""
    return before + match + after, shown(before + _HERE + after).replace(_HERE, match)


def _store(url: str, protocol: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise DataError(
            f"{protocol}:// needs a package that is not installed: {scrubbed(str(error), url)}.",
            hint="Install it with pip.",
        ) from _cause(url, error)
    except ValueError as error:
        known = "https, s3, gs, az, hf and file"
        raise DataError(
            f"{shown(url)}: {scrubbed(str(error), url).rstrip('.')}.",
            hint=f"Common protocols are {known}; see data.train.files.",
        ) from _cause(url, error)
    except Exception as error:  # such as missing credentials
        raise _lost(url, error) from _cause(url, error)
    return store, str(path)


class _StoreFile(_FarFile):
    """A file of a store, whose errors become ours."""

    _broken = (Exception,)  # each store raises errors of its own

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self._file: Any = None
        for number in range(TRIES):
            try:
                self._open()
                break
            except DataError:
                raise
            except Exception as error:  # as above
                _wait_or_give_up(shard.location, number, error)

    def _open(self) -> None:
        try:
            self._file = self._shard.store.open(self._shard.path, "rb")
        except _GONE as error:
            raise _lost(self._shard.location, error) from _cause(self._shard.location, error)
        _require_size(self._shard, getattr(self._file, "size", None))

    def _read_at(self, buffer: memoryview) -> int:
        if self._file is None:
            self._open()
        try:
            self._file.seek(self._at)
            data = self._file.read(len(buffer))
        except _GONE as error:
            raise _lost(self._shard.location, error) from _cause(self._shard.location, error)
        buffer[: len(data)] = data
        return len(data)

    def _hang_up(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
