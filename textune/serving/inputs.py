"""The texts of a request, in the forms that several shapes share; before `shapes/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import Field

from textune.config import Columns
from textune.data import given_fields, given_rows
from textune.prediction import ModelCard
from textune.serving.refusals import Refusal
from textune.wording import listing

Fields = Annotated[
    dict[str, str | list[str | None]] | None,
    Field(
        default=None,
        description="For a model that reads columns before each text: their values by name, one for all texts or one"
        " for each. A text without a field is read without it.",
    ),
]
"""The key of a request."""


class Given(NamedTuple):
    """The texts of a request."""

    texts: Sequence[str]
    pairs: Sequence[str] | None
    is_one: bool
    """Whether there is one text, not a list of them."""


def read_inputs(inputs: str | Sequence[str] | Sequence[Sequence[str]], card: ModelCard, *, max_batch: int) -> Given:
    """Texts as text-embeddings-inference takes them; Refusal for none, too many, or texts beside pairs."""
    if isinstance(inputs, str):
        return Given([inputs], None, is_one=True)
    if not inputs:
        raise Refusal("unusable", "`inputs` cannot be empty.")
    flat = [text for text in inputs if isinstance(text, str)]
    takes_pairs = card.columns.text_pair is not None
    if flat and takes_pairs and len(flat) == 2:
        return Given(flat[:1], flat[1:], is_one=True)
    if flat and takes_pairs and len(flat) > 2:
        raise Refusal("unusable", "`inputs` are single texts, and the model takes pairs: [[text, second text], ...].")
    items = [[text] for text in flat] or [list(item) for item in inputs]
    if len(items) > max_batch:
        raise Refusal("too_large", f"batch size {len(items)} > maximum allowed batch size {max_batch}")
    sizes = {len(item) for item in items}
    if sizes == {1}:
        return Given([text for (text,) in items], None, is_one=len(flat) == 1)
    if sizes == {2}:
        return Given([text for text, _ in items], [second for _, second in items], is_one=False)
    raise Refusal("unusable", "each item of `inputs` is one text or a pair of texts, and all of them are alike.")


def field_columns(
    given: Mapping[str, str | Sequence[str | None]] | None, card: ModelCard, num_texts: int
) -> tuple[pa.ChunkedArray, ...]:
    """large_string [n] of each column that stands before texts; none where a request has no fields. Refusal for a
    column that the model does not read, or another number of values; DataError where one that it needs is missing."""
    if not given:
        return ()
    columns = () if card.metadata is None else card.metadata.columns
    if unknown := [name for name in given if name not in columns]:
        read = f"it reads {listing(columns)}" if columns else "it reads texts alone"
        raise Refusal("unusable", f"`fields` has {unknown[0]!r:.80}, which the model does not read: {read}.")
    values: dict[str, Sequence[str | None]] = {
        name: [value] * num_texts if isinstance(value, str) else value for name, value in given.items()
    }
    for name, of_column in values.items():
        if len(of_column) != num_texts:
            raise Refusal("unusable", f"`fields.{name}` has {len(of_column)} values for {num_texts} texts.")
    rows = given_rows(values, Columns(text=next(iter(values))), card.metadata)
    return given_fields(rows, card.metadata)
