"""The splits of a run to token rows, each text once; refuses rows that fit no batch. After `cache.py`, before
`plan.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from textune.batches.encode import RowTexts, open_row_store
from textune.batches.layout import NO_PADDING, Padding
from textune.batches.order import require_drawable
from textune.batches.rows import TokenRows
from textune.batches.store import RowStore
from textune.batches.tokens import TextEncoder
from textune.config import TokensSection, TrainSection
from textune.data import PreparedData, Split
from textune.errors import ConfigError, DataError

Progress = Callable[[str, int, int], None]
"""Called with the name of a split, the rows done and the rows in all."""


def tokenise(
    data: PreparedData,
    encoder: TextEncoder,
    section: TokensSection,
    *,
    progress: Progress,
    notice: Callable[[str], None],
) -> tuple[PreparedData, dict[str, TokenRows]]:
    """The token rows of each split, and the data without the rows that `tokens.drop_longer` leaves out.

    Splits of one source share its store. DataError if a split has no rows left.
    """
    stores: dict[int, RowStore] = {}
    said: list[str] = []  # each split says the same
    for split in data.splits.values():
        examples = split.examples
        if id(examples) not in stores:
            stores[id(examples)] = open_row_store(
                RowTexts.of(examples),
                encoder,
                section,
                progress=partial(progress, split.name),
                notice=said.append,
            )
    for message in dict.fromkeys(said):
        notice(message)
    limit = section.drop_longer
    if limit is not None:
        data = data.map_splits(lambda split: _shortened(split, stores[id(split.examples)], limit, notice))
    rows = {
        name: TokenRows(stores[id(split.examples)], split.indices, split.targets, split.examples.weight)
        for name, split in data.splits.items()
    }
    return data, rows


def _shortened(split: Split, store: RowStore, limit: int, notice: Callable[[str], None]) -> Split:
    shorter = split.only(store.shorter_examples(limit))
    if len(shorter) == 0:
        raise DataError(
            f"tokens.drop_longer = {limit} leaves no {split.name} rows.",
            hint="Raise it.",
            key="tokens.drop_longer",
            value=limit,
        )
    if len(shorter) < len(split):
        notice(f"{len(split) - len(shorter)} of {len(split)} {split.name} rows left out: longer than {limit} tokens.")
    return shorter


def require_weights(section: TrainSection, train: Split) -> None:
    """DataError if rows are to be drawn by weight and no training row has any."""
    if section.order == "weighted":
        weights = train.examples.weight
        if weights is not None and weights.ndim > 1:
            raise DataError(
                'train.order = "weighted" draws rows by their weights, but they have a weight for each task.',
                hint="Give each row one number, or choose another train.order.",
                key="train.order",
                value=section.order,
            )
        require_drawable(None if weights is None else weights[train.indices])


def require_budget(
    key: str, limit: int | str, rows: Mapping[str, TokenRows], data: PreparedData, padding: Padding = NO_PADDING
) -> None:
    """ConfigError where a single row of these splits exceeds the token budget that `key` sets; `"auto"` fits any
    row."""
    if not isinstance(limit, int):
        return
    for name, of_split in rows.items():
        lengths = of_split.row_lengths
        longest = int(padding.widths(lengths).max())
        if longest > limit:
            example = of_split.store.example[of_split.rows[lengths.argmax()]]
            place = data.splits[name].examples.place(int(example))
            raise ConfigError(
                f"{key} = {limit} is smaller than the longest {name} row: {place} has {longest} tokens"
                f"{'' if padding == NO_PADDING else ', padding included'}.",
                hint=f"Use {key} = {longest} or more, or lower tokens.max_length.",
                key=key,
                value=limit,
                place=place,
            )
