"""What `tokens.max_length = "auto"` stands for, from the lengths of training rows; after `tokens.py`.

The rule is that of AzureML's AutoML for text: 128 tokens, or 256 where a tenth of the rows are longer than 128.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from textune.batches.encode import RowTexts, make_row_store
from textune.batches.tokens import TextEncoder
from textune.config import LONG_ROWS, SHORT_ROWS, MetadataPrefix, TokensSection
from textune.data import Split
from textune.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MANY = 0.1
"""Share of the rows that are longer than `SHORT_ROWS` from which `LONG_ROWS` is used."""
SAMPLED_ROWS = 1000
"""Rows whose lengths are looked at, evenly spread: all rows are tokenised later, when the length is known."""


class MaxLength(NamedTuple):
    """The longest row in tokens, and how that number came about."""

    tokens: int
    reason: str


def choose_max_length(
    section: TokensSection,
    tokenizer: PreTrainedTokenizerBase,
    train: Split,
    *,
    earlier: int | None,
    prefix: MetadataPrefix | None = None,
    others: Iterable[Split] = (),
) -> MaxLength:
    """The longest row of a run, whatever the backbone has positions for; a run that continues keeps its `earlier`
    one. Rows that come as token ids are not cut: it is then the longest of these and of the `others`."""
    if section.max_length != "auto":
        return MaxLength(section.max_length, "tokens.max_length")
    if earlier is not None:
        return MaxLength(earlier, "as before the run stopped")
    given = [split.examples.tokens for split in (train, *others) if split.examples.tokens is not None]
    if given:
        lengths = np.concatenate([tokens.lengths for tokens in given])
        if section.drop_longer is not None:
            lengths = lengths[lengths <= section.drop_longer]
        return MaxLength(int(lengths.max(initial=2)), "auto: the longest row of token ids")
    if section.truncate == "error":
        return MaxLength(LONG_ROWS, 'auto, where tokens.truncate = "error" refuses longer rows')
    lengths = _sampled_lengths(section, tokenizer, train, prefix)
    if section.drop_longer is not None:
        lengths = lengths[lengths <= section.drop_longer]
    num_longer = int((lengths > SHORT_ROWS).sum())
    share = num_longer / max(len(lengths), 1)
    chosen = LONG_ROWS if share >= MANY else SHORT_ROWS
    return MaxLength(
        chosen, f"auto: {share:.1%} of {count(len(lengths), 'training row')} are longer than {SHORT_ROWS}"
    )


def _sampled_lengths(
    section: TokensSection, tokenizer: PreTrainedTokenizerBase, train: Split, prefix: MetadataPrefix | None
) -> np.ndarray:
    """Tokens of rows evenly spread over the training rows, before truncation, int32 [S]."""
    whole = section.model_copy(update={"max_length": np.iinfo(np.int32).max, "truncate": "head"})
    places = np.linspace(0, len(train) - 1, min(SAMPLED_ROWS, len(train))).round().astype(np.int64)
    chosen, examples = train.indices[places], train.examples
    return make_row_store(RowTexts.of(examples.take(chosen)), TextEncoder(tokenizer, whole, prefix=prefix)).raw_lengths
