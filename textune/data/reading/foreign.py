"""Files without rows, or with rows of an unexpected format: what they are, by their first bytes, and what to do.

Every reader asks here before it reports its own error; below `files.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from textune.errors import Advice, DataError, Setting, Words

HEAD_BYTES = 1 << 16
PARQUET, ARROW = (b"PAR1",), (b"ARROW1", b"\xff\xff\xff\xff")
"""First bytes of files with column types; for Arrow, of files and of streams."""
_LFS = b"version https://git-lfs.github.com/spec/"
_CSV = "Save it as csv (UTF-8), or as parquet."
_UNPACK = "Unpack it and name the file inside."
_INSIDE = 'With a name that ends in .zip, the file inside can be named: "rows.zip!folder/train.tsv".'
_MAGIC: list[tuple[bytes, str, Advice]] = [
    (b"\x1f\x8b", "is packed with gzip", "Give it a name that ends in .gz."),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd", "Give it a name that ends in .zst."),
    (b"BZh", "is packed with bzip2", "Unpack it, or pack it with gzip."),
    (b"\xfd7zXZ", "is packed with xz", "Unpack it, or pack it with gzip."),
    (b"\x04\x22\x4d\x18", "is packed with lz4", "Unpack it, or pack it with gzip."),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "is a rar archive", _UNPACK),
    (b"PAR1", "is a parquet file", Words(Setting("format", "parquet", "Set"), ".")),
    (b"ARROW1", "is an Arrow file", Words(Setting("format", "arrow", "Set"), ".")),
    (b"\xff\xff\xff\xff", "is an Arrow stream", Words(Setting("format", "arrow", "Set"), ".")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Office document, such as an .xls workbook", _CSV),
    (b"{\\rtf", "is a rich text (RTF) document", "Save it as plain text (UTF-8)."),
    (b"%PDF-", "is a PDF document", "Extract its text into rows first, such as csv."),
    (b"SQLite format 3\0", "is an SQLite database", "Export the table as csv."),
    (b"\x93NUMPY", "is a NumPy array", "Write its rows as csv or parquet."),
    (b"\x89HDF\r\n", "is an HDF5 file", "Write its rows as csv or parquet."),
    (b"Obj\x01", "is an Avro file", "Write its rows as parquet."),
    (b"\x89PNG", "is an image (PNG)", "Name the file that holds the texts."),
    (b"\xff\xd8\xff", "is an image (JPEG)", "Name the file that holds the texts."),
    (b"GIF8", "is an image (GIF)", "Name the file that holds the texts."),
    (
        b"\x00\x05\x16\x07",
        "holds the metadata that macOS keeps for another file",
        "Remove it, or name the files so that it is not included.",
    ),
    (_LFS, "is a Git LFS pointer, not the data", "Run `git lfs pull`."),
    (b"/annex/objects/", "is a git-annex pointer, not the data", "Run `git annex get`."),
    (b"<?xml", "is an XML document", "Write its rows as csv or jsonl."),
]
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html)\b[^\n]{0,1000}", re.IGNORECASE)
_PARTS_OF_ZIP = [
    (b"xl/", "is an Excel workbook", _CSV),
    (b"opendocument.spreadsheet", "is an OpenDocument spreadsheet", _CSV),
    (b"word/", "is a Word document", "Save it as plain text, or as csv with a row for each text."),
    (b"ppt/", "is a PowerPoint document", "Save its text as csv."),
    (b".npy", "is an archive of NumPy arrays", "Write its rows as csv or parquet."),
    (b"data.pkl", "is a PyTorch file", "Write its rows as csv or parquet."),
]


def what_it_is(head: bytes) -> tuple[str, Advice] | None:
    """What a file that begins like this is, and what to do; None if it may be data."""
    if head.startswith(b"PK\x03\x04"):
        return next(
            ((what, advice) for part, what, advice in _PARTS_OF_ZIP if part in head), ("is a zip archive", _INSIDE)
        )
    for magic, what, advice in _MAGIC:
        if head.startswith(magic):
            return what, advice
    if _PICKLE.match(head):
        return "is a Python pickle", "Write its rows as csv or parquet."
    if head[257:262] == b"ustar":
        return "is a tar archive", _UNPACK
    page = _WEB_PAGE.match(head)
    # With a column after the page, or more lines after one that is a whole page, pages are the texts of rows.
    alone = page and page[0].rstrip().endswith(b">") and not head[page.end() :].strip()
    if page and (b"</html" not in page[0].lower() or alone):
        return "is a web page, not the data", "Fetch the file itself (its raw or download link)."
    return None


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file on disk is a pointer to one that Git LFS has not fetched."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_LFS)) == _LFS


def refuse_foreign(name: str, head: bytes, *, expected: tuple[bytes, ...] = ()) -> None:
    """DataError where the first bytes are those of another kind of file; `expected`: first bytes that are fine
    here."""
    if head.startswith(expected):
        return
    if (found := what_it_is(head)) is not None:
        what, hint = found
        if hint == _INSIDE and name.lower().endswith(".zip"):
            hint = f'Name the file inside, such as "{name}!train.tsv".'
        raise DataError(f"{name} {what}.", hint=hint, place=name, reason=what)


def refuse_foreign_file(path: Path, name: str, *, expected: tuple[bytes, ...] = ()) -> None:
    """The same for a file on disk; a file that cannot be opened is left to its reader to report."""
    if not path.is_file():  # bytes read from a pipe would be lost
        return
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return
    refuse_foreign(name, head, expected=expected)
