"""What the audit finds in the labels of one head: classes without rows, too few rows or too many, and shifts between
splits; used by `audit.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textune.data.inspect.audited import Audited
from textune.data.inspect.findings import Finding, Level, Numbers
from textune.data.inspect.shift import label_shift
from textune.data.labels import LabelMap, describe_alike, has_label, look_alike
from textune.wording import count, listing, shorten

MAX_IMBALANCE = 20
"""How many times more rows the largest class may have than the smallest before it is worth a warning."""


def class_findings(splits: Sequence[Audited], label_map: LabelMap, head: str) -> list[Finding]:
    """What is wrong with the classes of the head of that name, and how many rows each has; the training rows come
    first among the splits."""
    if not label_map.choices:
        return _scores(splits[0], head)
    names, train = label_map.names, splits[0]
    rows_C = _class_counts(train.targets[head], len(names))
    findings = [_count_note(one, names, head) for one in splits]
    present = np.flatnonzero(rows_C)
    if not len(present):
        findings.append(Finding("error", "no-label", "No training row has a label.", len(train)))
        return findings
    if label_map.exclusive and len(present) < 2:
        found = shorten(names[int(present[0])])
        findings.append(Finding("error", "one-class", f"The training rows have only one class: {found}.", len(train)))
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
        numbers: Numbers = {"most": most, "least": least}
        findings.append(Finding("warning", "imbalance", message, most // least, set="train", numbers=numbers))
    for split in splits[1:]:
        lacking = np.flatnonzero((_class_counts(split.targets[head], len(names)) == 0) & (rows_C > 0))
        if len(lacking):
            which = listing((repr(names[index]) for index in lacking), 6)
            message = f"{count(len(lacking), 'label has', 'labels have')} no {split.name} row: {which}."
            findings.append(Finding("warning", "class-unseen", message, len(lacking)))
    return findings


def label_shifts(splits: Sequence[Audited], names: tuple[str, ...], head: str) -> list[Finding]:
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
        level: Level = "warning" if shift.is_large else "note"
        num = round(shift.distance * len(split))
        numbers: Numbers = {
            "distance": float(shift.distance),
            "before": float(before),
            "here": float(here),
        }
        findings.append(Finding(level, "label-shift", message, num, set=split.name, numbers=numbers))
    return findings


def _class_counts(targets: np.ndarray, num_classes: int) -> np.ndarray:
    if targets.ndim == 2:
        return np.asarray(targets.sum(axis=0).astype(np.int64))
    return np.bincount(targets[has_label(targets)], minlength=num_classes)


def _count_note(split: Audited, names: tuple[str, ...], head: str) -> Finding:
    rows_C = _class_counts(split.targets[head], len(names))
    order = np.argsort(-rows_C, kind="stable")
    shown = listing((f"{names[index]} {rows_C[index]:,}" for index in order), 8)
    num_without = int((~has_label(split.targets[head])).sum())
    without = f", {num_without:,} of them without a label" if num_without else ""
    message = f"{split.name}: {count(len(split), 'row')}{without}; {shown}."
    classes = {names[index]: int(rows_C[index]) for index in order}
    numbers: Numbers = {"rows": len(split), "without_label": num_without, "classes": classes}
    return Finding("note", "classes", message, len(split), set=split.name, numbers=numbers)


def _scores(split: Audited, head: str) -> list[Finding]:
    values = split.targets[head]
    if len(values) > 1 and values.min() == values.max():
        return [Finding("error", "one-score", f"Every training row has the score {values[0]:g}.", len(values))]
    least, most = float(values.min()), float(values.max())
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    message = (
        f"train: {count(len(values), 'row')}; scores from {least:g} to {most:g}, "
        f"mean {mean:.3g}, deviation {deviation:.3g}."
    )
    numbers: Numbers = {"least": least, "most": most, "mean": mean, "deviation": deviation}
    return [Finding("note", "scores", message, len(values), set=split.name, numbers=numbers)]
