"""Where the shards of a stream are, and their bytes: files, `http://` and `https://`, and every store that fsspec
reaches; after `web.py` and `stores.py`, below `reader.py`."""

from __future__ import annotations

import io
import urllib.parse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from textune.data.reading import find_files, short_names, without_excluded
from textune.data.shards.far import BUFFER_BYTES, FarFile, lost
from textune.data.shards.shard import Shard, require_size
from textune.data.shards.stores import StoreFile, store_shards
from textune.data.shards.urls import is_on_the_web, shown
from textune.data.shards.web import WebFile, web_shard
from textune.errors import DataError


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
            shards = [web_shard(entry)]
        else:
            shards = store_shards(entry, protocol)
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
            require_size(shard, Path(shard.location).stat().st_size)
            return open(shard.location, "rb")
        except OSError as error:
            raise lost(shard.name, error) from error
    raw: FarFile = StoreFile(shard) if shard.store is not None else WebFile(shard)
    return io.BufferedReader(raw, BUFFER_BYTES)


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
