"""Looks at the first part of a file: encoding, format, delimiter, quoting, header; the first half of `guess.py`."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textune.config.schema import FilesSource
from textune.data.files import FORMATS, bare_suffix, raw_blocks
from textune.data.numeric import NUMBER
from textune.data.quoting import csv_reader
from textune.errors import DataError

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "text"]

SAMPLE_BYTES = 1 << 20
SAMPLE_ROWS = 2000
_DELIMITERS = (",", "\t", ";", "|")
_MAX_NAME = 40


@dataclass(frozen=True)
class Layout:
    """How a file of text is written down."""

    format: Format
    encoding: str = "utf-8"
    delimiter: str | None = None
    """Where it is not the format's own."""
    quoting: Literal["auto", "standard", "none"] = "auto"
    rows: tuple[tuple[str, ...], ...] = ()
    """The first rows of csv and tsv, header included; the first lines of text, one cell each."""
    has_header: bool = False


def sniff_encoding(path: Path) -> str:
    """`utf-8`, `utf-16`, or where bytes are neither, the older `cp1252` or `latin-1`; looks at the whole file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    high: set[int] = set()
    valid = True
    for number, block in enumerate(raw_blocks(path)):
        if number == 0 and block[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            return "utf-16"
        if valid:
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                valid = False
        high.update(set(block[:SAMPLE_BYTES]))
    if valid:
        return "utf-8"
    # Windows fills 0x80 to 0x9f with quotes and dashes, which latin-1 leaves to control characters no one writes.
    windows = {byte for byte in high if 0x80 <= byte <= 0x9F}
    return "cp1252" if windows and not windows & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "latin-1"


def sniff(path: Path) -> Layout:
    """Format and layout of a file, by its name and its beginning. DataError for an empty file."""
    sample = b""
    for block in raw_blocks(path):
        sample += block
        if len(sample) >= SAMPLE_BYTES:
            break
    if not sample:
        raise DataError(f"{path.name} is empty.")
    if sample.startswith(b"PAR1"):
        return Layout("parquet")
    if sample.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Layout("arrow")
    encoding = sniff_encoding(path)
    text = _decode(sample, encoding)
    named = FORMATS.get(bare_suffix(path))
    if named in {"json", "jsonl"} or (named is None and text.lstrip()[:1] in {"{", "["}):
        kind = _json_format(text)
        return Layout(kind, encoding, rows=_lines(text) if kind == "jsonl" else ())
    if "\0" in text:
        raise DataError(f"{path.name} holds NUL bytes: it is not a text file that textune can read.")
    if named == "csv":
        return _delimited(text, encoding, "csv")
    if named == "tsv":
        return _delimited(text, encoding, "tsv")
    return _plain_text(text, encoding)


def _decode(sample: bytes, encoding: str) -> str:
    """The sample without byte-order mark and without a last line that may be cut."""
    text = sample.decode(encoding, "ignore").removeprefix("\ufeff").replace("\r\n", "\n")
    return text[: text.rindex("\n") + 1] if len(sample) >= SAMPLE_BYTES and "\n" in text else text


def _json_format(text: str) -> Format:
    first, _, rest = text.strip().partition("\n")
    is_record = first.startswith("{") and first.rstrip().endswith("}")
    return "jsonl" if is_record and (not rest or rest.lstrip()[:1] == "{") else "json"


def _plain_text(text: str, encoding: str) -> Layout:
    """Lines; or cells, where every line has the same number of tabs."""
    lines = _lines(text)
    counts = {line.count("\t") for (line,) in lines if line}
    if len(counts) == 1 and counts.pop() > 0 and len(lines) > 1:
        return _delimited(text, encoding, "tsv")
    return Layout("text", encoding, rows=lines)


def _lines(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple((line,) for line in text.removesuffix("\n").split("\n")[:SAMPLE_ROWS])


def _parse(text: str, delimiter: str, *, quoting: bool) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv_reader(io.StringIO(text, newline=""), delimiter, quoting=quoting, strict=False):
            if row:
                rows.append(row)
            if len(rows) >= SAMPLE_ROWS:
                break
    except csv.Error:
        return rows
    return rows


def _evenness(rows: list[list[str]]) -> float:
    """Share of rows with the number of cells that most have; 0 for a single column."""
    sizes = Counter(map(len, rows))
    if not sizes:
        return 0.0
    size, num = sizes.most_common(1)[0]
    return num / len(rows) if size > 1 else 0.0


def _delimited(text: str, encoding: str, kind: Literal["csv", "tsv"]) -> Layout:
    own = "\t" if kind == "tsv" else ","
    delimiters = (own, *(one for one in _DELIMITERS if one != own))
    ways = (False, True) if kind == "tsv" else (True, False)
    tries = [(delimiter, quoting) for delimiter in delimiters for quoting in ways]
    parsed = {one: _parse(text, one[0], quoting=one[1]) for one in tries}
    # The first of equally good ones wins, and the format's own way stands first.
    best = max(tries, key=lambda one: round(_evenness(parsed[one]), 2))
    if _evenness(parsed[best]) == 0:
        best = tries[0]
    delimiter, quoting = best
    rows = parsed[best]
    chosen: Literal["auto", "standard", "none"] = "auto" if quoting == (kind == "csv") else "standard" if quoting else "none"
    return Layout(
        format=kind,
        encoding=encoding,
        delimiter=None if delimiter == own else delimiter,
        quoting=chosen,
        rows=tuple(tuple(row) for row in rows if len(row) == len(rows[0])),
        has_header=bool(rows) and _is_header(rows[0], rows[1:]),
    )


def _is_header(first: list[str], rest: list[list[str]]) -> bool:
    """Whether the first row holds names: short, different, no numbers, and not values that stand in their columns below."""
    cells = [cell.strip() for cell in first]
    if len(set(cells)) < len(cells) or sum(not cell for cell in cells) > 1:
        return False
    if any(NUMBER.fullmatch(cell) or len(cell) > _MAX_NAME or len(cell.split()) > 5 for cell in cells):
        return False
    if re.search(r"[.!?]$", cells[0]):
        return False
    below = [{row[index].strip() for row in rest if len(row) == len(cells)} for index in range(len(cells))]
    return not any(cell and cell in values and len(values) < len(rest) / 2 for cell, values in zip(cells, below, strict=True))


def to_source(layout: Layout, files: tuple[str, ...], *, by_name: str | None, column_names: tuple[str, ...]) -> FilesSource:
    """The section that reads such a file; `by_name` is the format that its name tells."""
    return FilesSource(
        files=files,
        format="auto" if by_name == layout.format else layout.format,
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        quoting=layout.quoting,
        column_names=column_names,
    )
