"""Files on disk to bytes and lines: patterns, unpacking, decoding; below the readers of each format."""

from __future__ import annotations

import codecs
import contextlib
import glob
import io
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.config import format_string
from textune.data.reading.archives import inside_archive, located, open_member
from textune.data.reading.foreign import refuse_foreign
from textune.errors import Advice, DataError, Setting, Words
from textune.wording import listing, nearest

BLOCK_BYTES = 16 << 20
"""Bytes read at once; limits the memory that parsing needs on top of the result."""

COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def find_files(patterns: Sequence[str], *, key: str = "files") -> list[Path]:
    """The named files in the order of the list; the matches of a pattern are sorted. DataError where nothing
    matches.

    Files inside zip archives are found too (`archives.py`).
    """
    if not patterns:
        raise DataError(f"No data files: {key} is empty.", hint='Set it, such as data.train.files = "train.csv".')
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            raise _folder_error(path)
        if (place := located(path)) is not None:
            matches = [place]
        elif glob.has_magic(pattern):
            matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(match)]
            if not matches:
                raise DataError(f"No file matches the pattern {pattern!r}.", hint=_folder_hint(path))
        else:
            raise DataError(f"File not found: {_shown(path)}.", hint=_folder_hint(path))
        found.extend(matches)
    for path in found:
        if not (path.is_file() or path.is_fifo() or inside_archive(path)):
            raise DataError(f"{path} is not a regular file.")
    return found


def _folder_error(path: Path) -> DataError:
    if (
        (path / "dataset_info.json").exists()
        or (path / "dataset_dict.json").exists()
        or (path / "state.json").exists()
    ):
        return DataError(
            f"{path} is a folder saved by the datasets library.", hint='Read it with kind = "saved" and folder = ...'
        )
    endings = Counter("".join(name for name in file.suffixes[-2:]) for file in path.iterdir() if file.is_file())
    example = endings.most_common(1)[0][0] if endings else ".csv"
    return DataError(
        f"{path} is a folder, not a file.", hint=f"Name its files, such as {str(path / ('*' + example))!r}."
    )


def _shown(path: Path) -> str:
    """A path with its control characters escaped."""
    return str(path) if str(path).isprintable() else format_string(str(path))[1:-1]


def _folder_hint(path: Path) -> str:
    if not str(path).isprintable():
        return "Write a path with backslashes in single quotes."
    folder = path.parent
    if glob.has_magic(str(folder)) or not folder.is_dir():
        missing = f"There is no folder {folder} either; data.folder says where relative names start."
        return "" if glob.has_magic(str(folder)) else missing
    names = sorted(item.name for item in folder.iterdir() if item.is_file())
    if not names:
        return f"The folder {folder} holds no files."
    close = nearest(path.name, names)
    return f"Did you mean {close!r}?" if close else f"The folder {folder} holds {listing(names, 6)}."


def short_names(paths: Sequence[Path]) -> list[str]:
    """File names for messages; files with the same name get as many folders as needed to tell them apart."""
    names: dict[Path, str] = {}
    left, depth = set(paths), 0
    while left:
        depth += 1
        ends = {path: str(Path(*path.parts[-depth:])) for path in left}
        seen = Counter(ends.values())
        names |= {path: end for path, end in ends.items() if seen[end] == 1 or depth >= len(path.parts)}
        left -= names.keys()
    return [names[path] for path in paths]


def bare_suffix(path: Path) -> str:
    """The ending that names the format: `.csv` of `train.csv.gz`."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSION else name.suffix


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pa.NativeFile]:
    packed = COMPRESSION.get(path.suffix.lower())
    with contextlib.ExitStack() as stack:
        if inside_archive(path):
            stream = pa.PythonFile(stack.enter_context(open_member(path)), "r")
        else:
            stream = pa.OSFile(str(path), "rb") if path.is_file() else pa.PythonFile(path.open("rb"), "r")
        yield stack.enter_context(pa.CompressedInputStream(stream, packed) if packed else stream)


def raw_blocks(path: Path) -> Iterator[bytes]:
    """The unpacked bytes of a file; DataError where it cannot be read or unpacked to its end."""
    try:
        with _opened(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
    except (OSError, pa.ArrowException, EOFError) as error:
        if path.suffix.lower() in COMPRESSION:
            message = f"{path.name} cannot be unpacked: it is truncated or damaged ({error})."
            raise DataError(message, hint="Fetch or write the file again.") from error
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}.") from error


def is_utf8(encoding: str) -> bool:
    """Whether the encoding is UTF-8 or a subset of it; DataError for an unknown encoding."""
    try:
        "".encode(encoding)
    except LookupError:
        raise DataError(
            f"the encoding {encoding!r} does not exist.",
            hint='Such as "utf-8" or "latin-1".',
            key="encoding",
            value=encoding,
        ) from None
    return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig", "ascii"}


def text_blocks(name: str, blocks: Iterator[bytes], encoding: str) -> tuple[int, Iterator[bytes]]:
    """The text of a file as UTF-8 bytes, in blocks, and the length of its byte-order mark.

    Blocks end between two characters or, for a file that claims to be UTF-8, anywhere; such bytes are not checked
    here. DataError for an empty file, for a file of another kind, and (from the blocks) where another encoding cannot
    decode it.
    """
    plain = is_utf8(encoding)
    first = next(blocks, b"")
    if not first:
        raise DataError(f"{name} is empty.")
    refuse_foreign(name, first)
    if not plain:
        return 0, _decoded(name, first, blocks, encoding)
    if first[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DataError(
            f"{name} is UTF-16 text, not {encoding}.",
            hint=Words(Setting("encoding", "utf-16", "Set"), "."),
            key="encoding",
            value=encoding,
            place=name,
        )
    text = first.removeprefix(codecs.BOM_UTF8)
    return len(first) - len(text), chain([text], blocks)


def _decoded(name: str, first: bytes, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    position, lines, at_start = 0, 1, True
    block: bytes | None = first
    while block is not None:
        following = next(blocks, None)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=following is None)
            if at_start and text:
                text, at_start = text.removeprefix("\ufeff"), False
            result = text.encode("utf-8")
        except UnicodeError as error:
            start = error.start if isinstance(error, UnicodeDecodeError) else 0
            head = error.object[:start] if isinstance(error, UnicodeDecodeError) else b""
            offset, line = position - pending + start, lines + head.count(b"\n")
            raise DataError(
                f"{name}, line {line}: the bytes at offset {offset} are not {encoding} text.",
                hint=Words(Setting("encoding", verb="Set"), ' to that of the file, such as "utf-8" or "latin-1".'),
                key="encoding",
                value=encoding,
                place=f"{name}, line {line}",
            ) from error
        position += len(block)
        lines += result.count(b"\n")
        yield result
        block = following


def read_text(path: Path, encoding: str) -> str:
    """A whole text file. DataError names line and byte where it is not what `encoding` says."""
    skipped, blocks = text_blocks(path.name, raw_blocks(path), encoding)
    data = b"".join(blocks)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, line {line}: {not_utf8(data, error.start, skipped)}.",
            hint=ENCODING_HINT,
            key="encoding",
            value=encoding,
            place=f"{path.name}, line {line}",
        ) from error


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be read, or that begins a row which cannot be read."""

    line: int
    """From 1."""
    reason: str
    hint: Advice = ""


class TextLines:
    """The lines of a text, with their ends; only a line feed ends one. Knows which was read last and what is wrong
    with it.

    A byte that is not UTF-8 becomes a lone surrogate. Several loops may share one object; each continues where the
    last one stopped.
    """

    def __init__(self, name: str, blocks: Iterator[bytes], encoding: str) -> None:
        """DataError as in `text_blocks`; `name` is for messages."""
        self.number = 0
        """Number of the last line read, from 1."""
        self.text = ""
        """The last line read."""
        self.problem: BadLine | None = None
        """The first NUL byte or byte that is not UTF-8 since this was last set to None."""
        self.ended = False
        """Whether a line was asked for after the last one."""
        self._offset, text = text_blocks(name, blocks, encoding)
        self._stream = io.TextIOWrapper(Blocks(text), encoding="utf-8", errors="surrogateescape", newline="\n")  # type: ignore[type-var]
        self._ahead: deque[str] = deque()

    def peek(self, num_lines: int, num_characters: int = 1) -> list[str]:
        """The next lines without advancing: as many as asked for, but no more once they reach a number of
        characters."""
        held = sum(map(len, self._ahead))
        while len(self._ahead) < num_lines and held < num_characters and (line := self._stream.readline()):
            self._ahead.append(line)
            held += len(line)
        return list(islice(self._ahead, num_lines))

    def _peeked(self) -> Iterator[str]:
        while self._ahead:
            yield self._ahead.popleft()

    def __iter__(self) -> Iterator[str]:
        for line in chain(self._peeked(), self._stream):
            self.number += 1
            self.text = line
            try:
                self._offset += len(line) if line.isascii() else len(line.encode("utf-8"))
            except UnicodeEncodeError:
                data = line.encode("utf-8", "surrogateescape")
                self.problem = self.problem or BadLine(self.number, undecodable(data, self._offset), ENCODING_HINT)
                self._offset += len(data)
            if "\0" in line:
                self.problem = self.problem or BadLine(self.number, "it holds a NUL byte", _NUL_HINT)
            yield line
        self.ended = True


def skip_lines(lines: TextLines, num_lines: int, name: str) -> None:
    """Skip the next lines, whatever they contain; DataError if the file ends first."""
    for _ in islice(lines, num_lines):
        pass
    lines.problem = None
    if lines.number < num_lines:
        raise DataError(
            Words(f"{name} has {lines.number:,} lines, and ", Setting("skip_lines", num_lines), " leaves none."),
            hint=Words("Lower ", Setting("skip_lines"), "."),
            key="skip_lines",
            value=num_lines,
            place=name,
        )


class Blocks(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


_NUL_HINT = Words("A text file has none; if it is UTF-16, ", Setting("encoding", "utf-16", "set"), ".")
ENCODING_HINT = Words("If the file is in an older encoding, ", Setting("encoding", "latin-1", "set"), ' or "cp1252".')


def not_utf8(data: bytes, start: int, offset: int) -> str:
    """The reason for bytes that are not UTF-8; `data` begins at `offset` in its file."""
    return f"byte 0x{data[start]:02x} at offset {offset + start:,} of the file is not UTF-8"


def undecodable(data: bytes, offset: int = 0) -> str:
    """Why `data`, which begins at `offset` in its file, is not UTF-8; empty if it is."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(data, error.start, offset)
    return ""
