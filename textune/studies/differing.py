"""The rows that several runs answer differently, as a file; for `compare.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.data import RowWriter, StreamOptions, stream_format
from textune.evaluation import EvaluatedSet, Scored, changed_of, positions_of
from textune.tasks import Answer

_BLOCK = 10_000
"""Rows made at once."""


def write_differing(sets: Mapping[str, Sequence[EvaluatedSet]], runs: Sequence[str], path: Path) -> None:
    """A line for each row, and each head, that some run answers otherwise than the first one: set, number in the
    source, label, and the answer of every run with its score."""
    texts = path.suffix != ".parquet"
    first = [one[0] for one in sets.values()]
    several = any(len(one.scored.heads) > 1 for one in first)
    kinds = _kinds([rows for one in first for rows in one.scored.by_head.values()], texts=texts)
    columns = {"set": pa.string(), "row": pa.int64()} | ({"task": pa.string()} if several else {})
    columns |= {"target": kinds}
    columns |= {f"{what}:{run}": kinds if what == "prediction" else pa.float64() for run in runs for what in _EACH}
    schema = pa.schema(list(columns.items()))
    with RowWriter(str(path), StreamOptions(stream_format(str(path), None)), schema=schema) as writer:
        for block in _blocks(sets, runs, several=several, texts=texts):
            writer.write(writer.format(pa.Table.from_pylist(block, schema=schema)))


_EACH = ("prediction", "score")


def _kinds(rows: Sequence[Scored], *, texts: bool) -> pa.DataType:
    """The type of labels and answers: names, lists of names (in texts with commas between them), numbers."""
    if any(one.answers.choices is None for one in rows):
        return pa.float64()
    return pa.list_(pa.string()) if not texts and any(one.answers.label_map.several for one in rows) else pa.string()


def _blocks(
    sets: Mapping[str, Sequence[EvaluatedSet]], runs: Sequence[str], *, several: bool, texts: bool
) -> Iterator[list[dict[str, object]]]:
    block: list[dict[str, object]] = []
    for name, aligned in sets.items():
        first = aligned[0]
        for head, mine in first.scored.by_head.items():
            places = positions_of(first.scored, head)
            differs = np.zeros(first.scored.num_rows, bool)
            for other in aligned[1:]:
                differs |= changed_of(first.scored, other.scored, (head,))
            of_runs = [one.scored.by_head[head] for one in aligned]
            for index in np.flatnonzero(differs[places]).tolist():
                line: dict[str, object] = {"set": name, "row": int(first.facts.row[places[index]])}
                line |= {"task": head} if several else {}
                line["target"] = _cell(mine, mine.targets[index], texts=texts)
                for run, rows in zip(runs, of_runs, strict=True):
                    line[f"prediction:{run}"] = _cell(rows, rows.predictions[index], texts=texts)
                    line[f"score:{run}"] = None if rows.sureness is None else float(rows.sureness[index])
                block.append(line)
                if len(block) == _BLOCK:
                    yield block
                    block = []
    if block:
        yield block


def _cell(rows: Scored, stored: np.ndarray, *, texts: bool) -> object:
    if rows.answers.measures.of_texts:  # whose target is what was scored of it
        return float(stored) if np.ndim(stored) == 0 else None
    answer: Answer = rows.answers.named(stored)
    if not isinstance(answer, tuple):
        return answer
    return ", ".join(answer) if texts else list(answer)
