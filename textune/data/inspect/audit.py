"""Finds problems in the data before anything is trained; the last module of the data room, behind `textune check`.

Errors are what cannot train; warnings are what usually means a mistake; notes are facts. Texts are compared as they
are and normalised (Unicode form, case, spacing, punctuation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from textune.data.columns import Examples
from textune.data.inspect.duplicates import (
    EMPTY_KEY,
    conflicting,
    is_blank,
    joined_blocks,
    joined_text,
    normalised,
    one_number,
    repeated,
    shared,
    text_keys,
)
from textune.data.labels import LabelMap, describe_alike, look_alike
from textune.data.prepared import PreparedData, Split
from textune.errors import DataError
from textune.wording import count, listing, shorten

Level = Literal["error", "warning", "note"]

NUM_EXAMPLES = 3
MIN_TRAIN_ROWS, MIN_HELD_OUT_ROWS = 30, 10
"""Fewer rows than this are worth a warning."""
MAX_IMBALANCE = 20
"""How many times more rows the largest class may have than the smallest before it is worth a warning."""
MAX_TRUNCATED, MAX_UNKNOWN = 0.1, 0.01
_OF_ALL_ROWS = {"one-class", "no-label", "one-score"}
"""Errors that only all training rows together can prove."""


@dataclass(frozen=True)
class Finding:
    """One thing that the audit found."""

    level: Level
    code: str
    """A short name that stays the same, such as `leak-exact`."""
    message: str
    count: int
    """How many rows, labels or tokens are affected."""
    examples: tuple[str, ...] = ()
    """Up to three of them: place and shortened text."""


@dataclass(frozen=True)
class TokenFacts:
    """What tokenising the splits showed."""

    lengths: Mapping[str, np.ndarray]
    """Tokens of each row after truncation, int64 [N], by split."""
    truncated: Mapping[str, int] = field(default_factory=dict)
    """Rows that lost tokens, by split."""
    max_length: int | None = None
    num_unknown: int = 0
    """Unknown tokens in all splits."""
    num_tokens: int = 0
    """Tokens that were searched for unknown ones."""
    padding_share: float | None = None
    """Share of computed tokens that a padded run of the same batches would waste."""


@dataclass(frozen=True, eq=False)
class _Texts:
    """What is kept of the texts of a source; shared by its splits."""

    examples: Examples

    @cached_property
    def exact(self) -> np.ndarray:
        """Key of each text, int64 [N]."""
        return text_keys(joined_blocks(self.examples))

    @cached_property
    def plain(self) -> np.ndarray:
        """Key of each normalised text, int64 [N]."""
        return text_keys(normalised(block) for block in joined_blocks(self.examples))

    @cached_property
    def blank(self) -> np.ndarray:
        """Whether each text holds nothing but white space, bool [N]."""
        return np.concatenate([np.zeros(0, bool), *(is_blank(block) for block in joined_blocks(self.examples))])


@dataclass(frozen=True, eq=False)
class _Audited:
    """A split and the texts of its source."""

    split: Split
    texts: _Texts

    @property
    def name(self) -> str:
        return self.split.name

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """By head."""
        return self.split.chosen_targets

    @property
    def exact(self) -> np.ndarray:
        """Key of each text, int64 [n]."""
        return np.asarray(self.texts.exact[self.split.indices])

    @property
    def plain(self) -> np.ndarray:
        """Key of each normalised text, int64 [n]."""
        return np.asarray(self.texts.plain[self.split.indices])

    @property
    def blank(self) -> np.ndarray:
        """Whether each text holds nothing but white space, bool [n]."""
        return np.asarray(self.texts.blank[self.split.indices])

    def __len__(self) -> int:
        return len(self.split)

    def show(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Places and texts of the first few rows."""
        examples = self.split.examples
        chosen = [int(self.split.indices[row]) for row, _ in zip(rows, range(NUM_EXAMPLES), strict=False)]
        return tuple(f"{examples.place(index)}: {shorten(joined_text(examples, index))}" for index in chosen)


def audit_data(data: PreparedData, *, tokens: TokenFacts | None = None) -> list[Finding]:
    """All findings, errors first; without `tokens`, none about tokens."""
    texts = {id(split.examples): _Texts(split.examples) for split in data.splits.values()}
    splits = [_Audited(split, texts[id(split.examples)]) for split in data.splits.values()]
    findings: list[Finding] = []
    for one in splits:
        findings += _left_out(one.split)
        findings += [] if one.name == "train" and data.stream is not None else _few_rows(one)
        findings += _blank_texts(one)
        findings += _duplicates(one)
    for index, one in enumerate(splits):
        for earlier in splits[:index]:
            findings += _leaks(one, earlier)
    for name, label_map in data.label_maps.items():
        findings += _classes(splits, label_map, name)
    if tokens is not None:
        findings += _token_findings(tokens)
    if data.stream is not None:  # later rows may have what the first block does not
        findings = [
            replace(finding, level="warning") if finding.code in _OF_ALL_ROWS else finding for finding in findings
        ]
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: rank[finding.level])


def _left_out(split: Split) -> list[Finding]:
    """Rows left out of a split; the scores of a held-out split say nothing about them."""
    findings = []
    if split.unread and not split.is_share:  # rows set aside are reported with the training rows
        examples = tuple(f"{row.place}: {row.reason}" for row in split.skipped[:NUM_EXAMPLES])
        findings.append(Finding("warning", "left-out", split.unread, len(split.skipped), examples))
    if split.too_long:
        findings.append(
            Finding("note" if split.name == "train" else "warning", "too-long", split.too_long, split.num_longer)
        )
    return findings


def _few_rows(split: _Audited) -> list[Finding]:
    if len(split) >= (MIN_TRAIN_ROWS if split.name == "train" else MIN_HELD_OUT_ROWS):
        return []
    what = "what is learned" if split.name == "train" else "a score on so few rows"
    message = f"{split.name} has only {count(len(split), 'row')}: {what} depends largely on chance."
    return [Finding("warning", "few-rows", message, len(split))]


def _blank_texts(split: _Audited) -> list[Finding]:
    rows = np.flatnonzero(split.blank)
    if not len(rows):
        return []
    if len(rows) == len(split):
        return [Finding("error", "all-empty", f"All {split.name} texts are empty.", len(rows), split.show(rows))]
    message = f"{count(len(rows), 'text')} of the {split.name} rows {'is' if len(rows) == 1 else 'are'} empty."
    return [Finding("warning", "empty-text", message, len(rows), split.show(rows))]


def _duplicates(split: _Audited) -> list[Finding]:
    findings = []
    key_N, blank_N = split.exact, split.blank
    again = repeated(key_N)
    again = again[~blank_N[again]]
    if len(again):
        num = len(np.unique(key_N[again]))
        message = (
            f"{count(num, 'text occurs', 'texts occur')} {'twice' if num == len(again) else 'more than once'} in the"
        )
        message += f" {split.name} rows."
        if num < len(again):
            message += f" {count(len(again), 'row repeats', 'rows repeat')} an earlier one."
        findings.append(Finding("warning", "duplicate", message, len(again), split.show(again)))
    target_N = one_number(split.targets)
    rows = conflicting(key_N, target_N)
    rows = rows[~blank_N[rows]]
    if len(rows):
        num = len(np.unique(key_N[rows]))
        message = (
            f"{count(num, 'text')} of the {split.name} rows {'has' if num == 1 else 'have'} different labels"
            " in different rows."
        )
        findings.append(Finding("warning", "conflict", message, num, split.show(rows)))
    return findings


def _leaks(split: _Audited, earlier: _Audited) -> list[Finding]:
    """Rows of a later split that an earlier one holds too."""
    findings = []
    exact_N = shared(split.exact, earlier.exact) & ~split.blank
    exact = np.flatnonzero(exact_N)
    if len(exact):
        texts = count(len(exact), f"{split.name} text is", f"{split.name} texts are")
        message = f"{texts} also in the {earlier.name} rows ({len(exact) / len(split):.1%} of {split.name})."
        findings.append(Finding("warning", "leak-exact", message, len(exact), split.show(exact)))
    plain_N = split.plain
    near = np.flatnonzero(shared(plain_N, earlier.plain) & (plain_N != EMPTY_KEY) & ~exact_N)
    if len(near):
        texts = count(len(near), f"{split.name} text differs", f"{split.name} texts differ")
        where = f"({len(near) / len(split):.1%} of {split.name})"
        message = f"{texts} from one of the {earlier.name} rows only in case, spacing or punctuation {where}."
        findings.append(Finding("warning", "leak-normalised", message, len(near), split.show(near)))
    return findings


def _classes(splits: list[_Audited], label_map: LabelMap, head: str) -> list[Finding]:
    if not label_map.choices:
        return _scores(splits[0], head)
    names, train = label_map.names, splits[0]
    rows_C = _class_counts(train.targets[head], len(names))
    findings = [_count_note(one, names, head) for one in splits]
    present = np.flatnonzero(rows_C)
    if label_map.exclusive and len(present) < 2:
        found = shorten(names[int(present[0])]) if len(present) else "none"
        findings.append(Finding("error", "one-class", f"The training rows have only one class: {found}.", len(train)))
        return findings
    if not len(present):
        findings.append(Finding("error", "no-label", "No training row has a label.", len(train)))
        return findings
    absent = np.flatnonzero(rows_C == 0)
    if len(absent):
        which = listing((repr(names[index]) for index in absent), 6)
        message = f"{count(len(absent), 'label has', 'labels have')} no training row: {which}."
        findings.append(Finding("warning", "class-untrained", message, len(absent)))
    all_rows_C = sum(_class_counts(one.targets[head], len(names)) for one in splits)
    for what, places in look_alike(names):
        nums = [int(num) for num in np.asarray(all_rows_C)[places]]
        message = describe_alike(what, [names[place] for place in places], nums)
        findings.append(Finding("warning", "labels-alike", message, sum(nums)))
    single = np.flatnonzero(rows_C == 1)
    if len(single):
        which = listing((repr(names[index]) for index in single), 6)
        message = f"{count(len(single), 'label has', 'labels have')} only one training row: {which}."
        findings.append(Finding("warning", "class-single", message, len(single)))
    most, least = int(rows_C.max()), int(rows_C[present].min())
    if most > MAX_IMBALANCE * least:
        large, small = names[int(rows_C.argmax())], names[int(present[rows_C[present].argmin()])]
        message = (
            f"Classes are imbalanced: {large!r} has {most:,} training rows, {small!r} has {least:,};"
            " see task.class_weights."
        )
        findings.append(Finding("warning", "imbalance", message, most // least))
    for split in splits[1:]:
        lacking = np.flatnonzero((_class_counts(split.targets[head], len(names)) == 0) & (rows_C > 0))
        if len(lacking):
            which = listing((repr(names[index]) for index in lacking), 6)
            message = f"{count(len(lacking), 'label has', 'labels have')} no {split.name} row: {which}."
            findings.append(Finding("warning", "class-unseen", message, len(lacking)))
    return findings


def _class_counts(targets: np.ndarray, num_classes: int) -> np.ndarray:
    if targets.ndim == 2:
        return np.asarray(targets.sum(axis=0).astype(np.int64))
    return np.bincount(targets, minlength=num_classes)


def _count_note(split: _Audited, names: tuple[str, ...], head: str) -> Finding:
    rows_C = _class_counts(split.targets[head], len(names))
    order = np.argsort(-rows_C, kind="stable")
    shown = listing((f"{names[index]} {rows_C[index]:,}" for index in order), 8)
    return Finding("note", "classes", f"{split.name}: {count(len(split), 'row')}; {shown}.", len(split))


def _scores(split: _Audited, head: str) -> list[Finding]:
    values = split.targets[head]
    if len(values) > 1 and values.min() == values.max():
        return [Finding("error", "one-score", f"Every training row has the score {values[0]:g}.", len(values))]
    message = (
        f"train: {count(len(values), 'row')}; scores from {values.min():g} to {values.max():g}, "
        f"mean {values.mean(dtype=np.float64):.3g}, deviation {values.std(dtype=np.float64):.3g}."
    )
    return [Finding("note", "scores", message, len(values))]


def _token_findings(tokens: TokenFacts) -> list[Finding]:
    findings = []
    for name, lengths in tokens.lengths.items():
        if not len(lengths):
            continue
        low, middle, high, top = (int(value) for value in np.percentile(lengths, [0, 50, 95, 100]))
        message = f"{name} rows have {low} to {top} tokens, half of them at most {middle}, 95 % at most {high}."
        findings.append(Finding("note", "lengths", message, int(lengths.sum())))
        cut = tokens.truncated.get(name, 0)
        if cut:
            level: Level = "warning" if cut > MAX_TRUNCATED * len(lengths) else "note"
            limit = f" {tokens.max_length}" if tokens.max_length is not None else ""
            message = (
                f"{count(cut, f'{name} row')} ({cut / len(lengths):.1%}) lose tokens:"
                f" longer than tokens.max_length{limit}."
            )
            findings.append(Finding(level, "truncated", message, cut))
    if tokens.num_unknown:
        rate = tokens.num_unknown / max(tokens.num_tokens, 1)
        level = "warning" if rate > MAX_UNKNOWN else "note"
        message = f"{rate:.2%} of the tokens ({tokens.num_unknown:,}) are unknown to the tokenizer."
        findings.append(Finding(level, "unknown-tokens", message, tokens.num_unknown))
    if tokens.padding_share is not None:
        used = int(tokens.lengths["train"].sum()) if "train" in tokens.lengths else 0
        wasted = round(used * tokens.padding_share / max(1 - tokens.padding_share, 1e-9))
        message = f"With padding, a run would spend {tokens.padding_share:.0%} of its computation on it."
        findings.append(Finding("note", "padding", message, wasted))
    return findings


def require_sound(data: PreparedData) -> list[str]:
    """Warnings as sentences; DataError for what cannot be trained on."""
    findings = audit_data(data)
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(" ".join(errors), hint="`textune check` shows the rows.")
    return [
        f"{finding.message} (`textune check` shows the rows)" for finding in findings if finding.level == "warning"
    ]
