"""Training documents that are evaluated on as well; for `documents.py` and `builddocuments.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from textune.config import DataSection
from textune.data import (
    NUM_EXAMPLES,
    BlockReader,
    Cursor,
    Finding,
    HeldOutTexts,
    Level,
    NeededColumns,
    Rows,
    ShardStream,
    select_texts,
)
from textune.errors import DataError
from textune.metadata import PreparedDocuments
from textune.pipeline.groundwork import Building
from textune.run import Tracker
from textune.wording import count, shorten

LARGE_BYTES = 1e9
"""Size of all shards from which it is said that they are read."""
STAGE = "comparing texts"


def require_unshared(building: Building, documents: PreparedDocuments) -> None:
    """DataError where a held-out document has the text of a training document; with `data.on_shared_text = "report"`,
    a notice. A set that the run knew when it stopped was compared when it began."""
    data, ranks, earlier = building.experiment.data, building.ranks, building.earlier
    known = {} if earlier is None else earlier.data
    splits = documents.data.splits
    own = {name: splits[name] for name in data.held_out if name in splits and not splits[name].is_share}
    rows_of = {name: split.examples.rows for name, split in own.items() if known.get(name) != split.fingerprint}
    findings = shared_documents(data, rows_of, documents.train, building.tracker) if ranks.is_first else []
    shared = ranks.broadcast([(finding.message, finding.examples) for finding in findings])
    if not shared:
        return
    if data.on_shared_text == "report":
        for message, examples in shared:
            building.tracker.notice(f"{message} Such as {examples[0]}")
        return
    message, examples = shared[0]
    raise DataError(
        f"{message} Such as {examples[0]}",
        hint='To train on them all the same, set data.on_shared_text = "report".',
        key="data.on_shared_text",
        value=data.on_shared_text,
        place=examples[0],
        reason=message,
    )


def shared_documents(
    data: DataSection, rows_of: Mapping[str, Rows], train: ShardStream, tracker: Tracker
) -> list[Finding]:
    """An error for each held-out set with texts of training rows, a warning where these are only to be reported; all
    shards of a stream are read once for it, their texts alone. `rows_of`: the sets with rows of their own."""
    texts = {name: select_texts(rows, data.columns)[0] for name, rows in rows_of.items()}
    if not texts or data.on_shared_text == "unchecked":
        return []
    seen = HeldOutTexts(texts)
    for rows in _training_rows(data, train, tracker):
        seen.meet(select_texts(rows, data.columns)[0], rows)
    level: Level = "error" if data.on_shared_text == "error" else "warning"
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
        findings.append(Finding(level, "leak-normalised", message, len(shared), examples))
    return findings


def _training_rows(data: DataSection, train: ShardStream, tracker: Tracker) -> Iterator[Rows]:
    shards = train.shards
    if shards[0].rows is not None:
        yield shards[0].rows
        return
    size = sum(shard.size for shard in shards)
    if size >= LARGE_BYTES:
        tracker.notice(
            f"reading all {count(len(shards), 'shard')} ({size / 1e9:,.0f} GB) once to compare their texts with"
            ' held-out ones; data.on_shared_text = "unchecked" turns it off'
        )
    needed = NeededColumns({data.columns.text: "data.columns.text"})
    total, done, cursor = train.section.num_rows or 0, 0, Cursor()
    with closing(BlockReader(train, needed, seed=0, shuffles=False)) as reader:
        while cursor.epoch == 0:
            block = reader.read(cursor)
            cursor = block.after
            for piece in block.pieces:
                rows = piece.rows("skip")
                done += len(rows)
                yield rows
            # `num_rows` may be wrong: the end is where the shards end.
            shown = done if not total else min(done, total) if cursor.epoch == 0 else total
            tracker.progress(STAGE, shown, total)
