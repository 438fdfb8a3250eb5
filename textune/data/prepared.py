"""The rows of a run by split, as the rooms after `data` see them; made by `prepare.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from textune.config import MetadataPrefix
from textune.data.columns import Examples
from textune.data.labels import LabelMap, LabelMaps
from textune.data.reading import SkippedRow
from textune.data.shards import ShardStream
from textune.wording import count


@dataclass(frozen=True, eq=False)
class Split:
    """Rows used for one purpose.

    `examples` and `targets` cover the whole source, so a source is tokenised once, however it is split; `indices`
    int64 [N] are the examples of this split.
    """

    name: str
    """`train`, `validation`, `test`, or the name of an evaluation set."""
    examples: Examples
    targets: Mapping[str, np.ndarray]
    """By head: [E] or [E, C] over all examples; empty for a task without labels."""
    indices: np.ndarray
    is_share: bool = False
    """Whether the rows were set aside from the training source."""
    corrections: str = ""
    """Hash of the corrections of these rows; empty without any."""
    num_longer: int = 0
    """Rows left out because of `tokens.drop_longer`."""
    num_unscored: int = 0
    """Documents of a language model that are among these, and of which no token is scored."""

    def __len__(self) -> int:
        return len(self.indices)

    def only(self, kept: np.ndarray) -> Split:
        """The same split with only those of its examples that are in `kept` (int64); the others count as too long."""
        indices = self.indices[np.isin(self.indices, kept)]
        return replace(self, indices=indices, num_longer=self.num_longer + len(self) - len(indices))

    @property
    def skipped(self) -> tuple[SkippedRow, ...]:
        """Rows of the split's own source that were left out (`data.on_bad_row`); for a share, training counts them."""
        return () if self.is_share else self.examples.skipped

    @property
    def num_left_out(self) -> int:
        """Rows of the source that are not judged: bad ones, longer ones, and documents without a scored token."""
        return len(self.skipped) + self.num_longer + self.num_unscored

    @property
    def unread(self) -> str:
        """A sentence about rows that `data.on_bad_row` left out: how many of how many, and the first; empty for
        none."""
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
        """A sentence about rows that `tokens.drop_longer` left out; empty for none."""
        if not self.num_longer:
            return ""
        rows = _share(self.num_longer, len(self) + self.num_longer, self.name)
        return f"{rows} {'was' if self.num_longer == 1 else 'were'} left out: longer than tokens.drop_longer."

    @property
    def chosen_examples(self) -> Examples:
        """The examples of this split alone."""
        return self.examples.take(self.indices)

    @property
    def chosen_targets(self) -> dict[str, np.ndarray]:
        """The targets of this split alone, [N] or [N, C] by head."""
        return {name: targets[self.indices] for name, targets in self.targets.items()}

    @property
    def fingerprint(self) -> str:
        """Hash of the split's source; splits of one source share it, but for rows that are corrected."""
        source = self.examples.rows.fingerprint
        return f"{source}-{self.corrections}" if self.corrections else source


def _share(num: int, total: int, name: str) -> str:
    return f"{num:,} of {count(total, f'{name} row')} ({num / total:.1%})"


@dataclass(frozen=True, eq=False)
class PreparedData:
    """All rows of a run, with labels as numbers."""

    splits: dict[str, Split]
    """By name: `train`, then `validation` and `test` if they exist, then the sets of `data.evaluations`."""
    label_maps: LabelMaps
    """What each head predicts, by its name; empty for a task without labels."""
    notices: tuple[str, ...] = ()
    """Decisions and observations along the way, as sentences."""
    prefix: MetadataPrefix | None = None
    """Columns that are written before each text."""
    stream: ShardStream | None = None
    """All training rows if they are streamed; `train` then holds the first of them."""

    @property
    def train(self) -> Split:
        """The training rows, or the first of them."""
        return self.splits["train"]

    @property
    def validation(self) -> Split | None:
        """The rows that choose the best model."""
        return self.splits.get("validation")

    @property
    def test(self) -> Split | None:
        """The rows of the final report."""
        return self.splits.get("test")

    @property
    def label_map(self) -> LabelMap:
        """The label map of a task with one head."""
        (label_map,) = self.label_maps.values()
        return label_map

    @property
    def skipped(self) -> tuple[SkippedRow, ...]:
        """Rows left out because `data.on_bad_row` is `skip`."""
        return tuple(row for split in self.splits.values() for row in split.skipped)

    @property
    def train_targets(self) -> dict[str, np.ndarray] | None:
        """Targets of all training rows by head, for the baselines of a report; None for a stream, and where rows have
        no labels."""
        return None if self.stream is not None or not self.train.targets else self.train.chosen_targets

    @property
    def num_rows(self) -> dict[str, int | None]:
        """Rows of each split; None for a stream of unknown length."""
        known: dict[str, int | None] = {name: len(split) for name, split in self.splits.items()}
        return known if self.stream is None else known | {"train": self.stream.section.num_rows}

    @property
    def fingerprints(self) -> dict[str, str]:
        """Hash of each split's source."""
        return {name: split.fingerprint for name, split in self.splits.items()}

    @property
    def num_left_out(self) -> dict[str, int]:
        """Rows left out of each split, for any reason."""
        return {name: split.num_left_out for name, split in self.splits.items()}

    def map_splits(self, change: Callable[[Split], Split]) -> PreparedData:
        """The same with every split changed."""
        return replace(self, splits={name: change(split) for name, split in self.splits.items()})
