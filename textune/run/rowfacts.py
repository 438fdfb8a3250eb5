"""What is known of evaluated rows beside their labels and answers: where they stand, what they are, how long; for
`report.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from textune.batches import TokenRows
from textune.data import Examples, content_numbers, slice_rows
from textune.evaluation import RowFacts, ScoredRows, document_numbers
from textune.tasks import TOKENS
from textune.wording import listing


def facts_of(examples: Examples, rows: TokenRows, scored: ScoredRows, slices: Sequence[str]) -> RowFacts:
    """The facts of the examples that were scored, or of those documents that were; `rows`: their tokens, `slices`:
    columns of theirs. Errors as `slice_rows`."""
    documents = document_numbers(scored)
    if documents is None:
        tokens, truncated = rows.raw_lengths, rows.truncated
    else:  # whose chunks lose no token
        examples = examples.take(documents)
        tokens = next(iter(scored.by_head.values())).targets[:, TOKENS]
        truncated = np.zeros(len(documents), bool)
    return RowFacts(
        row=examples.rows.numbers(examples.indices),
        content=content_numbers(examples),
        tokens=tokens.astype(np.int32),
        truncated=truncated,
        slicings=slice_rows(examples, slices),
    )


def slices_here(examples: Examples, names: Sequence[str], notice: Callable[[str], None]) -> list[str]:
    """The columns of `evaluate.slices` that these examples have; other files than those of a run may lack some, which
    is said. Errors as `slice_rows`, before anything is scored."""
    found = examples.rows.table.column_names
    if lacking := [name for name in names if name not in found]:
        notice(f"{examples.rows.source} has no column {listing(map(repr, lacking))}: no slices by it")
    present = [name for name in names if name in found]
    slice_rows(examples, present)
    return present
