"""Files inside zip archives, written as `SST-2.zip!SST-2/train.tsv`; below `files.py`.

They are read where they are: nothing is unpacked to disk, so no name inside an archive can reach a file outside it.
"""

from __future__ import annotations

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from textune.errors import DataError
from textune.wording import count, listing, nearest

_END = ".zip!"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_LARGE = 100 << 20
_MOST_TIMES = 200
"""A larger file that unpacks to so many times its packed size is no text, but made to fill the memory."""


def inside_archive(path: Path) -> tuple[Path, str] | None:
    """The archive, and the name within it, of a path such as `SST-2.zip!SST-2/train.tsv`; None for a file on disk."""
    text = str(path)
    at = text.lower().find(_END)
    if at < 0 or path.exists():
        return None
    end = at + len(_END)
    return Path(text[: end - 1]), text[end:]


def located(path: Path) -> Path | None:
    """The path if it is there, on disk or inside an archive; None if it is not.

    A file whose folder is absent is looked for in the archive of that name: `SST-2.zip!SST-2/train.tsv` for
    `SST-2/train.tsv`. DataError for an archive that does not hold the file, or is damaged.
    """
    if path.exists():
        return path
    member = path if inside_archive(path) else _in_archive_of_folder(path)
    if member is not None:
        with _opened(member):
            pass
    return member


def _in_archive_of_folder(path: Path) -> Path | None:
    for folder in reversed(path.parents):
        if not folder.exists():
            archive = folder.with_name(f"{folder.name}.zip")
            return Path(f"{archive}!{path.relative_to(folder.parent)}") if archive.is_file() else None
    return None


@contextlib.contextmanager
def open_member(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file inside an archive. DataError as for `located`, and where the file is damaged."""
    with _opened(path) as (archive, info):
        try:
            with archive.open(info) as stream:
                yield stream
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged(path, error) from error


def size_of(path: Path) -> int:
    """The unpacked bytes of a file on disk or inside an archive."""
    if inside_archive(path) is None:
        return path.stat().st_size
    with _opened(path) as (_, info):
        return info.file_size


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
    found = inside_archive(path)
    assert found is not None, "only paths inside archives come here"
    file, name = found
    try:
        archive = zipfile.ZipFile(file)
    except FileNotFoundError:
        raise DataError(f"There is no archive {file}.", value=str(file), reason="there is no such file") from None
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from error
    with archive:
        yield archive, _member(archive, file, name)


def _member(archive: zipfile.ZipFile, file: Path, name: str) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == name]
    if not found:
        names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        near = nearest(name, names)
        has = f"It holds {listing(names, 8)}." if names else "It is empty."
        raise DataError(
            f"{file.name} holds no file {name!r}.",
            hint=f'Did you mean "{file.name}!{near}"? {has}' if near else has,
            value=name,
            place=file.name,
            reason="the archive does not hold this file",
        )
    info = found[-1]
    if reason := _why_not(info, len(found)):
        raise DataError(
            f"{file.name}!{name} cannot be read: {reason}.",
            hint="Unpack the archive yourself and name the file.",
            value=name,
            place=file.name,
            reason=reason,
        )
    return info


def _why_not(info: zipfile.ZipInfo, num_of_that_name: int) -> str:
    """Why a member is not read; empty if it is."""
    times = info.file_size // max(1, info.compress_size)
    if num_of_that_name > 1:
        return f"the archive holds {num_of_that_name} files of that name"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link to another file"
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.compress_type not in _METHODS:
        return "it is packed by another method than deflate"
    if info.file_size > _LARGE and times > _MOST_TIMES:
        return f"it unpacks to {count(times, 'time', 'times')} its size, as no text does"
    return ""


def _damaged(path: Path, error: Exception) -> DataError:
    found = inside_archive(path)
    shown = path.name if found is None else f"{found[0].name}!{found[1]}"
    return DataError(
        f"{shown} cannot be unpacked: the archive is truncated or damaged ({error}).",
        hint="Fetch it again.",
        place=str(path),
        reason=str(error),
    )
