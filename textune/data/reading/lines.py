"""Reader of text files: one row per line, cut into columns by a pattern, or joined with a parallel file of labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.config import FilesSource
from textune.data.reading.delimited import collect
from textune.data.reading.files import BadLine, TextLines, raw_blocks, skip_lines
from textune.data.reading.rows import Piece, Places, SkippedRow
from textune.errors import DataError
from textune.wording import count, listing, shorten


@dataclass(frozen=True)
class Lines:
    """The lines of a file; empty ones are kept, line ends are not."""

    text: pa.ChunkedArray
    """large_string [N]"""
    line_N: np.ndarray
    """int64 [N], from 1."""
    bad: list[BadLine]
    num_lines: int
    """Lines in the file, bad ones included."""


def read_lines(path: Path, encoding: str, skipped: int) -> Lines:
    """The lines of a text file after the first `skipped`; lines with NUL or non-UTF-8 bytes are set aside."""
    lines = TextLines(path.name, raw_blocks(path), encoding)
    skip_lines(lines, skipped, path.name)
    (text,), line_N, bad = collect(_numbered(lines), 1)
    return Lines(text, line_N, bad, lines.number)


def _numbered(lines: TextLines) -> Iterator[tuple[int, tuple[str] | BadLine]]:
    for line in lines:
        problem, lines.problem = lines.problem, None
        yield lines.number, problem or (line.removesuffix("\n").removesuffix("\r"),)


def read_text_file(path: Path, name: str, section: FilesSource, *, labels: Path | None) -> Piece:
    """One text file: column `text`, or the pattern's groups; with `labels`, the column `label` from the parallel
    file."""
    pattern = section.pattern
    lines = read_lines(path, section.encoding, section.skip_lines)
    bad = list(lines.bad)
    if labels is None:
        text, line_N = lines.text, lines.line_N
        label = None
    else:
        text, label, line_N = _join_labels(
            path, lines, labels, read_lines(labels, section.encoding, section.skip_lines), bad
        )
    if pattern is None:
        columns = {"text": text}
        kept = None
    else:
        columns, kept = _match(text, line_N, pattern, bad)
    if label is not None:
        if "label" in columns:
            raise DataError(
                "The pattern has a group 'label', and label_files is also set.",
                hint="Use one of them.",
                key="label_files",
            )
        columns["label"] = label if kept is None else label.take(pa.array(kept))
    bad.sort(key=lambda one: one.line)
    skipped = tuple(SkippedRow(f"{name}, line {one.line}", one.reason, one.hint) for one in bad)
    places = Places.of_file(name, "line", line_N if kept is None else line_N[kept])
    return Piece(pa.table(columns), places, skipped)


def _join_labels(
    path: Path, lines: Lines, labels_path: Path, labels: Lines, bad: list[BadLine]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, np.ndarray]:
    if lines.num_lines != labels.num_lines:
        raise DataError(
            f"{path.name} has {count(lines.num_lines, 'line')}, its label file {labels_path.name} has"
            f" {labels.num_lines:,}.",
            hint="Parallel files need one label per line of text.",
        )
    known = {one.line for one in lines.bad}
    for one in labels.bad:
        if one.line not in known:
            bad.append(BadLine(one.line, f"its label in {labels_path.name}: {one.reason}", one.hint))
    line_N, of_text, of_label = np.intersect1d(lines.line_N, labels.line_N, assume_unique=True, return_indices=True)
    return lines.text.take(pa.array(of_text)), labels.text.take(pa.array(of_label)), line_N


def _match(
    text: pa.ChunkedArray, line_N: np.ndarray, pattern: str, bad: list[BadLine]
) -> tuple[dict[str, pa.ChunkedArray], np.ndarray]:
    """The named groups of each line, and which lines matched."""
    matcher = re.compile(pattern)
    names = list(matcher.groupindex)
    found: dict[str, list[str | None]] = {name: [] for name in names}
    kept: list[int] = []
    for index, line in enumerate(text.to_pylist()):
        match = matcher.fullmatch(line)
        if match is None:
            reason = f"{shorten(line)} does not fit the pattern (groups {listing(names)})"
            bad.append(BadLine(int(line_N[index]), reason))
            continue
        kept.append(index)
        for name in names:
            found[name].append(match[name])
    columns = {name: pa.chunked_array([pa.array(values, pa.large_string())]) for name, values in found.items()}
    return columns, np.array(kept, np.int64)
