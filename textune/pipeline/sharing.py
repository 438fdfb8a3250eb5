"""Training documents that are evaluated on as well; for `documents.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from textune.config import DataSection, Source, StreamSource
from textune.data import (
    NUM_EXAMPLES,
    BlockReader,
    Cursor,
    Finding,
    GivenRows,
    HeldOutTexts,
    NeededColumns,
    Rows,
    key_of,
    open_shards,
    select_texts,
)
from textune.metadata import read_document_rows
from textune.run import Tracker
from textune.wording import count, shorten

LARGE_BYTES = 1e9
"""Size of all shards from which it is said that they are read."""
STAGE = "comparing texts"


def shared_documents(
    data: DataSection, held_out: Mapping[str, Source], given: GivenRows, tracker: Tracker
) -> list[Finding]:
    """An error for each held-out set with texts of training rows; all shards of a stream are read once for it, their
    texts alone. A set that is a share of the training rows is not compared."""
    rows_of = {
        name: read_document_rows(source, data.on_bad_row, given, key=key_of(name)) for name, source in held_out.items()
    }
    texts = {name: select_texts(rows, data.columns)[0] for name, rows in rows_of.items()}
    if not texts:
        return []
    seen = HeldOutTexts(texts)
    for rows in _training_rows(data, given, tracker):
        seen.meet(select_texts(rows, data.columns)[0], rows)
    findings = []
    for name, rows in rows_of.items():
        shared = seen.shared(name)
        if not shared:
            continue
        message = (
            f"{name}: {count(len(shared), 'document')} of {len(rows):,} have the text of a training document (up to"
            " case, spacing and punctuation), so scores on them say nothing of other texts. Remove them on one side,"
            " or leave their files out with data.train.exclude."
        )
        examples = tuple(
            f"{rows.place(one.row)}, also {one.train_place}: {shorten(texts[name][one.row].as_py())}"
            for one in shared[:NUM_EXAMPLES]
        )
        findings.append(Finding("error", "leak-normalised", message, len(shared), examples))
    return findings


def _training_rows(data: DataSection, given: GivenRows, tracker: Tracker) -> Iterator[Rows]:
    if not isinstance(data.train, StreamSource):
        yield read_document_rows(data.train, data.on_bad_row, given, key=key_of("train"))
        return
    stream = open_shards(data.train)
    size = sum(shard.size for shard in stream.shards)
    if size >= LARGE_BYTES:
        shards = f"{count(len(stream.shards), 'shard')} ({size / 1e9:,.0f} GB)"
        tracker.notice(
            f"reading all {shards} once to compare their texts with held-out ones; --no-overlap turns it off"
        )
    needed = NeededColumns({data.columns.text: "data.columns.text"})
    total, done, cursor = data.train.num_rows or 0, 0, Cursor()
    with closing(BlockReader(stream, needed, seed=0, shuffles=False)) as reader:
        while cursor.epoch == 0:
            block = reader.read(cursor)
            cursor = block.after
            for piece in block.pieces:
                rows = piece.rows("skip")
                done += len(rows)
                yield rows
            tracker.progress(STAGE, min(done, total) if cursor.epoch == 0 else total, total)
