"""The rows of an evaluation in a file, `NAME.rows.parquet`, and back: label, answer and score of each row.

EvaluatedSet --write_rows--> parquet, one row each, with a description as JSON --read_rows--> the same, bit for bit

What several runs are compared by, and what decisions and suspicions are made of, is read here and nowhere else. Rows
are written and read in blocks; nothing is built that is larger than the arrays of N numbers, and the scores that an
evaluation keeps (`reduction.MAX_SCORES`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from textune.atomic import written_aside
from textune.config import AutoTask
from textune.data import LabelMap, Slicing
from textune.errors import RunError
from textune.evaluation.evaluated import EvaluatedSet, RowFacts, positions_of
from textune.evaluation.heads import ScoredRows
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import metric_called
from textune.evaluation.rowcolumns import (
    NAME,
    SCORES,
    Arrays,
    Unreadable,
    columns_of,
    ids_in,
    numbers_in,
    score_lists,
    scores_in,
)
from textune.evaluation.scored import Scored
from textune.jsontext import parse_json
from textune.tasks import Decision, Head, build_task

ROWS_SUFFIX = ".rows.parquet"
"""Ends the name of such a file."""
VERSION = 1
MAX_BLOCK = 1 << 20
"""Numbers (rows x scores) written or read at once."""
_DESCRIPTION = b"textune"
"""Where the description stands in the metadata of the schema."""
_SLICE = "slice:"
_FACTS = {"row": pa.int64(), "content": pa.uint64(), "tokens": pa.int32(), "truncated": pa.bool_()}
_LOSSES = {"task_loss": "row_losses", "task_weight": "row_weights"}
"""Columns of the task's own loss, kept where the main metric needs it, and the fields of `Scored` that they are."""
_DECISION = TypeAdapter(Decision)
_DAMAGE = (
    Unreadable,
    pa.ArrowException,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AssertionError,
    OverflowError,
)
"""What reading damaged bytes raises."""


@dataclass(frozen=True)
class _HeadLayout:
    """How the rows of one head stand in a file."""

    head: Head
    extras: tuple[str, ...]
    """Columns beside those of its kind: its own loss, scores."""
    prefix: str
    """Before the name of each column, where there are several heads."""

    @property
    def fields(self) -> dict[str, pa.DataType]:
        """The columns, by their names in the file."""
        kinds = columns_of(self.head).fields()
        kinds |= {name: SCORES if name == "scores" else pa.float64() for name in self.extras}
        return {self.prefix + name: kind for name, kind in kinds.items()}


def _layouts(heads: Sequence[Head], extras: Sequence[Sequence[str]]) -> list[_HeadLayout]:
    several = len(heads) > 1
    return [
        _HeadLayout(head, tuple(own), f"{head.name}/" if several else "")
        for head, own in zip(heads, extras, strict=True)
    ]


def _schema(layouts: Sequence[_HeadLayout], slices: Sequence[str]) -> pa.Schema:
    kinds = _FACTS | {_SLICE + name: NAME for name in slices}
    for layout in layouts:
        kinds |= layout.fields
    return pa.schema(list(kinds.items()))


# --- writing ---------------------------------------------------------------------------------------------------------


def write_rows(evaluated: EvaluatedSet, path: Path) -> None:
    """Write the file; a reader sees the old one or the new one. OSError where the disk does not take it."""
    scored, facts = evaluated.scored, evaluated.facts
    extras = [_extras(scored.by_head.get(head.name)) for head in scored.heads]
    layouts = _layouts(scored.heads, extras)
    description = json.dumps(_described(evaluated, extras), ensure_ascii=False, allow_nan=False)
    schema = _schema(layouts, [slicing.column for slicing in facts.slicings])
    schema = schema.with_metadata({_DESCRIPTION: description.encode()})
    with written_aside(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for block in _blocks(scored.num_rows, scored.heads):
            columns = _fact_columns(facts, block)
            for layout in layouts:
                columns |= _head_columns(layout, scored, block)
            writer.write_batch(pa.record_batch([columns[name] for name in schema.names], schema=schema))


def _blocks(num_rows: int, heads: Sequence[Head]) -> Iterator[slice]:
    step = _rows_at_once(heads)
    return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))


def _rows_at_once(heads: Sequence[Head]) -> int:
    return max(1, MAX_BLOCK // max(head.answers.num_scores for head in heads))


def _described(evaluated: EvaluatedSet, extras: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What the columns do not say."""
    main = evaluated.main
    return {
        "version": VERSION,
        "set": evaluated.name,
        "dataset": evaluated.dataset,
        "fingerprint": evaluated.fingerprint,
        "metric": main.name,
        "metric_by_head": {head: metric.name for head, metric in main.by_head.items()},
        "heads": [
            {
                "name": head.name,
                "problem": head.label_map.problem,
                "names": list(head.labels),
                "decision": _DECISION.dump_python(head.decision, mode="json"),
                "extras": list(own),
            }
            for head, own in zip(evaluated.scored.heads, extras, strict=True)
        ],
        "slices": [{"column": slicing.column, "values": list(slicing.values)} for slicing in evaluated.facts.slicings],
    }


def _extras(scored: Scored | None) -> list[str]:
    """Which columns a head has beside those of its kind."""
    if scored is None:
        return []
    losses = [column for column, field in _LOSSES.items() if getattr(scored, field) is not None]
    return [*losses, *(["scores"] if scored.ranked.scores is not None else [])]


def _fact_columns(facts: RowFacts, block: slice) -> dict[str, pa.Array]:
    columns = {name: pa.array(getattr(facts, name)[block], kind) for name, kind in _FACTS.items()}
    for slicing in facts.slicings:
        codes, values = slicing.slice_N[block], pa.array(slicing.values, pa.string())
        columns[_SLICE + slicing.column] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values)
    return columns


def _head_columns(layout: _HeadLayout, scored: ScoredRows, block: slice) -> dict[str, pa.Array]:
    """The columns of one head in a block; rows without a label for it leave them empty."""
    of_head, num = scored.by_head.get(layout.head.name), block.stop - block.start
    if of_head is None:
        return {name: pa.nulls(num, kind) for name, kind in layout.fields.items()}
    positions = positions_of(scored, layout.head.name)
    first, behind = np.searchsorted(positions, (block.start, block.stop))
    found = of_head.take(np.arange(first, behind))
    columns = columns_of(layout.head).written(found)
    columns |= {name: pa.array(getattr(found, field)) for name, field in _LOSSES.items() if name in layout.extras}
    wide = {name: _at(column, positions[first:behind] - block.start, num) for name, column in columns.items()}
    if "scores" in layout.extras:
        wide["scores"] = _score_column(of_head, positions, block)
    return {layout.prefix + name: column for name, column in wide.items()}


def _score_column(of_head: Scored, positions: np.ndarray, block: slice) -> pa.Array:
    """The scores in a block, of the rows whose scores are kept."""
    ranked = of_head.ranked
    assert ranked.scores is not None
    kept = positions if of_head.sample is None else np.asarray(ranked.rows)
    first, behind = np.searchsorted(kept, (block.start, block.stop))
    return _at(score_lists(ranked.scores[first:behind]), kept[first:behind] - block.start, block.stop - block.start)


def _at(column: pa.Array, place: np.ndarray, num: int) -> pa.Array:
    """The values at these places of `num` rows; the others are empty."""
    if len(place) == num:
        return column
    which = np.full(num, -1)
    which[place] = np.arange(len(place))
    return column.take(pa.array(which, mask=which < 0))


# --- reading ---------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> EvaluatedSet:
    """What `write_rows` wrote; RunError where there is no such file, where it is damaged or of a later version."""
    if not path.is_file():
        raise RunError(f"{path} is not there.", hint=_AGAIN, place=str(path), reason="there is no such file")
    try:
        with pq.ParquetFile(path) as file:
            return _read(file, path)
    except _DAMAGE as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise RunError(f"{path} is damaged: {reason}.", hint=_AGAIN, place=str(path), reason=reason) from error


_AGAIN = "Make it again: `textune evaluate RUN --set SET`."


def _read(file: pq.ParquetFile, path: Path) -> EvaluatedSet:
    told: dict[str, Any] = parse_json((file.schema_arrow.metadata or {}).get(_DESCRIPTION, b"null").decode())
    if not isinstance(told, dict):
        raise Unreadable("it does not say what it holds")
    if told["version"] != VERSION:
        raise RunError(
            f"{path} was written by a later version of textune.",
            hint="Upgrade textune to read it.",
            place=str(path),
            value=told["version"],
            reason="it is of a later version",
        )
    heads = tuple(_head(one) for one in told["heads"])
    layouts = _layouts(heads, [one["extras"] for one in told["heads"]])
    slices = {str(one["column"]): tuple(map(str, one["values"])) for one in told["slices"]}
    expected = _schema(layouts, list(slices))
    if not file.schema_arrow.equals(expected, check_metadata=False):
        raise Unreadable(f"its columns are not those of its heads: {', '.join(file.schema_arrow.names)}")
    num_rows = file.metadata.num_rows
    facts = {name: np.zeros(num_rows, kind.to_pandas_dtype()) for name, kind in _FACTS.items()}
    codes = {name: np.zeros(num_rows, np.int32) for name in slices}
    gathered = [_Gathered(layout, num_rows) for layout in layouts]
    start = 0
    for batch in file.iter_batches(batch_size=_rows_at_once(heads)):
        block = slice(start, start + batch.num_rows)
        for name, values in facts.items():
            values[block] = numbers_in(batch.column(name), name)
        for name, known in slices.items():
            codes[name][block] = ids_in(batch.column(_SLICE + name), pa.array(known, pa.string()), may_lack=True)
        for one in gathered:
            one.add(batch, start)
        start = block.stop
    by_head = {one.layout.head.name: found for one in gathered if (found := one.finish()) is not None}
    metrics = {head: metric_called(name) for head, name in told["metric_by_head"].items()}
    return EvaluatedSet(
        name=str(told["set"]),
        dataset=str(told["dataset"]),
        fingerprint=str(told["fingerprint"]),
        main=MainMetric(str(told["metric"]), metrics),
        scored=ScoredRows(heads, num_rows, by_head),
        facts=RowFacts(**facts, slicings=tuple(Slicing(name, slices[name], codes[name]) for name in slices)),
    )


def _head(told: dict[str, Any]) -> Head:
    """A head with the labels, and the rule of decision, of the one that answered."""
    label_map = LabelMap(told["problem"], tuple(map(str, told["names"])))
    decision = _DECISION.validate_python(told["decision"])
    head = build_task(AutoTask(), {told["name"]: label_map}, decisions={told["name"]: decision}).head
    if not decision.fits(head.answers.num_scores, exclusive=label_map.exclusive):
        raise Unreadable(f"the rule of decision does not fit the labels of {head.name}")
    return head


class _Gathered:
    """The rows of one head, block by block."""

    def __init__(self, layout: _HeadLayout, num_rows: int) -> None:
        self.layout = layout
        self._num_rows = num_rows
        self._columns = columns_of(layout.head)
        self._kept: dict[str, Any] = {**layout.head.answers.zeros(num_rows)}
        self._kept |= {_LOSSES[name]: np.zeros(num_rows) for name in layout.extras if name in _LOSSES}
        self._has_N = np.zeros(num_rows, bool)
        self._ranked_N = np.zeros(num_rows, bool)
        self._scores: list[np.ndarray] = []

    def add(self, batch: pa.RecordBatch, start: int) -> None:
        """The rows from number `start` on."""
        prefix, answers = self.layout.prefix, self.layout.head.answers
        columns = {name.removeprefix(prefix): batch.column(name) for name in self.layout.fields}
        has = columns[next(iter(self._columns.fields()))].is_valid()
        labelled = columns | {"tokens": batch.column("tokens")}
        own = {name: column.filter(has) for name, column in labelled.items() if name != "scores"}
        place = start + np.flatnonzero(has)
        read: Arrays = self._columns.read(own)
        read |= {_LOSSES[name]: numbers_in(own[name], name) for name in self.layout.extras if name in _LOSSES}
        for name, values in read.items():
            self._kept[name][place] = values
        self._has_N[place] = True
        if "scores" in columns:
            kept = columns["scores"].is_valid()
            self._ranked_N[start + np.flatnonzero(kept)] = True
            self._scores.append(scores_in(columns["scores"].filter(kept), answers.num_scores))

    def finish(self) -> Scored | None:
        """All of them; None where no row has a label for the head."""
        rows = np.flatnonzero(self._has_N)
        if not len(rows):
            return None
        everything = len(rows) == self._num_rows
        scored = replace(Scored(self.layout.head, rows, rows), **self._kept)
        scored = scored if everything else replace(scored.take(rows), rows=rows)
        if "scores" not in self.layout.extras:
            return scored
        ranked, scores = np.flatnonzero(self._ranked_N), np.concatenate(self._scores)
        head = self.layout.head
        seen = head.calibrated(scores) if head.decision.moves_scores else None
        if len(ranked) == len(rows):
            return replace(scored, scores=scores, probabilities=seen)
        if not self._has_N[ranked].all():
            raise Unreadable("a row without a label has scores")
        sample = scored.take(np.searchsorted(rows, ranked))
        return replace(scored, sample=replace(sample, scores=scores, probabilities=seen, rows=ranked))
