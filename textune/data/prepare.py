"""The data room's builder: sources, columns, labels and splits put together, in the order the rows flow.

read the sources -> settle the labels -> labels to targets -> set rows aside -> PreparedData
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from textune.config import (
    Absent,
    Columns,
    DataSection,
    Labels,
    MetadataPrefix,
    OnBadRow,
    SetAside,
    Source,
    StreamSource,
)
from textune.data.columns import Examples, select_columns
from textune.data.corrections import correct, read_corrections
from textune.data.labels import LABEL, LabelMap, LabelMaps, encode_by_head, has_label, infer_labels, tasks_in
from textune.data.prepared import PreparedData, Split
from textune.data.reading import GivenRows, read_source
from textune.data.shards import RowStream, open_stream, told_of_secrets
from textune.data.splits import key_of, split_rows
from textune.errors import DataError
from textune.wording import count

_SHOWN_NAMES = 8
"""The most label names in a notice."""


def prepare_data(
    section: DataSection,
    *,
    kind: str | None,
    known_names: tuple[str, ...] | None = None,
    stated: LabelMaps = MappingProxyType({}),
    given: GivenRows = MappingProxyType({}),
) -> PreparedData:
    """Read, select, label and split; DataError says what does not fit, and where.

    `kind`: the task's kind (or `auto`); None for a task without labels, which neither needs nor reads a column of
    them. `known_names`: label names in the order that a fine-tuned backbone already has; where the data has the same
    ones and `data.labels` gives no order, that order is kept, and with it the meaning of the backbone's head.
    `stated`: what the section `task` says of the labels itself, which then need not be found in the rows. `given`:
    rows in memory by name, for sources of that kind.
    """
    labels, said = dict(stated), list[str]()
    sources = _read_sources(section, given, labels, with_labels=kind is not None)
    if kind is not None and not labels:
        labels[LABEL], said = _settle_labels(sources, section.labels, kind=kind, known_names=known_names)
    train, stream, seen = _training_rows(sources, section, labels)
    held_out = {
        name: _encoded(name, examples, labels, section, key=key_of(name))
        for name, examples in sources.held_out.items()
    }
    train, shares = _set_aside(train, section, labels)
    if section.corrections is not None:
        train, corrected = correct(train, read_corrections(section.corrections), labels)
        said = [*said, corrected]
    splits = {"train": train} | {name: split for name in section.held_out if (split := (held_out | shares).get(name))}
    return PreparedData(
        splits, labels, (*sources.notes, *said, *seen), section.metadata, None if stream is None else stream.source
    )


def labelled_stream(prepared: PreparedData, section: DataSection) -> RowStream | None:
    """What makes labelled examples of streamed training rows; None where these are not streamed."""
    if prepared.stream is None:
        return None
    return RowStream(
        prepared.stream,
        section.columns,
        section.labels,
        section.on_bad_row,
        section.metadata,
        dict(prepared.label_maps),
    )


def prepare_held_out(
    source: Source,
    *,
    columns: Columns,
    labels: Labels,
    label_maps: LabelMaps,
    on_bad_row: OnBadRow,
    prefix: MetadataPrefix | None = None,
    name: str | None = None,
    given: GivenRows = MappingProxyType({}),
) -> Split:
    """Labelled rows to evaluate a model whose labels are fixed: those of `--data`, or the split `name` of a run.

    Of `--data`, rows without the column of token ids that the run had are texts.
    """
    key = key_of(name) if name is not None else "--data"
    tasks = tasks_in(label_maps)
    examples = _read(
        source,
        _unweighted(columns),
        given,
        key=key,
        on_bad_row=on_bad_row,
        tasks=tasks,
        prefix=prefix,
        may_be_texts=name is None,
    )
    section = DataSection(columns=columns, labels=labels, on_bad_row=on_bad_row)
    return _encoded(name or "test", examples, label_maps, section, key=key)


# --- the steps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sources:
    """Everything that was read, with labels as written."""

    train: Examples
    """All training rows, or the first rows of the stream."""
    stream: RowStream | None
    held_out: dict[str, Examples]
    """By name: rows that have their own source."""

    @property
    def notes(self) -> list[str]:
        """What the readers decided or left out."""
        return [note for examples in (self.train, *self.held_out.values()) for note in examples.rows.notes]


def _read_sources(section: DataSection, given: GivenRows, labels: LabelMaps, *, with_labels: bool) -> _Sources:
    """`labels`: those of several tasks; others are found in what is read here."""
    bad, tasks = section.on_bad_row, tasks_in(labels)
    read = partial(_read, given=given, on_bad_row=bad, with_labels=with_labels, tasks=tasks, prefix=section.metadata)
    stream = None
    if isinstance(section.train, StreamSource):
        assert with_labels, "a stream of rows without labels"
        stream = replace(
            open_stream(section.train, section.columns, section.labels, on_bad_row=bad, prefix=section.metadata),
            label_maps=labels,
        )
        train = stream.first_examples()
    else:
        train = read(section.train, section.columns, key="data.train")
    unweighted = _unweighted(section.columns)
    held_out = {
        name: read(source, unweighted, key=key_of(name))
        for name, source in section.held_out.items()
        if not isinstance(source, SetAside | Absent)
    }
    return _Sources(train, stream, held_out)


def _settle_labels(
    sources: _Sources, section: Labels, *, kind: str, known_names: tuple[str, ...] | None
) -> tuple[LabelMap, list[str]]:
    """The label map of all rows, and notes about it."""
    labels, notices = infer_labels(sources.train, list(sources.held_out.values()), section, kind=kind)
    given = section.names or section.names_file
    if known_names is None or given or labels.multi_hot or known_names == labels.names:
        return labels, [*notices]
    if sorted(known_names) != sorted(labels.names):
        return labels, [*notices]
    kept = f"labels keep the order of the backbone: {', '.join(known_names[:_SHOWN_NAMES])}"
    return replace(labels, names=known_names), [*notices, kept]


def _training_rows(
    sources: _Sources, section: DataSection, labels: LabelMaps
) -> tuple[Split, RowStream | None, list[str]]:
    """All training rows before any are set aside; for a stream, its first block, with notes about it."""
    if sources.stream is None:
        return _encoded("train", sources.train, labels, section, key="data.train"), None, []
    stream = replace(sources.stream, label_maps=labels)
    first = stream.sample()
    examples = replace(first.examples, skipped=())  # the loader counts skipped rows of all blocks
    shards = stream.source.section
    said = [*_of_first_rows(first.examples), *told_of_secrets([*shards.files, *shards.exclude])]
    return Split("train", examples, first.targets, np.arange(len(examples))), stream, said


def _of_first_rows(examples: Examples) -> list[str]:
    """Notes about the first block of a stream, which represents the rows that have not been read yet."""
    notices = [
        f"training rows are streamed; figures about them describe their first {count(len(examples), 'row')} only"
    ]
    if examples.skipped:
        bad = examples.skipped[0]
        notices.append(f"{count(len(examples.skipped), 'more row')} skipped; the first: {bad.place}: {bad.reason}")
    return notices


def _set_aside(train: Split, section: DataSection, labels: LabelMaps) -> tuple[Split, dict[str, Split]]:
    """What is left for training, and the splits taken from training rows: test first, so it depends on no other
    key."""
    shares: dict[str, Split] = {}
    sources = section.held_out
    names = labels[LABEL].choices if LABEL in labels else ()
    for name in ("test", "validation", *section.evaluations):
        source = sources[name]
        if isinstance(source, SetAside):
            examples, rest = train.examples, train.indices
            kept, aside = split_rows(
                examples.rows,
                examples.indices[rest],
                train.chosen_targets,
                source,
                key=key_of(name),
                class_names=names,
            )
            shares[name] = replace(train, name=name, indices=rest[aside], is_share=True)
            train = replace(train, indices=rest[kept])
    return train, shares


def _unweighted(columns: Columns) -> Columns:
    """The same without weights, which only matter to the loss."""
    return columns.model_copy(update={"weight": None})


def _read(
    source: Source,
    columns: Columns,
    given: GivenRows,
    *,
    key: str,
    on_bad_row: OnBadRow,
    with_labels: bool = True,
    tasks: tuple[str, ...] = (),
    prefix: MetadataPrefix | None = None,
    may_be_texts: bool = False,
) -> Examples:
    rows = read_source(source, on_bad_row=on_bad_row, given=given, key=key if key.startswith("data.") else "")
    if rows.table.num_rows == 0:
        raise DataError(
            f"{key}: {rows.source} has no rows.", hint="Check the file, and `where` and `take` if they are set."
        )
    if may_be_texts and columns.tokens not in rows.table.column_names:
        columns = columns.model_copy(update={"tokens": None})
    return select_columns(rows, columns, with_labels=with_labels, tasks=tasks, prefix=prefix, on_bad_row=on_bad_row)


def _encoded(name: str, examples: Examples, labels: LabelMaps, section: DataSection, *, key: str) -> Split:
    """The split of all examples with a usable label, and their targets; of all examples in a task without labels."""
    if not labels:
        return Split(name, examples, {}, np.arange(len(examples)))
    encoded, targets = encode_by_head(examples, labels, section.labels, on_bad_row=section.on_bad_row)
    tasks = tasks_in(labels)
    if len(encoded) == 0 or (tasks and not any(has_label(targets[task]).any() for task in tasks)):
        columns = "labels" if section.columns.labels else "label"
        raise DataError(
            f"{key}: no row of {examples.rows.source} has a usable label.",
            hint=f"Check data.columns.{columns}.",
            key=key,
            place=examples.rows.source,
        )
    return Split(name, encoded, targets, np.arange(len(encoded)))
