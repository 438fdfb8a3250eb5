"""Finds problems in the data before anything is trained; the last module of the data room, behind `textune check`.

Errors are what cannot train; warnings are what usually means a mistake; notes are facts. Texts are compared as they
are and normalised (Unicode form, case, spacing, punctuation).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from textune.data.columns import Examples
from textune.data.inspect.duplicates import (
    EMPTY_KEY,
    blocks_of,
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
from textune.data.inspect.findings import NUM_EXAMPLES, Finding, Level
from textune.data.inspect.overlap import MIN_SHARING, Overlap, overlap
from textune.data.inspect.shift import label_shift
from textune.data.inspect.tokenfacts import TokenFacts, token_findings
from textune.data.labels import LabelMap, choices_of, describe_alike, look_alike
from textune.data.prepared import PreparedData, Split
from textune.errors import DataError
from textune.wording import count, listing, shorten

MIN_TRAIN_ROWS, MIN_HELD_OUT_ROWS = 30, 10
"""Fewer rows than this are worth a warning."""
MAX_IMBALANCE = 20
"""How many times more rows the largest class may have than the smallest before it is worth a warning."""
_OF_ALL_ROWS = {"one-class", "no-label", "one-score"}
"""Errors that only all training rows together can prove."""


@dataclass(frozen=True, eq=False)
class _Texts:
    """What is kept of the texts of a source; shared by its splits."""

    examples: Examples

    @cached_property
    def exact(self) -> np.ndarray:
        """Key of each text, int64 [N]."""
        return text_keys(joined_blocks(self.examples))

    @cached_property
    def single(self) -> np.ndarray:
        """Key of each of the two texts of a pair, int64 [2, N]."""
        columns = (self.examples.text, self.examples.text_pair)
        return np.stack([text_keys(blocks_of(column)) for column in columns if column is not None])

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
    def single(self) -> np.ndarray:
        """Key of each of the two texts of a pair, int64 [2, n]."""
        return np.asarray(self.texts.single[:, self.split.indices])

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
        findings += _shared_texts(one, splits[0]) if index and choices_of(data.label_maps) else []
    for name, label_map in data.label_maps.items():
        findings += _classes(splits, label_map, name)
        if label_map.choices and data.stream is None:  # the first block of a stream may be all one class
            findings += _shifts(splits, label_map.names, name)
    if tokens is not None:
        findings += token_findings(tokens)
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
        num = len(_overlap(split, earlier, exact, split.exact[None], earlier.exact[None]).other)
        if num:
            message += f" {num:,} of them {'has' if num == 1 else 'have'} another label there."
        findings.append(Finding("warning", "leak-exact", message, len(exact), split.show(exact)))
    plain_N = split.plain
    near = np.flatnonzero(shared(plain_N, earlier.plain) & (plain_N != EMPTY_KEY) & ~exact_N)
    if len(near):
        texts = count(len(near), f"{split.name} text differs", f"{split.name} texts differ")
        where = f"({len(near) / len(split):.1%} of {split.name})"
        message = f"{texts} from one of the {earlier.name} rows only in case, spacing or punctuation {where}."
        findings.append(Finding("warning", "leak-normalised", message, len(near), split.show(near)))
    return findings


def _shared_texts(split: _Audited, train: _Audited) -> list[Finding]:
    """What held-out pairs have in common with training pairs, besides whole pairs, which `_leaks` reports."""
    if split.split.examples.text_pair is None or train.split.examples.text_pair is None:
        return []
    rows = np.flatnonzero(~shared(split.exact, train.exact) & ~split.blank)
    found = _overlap(split, train, rows, split.single, train.single)
    effect = found.effect(len(split))
    if not (effect or found.num_sharing >= MIN_SHARING * len(split)):
        return []
    message = (
        f"{found.num_sharing:,} of {count(len(split), f'{split.name} pair')} ({found.num_sharing / len(split):.1%})"
        f" share a text with training pairs: {len(found.other):,} mostly under another label, {len(found.same):,}"
        " mostly under the same one."
    )
    message += {
        "misleads": " A model that remembers texts will score below chance there.",
        "helps": " A model that remembers texts will score above what it has learned there.",
        "": "",
    }[effect]
    telling = rows[found.same if effect == "helps" else found.other]
    level: Level = "warning" if effect else "note"
    return [Finding(level, "shared-texts", message, found.num_sharing, _beside(split, train, telling))]


def _overlap(split: _Audited, train: _Audited, rows: np.ndarray, keys: np.ndarray, train_keys: np.ndarray) -> Overlap:
    """`overlap` of some rows (int64) of a split; its row numbers count these rows."""
    number = one_number(
        {name: np.concatenate([of_train, split.targets[name][rows]]) for name, of_train in train.targets.items()}
    )
    return overlap(keys[:, rows], number[len(train) :], train_keys, number[: len(train)])


def _beside(split: _Audited, train: _Audited, rows: np.ndarray) -> tuple[str, ...]:
    """The first few of these pairs, each with the first training pair that shares a text with it."""
    examples = []
    for row in rows[:NUM_EXAMPLES]:
        alike = np.isin(train.single, split.single[:, row]).any(axis=0)
        examples.append(" / ".join((*split.show([row]), *train.show(np.flatnonzero(alike)[:1]))))
    return tuple(examples)


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


def _shifts(splits: list[_Audited], names: tuple[str, ...], head: str) -> list[Finding]:
    """Held-out splits whose labels are distributed otherwise than those of the training rows."""
    findings = []
    train_C = _class_counts(splits[0].targets[head], len(names))
    for split in splits[1:]:
        rows_C = _class_counts(split.targets[head], len(names))
        if not (train_C.any() and rows_C.any()):
            continue
        shift = label_shift(train_C, rows_C)
        if not shift.is_certain:
            continue
        before, here = (counts[shift.largest] / counts.sum() for counts in (train_C, rows_C))
        message = (
            f"Labels of the {split.name} rows are distributed otherwise than those of the training rows: the two"
            f" differ by {shift.distance:.1%}, most in {shorten(names[shift.largest])} ({before:.1%} of train,"
            f" {here:.1%} of {split.name})."
        )
        findings.append(
            Finding(
                "warning" if shift.is_large else "note", "label-shift", message, round(shift.distance * len(split))
            )
        )
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


def require_sound(data: PreparedData) -> list[str]:
    """Warnings as sentences; DataError for what cannot be trained on."""
    findings = audit_data(data)
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(" ".join(errors), hint="`textune check` shows the rows.")
    return [
        f"{finding.message} (`textune check` shows the rows)" for finding in findings if finding.level == "warning"
    ]
