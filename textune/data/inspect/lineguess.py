"""Labels in lines of plain text: columns between delimiters, or a pattern that cuts off the label; part of
`guess.py`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from textune.data.inspect.sniff import Layout, sniff_cells
from textune.data.reading import TextLines, raw_blocks

_MAX_LABELS = 200
_MAX_LABEL_LENGTH = 40
_SEPARATORS = ("\t", ";", "|||", "||", "|", "::", "@@", "###", "^", "~", "#", ",", ":", " - ")
_BY_SEPARATOR, _BY_WORD = 3, 4
"""Ranks of patterns."""
_MAX_INSIDE = 0.3
_HEADER_WORDS = {"label", "labels", "class", "category", "text", "sentence", "target", "sentiment", "review"}


@dataclass(frozen=True)
class LinePattern:
    """A regular expression that cuts each line into label and text."""

    pattern: str
    delimiter: str | None = None
    """Between the labels of one line."""
    skip_lines: int = 0
    """Lines before the first row."""
    num_labels: int = 0
    note: str = ""


def find_columns(text: str, encoding: str) -> Layout | None:
    """The layout of lines that all have the same number of cells; None where no delimiter gives that."""
    lines = text.splitlines()
    for delimiter in ("\t", ";", "|", ","):
        if delimiter not in text or all(delimiter * 2 in line for line in lines if line):
            continue
        layout = sniff_cells(text, encoding, "tsv" if delimiter == "\t" else "csv", [delimiter])
        plain = {line.count(delimiter) for line in lines[layout.skip_lines :] if line}
        quoted = layout.quoting == "auto" and delimiter != "\t" and '"' in text
        if len(lines) > 1 and len(layout.names) > 1 and (len(plain) == 1 or quoted):
            return layout
    return None


def find_pattern(path: Path, encoding: str) -> LinePattern | None:
    """The pattern that fits every line of a file and finds a few recurring labels; None if there is none."""
    trials = [_Trial(*one) for one in _patterns()]
    num_lines = 0
    for line in _lines(path, encoding):
        num_lines += 1
        trials = [trial for trial in trials if trial.take(line, is_first=num_lines == 1)]
        if not trials:
            return None
    good = [trial for trial in trials if trial.is_good(num_lines)]
    return min(good, key=lambda trial: (trial.rank, trial.num_labels)).result() if good else None


def _patterns() -> Iterator[tuple[int, str, str | None, str]]:
    """Patterns with their rank (lower is more telling), the delimiter of their labels, and a description."""
    yield 0, r"(?P<label>(?:__label__\S+\s+)+)(?P<text>.*)", "__label__", "labels after __label__"
    yield 1, r"__label__(?P<label>\S+)\s+(?P<text>.*)", None, "a label after __label__"
    yield 2, r"(?P<label>[A-Z]{2,}):\S+ (?P<text>.*)", None, "a label before a colon"
    for separator in _SEPARATORS:
        shown = repr(separator)
        between = r"\s*" + re.escape(separator) + r"\s*"
        yield _BY_SEPARATOR, rf"(?P<label>[^\s].*?){between}(?P<text>.*)", None, f"a label before the first {shown}"
        yield _BY_SEPARATOR, rf"(?P<text>.*){between}(?P<label>.*)", None, f"a label after the last {shown}"
    yield _BY_WORD, r"(?P<label>\S+)\s+(?P<text>.*)", None, "a label as the first word"
    yield _BY_WORD, r"(?P<text>.*)\s+(?P<label>\S+)", None, "a label as the last word"


class _Trial:
    """A pattern tested on the lines of a file until one does not fit."""

    def __init__(self, rank: int, pattern: str, delimiter: str | None, described: str) -> None:
        self.rank = rank
        self._pattern, self._delimiter, self._described = pattern, delimiter, described
        self._matcher = re.compile(pattern)
        self._labels: Counter[str] = Counter()
        self._first = ""
        self._several = False
        self._words: set[str] = set()
        self._num_inside = 0
        """Lines whose text has one of the labels among its words."""

    def take(self, line: str, *, is_first: bool) -> bool:
        """Whether the pattern still fits after this line."""
        match = self._matcher.fullmatch(line)
        if match is None or not match["text"].strip():
            return False
        found = match["label"].split(self._delimiter) if self._delimiter else [match["label"]]
        labels = [label.strip() for label in found if label.strip()]
        if any(len(label) > _MAX_LABEL_LENGTH or not re.search(r"\w", label) for label in labels) or not labels:
            return False
        self._several = self._several or len(labels) > 1
        self._first = labels[0] if is_first else self._first
        self._labels.update(labels)
        if self.rank == _BY_WORD:
            self._words.update(label.lower() for label in labels)
            self._num_inside += not self._words.isdisjoint(match["text"].lower().split())
        return len(self._labels) <= _MAX_LABELS + 1

    @property
    def num_labels(self) -> int:
        return len(self._labels)

    def is_good(self, num_lines: int) -> bool:
        """Whether there are few labels, they recur, and they are not ordinary words of the texts."""
        if self._delimiter is not None:
            return self._several and 2 <= len(self._labels) <= _MAX_LABELS
        counts = self._labels.copy()
        if self._header_in(counts):
            del counts[self._first]
        if self.rank == _BY_WORD and self._num_inside > _MAX_INSIDE * num_lines:
            return False
        if self.rank < _BY_SEPARATOR:
            return 2 <= len(counts) <= _MAX_LABELS
        return 2 <= len(counts) <= min(_MAX_LABELS, max(2, num_lines // 4)) and min(counts.values()) > 1

    def _header_in(self, counts: Counter[str]) -> bool:
        return counts[self._first] == 1 and bool(set(re.findall(r"[a-z]+", self._first.lower())) & _HEADER_WORDS)

    def result(self) -> LinePattern:
        header = self._header_in(self._labels)
        labels = [label for label in self._labels if not (header and label == self._first)]
        return LinePattern(
            self._pattern,
            self._delimiter,
            skip_lines=int(header),
            num_labels=len(labels),
            note=f"Each line is taken as {self._described} and a text (data.train.pattern).",
        )


def _lines(path: Path, encoding: str) -> Iterator[str]:
    for line in TextLines(path.name, raw_blocks(path), encoding):
        text = line.removesuffix("\n").removesuffix("\r")
        if text.strip():
            yield text
