"""Texts to token ids, once: a flat, memory-mapped, shared token store; after `labels.py`, before `batches.py`.

    texts --Rust tokenizer, untruncated, a chunk ahead in a thread--> truncate --> ids.bin (int32) + offsets.bin (int64)
    [+ types.bin] + meta.json

A store is found by the hash of (texts, tokenizer, options). It is written aside and renamed, so it is complete or absent,
whoever else builds the same one at the same time; the least recently used stores are removed above a size limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from textune.config.schema import TokensSection
from textune.data.ahead import ahead
from textune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STORE_VERSION = 2
CHUNK_ROWS = 8192
CHUNK_CHARACTERS = 4_000_000
"""Rows and characters tokenised at once: what the tokenizer gives is 50 times as large as the ids that are kept of it."""
STALE_SECONDS = 24 * 3600.0
"""Age from which an unfinished store is taken for the remains of a process that was killed."""

_OUR_FOLDERS = re.compile(r"(building-\d+-)?[0-9a-f]{32}")
"""The cache may be a folder with other things in it: nothing else is ever removed."""

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""
Texts = tuple[Sequence[str], Sequence[str] | None]
"""Texts of consecutive rows, and their second texts."""


@dataclass(frozen=True)
class TokenStore:
    """Token ids of N rows, one after the other.

    Shapes: `ids` int32 [total], `types` uint8 [total] or None, `offsets` int64 [N+1], `raw_lengths` int32 [N]: tokens before
    truncation.
    """

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray
    raw_lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of each row after truncation, special tokens included."""
        return np.diff(self.offsets)


class TextEncoder:
    """A backbone's fast tokenizer with textune's truncation: the only way from text to token ids.

    Rows that fit are exactly what `tokenizer(text, text_pair)` gives; where that is nothing at all (an empty text without
    special tokens), one token stands for it. Longer ones lose content tokens, never special tokens: of a pair, the longer text
    first (`longest_first` of the tokenizers library).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, section: TokensSection) -> None:
        # A copy: tokenizer.json may carry truncation and padding of its own, which would cut and pad silently.
        self._backend: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._section = section
        self.has_types = "token_type_ids" in tokenizer.model_input_names
        self.unknown_id: int | None = tokenizer.unk_token_id
        # Tokenizers without special tokens make nothing of an empty text; a model needs a token to look at.
        candidates = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
        self._empty_id: int = next(token for token in candidates if token is not None)
        self._num_special = {pair: self._backend.num_special_tokens_to_add(pair) for pair in (False, True)}
        sample = self._backend.encode("a")
        special = sample.special_tokens_mask
        # The frame of special tokens around a single text; None where the sample does not show it.
        self._frame = (special.index(0), special[::-1].index(0)) if 0 in special else None
        self._single_types = self._frame is None or any(sample.type_ids)

    def require_room(self, *, pair: bool) -> None:
        """ConfigError where `tokens.max_length` leaves no token for a text, or for either text of a pair."""
        num_special, num_texts = self._num_special[pair], 2 if pair else 1
        if self._section.longest < num_special + num_texts:
            what = "the texts of a pair" if pair else "a text"
            raise ConfigError(
                f"tokens.max_length = {self._section.longest} leaves no room for {what}: {num_special} special tokens of the"
                " backbone go with every row.",
                hint=f"Set it to {num_special + num_texts} at least; 128 is usual.",
            )

    @property
    def separates_pairs(self) -> bool:
        """Whether something tells the texts of a pair apart: a special token between them, or their token types."""
        encoding = self._backend.encode("a", "b")
        texts = encoding.sequence_ids
        if 0 not in texts or 1 not in texts:
            return True
        second = texts.index(1)
        before = len(texts) - 1 - texts[::-1].index(0)
        return second - before > 1 or (self.has_types and encoding.type_ids[second] != encoding.type_ids[before])

    def fingerprint(self) -> str:
        """Hash of all that decides the ids of a text."""
        options = {"max_length": self._section.longest, "truncate": self._section.truncate, "types": self.has_types}
        text = json.dumps({"version": STORE_VERSION, "options": options, "tokenizer": self._backend.to_str()}, allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def makes_types(self, *, pair: bool) -> bool:
        """Whether rows have token types that are worth keeping: of a single text they are all zero with most tokenizers."""
        return self.has_types and (pair or self._single_types)

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, place: Callable[[int], str] = "row {}".format
    ) -> TokenStore:
        """Tokenise in memory; DataError where `truncate = "error"` meets a longer row, named by `place(index)`; ConfigError as
        `require_room`."""
        self.require_room(pair=pairs is not None)
        parts = list(self.encode_chunks(cut_texts(texts, pairs), place, depth=0))
        num_before = np.cumsum([0, *(len(part.ids) for part in parts)])
        starts = [part.offsets[:-1] + before for part, before in zip(parts, num_before[:-1], strict=True)]
        types = [part.types for part in parts if part.types is not None]
        return TokenStore(
            ids=np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]),
            types=np.concatenate([np.zeros(0, np.uint8), *types]) if self.makes_types(pair=pairs is not None) else None,
            offsets=np.concatenate([*starts, num_before[-1:]]),
            raw_lengths=np.concatenate([np.zeros(0, np.int32), *(part.raw_lengths for part in parts)]),
        )

    def encode_chunks(self, chunks: Iterable[Texts], place: Callable[[int], str], *, depth: int) -> Generator[TokenStore]:
        """A store for each chunk; the tokenizer is `depth` chunks ahead, in a thread. Errors as `encode`."""
        tokenise = self._backend.encode_batch_fast
        tokenised = (
            (pairs is not None, tokenise(texts if pairs is None else list(zip(texts, pairs, strict=True))))
            for texts, pairs in chunks
        )
        start = 0
        with contextlib.closing(ahead(tokenised, depth, name="textune-tokenizer")) as results:
            for pair, encodings in results:
                yield self._truncated(encodings, lambda index, start=start: place(start + index), pair=pair)  # type: ignore[misc]
                start += len(encodings)

    def _truncated(self, encodings: list[Encoding], place: Callable[[int], str], *, pair: bool) -> TokenStore:
        raw_lengths = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
        too_long = np.flatnonzero(raw_lengths > self._section.longest)
        if len(too_long) and self._section.truncate == "error":
            first = int(too_long[0])
            raise DataError(
                f"{place(first)}: {raw_lengths[first]} tokens, more than tokens.max_length = {self._section.longest}"
                + (f" (and {len(too_long) - 1} more rows)." if len(too_long) > 1 else "."),
                hint='Raise tokens.max_length, set tokens.truncate = "head", or leave such rows out with tokens.drop_longer.',
            )
        ids = [encoding.ids for encoding in encodings]
        types = [encoding.type_ids for encoding in encodings] if self.makes_types(pair=pair) else None
        for index in too_long:
            kept = self._kept_pieces(encodings[index], pair=pair)
            for rows in (ids, types):
                if rows is not None:
                    rows[index] = [token for piece in kept for token in rows[index][piece]]
        for index in np.flatnonzero(raw_lengths == 0):
            ids[index] = [self._empty_id]
            if types is not None:
                types[index] = [0]
        offsets = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)), out=offsets[1:])
        total = int(offsets[-1])
        chained = itertools.chain.from_iterable
        return TokenStore(
            ids=np.fromiter(chained(ids), dtype=np.int32, count=total),
            types=None if types is None else np.fromiter(chained(types), dtype=np.uint8, count=total),
            offsets=offsets,
            raw_lengths=raw_lengths,
        )

    def _kept_pieces(self, encoding: Encoding, *, pair: bool) -> list[slice]:
        """The stretches of a row that remain when it is cut."""
        room, length = self._section.longest - self._num_special[pair], len(encoding)
        if not pair and self._frame is not None:
            before, after = self._frame
            head, tail = self._head_and_tail(room)
            return [slice(0, before + head), slice(length - after - tail, length)]
        special = encoding.special_tokens_mask
        sequence = encoding.sequence_ids
        contents = [[i for i, s in enumerate(sequence) if s == which and not special[i]] for which in (0, 1)]
        kept_lengths = _longest_first(len(contents[0]), len(contents[1]), room)
        dropped: set[int] = set()
        for content, keep in zip(contents, kept_lengths, strict=True):
            head, tail = self._head_and_tail(keep)
            dropped.update(content[head : len(content) - tail])
        return [slice(i, i + 1) for i in range(length) if i not in dropped]

    def _head_and_tail(self, keep: int) -> tuple[int, int]:
        """How many of the tokens kept are from the head and from the tail; head_tail keeps an odd one at the head."""
        head = {"head": keep, "tail": 0, "head_tail": keep - keep // 2}[self._section.truncate]
        return head, keep - head


def cut_texts(texts: Sequence[str], pairs: Sequence[str] | None = None) -> Iterator[Texts]:
    """Consecutive rows in chunks of at most CHUNK_ROWS rows and CHUNK_CHARACTERS characters; a longer row is one alone."""
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    if pairs is not None:
        sizes += np.fromiter(map(len, pairs), np.int64, len(pairs))
    ends = np.cumsum(sizes)
    start = 0
    while start < len(texts):
        done = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, done + CHUNK_CHARACTERS, side="right"))
        stop = min(max(fitting, start + 1), start + CHUNK_ROWS)
        yield texts[start:stop], None if pairs is None else pairs[start:stop]
        start = stop


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text remain: the shorter whole if it fits in half, else an even cut (tokenizers' own rule)."""
    if first + second <= room:
        return first, second
    shorter, longer = sorted((first, second))
    longer = shorter if shorter > room else max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = shorter + room % 2
    return (shorter, longer) if first <= second else (longer, shorter)


def default_cache() -> Path:
    """The user's cache folder for token stores."""
    return Path.home() / ".cache" / "textune" / "tokens"


def open_store(
    texts: pa.ChunkedArray,
    pairs: pa.ChunkedArray | None,
    encoder: TextEncoder,
    section: TokensSection,
    *,
    place: Callable[[int], str] = "row {}".format,
    progress: Progress | None = None,
) -> TokenStore:
    """The token store of these texts: found in the cache, or built there.

    Raises DataError where the cache folder cannot be written, or as `TextEncoder.encode`.
    """
    encoder.require_room(pair=pairs is not None)
    cache = Path(section.cache) if section.cache else default_cache()
    key = hashlib.blake2b(digest_size=16)
    key.update(encoder.fingerprint().encode())
    for column in (texts, pairs):
        key.update(b"absent" if column is None else _hash_strings(column))
    folder = cache / key.hexdigest()
    store = _open(folder, len(texts), has_types=encoder.makes_types(pair=pairs is not None))
    if store is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            store = _build(folder, texts, pairs, encoder, place=place, progress=progress)
        except OSError as error:
            raise DataError(
                f"the token cache {cache} cannot be written: {error.strerror or error}.",
                hint="Free some space there or set tokens.cache to another folder.",
            ) from error
        _prune(cache, keep=folder, max_bytes=section.cache_size_gb * 1e9)
    with contextlib.suppress(OSError):
        os.utime(folder / "meta.json")  # for "least recently used"; a read-only shared cache works without it
    return store


def _hash_strings(column: pa.ChunkedArray) -> bytes:
    """Hash of a string column that does not depend on how it is chunked."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(len(column).to_bytes(8, "little"))
    for batch in pa.table({"text": column}).to_batches(max_chunksize=1 << 20):
        strings = batch.column(0).cast(pa.large_string())
        offsets = np.frombuffer(strings.buffers()[1], dtype=np.int64)[strings.offset : strings.offset + len(strings) + 1]
        digest.update(np.diff(offsets).tobytes())
        digest.update(memoryview(strings.buffers()[2] or b"")[offsets[0] : offsets[-1]])
    return digest.digest()


def _build(
    folder: Path,
    texts: pa.ChunkedArray,
    pairs: pa.ChunkedArray | None,
    encoder: TextEncoder,
    *,
    place: Callable[[int], str],
    progress: Progress | None,
) -> TokenStore:
    aside = folder.with_name(f"building-{os.getpid()}-{uuid.uuid4().hex}")
    aside.mkdir()
    try:
        num_rows, total, done = len(texts), 0, 0
        has_types = encoder.makes_types(pair=pairs is not None)
        names = ["ids", "raw_lengths", "offsets"] + (["types"] if has_types else [])
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context((aside / f"{name}.bin").open("wb")) for name in names}
            files["offsets"].write(np.zeros(1, dtype=np.int64).tobytes())
            parts = encoder.encode_chunks(_chunks(texts, pairs), place, depth=1)
            for part in stack.enter_context(contextlib.closing(parts)):
                files["ids"].write(part.ids.data)
                files["raw_lengths"].write(part.raw_lengths.data)
                files["offsets"].write((part.offsets[1:] + total).data)
                if part.types is not None:
                    files["types"].write(part.types.data)
                total, done = total + len(part.ids), done + len(part)
                if progress is not None:
                    progress(done, num_rows)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        (aside / "meta.json").write_text(json.dumps(_meta(num_rows, total), allow_nan=False))
        return _publish(aside, folder, num_rows, has_types=has_types)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _chunks(texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None) -> Iterator[Texts]:
    for start in range(0, len(texts), CHUNK_ROWS):
        second = None if pairs is None else pairs.slice(start, CHUNK_ROWS).to_pylist()
        yield from cut_texts(texts.slice(start, CHUNK_ROWS).to_pylist(), second)


def _publish(aside: Path, folder: Path, num_rows: int, *, has_types: bool) -> TokenStore:
    """Rename a finished store to its place and open it; remains of a broken one there are replaced."""
    try:
        aside.rename(folder)
    except OSError:
        # Another process was faster: its store is as good.
        store = _open(folder, num_rows, has_types=has_types)
        if store is not None:
            return store
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    store = _open(folder, num_rows, has_types=has_types)
    if store is None:
        raise OSError(f"{folder} does not hold what was just written there")
    return store


def _open(folder: Path, num_rows: int, *, has_types: bool) -> TokenStore | None:
    """The store in `folder`; None where there is none, or one whose files do not fit together."""

    def array(name: str, dtype: type, length: int) -> np.ndarray:
        path = folder / f"{name}.bin"
        if path.stat().st_size != length * np.dtype(dtype).itemsize:
            raise ValueError(f"{path} is not as long as it should be")
        return np.memmap(path, dtype=dtype, mode="r") if length else np.zeros(0, dtype=dtype)

    try:
        offsets = np.array(array("offsets", np.int64, num_rows + 1))
        total = int(offsets[-1])
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta != _meta(num_rows, total):
            return None
        return TokenStore(
            ids=array("ids", np.int32, total),
            types=array("types", np.uint8, total) if has_types else None,
            offsets=offsets,
            raw_lengths=array("raw_lengths", np.int32, num_rows),
        )
    except (OSError, ValueError, RecursionError):  # absent, cut short, no JSON
        return None


def _meta(num_rows: int, num_tokens: int) -> dict[str, int]:
    return {"version": STORE_VERSION, "rows": num_rows, "tokens": num_tokens}


def _prune(cache: Path, *, keep: Path, max_bytes: float) -> None:
    """Remove remains of killed processes, and the least recently used stores until the cache fits.

    A store that is open elsewhere stays readable there.
    """
    stores = []
    for folder in cache.iterdir():
        if not _OUR_FOLDERS.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):  # removed by another process meanwhile
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
