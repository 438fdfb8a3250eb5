"""The data room's builder: sources, columns, labels and splits put together; its result is all that later rooms know of
rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from textune.config import Absent, Columns, DataSection, HeldOut, Labels, OnBadRow, Source, Split, StreamSource
from textune.data.columns import Examples, select_columns
from textune.data.labels import LabelMap, encode_labels, infer_labels
from textune.data.reading import SkippedRow, read_source
from textune.data.shards import RowStream, open_stream, told_of_secrets
from textune.data.splits import split_rows
from textune.errors import DataError
from textune.wording import count


@dataclass(frozen=True)
class Part:
    """Rows used for one purpose.

    `examples` and `targets` are those of the whole source, so that a source is tokenised once however it is split; `indices`
    int64 [N] are the rows of this part.
    """

    name: str
    """`train`, `validation`, `test`, or the name of an evaluation set."""
    examples: Examples
    targets: np.ndarray
    indices: np.ndarray
    is_share: bool = False
    """Whether the rows were set aside from the training source."""
    num_longer: int = 0
    """Rows left out because of `tokens.drop_longer`."""

    def __len__(self) -> int:
        return len(self.indices)

    def only(self, keep: np.ndarray) -> Part:
        """The same part with only those indices for which `keep` (bool, one for each row of `examples`) holds."""
        kept = self.indices[keep[self.indices]]
        return replace(self, indices=kept, num_longer=self.num_longer + len(self) - len(kept))

    @property
    def skipped(self) -> tuple[SkippedRow, ...]:
        """Rows of the part's own source that were left out (`data.on_bad_row`); those of a share count for training."""
        return () if self.is_share else self.examples.skipped

    @property
    def num_left_out(self) -> int:
        """Rows that the part would have but for `data.on_bad_row` and `tokens.drop_longer`."""
        return len(self.skipped) + self.num_longer

    @property
    def unread(self) -> str:
        """What to say of rows that `data.on_bad_row` left out: how many of how many, and the first; empty for none."""
        skipped = self.examples.skipped
        if not skipped:
            return ""
        total, were = len(self.examples) + len(skipped), "was" if len(skipped) == 1 else "were"
        first = f"the first: {skipped[0].place}: {skipped[0].reason}"
        if self.is_share:
            rows = f"{len(skipped):,} of {count(total, 'row')} of {self.examples.rows.source}"
            return f"{rows} {were} left out before the {self.name} rows were set aside; {first}."
        return f"{_share(len(skipped), total, self.name)} {were} left out; {first}."

    @property
    def too_long(self) -> str:
        """What to say of rows that `tokens.drop_longer` left out; empty for none."""
        if not self.num_longer:
            return ""
        rows = _share(self.num_longer, len(self) + self.num_longer, self.name)
        return f"{rows} {'was' if self.num_longer == 1 else 'were'} left out: longer than tokens.drop_longer."

    def place(self, position: int) -> str:
        """Where a row of this part stands in its file."""
        return self.examples.place(int(self.indices[position]))

    @property
    def chosen_examples(self) -> Examples:
        """The examples of this part alone."""
        return self.examples.take(self.indices)

    @property
    def chosen_targets(self) -> np.ndarray:
        """The targets of this part alone."""
        return np.asarray(self.targets[self.indices])

    @property
    def fingerprint(self) -> str:
        """Hash of the part's source; splits of one source share it."""
        return self.examples.rows.fingerprint


def _share(num: int, total: int, name: str) -> str:
    return f"{num:,} of {count(total, f'{name} row')} ({num / total:.1%})"


@dataclass(frozen=True)
class PreparedData:
    """All rows of a run, with labels as numbers."""

    label_map: LabelMap
    train: Part
    validation: Part | None
    test: Part | None
    notices: tuple[str, ...]
    """What was decided or noticed on the way, in sentences."""
    evaluations: tuple[Part, ...] = ()
    """The rows of `data.evaluations`, in that order."""
    stream: RowStream | None = None
    """Where the training rows are streamed: all of them; `train` holds the first block then."""

    @property
    def skipped(self) -> tuple[SkippedRow, ...]:
        """Rows left out because `data.on_bad_row` is `skip`."""
        return tuple(row for part in self.parts for row in part.skipped)

    @property
    def num_rows(self) -> dict[str, int | None]:
        """Rows of each part; None for a stream of unknown length."""
        known: dict[str, int | None] = {part.name: len(part) for part in self.parts}
        return known if self.stream is None else known | {"train": self.stream.section.num_rows}

    @property
    def train_targets(self) -> np.ndarray | None:
        """Targets of all training rows, for the baselines of a report; None of a stream."""
        return None if self.stream is not None else self.train.chosen_targets

    @property
    def parts(self) -> list[Part]:
        """The parts that exist, in order."""
        return [part for part in (self.train, self.validation, self.test, *self.evaluations) if part is not None]

    def map_parts(self, change: Callable[[Part], Part]) -> PreparedData:
        """The same with every part changed."""
        return replace(
            self,
            train=change(self.train),
            validation=None if self.validation is None else change(self.validation),
            test=None if self.test is None else change(self.test),
            evaluations=tuple(map(change, self.evaluations)),
        )


def prepare_data(section: DataSection, *, kind: str, known_names: tuple[str, ...] | None = None) -> PreparedData:
    """Read, select, label and split; `kind` is the task's kind (or `auto`). DataError says what does not fit, and where.

    `known_names`: label names in the order that a fine-tuned backbone already has; where the data has the same ones and
    `data.labels` gives no order, that order is kept, so that the backbone's head keeps its meaning.
    """
    bad: OnBadRow = section.on_bad_row
    stream: RowStream | None = None
    if isinstance(section.train, StreamSource):
        stream = open_stream(section.train, section.columns, section.labels, on_bad_row=bad)
        train = stream.first_examples()
    else:
        train = _read(section.train, section.columns, name="data.train", bad=bad)
    unweighted = section.columns.model_copy(update={"weight": None})  # weights belong to the loss
    held_out = {"validation": section.validation, "test": section.test, **section.evaluations}
    own = {
        name: _read(source, unweighted, name=key_of(name), bad=bad)
        for name, source in held_out.items()
        if not isinstance(source, Split | Absent)
    }
    others = list(own.values())
    label_map, notices = infer_labels(train, others, section.labels, kind=kind)
    notices = (*(note for examples in (train, *others) for note in examples.rows.notes), *notices)

    given = section.labels.names or section.labels.names_file
    if (
        known_names
        and not given
        and not label_map.multi_hot
        and known_names != label_map.names
        and sorted(known_names) == sorted(label_map.names)
    ):
        label_map = replace(label_map, names=known_names)
        notices = (*notices, f"the labels keep the order that the backbone has: {', '.join(known_names[:8])}")

    if stream is not None:
        stream = replace(stream, label_map=label_map)
        first = stream.sample()
        notices = (*notices, *_of_first_rows(first.examples), *told_of_secrets(stream.section.files))
        examples, targets = replace(first.examples, skipped=()), first.targets  # the loader counts those of all blocks
    else:
        examples, targets = _encode(train, label_map, section.labels, name="data.train", bad=bad)
    rest = np.arange(len(examples))
    parts: dict[str, Part] = {}
    for name in ("test", "validation", *section.evaluations):  # in this order rows are set aside
        source = held_out[name]
        if isinstance(source, Split):
            kept, aside = split_rows(examples.rows, examples.indices[rest], targets[rest], source, key=key_of(name))
            parts[name] = Part(name, examples, targets, rest[aside], is_share=True)
            rest = rest[kept]
        elif name in own:
            own_examples, own_targets = _encode(own[name], label_map, section.labels, name=key_of(name), bad=bad)
            parts[name] = Part(name, own_examples, own_targets, np.arange(len(own_examples)))
    return PreparedData(
        label_map=label_map,
        train=Part("train", examples, targets, rest),
        validation=parts.get("validation"),
        test=parts.get("test"),
        notices=tuple(notices),
        evaluations=tuple(parts[name] for name in section.evaluations if name in parts),
        stream=stream,
    )


def key_of(name: str) -> str:
    """The configuration key of a split or an evaluation set."""
    return f"data.{name}" if name in ("train", "validation", "test") else f"data.evaluations.{name}"


def _of_first_rows(examples: Examples) -> list[str]:
    """What to say of the first block of a stream, which stands for the rows that nobody has seen yet."""
    notices = [f"the training rows are streamed: what is said of them is of their first {count(len(examples), 'row')} only"]
    if examples.skipped:
        bad = examples.skipped[0]
        notices.append(f"{count(len(examples.skipped), 'row')} beside them left out, the first: {bad.place}: {bad.reason}")
    return notices


def prepare_held_out(
    source: Source,
    *,
    columns: Columns,
    labels: Labels,
    label_map: LabelMap,
    on_bad_row: OnBadRow,
    name: str | None = None,
) -> Part:
    """Labelled rows for evaluating a model whose label map is fixed: those of `--data`, or the part `name` of a run."""
    unweighted = columns.model_copy(update={"weight": None})
    key = key_of(name) if name is not None else "--data"
    examples = _read(source, unweighted, name=key, bad=on_bad_row)
    examples, targets = _encode(examples, label_map, labels, name=key, bad=on_bad_row)
    return Part(name or "test", examples, targets, np.arange(len(examples)))


def _read(source: HeldOut, columns: Columns, *, name: str, bad: OnBadRow) -> Examples:
    assert not isinstance(source, Split | Absent), f"{name} has no rows of its own"
    rows = read_source(source, on_bad_row=bad)
    if rows.table.num_rows == 0:
        raise DataError(f"{name}: {rows.source} has no rows.", hint="Check the file, and `where` and `take` if they are set.")
    return select_columns(rows, columns, with_labels=True, on_bad_row=bad)


def _encode(
    examples: Examples, label_map: LabelMap, labels: Labels, *, name: str, bad: OnBadRow
) -> tuple[Examples, np.ndarray]:
    encoded, targets = encode_labels(examples, label_map, labels, on_bad_row=bad)
    if len(encoded) == 0:
        raise DataError(
            f"{name}: no row of {examples.rows.source} has a label that can be used.", hint="Check data.columns.label."
        )
    return encoded, targets
