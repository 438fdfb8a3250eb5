"""What is proposed for rows that nobody has described: how to read and split them, and a backbone; for `init` and for
rows in memory.

Guess (columns, labels) --all rows read as training will--> what had to be changed, what is left to the user
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from textune.config import BACKBONES, Absent, DataSection, SplitOff, StarterFacts, num_epochs, validation_ratio
from textune.data import (
    GivenRows,
    Guess,
    PreparedData,
    RowsGuess,
    Split,
    TextFacts,
    audit_data,
    find_files,
    names_beside,
    prepare_data,
    size_of,
    text_facts,
)
from textune.errors import DataError
from textune.pipeline.backbones import ProposedBackbone, expected_time, propose_backbone
from textune.wording import count, listing

SHOWN_LABELS = 12
_SAMPLED = 2000
"""Texts whose language and length are looked at."""
_MAX_READ = 2 << 30
"""Up to this many bytes, the proposal is tried on all rows."""
_MAX_LEFT_OUT = 0.2
"""Share of rows that may be left out before the proposal counts as wrong."""


# --- the rows, read as proposed --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """The result of reading the files as proposed."""

    section: DataSection | None = None
    """The proposal, with what had to be changed."""
    data: PreparedData | None = None
    notes: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()


def try_files(guess: Guess) -> Tried:
    """The files read as training will; nothing where the user has to settle something first."""
    if guess.unsettled:
        return Tried()
    section = DataSection(
        train=guess.source,
        validation=guess.validation or SplitOff(ratio=validation_ratio(guess.num_rows)),
        test=guess.test or Absent(),
        columns=guess.columns,
        labels=guess.labels,
    )
    sources = [source for source in (guess.source, guess.validation, guess.test) if source is not None]
    if sum(size_of(path) for source in sources for path in find_files(source.files)) > _MAX_READ:
        return Tried(section, notes=("The files are large, so not all rows were tried: `textune check` does that.",))
    return try_rows(section, guess.task)


def try_rows(section: DataSection, kind: str, given: GivenRows = MappingProxyType({})) -> Tried:
    """Read, label and split the rows as training will; obstacles are worked around or left to the user. `given`: rows
    in memory that the section names."""
    first: DataError | None = None
    for attempt, note in _attempts(section):
        try:
            data = prepare_data(attempt, kind=kind, given=given)
        except DataError as error:
            first = first or error
            continue
        left_out = len(data.skipped)
        if left_out > _MAX_LEFT_OUT * (left_out + sum(map(len, data.splits.values()))):
            break
        if left_out:
            bad = data.skipped[0]
            note = f"{count(left_out, 'row')} cannot be used and {'is' if left_out == 1 else 'are'} left out "
            note += f'(data.on_bad_row = "skip"); the first is {bad.place}: {bad.reason}.'
        findings = audit_data(data)
        errors = tuple(finding.message for finding in findings if finding.level == "error")
        # Only the warning that the proposed classes may not be the intended ones.
        alike = [finding.message for finding in findings if finding.code == "labels-alike"]
        return Tried(attempt, data, (*([note] if note else []), *data.notices, *alike), errors)
    return Tried(unsettled=(str(first),))


def with_names(guess: Guess, tried: Tried) -> tuple[Guess, Tried]:
    """The same, with names for numeric labels if a file next to the data has as many names."""
    names = class_names(tried.data)
    if not names or not all(map(str.isdigit, names)):
        return guess, tried
    found = names_beside(Path(guess.source.files[0]).parent, max(map(int, names)) + 1)
    if found is None:
        return guess, tried
    named = replace(
        guess,
        labels=guess.labels.model_copy(update={"names_file": str(found)}),
        notes=(*guess.notes, f"{found.name}, next to the data, names the labels (data.labels.names_file)."),
    )
    again = try_files(named)
    return (named, again) if not again.unsettled else (guess, tried)


def _attempts(section: DataSection) -> Iterator[tuple[DataSection, str]]:
    """The section, then variants that work around rows which cannot be used or set aside."""
    yield section, ""
    for bad in ("error", "skip"):
        changed = section.model_copy(update={"on_bad_row": bad})
        if bad == "skip":
            yield changed, ""
        if isinstance(section.validation, SplitOff):
            split = section.validation.model_copy(update={"stratify": False})
            yield (
                changed.model_copy(update={"validation": split}),
                "Some classes have too few rows to be split class by class: data.validation.stratify is off.",
            )
            yield (
                changed.model_copy(update={"validation": Absent()}),
                "There are too few rows to set some aside: no rows are left to evaluate the model on.",
            )


def class_names(data: PreparedData | None) -> tuple[str, ...]:
    return () if data is None else data.label_map.choices


def starter_facts(guess: RowsGuess, tried: Tried, *, model: str, remark: str) -> StarterFacts:
    """What a configuration says of the rows and the backbone, whatever they are read from."""
    names = class_names(tried.data)
    section = tried.section
    return StarterFacts(
        files=(),
        text=guess.columns.text,
        text_pair=guess.columns.text_pair,
        label=guess.columns.label if guess.has_label and not guess.columns.labels else None,
        label_columns=guess.columns.labels,
        validation={} if section is None else _set_aside(section),
        skips_bad_rows=section is not None and section.on_bad_row == "skip",
        columns=guess.column_names,
        task=tried.data.label_map.problem if tried.data else guess.task,
        labels=names[:SHOWN_LABELS],
        num_labels=len(names) or None,
        num_rows=guess.num_rows,
        label_delimiter=guess.labels.delimiter,
        pretrained=model,
        model_remark=remark,
    )


def _set_aside(section: DataSection) -> Mapping[str, object]:
    """The keys of validation rows that are taken from the training rows, if they are."""
    if isinstance(section.validation, SplitOff):
        return {} if section.validation.stratify else {"stratify": False}
    return {"kind": "none"} if isinstance(section.validation, Absent) else {}


def chosen_in_words(guess: RowsGuess, data: PreparedData | None) -> dict[str, str]:
    """What was decided, one line each."""
    pair = guess.columns.text_pair
    chosen = {"text": guess.columns.text + (f" and {pair} (a pair)" if pair is not None else "")}
    if guess.has_label:
        chosen["label"] = ", ".join(guess.columns.labels) or guess.columns.label
    if data is not None:
        names = class_names(data)
        what = f"{count(len(names), 'class', 'classes')}: {listing(names, 6)}" if names else "the number in each row"
        chosen["task"] = f"{data.label_map.problem}, {what}"
        chosen["rows"] = ", ".join(f"{len(split):,} for {_PURPOSES[name]}" for name, split in data.splits.items())
    return chosen


_PURPOSES = {"train": "training", "validation": "validation", "test": "the test"}


# --- the backbone ----------------------------------------------------------------------------------------------------


def backbone_for(pretrained: str | None, tried: Tried, *, near: Sequence[Path] = ()) -> tuple[ProposedBackbone, str]:
    """The backbone, and about how long it trains; `near`: where to look for a model folder without a network."""
    train = None if tried.data is None else tried.data.splits["train"]
    facts = TextFacts() if train is None else text_facts(_sample(train))
    if pretrained:
        found = ProposedBackbone(pretrained, backbone=BACKBONES.get(pretrained))
    else:
        found = propose_backbone(facts, near=near)
    if train is None or not found.pretrained:
        return found, ""
    return found, expected_time(found.backbone, facts, len(train) * num_epochs(len(train)))


def _sample(train: Split) -> Iterator[str]:
    """Some of the texts, from the whole of the rows; with the second text of a pair."""
    examples, indices = train.examples, train.indices[:: max(1, len(train) // _SAMPLED)]
    columns = [column for column in (examples.text, examples.text_pair) if column is not None]
    for texts in zip(*(column.take(pa.array(indices)).to_pylist() for column in columns), strict=True):
        yield " ".join(texts)
