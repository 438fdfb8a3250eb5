"""Examines a file's encoding and beginning: format, delimiter, quoting, header; the first step of `guess.py`."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from textune.config import FilesSource, Quoting
from textune.data.reading import ENDINGS, NUMBER, bare_suffix, csv_reader, raw_blocks, text_blocks
from textune.errors import DataError

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "text"]

SAMPLE_BYTES = 1 << 20
SAMPLE_ROWS = 2000
_DELIMITERS = (",", "\t", ";", "|", "~", "^")
_OTHER_COMMA = re.compile(r"(?<!\d),|,(?!\d)")
"""A comma that is not a decimal comma."""
_MAX_NAME = 40
_MAX_SKIPPED = 20
"""The most lines before the header."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\n', re.I)
_COLUMN_TYPES = (
    {
        "d",
        "c",
        "s",
        "t",
        "m",
        "string",
        "discrete",
        "continuous",
        "time",
        "class",
        "meta",
        "ignore",
        "text",
    }  # of Orange
    | {"str", "object", "category", "categorical", "nominal", "numeric", "int", "integer", "float", "bool", "boolean"}
    | {"feature", "target", "label"}
)
"""Words in header lines below the names that give the type or the role of each column."""

_KNOWN_NAMES = re.compile(
    r"(?:^|[\s_.-])(?:text|label|labels|class|category|sentence|review|comment|message|title|body|content|tweet|question|answer|"
    r"target|sentiment|score|rating|id|index|intent|emotion|topic|premise|hypothesis|date)\d?$",
    re.I,
)


@dataclass(frozen=True)
class Layout:
    """How a file is written."""

    format: Format
    encoding: str = "utf-8"
    delimiter: str | None = None
    """None for the format's default."""
    quoting: Quoting = "auto"
    has_header: bool = True
    skip_lines: int = 0
    """Lines before the header, or before the first row."""
    names: tuple[str, ...] = ()
    """The cells of the header; numbers where there is none."""
    renames: bool = False
    """Whether the header cannot name the columns, so that `names` must."""
    has_extra: bool = False
    """Whether every row has one more cell, an empty one, than the header."""


@dataclass(frozen=True)
class _Row:
    line: int
    """Where it begins, from 1."""
    cells: list[str]


def sniff_encoding(path: Path) -> str:
    """`utf-8`, `utf-16`, or, for bytes that are neither, `cp1252` or `latin-1`; reads the whole file."""
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
    # Windows has quotes and dashes from 0x80 to 0x9f, where latin-1 has control characters that nobody writes.
    windows = {byte for byte in high if 0x80 <= byte <= 0x9F}
    return "cp1252" if windows and not windows & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "latin-1"


def sniff(path: Path) -> tuple[Layout, str]:
    """Format and layout of a file, by its name and its beginning, and that beginning. DataError for an empty file."""
    sample = b""
    for block in raw_blocks(path):
        sample += block
        if len(sample) >= SAMPLE_BYTES:
            break
    if not sample:
        raise DataError(f"{path.name} is empty.")
    if sample.startswith(b"PAR1"):
        return Layout("parquet"), ""
    if sample.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Layout("arrow"), ""
    encoding = sniff_encoding(path)
    text_blocks(path.name, iter([sample]), encoding)  # refuses files of other kinds by name
    text = _decode(sample, encoding)
    named = ENDINGS.get(bare_suffix(path))
    if named in {"json", "jsonl"} or (named is None and text.lstrip()[:1] in {"{", "["}):
        return Layout(_json_format(text, by_lines=named == "jsonl"), encoding), text
    if "\0" in text:
        raise DataError(f"{path.name} holds NUL bytes: it is not a text file that textune can read.")
    if not text.strip():
        raise DataError(f"{path.name} holds only blank lines.")
    if named == "csv" or named == "tsv":
        return sniff_cells(text, encoding, "csv" if named == "csv" else "tsv"), text
    return Layout("text", encoding), text


def _decode(sample: bytes, encoding: str) -> str:
    """The sample without a byte-order mark and without a last line that may be cut off."""
    text = sample.decode(encoding, "ignore").removeprefix("\ufeff").replace("\r\n", "\n")
    return text[: text.rindex("\n") + 1] if len(sample) >= SAMPLE_BYTES and "\n" in text else text


def _json_format(text: str, *, by_lines: bool) -> Format:
    """JSON lines or one document; for a single line, the file's name decides."""
    first, _, rest = text.strip().partition("\n")
    if not rest:
        return "jsonl" if by_lines else "json"
    is_record = first.rstrip()[:1] + first.rstrip()[-1:] == "{}" and rest.lstrip()[:1] == "{"
    is_list = first.rstrip()[:1] + first.rstrip()[-1:] == "[]" and rest.lstrip()[:1] == "["
    return "jsonl" if is_record or is_list else "json"


def _parse(text: str, delimiter: str, *, quoting: bool) -> list[_Row]:
    rows: list[_Row] = []
    reader = csv_reader(io.StringIO(text, newline=""), delimiter, quoting=quoting, strict=False)
    line = 1
    try:
        for cells in reader:
            if cells:
                rows.append(_Row(line, cells))
            line = reader.line_num + 1  # type: ignore[attr-defined]
            if len(rows) >= SAMPLE_ROWS:
                break
    except csv.Error:
        return rows
    return rows


def evenness(rows: Sequence[_Row]) -> float:
    """Share of rows with the most common number of cells; 0 for a single column."""
    size = _width(rows)
    return sum(len(row.cells) == size for row in rows) / len(rows) if size > 1 else 0.0


def _fitness(rows: Sequence[_Row]) -> tuple[float, bool]:
    """How well a way of cutting fits; among equally regular ones, the one that cuts the first row like the others
    wins."""
    return round(evenness(rows), 2), bool(rows) and len(rows[0].cells) == _width(rows)


def _width(rows: Sequence[_Row]) -> int:
    return Counter(len(row.cells) for row in rows).most_common(1)[0][0] if rows else 0


def sniff_cells(text: str, encoding: str, kind: Literal["csv", "tsv"], delimiters: Sequence[str] = ()) -> Layout:
    """The layout of csv or tsv; `delimiters`: the candidates, of which the first wins among equally good ones."""
    own = "\t" if kind == "tsv" else ","
    declared = _SEPARATOR_LINE.match(text)
    if declared:
        delimiters = (declared[1],)
    choice = tuple(delimiters) or (own, *(one for one in _DELIMITERS if one != own))
    if not delimiters and ";" in text and not _OTHER_COMMA.search(text):
        choice = (";", *(one for one in choice if one != ";"))
    tries = [(delimiter, quoting) for delimiter in choice for quoting in _ways(text, delimiter, kind)]
    body = text[declared.end() :] if declared else text
    parsed = {one: _parse(body, one[0], quoting=one[1]) for one in tries}
    best = max(tries, key=lambda one: _fitness(parsed[one]))
    if evenness(parsed[best]) == 0:
        best = tries[0]
    delimiter, quoting = best
    chosen: Quoting = "auto" if quoting == (kind == "csv") else "standard" if quoting else "none"
    layout = _with_header(Layout(kind, encoding, None if delimiter == own else delimiter, chosen), parsed[best])
    # The reader handles the line `sep=;` itself if it comes first.
    return replace(layout, skip_lines=layout.skip_lines + 1) if declared and layout.skip_lines else layout


def _ways(text: str, delimiter: str, kind: str) -> tuple[bool, bool]:
    """With quoting or without, the likelier one first."""
    if kind == "csv":
        return True, False
    return (True, False) if _is_quoted(_parse(text, delimiter, quoting=False)) else (False, True)


def _is_quoted(rows: Sequence[_Row]) -> bool:
    """Whether quotes enclose cells: every cell that has one is enclosed, and one column always is, or quotes are
    doubled."""
    whole = re.compile(r'"(?:[^"]|"")*"')
    cells = [cell for row in rows for cell in row.cells if '"' in cell]
    if not cells or not all(map(whole.fullmatch, cells)):
        return False
    width = _width(rows)
    columns = zip(*(row.cells for row in rows[1:] if len(row.cells) == width), strict=True)
    return any('""' in cell[1:-1] for cell in cells) or any(
        all(cell.startswith('"') for cell in column if cell) and any(column) for column in columns
    )


def _with_header(layout: Layout, rows: Sequence[_Row]) -> Layout:
    """The layout with the names of the columns and the lines before the first row."""
    width = _width(rows)
    first = next((index for index, row in enumerate(rows[: _MAX_SKIPPED + 1]) if len(row.cells) == width), 0)
    head = [cell.strip() for cell in rows[first].cells]
    body = [row.cells for row in rows[first + 1 :] if len(row.cells) == width]
    if first > 0 and len(rows[first - 1].cells) == width - 1 > 1:
        above = [cell.strip() for cell in rows[first - 1].cells]
        skipped = rows[first - 1].line - 1
        if all(not cells[-1].strip() for cells in [head, *body]) and _looks_like_names(
            above, [cells[:-1] for cells in body]
        ):
            return replace(layout, skip_lines=skipped, names=tuple(above), has_extra=True)
        below_names = [cells[1:] for cells in [head, *body]]
        if not _looks_like_names(head, body) and _looks_like_names(above, below_names):
            # As R writes it: the column of row names has no name.
            return replace(layout, skip_lines=rows[first].line - 1, names=_unique(("row", *above)), renames=True)
    skipped = rows[first].line - 1
    if not _looks_like_names(head, body):
        # A line with other cells than the rest is skipped only above a header, or if it cannot be a row.
        plain = first > 0 and all(len(row.cells) == 1 for row in rows[:first])
        names = tuple(map(str, range(1, width + 1)))
        return replace(layout, has_header=False, skip_lines=skipped if plain else 0, names=names)
    below = 0
    while below < min(2, len(body)) and _are_types(body[below]):
        below += 1
    if below or len(set(filter(None, head))) < len(list(filter(None, head))):
        after = rows[first + below + 1].line - 1 if first + below + 1 < len(rows) else skipped + 1
        return replace(layout, skip_lines=after, names=_unique(head), renames=True)
    return replace(layout, skip_lines=skipped, names=tuple(head))


def _are_types(cells: Sequence[str]) -> bool:
    words = [cell.strip().lower() for cell in cells]
    return any(words) and all(word in _COLUMN_TYPES for word in words if word)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names; empty and repeated ones become numbers."""
    taken: set[str] = set()
    result = []
    for index, name in enumerate(names, 1):
        free = name if name and name not in taken else f"column_{index}"
        taken.add(free)
        result.append(free)
    return tuple(result)


def _looks_like_names(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names: distinct, not numbers, unlike the cells below them."""
    cells = [cell.strip() for cell in first]
    named = [cell for cell in cells if cell]
    if not named or any(NUMBER.fullmatch(cell) for cell in named):
        return False
    # Unnamed columns are at the end (of a spreadsheet), or there is one at the beginning (row numbers).
    if "" in cells[1:] and any(cells[cells.index("", 1) :]):
        return False
    columns = [[row[index].strip() for row in rest if len(row) == len(cells)] for index in range(len(cells))]
    signs = [_sign(cell, column) for cell, column in zip(cells, columns, strict=True) if cell]
    if -1 in signs:
        return False
    if 1 in signs or any(_KNOWN_NAMES.search(cell) for cell in named):
        return True
    if len(set(named)) < len(named):
        return False
    return not any(len(cell) > _MAX_NAME or len(cell.split()) > 5 for cell in named) and not re.search(
        r"[.!?]$", named[0]
    )


def _sign(cell: str, column: Sequence[str]) -> int:
    """1 if the cells below show that this one is a name, -1 if they show that it is a value, otherwise 0."""
    values = {value for value in column if value}
    if len(column) < 2 or not values:
        return 0
    if len(values) < len(column) / 2 and cell in values:
        return -1
    return 1 if all(map(NUMBER.fullmatch, values)) else 0


def to_source(layout: Layout, files: tuple[str, ...], *, by_name: str | None) -> FilesSource:
    """The section that reads such a file; `by_name` is the format that its name suggests."""
    return FilesSource(
        files=files,
        format="auto" if by_name == layout.format else layout.format,
        encoding=layout.encoding,
        delimiter=layout.delimiter,
        quoting=layout.quoting,
        column_names=layout.names if layout.renames or not layout.has_header else (),
        skip_lines=layout.skip_lines,
        extra_cells="ignore" if layout.has_extra else "error",
    )
