"""Whether double quotes enclose the cells of a tsv file or are plain characters, by its first lines; for
`delimited.py`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

SAMPLE_LINES = 2000
SAMPLE_CHARACTERS = 1 << 20


def csv_reader(
    lines: Iterable[str], delimiter: str, *, quoting: bool, strict: bool, skips_blanks: bool = False
) -> Iterator[list[str]]:
    """The csv module's reader; `strict` makes it refuse text after a closing quote, and a quote that never closes.

    `skips_blanks`: blanks before a cell are not part of it, so a quote after them opens it.
    """
    return csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        strict=strict,
        skipinitialspace=skips_blanks,
    )


def is_enclosed(cell: str) -> bool:
    """Whether the whole cell is in quotes as csv writes them; quotes inside are doubled."""
    return len(cell) > 1 and cell[0] == '"' == cell[-1] and '"' not in cell[1:-1].replace('""', "")


def is_doubled(cell: str) -> bool:
    """Whether an enclosed cell has doubled quotes inside, which hardly anybody types."""
    return is_enclosed(cell) and '""' in cell[1:-1]


class EnclosedCells:
    """Counts the cells of rows read with plain quotes that look as if csv had enclosed them."""

    def __init__(self) -> None:
        self.num_doubled = 0
        self._num_rows = 0
        self._by_column: Counter[int] = Counter()

    def add(self, row: Sequence[str], line: str) -> None:
        """Look at one row, and the line that it is on."""
        self._num_rows += 1
        if '"' in line:
            self._by_column.update(index for index, cell in enumerate(row) if is_enclosed(cell))
            self.num_doubled += sum(map(is_doubled, row))

    @property
    def num_suspicious(self) -> int:
        """Cells with doubled quotes inside; in a mostly enclosed column, all enclosed cells."""
        return max([self.num_doubled, *(num for num in self._by_column.values() if 2 * num > self._num_rows > 1)])

    @property
    def fills_a_column(self) -> bool:
        """Whether every row of some column is enclosed."""
        return self._num_rows > 1 and self._num_rows in self._by_column.values()


def looks_quoted(lines: Sequence[str], delimiter: str, *, has_header: bool) -> bool:
    """Whether csv quoting fits all lines and there are signs of it: doubled quotes, an enclosed column or header, or
    several cells that span lines. A single one may just be two stray quotes."""
    if not any('"' in line for line in lines):
        return False
    plain = [line.rstrip("\r\n").split(delimiter) for line in lines if line.strip("\r\n")]
    width = len(plain[0])
    try:
        quoted = _complete_rows(lines, delimiter)
    except csv.Error:
        return False
    if not quoted or any(len(row) != width for row in quoted):
        return False
    found = EnclosedCells()
    for row in plain[1:] if has_header else plain:
        if len(row) == width:
            found.add(row, '"')
    if found.num_doubled or found.fills_a_column or (has_header and all(map(is_enclosed, plain[0]))):
        return True
    spanning = [cell for row in quoted for cell in row if "\n" in cell]
    return len(spanning) > 1 and not any(delimiter in cell for cell in spanning)


def blanks_before_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether there are blanks before enclosing quotes, as in `"a", "b"`, so that all rows have the same number of
    cells."""
    if delimiter == " " or not any(f'{delimiter} "' in line for line in lines):
        return False
    try:
        skipped = _complete_rows(lines, delimiter, skips_blanks=True)
    except csv.Error:
        return False
    if len({len(row) for row in skipped}) != 1:
        return False
    try:
        exact = _complete_rows(lines, delimiter)
    except csv.Error:
        return True
    return [[cell.lstrip(" ") for cell in row] for row in exact] != [
        [cell.lstrip(" ") for cell in row] for row in skipped
    ]


def _complete_rows(lines: Sequence[str], delimiter: str, *, skips_blanks: bool = False) -> list[list[str]]:
    """The rows that end in these lines; csv.Error where they cannot be read. The last row of a sample may be cut
    off."""
    rows: list[list[str]] = []
    reader = csv_reader(lines, delimiter, quoting=True, strict=True, skips_blanks=skips_blanks)
    try:
        for row in reader:
            if row:
                rows.append(row)
    except csv.Error as error:
        is_sample = len(lines) >= SAMPLE_LINES or sum(map(len, lines)) >= SAMPLE_CHARACTERS
        if not (is_sample and "unexpected end" in str(error)):
            raise
    return rows
