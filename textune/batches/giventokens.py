"""Token ids that rows come with to a store; beside `tokens.py`, used by `encode.py`.

Nothing is tokenised, so nothing is kept in the token cache: the file itself holds the ids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from textune.batches.store import TokenStore
from textune.batches.tokens import TextEncoder, refuse_too_long
from textune.data import TokenIds
from textune.errors import DataError

_KEY = "data.columns.tokens"
_TOO_LONG = "Raise tokens.max_length, leave such rows out with tokens.drop_longer, or make shorter token ids."


def given_store(tokens: TokenIds, encoder: TextEncoder, place: Callable[[int], str], *, pair: bool) -> TokenStore:
    """The store of these rows. Token types are kept where the backbone tells the texts of a pair apart: for rows known
    to be of a `pair`, and where any token belongs to a second text.

    DataError for an id that the tokenizer does not have, a row of more than `tokens.max_length` tokens, and pairs
    without token types where the backbone needs them.
    """
    encoder.require_room(pair=pair)
    _require_known(tokens, encoder, place)
    limit = encoder.section.drop_longer
    kept = tokens.lengths if limit is None else np.where(tokens.lengths > limit, 0, tokens.lengths)
    refuse_too_long(kept, encoder.section.longest, place, hint=_TOO_LONG)
    is_pair = pair or (tokens.types is not None and bool(tokens.types.any()))
    names = encoder.columns(pair=is_pair)
    columns = {"ids": tokens.ids}
    if "types" in names:
        if tokens.types is None:
            raise DataError(
                f"{place(0)}: the backbone tells the texts of a pair apart, but the rows have no column"
                " token_type_ids.",
                hint="Encode them again with the tokenizer's token types.",
                key=_KEY,
                place=place(0),
                reason="there is no column token_type_ids",
            )
        columns["types"] = tokens.types
    return TokenStore(
        columns, tokens.offsets, tokens.lengths.astype(np.int32), example=np.arange(len(tokens), dtype=np.int64)
    )


def _require_known(tokens: TokenIds, encoder: TextEncoder, place: Callable[[int], str]) -> None:
    """DataError for the first row with an id that the tokenizer does not have."""
    largest = max(encoder.backend.get_vocab(with_added_tokens=True).values())
    unknown = np.flatnonzero(tokens.ids > largest)
    if len(unknown):
        row = int(np.searchsorted(tokens.offsets, unknown[0], side="right")) - 1
        raise DataError(
            f"{place(row)}: token id {tokens.ids[unknown[0]]} is not one of the backbone's tokenizer, whose last is"
            f" {largest}.",
            hint="Encode the rows with the tokenizer of this backbone.",
            key=_KEY,
            value=int(tokens.ids[unknown[0]]),
            place=place(row),
            reason="it was made by another tokenizer",
        )
