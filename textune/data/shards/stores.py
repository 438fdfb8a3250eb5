"""Shards in stores that fsspec reaches, which need the package that it names; after `far.py`."""

from __future__ import annotations

import glob
from typing import Any

from textune.data.shards.far import TRIES, FarFile, cause, lost, wait_or_give_up
from textune.data.shards.shard import Shard, require_size
from textune.data.shards.urls import scrubbed, shown
from textune.errors import DataError

_GONE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
"""What a store raises if another try cannot help."""
_HERE = "\0"
"""Marks a path that is shown unchanged."""


def store_shards(url: str, protocol: str) -> list[Shard]:
    """The shards that a URL of a store names, itself or as a pattern; DataError where there are none."""
    store, path = _store(url, protocol)
    is_pattern = glob.has_magic(shown("store://" + path))  # without a query, whose question mark is not a wildcard
    try:
        matches = sorted(map(str, store.glob(path))) if is_pattern else [path]
        infos = [store.info(match) for match in matches]
    except Exception as error:  # each store raises errors of its own
        raise lost(url, error) from cause(url, error)
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
        ) from cause(url, error)
    except ValueError as error:
        known = "https, s3, gs, az, hf and file"
        raise DataError(
            f"{shown(url)}: {scrubbed(str(error), url).rstrip('.')}.",
            hint=f"Common protocols are {known}; see data.train.files.",
        ) from cause(url, error)
    except Exception as error:  # such as missing credentials
        raise lost(url, error) from cause(url, error)
    return store, str(path)


class StoreFile(FarFile):
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
                wait_or_give_up(shard.location, number, error)

    def _open(self) -> None:
        try:
            self._file = self._shard.store.open(self._shard.path, "rb")
        except _GONE as error:
            raise lost(self._shard.location, error) from cause(self._shard.location, error)
        require_size(self._shard, getattr(self._file, "size", None))

    def _read_at(self, buffer: memoryview) -> int:
        if self._file is None:
            self._open()
        try:
            self._file.seek(self._at)
            data = self._file.read(len(buffer))
        except _GONE as error:
            raise lost(self._shard.location, error) from cause(self._shard.location, error)
        buffer[: len(data)] = data
        return len(data)

    def _hang_up(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
