"""A split as the audit sees it: its targets, and the keys of its texts; used by `audit.py` and `classcounts.py`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from textune.data.columns import Examples
from textune.data.inspect.duplicates import blocks_of, is_blank, joined_blocks, joined_text, normalised, text_keys
from textune.data.inspect.findings import NUM_EXAMPLES
from textune.data.prepared import Split
from textune.wording import shorten


@dataclass(frozen=True, eq=False)
class Texts:
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
class Audited:
    """A split and the texts of its source."""

    split: Split
    texts: Texts

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
