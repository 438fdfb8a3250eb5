"""Finds problems in the data before anything is trained; the last module of the data room, behind `textune check`.

Errors are what cannot train; warnings are what usually means a mistake; notes are facts. Texts are compared as they
are and normalised (Unicode form, case, spacing, punctuation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.data.inspect.audited import Audited, Texts
from textune.data.inspect.classcounts import class_findings, label_shifts
from textune.data.inspect.duplicates import EMPTY_KEY, conflicting, one_number, repeated, shared
from textune.data.inspect.findings import NUM_EXAMPLES, Finding, Level
from textune.data.inspect.giveaway import giveaways
from textune.data.inspect.overlap import MIN_SHARING, Overlap, overlap
from textune.data.inspect.tokenfacts import TokenFacts, token_findings
from textune.data.labels import choices_of, has_label
from textune.data.prepared import PreparedData, Split
from textune.errors import DataError
from textune.wording import count, listing, shorten

MIN_TRAIN_ROWS, MIN_HELD_OUT_ROWS = 30, 10
"""Fewer rows than this are worth a warning."""
_OF_ALL_ROWS = {"one-class", "no-label", "one-score"}
"""Errors that only all training rows together can prove."""


def audit_data(data: PreparedData, *, tokens: TokenFacts | None = None) -> list[Finding]:
    """All findings, errors first; without `tokens`, none about tokens."""
    texts = {id(split.examples): Texts(split.examples) for split in data.splits.values()}
    splits = [Audited(split, texts[id(split.examples)]) for split in data.splits.values()]
    findings: list[Finding] = []
    for one in splits:
        findings += _left_out(one.split)
        findings += [] if one.name == "train" and data.stream is not None else _few_rows(one)
        findings += _blank_texts(one)
        findings += _duplicates(one)
        findings += _unlabelled(one)
    for index, one in enumerate(splits):
        for earlier in splits[:index]:
            findings += _leaks(one, earlier)
        findings += _shared_texts(one, splits[0]) if index and choices_of(data.label_maps) else []
    for name, label_map in data.label_maps.items():
        of_head = class_findings(splits, label_map, name)
        if label_map.choices and data.stream is None:  # the first block of a stream may be all one class
            of_head += label_shifts(splits, label_map.names, name)
        if len(data.label_maps) > 1:
            of_head = [replace(finding, message=f"Task {name!r}: {finding.message}") for finding in of_head]
        findings += of_head
    findings += giveaways(splits[0], data.label_maps, data.prefix)
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


def _few_rows(split: Audited) -> list[Finding]:
    if len(split) >= (MIN_TRAIN_ROWS if split.name == "train" else MIN_HELD_OUT_ROWS):
        return []
    what = "what is learned" if split.name == "train" else "a score on so few rows"
    message = f"{split.name} has only {count(len(split), 'row')}: {what} depends largely on chance."
    return [Finding("warning", "few-rows", message, len(split))]


def _blank_texts(split: Audited) -> list[Finding]:
    rows = np.flatnonzero(split.blank)
    if not len(rows):
        return []
    if len(rows) == len(split):
        return [Finding("error", "all-empty", f"All {split.name} texts are empty.", len(rows), split.show(rows))]
    message = f"{count(len(rows), 'text')} of the {split.name} rows {'is' if len(rows) == 1 else 'are'} empty."
    return [Finding("warning", "empty-text", message, len(rows), split.show(rows))]


def _duplicates(split: Audited) -> list[Finding]:
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
    rows = _conflicts(split, key_N)
    rows = rows[~blank_N[rows]]
    if len(rows):
        num = len(np.unique(key_N[rows]))
        message = (
            f"{count(num, 'text')} of the {split.name} rows {'has' if num == 1 else 'have'} different labels"
            " in different rows."
        )
        message += _told_apart_by(split, rows)
        findings.append(Finding("warning", "conflict", message, num, split.show(rows)))
    return findings


def _conflicts(split: Audited, key_N: np.ndarray) -> np.ndarray:
    """Rows whose key has a different label elsewhere, of any head that both have a label for; int64."""
    found: list[np.ndarray] = []
    for name, targets in split.targets.items():
        labelled = np.flatnonzero(has_label(targets))
        found.append(labelled[conflicting(key_N[labelled], one_number({name: targets[labelled]}))])
    return found[0] if len(found) == 1 else np.asarray(np.unique(np.concatenate(found)))


def _told_apart_by(split: Audited, rows: np.ndarray) -> str:
    """Names columns of text that are not read, and differ in most of these rows, whose texts are the same and whose
    labels are not: it may be the other text of a pair. Empty if there are none."""
    examples = split.split.examples
    table = examples.rows.table
    chosen = pa.array(examples.indices[split.split.indices[rows]])
    names = []
    for name in table.column_names:
        if name == examples.label_column or not _is_prose(table.column(name)):
            continue
        values = pc.dictionary_encode(table.column(name).take(chosen).combine_chunks(), null_encoding="encode")
        key_N = len(rows) + np.arange(len(split))
        key_N[rows] = one_number({"text": split.exact[rows], "column": np.asarray(values.indices)})
        if len(_conflicts(split, key_N)) * 2 < len(rows):
            names.append(shorten(name, 30))
    if not names:
        return ""
    return (
        f" They differ in {listing(names, 6)}, which is not read: data.columns.text_pair reads a second text,"
        " data.columns.template several columns as one."
    )


def _is_prose(column: pa.ChunkedArray) -> bool:
    """Whether it holds texts of several words, most of them different."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    several = pc.sum(pc.match_substring(column, " ")).as_py() or 0
    return several * 2 > len(column) and pc.count_distinct(column).as_py() * 2 > len(column)


def _unlabelled(split: Audited) -> list[Finding]:
    """Rows that have a label for none of several tasks."""
    if len(split.targets) < 2:
        return []
    rows = np.flatnonzero(~np.stack([has_label(targets) for targets in split.targets.values()]).any(axis=0))
    if not len(rows):
        return []
    have = "has" if len(rows) == 1 else "have"
    message = f"{count(len(rows), f'{split.name} row')} of {len(split):,} {have} a label for none of the tasks"
    message += f": {'nothing is learned from them' if split.name == 'train' else 'they are not evaluated'}."
    return [Finding("warning", "unlabelled", message, len(rows), split.show(rows))]


def _leaks(split: Audited, earlier: Audited) -> list[Finding]:
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


def _shared_texts(split: Audited, train: Audited) -> list[Finding]:
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


def _overlap(split: Audited, train: Audited, rows: np.ndarray, keys: np.ndarray, train_keys: np.ndarray) -> Overlap:
    """`overlap` of some rows (int64) of a split; its row numbers count these rows."""
    number = one_number(
        {name: np.concatenate([of_train, split.targets[name][rows]]) for name, of_train in train.targets.items()}
    )
    return overlap(keys[:, rows], number[len(train) :], train_keys, number[: len(train)])


def _beside(split: Audited, train: Audited, rows: np.ndarray) -> tuple[str, ...]:
    """The first few of these pairs, each with the first training pair that shares a text with it."""
    examples = []
    for row in rows[:NUM_EXAMPLES]:
        alike = np.isin(train.single, split.single[:, row]).any(axis=0)
        examples.append(" / ".join((*split.show([row]), *train.show(np.flatnonzero(alike)[:1]))))
    return tuple(examples)


def require_sound(findings: Sequence[Finding]) -> list[str]:
    """Warnings as sentences; DataError for what cannot be trained on."""
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(" ".join(errors), hint="`textune check` shows the rows.")
    return [
        f"{finding.message} (`textune check` shows the rows)" for finding in findings if finding.level == "warning"
    ]
