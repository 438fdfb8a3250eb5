"""Keeps token stores on disk, memory-mapped and shared by processes and runs; after `tokens.py`, before `rows.py`.

    columns of texts --TextEncoder--> ids.bin (int32) + offsets.bin (int64) + raw_lengths.bin (int32)
                                      [+ types.bin] [+ mask.bin] [+ example.bin] [+ source.bin] + meta.json

A store is found by the hash of (texts, tokenizer, options). It is written aside, synced and renamed, so it is complete
or absent, even if other processes build the same one at the same time; its meta.json holds the hash of each file.
Above a size limit the least recently used stores are removed. Texts may be private, so the folders are closed to other
users.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from textune.atomic import sync_folder
from textune.batches.store import COLUMNS, TokenStore, join_stores
from textune.batches.tokens import Texts, cut_columns
from textune.caches import PRIVATE, open_cache, require_own, user_cache
from textune.config import TokensSection
from textune.errors import DataError
from textune.jsontext import parse_json

FORM_VERSION = 3
"""Version of a store's files."""
STALE_SECONDS = 24 * 3600.0
"""Age from which an unfinished store counts as left behind by a process that was killed."""

_OUR_FOLDERS = re.compile(r"(building-\d+-)?[0-9a-f]{32}")
"""The cache folder may hold other things: nothing else is ever removed."""
_ROW_TYPES: dict[str, type] = {"raw_lengths": np.int32, "offsets": np.int64}
"""What is kept in addition to the columns, and its types."""
_WINDOW_TYPES: dict[str, type] = {"example": np.int64}
"""The same where an example may have several rows; elsewhere row i comes from example i."""
_GAP_TYPES: dict[str, type] = {"source": np.int64}
"""The same where a row of the data may have no tokens: of each row of the store, which one it comes from."""

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""


class Encoder(Protocol):
    """What makes the tokens of a store: a `TextEncoder`, or a `PieceEncoder`."""

    @property
    def windows(self) -> bool:
        """Whether an example may have several rows."""

    @property
    def repeated(self) -> int:
        """As of `TokenStore`."""

    @property
    def second_behind(self) -> str:
        """What is put before the second text of each pair."""

    def require_room(self, *, pair: bool) -> None:
        """ConfigError where no text has any."""

    def fingerprint(self) -> str:
        """Hash of everything that decides the ids of a single text."""

    def columns(self, *, pair: bool) -> tuple[str, ...]:
        """Names of the columns of a store."""

    def encode_chunks(
        self, chunks: Iterable[Texts], place: Callable[[int], str], *, depth: int
    ) -> Generator[TokenStore]:
        """One store per chunk; the tokenizer works `depth` chunks ahead."""


class StoreWork(Protocol):
    """What is to become a store, whatever it is made of."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns by token."""

    @property
    def windows(self) -> bool:
        """Whether an example may have several rows; otherwise row i comes from example i."""

    @property
    def gaps(self) -> bool:
        """Whether rows of the data may have no tokens; the parts then have `sources`."""

    @property
    def repeated(self) -> int:
        """As of `TokenStore`."""

    @property
    def num_rows(self) -> int | None:
        """Rows of the store; None where they are not known before it is built."""

    def key(self) -> str:
        """Hash of everything that decides what the store holds, of 32 hexadecimal digits."""

    def parts(self) -> Generator[TokenStore]:
        """Stores of consecutive examples, which together are the store."""


def default_cache() -> Path:
    """The user's cache folder for token stores."""
    return user_cache("tokens")


def cache_folder(section: TokensSection) -> Path:
    """The folder of the token cache. FileNotFoundError if it is the default one and there is no home folder."""
    try:
        return Path(section.cache) if section.cache else default_cache()
    except RuntimeError as error:
        raise FileNotFoundError(str(error).rstrip(".")) from error


def open_store(
    texts: pa.ChunkedArray,
    pairs: pa.ChunkedArray | None,
    encoder: Encoder,
    section: TokensSection,
    *,
    place: Callable[[int], str] = "row {}".format,
    progress: Progress | None = None,
    notice: Callable[[str], None] = lambda message: None,
) -> TokenStore:
    """The token store of these texts: found in the cache, or built there.

    Where the default cache cannot be used, the store is built in memory and `notice` is called. DataError where
    `tokens.cache` names a folder that cannot be used; other errors as `TextEncoder.encode`.
    """
    encoder.require_room(pair=pairs is not None)
    return find_store(_Texts(texts, pairs, encoder, place, progress), section, notice=notice)


def find_store(work: StoreWork, section: TokensSection, *, notice: Callable[[str], None]) -> TokenStore:
    """The store that this work makes: found in the cache, or built there. Otherwise as `open_store`."""
    try:
        cache = cache_folder(section)
    except FileNotFoundError as error:
        return _without_cache(work, str(error), notice)
    try:
        open_cache(cache, ours=section.cache is None)
        return _Cached(work).stored(cache, max_bytes=section.cache_size_gb * 1e9)
    except OSError as error:
        if section.cache is None:
            return _without_cache(work, f"{cache}: {error.strerror or error}", notice)
        raise DataError(
            f"the token cache {cache} cannot be used: {error.strerror or error}.",
            hint="Set tokens.cache to another folder that belongs to you and has free space.",
        ) from error


def _without_cache(work: StoreWork, reason: str, notice: Callable[[str], None]) -> TokenStore:
    notice(
        f"the token cache cannot be used ({reason}): texts are tokenised in memory, and the next run has to do it"
        f" again"
    )
    return join_stores(work.parts(), names=work.columns)


class _Texts:
    """The texts that become one store."""

    def __init__(
        self,
        texts: pa.ChunkedArray,
        pairs: pa.ChunkedArray | None,
        encoder: Encoder,
        place: Callable[[int], str],
        progress: Progress | None,
    ) -> None:
        self._texts, self._pairs, self._encoder, self._place, self._progress = texts, pairs, encoder, place, progress
        self.columns = encoder.columns(pair=pairs is not None)
        self.windows = encoder.windows
        self.gaps = False
        self.repeated = encoder.repeated
        self.num_rows = None if encoder.windows else len(texts)

    def key(self) -> str:
        key = hashlib.blake2b(digest_size=16)
        key.update(f"{FORM_VERSION} {self._encoder.fingerprint()}".encode())
        if self._pairs is not None and self._encoder.second_behind:
            key.update(f"separator {self._encoder.second_behind}".encode())
        for column in (self._texts, self._pairs):
            key.update(b"absent" if column is None else hash_strings(column))
        return key.hexdigest()

    def parts(self) -> Generator[TokenStore]:
        done = 0
        with contextlib.closing(
            self._encoder.encode_chunks(cut_columns(self._texts, self._pairs), self._place, depth=1)
        ) as parts:
            for part in parts:
                yield part
                done += part.num_examples
                if self._progress is not None:
                    self._progress(done, len(self._texts))


class _Cached:
    """A store in a folder of the cache."""

    def __init__(self, work: StoreWork) -> None:
        self._work = work
        self._types = {name: COLUMNS[name] for name in work.columns} | _ROW_TYPES
        self._types |= (_WINDOW_TYPES if work.windows else {}) | (_GAP_TYPES if work.gaps else {})

    def stored(self, cache: Path, *, max_bytes: float) -> TokenStore:
        """Found in the cache, or built there."""
        folder = cache / self._work.key()
        store = self._open(folder)
        if store is None:
            store = self._build(folder)
            _prune(cache, keep=folder, max_bytes=max_bytes)
        with contextlib.suppress(OSError):
            os.utime(folder / "meta.json")  # for "least recently used"; a read-only cache works without it
        return store

    def _build(self, folder: Path) -> TokenStore:
        aside = folder.with_name(f"building-{os.getpid()}-{uuid.uuid4().hex}")
        aside.mkdir(mode=PRIVATE)
        try:
            total, num_rows, num_examples = 0, 0, 0
            with contextlib.ExitStack() as stack:
                files = {
                    name: _Written(stack.enter_context((aside / f"{name}.bin").open("wb"))) for name in self._types
                }
                files["offsets"].write(np.zeros(1, dtype=np.int64))
                for part in stack.enter_context(contextlib.closing(self._work.parts())):
                    for name in self._work.columns:
                        files[name].write(part.columns[name])
                    files["raw_lengths"].write(part.raw_lengths)
                    files["offsets"].write(part.offsets[1:] + total)
                    if "example" in files:
                        files["example"].write(part.example + num_examples)
                    if "source" in files:
                        assert part.sources is not None, "parts with gaps know their rows"
                        files["source"].write(part.sources[part.example])
                    total += len(part.ids)
                    num_rows += len(part)
                    num_examples += part.num_examples
                hashes = {name: file.synced() for name, file in files.items()}
            with (aside / "meta.json").open("w", encoding="utf-8") as meta:
                json.dump(self._meta(num_rows, total, hashes), meta, allow_nan=False)
                meta.flush()
                os.fsync(meta.fileno())
            sync_folder(aside)
            return self._publish(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _publish(self, aside: Path, folder: Path) -> TokenStore:
        """Rename a finished store to its place and open it, replacing a broken one."""
        try:
            aside.rename(folder)
        except OSError:
            # another process was faster; its store is just as good
            if (store := self._open(folder)) is not None:
                return store
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        sync_folder(folder.parent)
        store = self._open(folder, checked=True)
        if store is None:
            raise OSError(f"{folder} does not hold what was just written there")
        return store

    def _open(self, folder: Path, *, checked: bool = False) -> TokenStore | None:
        """The store in `folder`; None where there is none, or where its files are not what was written (`checked`:
        they are).

        Every process reads every byte: about a second per GB, once per run, and it brings the file into memory, where
        training would read it anyway. A wrong id would silently train another model.
        """
        try:
            require_own(folder)
            meta = parse_json((folder / "meta.json").read_text(encoding="utf-8"))
            total, hashes = int(meta["tokens"]), dict(meta["hashes"])
            num_rows = int(meta["rows"]) if self._work.num_rows is None else self._work.num_rows
            if meta != self._meta(num_rows, total, hashes) or hashes.keys() != self._types.keys():
                return None
            lengths = dict.fromkeys(self._work.columns, total) | dict.fromkeys(
                self._types.keys() - self._work.columns, num_rows
            )
            lengths["offsets"] += 1
            arrays = {}
            for name, kind in self._types.items():
                path = folder / f"{name}.bin"
                if path.stat().st_size != lengths[name] * np.dtype(kind).itemsize:
                    return None
                if not checked and _hash_of(path) != hashes[name]:
                    return None
                arrays[name] = np.memmap(path, kind, "r") if lengths[name] else np.zeros(0, kind)
        except (OSError, ValueError, TypeError, KeyError):  # absent, cut short, not our JSON
            return None
        example = np.array(arrays["example"]) if "example" in arrays else np.arange(num_rows)
        return TokenStore(
            columns={name: arrays[name] for name in self._work.columns},
            offsets=np.array(arrays["offsets"]),
            raw_lengths=arrays["raw_lengths"],
            example=example,
            repeated=self._work.repeated,
            sources=np.array(arrays["source"])[np.unique(example, return_index=True)[1]]
            if "source" in arrays
            else None,
        )

    def _meta(self, num_rows: int, num_tokens: int, hashes: Mapping[str, str]) -> dict[str, object]:
        return {"version": FORM_VERSION, "rows": num_rows, "tokens": num_tokens, "hashes": hashes}


class _Written:
    """A file, hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.blake2b(digest_size=16)

    def write(self, array: np.ndarray) -> None:
        self._file.write(array.data)
        self._digest.update(array.data)

    def synced(self) -> str:
        """Sync it to disk; returns its hash."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def hash_strings(column: pa.ChunkedArray) -> bytes:
    """Hash of a string column, however it is chunked: one digest of the lengths and one of the bytes."""
    lengths, data = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
    for batch in pa.table({"text": column}).to_batches(max_chunksize=1 << 20):
        strings = batch.column(0).cast(pa.large_string())
        offsets = np.frombuffer(strings.buffers()[1], dtype=np.int64)[
            strings.offset : strings.offset + len(strings) + 1
        ]
        lengths.update(np.diff(offsets).data)
        data.update(memoryview(strings.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    return lengths.digest() + data.digest()


def _prune(cache: Path, *, keep: Path, max_bytes: float) -> None:
    """Remove what killed processes left behind, then the least recently used stores until the cache fits its limit.

    A store that another process has open stays readable there.
    """
    stores = []
    for folder in cache.iterdir():
        if not _OUR_FOLDERS.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):  # meanwhile removed by another process
            states = {file.name: file.stat() for file in folder.iterdir()}
            if "meta.json" in states and not folder.name.startswith("building-"):
                size = sum(state.st_size for state in states.values())
                stores.append((states["meta.json"].st_mtime, size, folder))
                continue
            newest = max([folder.stat().st_mtime, *(state.st_mtime for state in states.values())])
            if time.time() - newest > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    total = sum(size for _, size, _ in stores)
    for _, size, folder in sorted(stores):
        if total <= max_bytes:
            break
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
