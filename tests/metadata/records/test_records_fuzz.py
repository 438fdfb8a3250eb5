"""Broken records by the thousand: read as the slow twin reads them, rendered, and never more than an error of ours."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.brokenrecords import TYPES, broken_line, broken_row, good_entry
from kits.records import given_rows, listed, read, rows_in
from kits.slowrecords import read_slowly

from textune.config.documents import MetadataSection
from textune.config.sources import Columns, FilesSource, StreamSource
from textune.data.reading.numeric import is_text
from textune.data.reading.sources import read_source
from textune.data.shards.blocks import BlockReader, Cursor, NeededColumns, open_shards
from textune.errors import TextuneError
from textune.metadata.records import nesting
from textune.metadata.records.problems import TITLES
from textune.metadata.records.read import metadata_columns, read_documents
from textune.metadata.rendering.render import render

_BATCH = 200


@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
def test_broken_records_are_read_as_the_slow_twin_reads_them(compat: str) -> None:
    draw = random.Random(7)
    kinds: set[str] = set()
    section = MetadataSection(types=TYPES, on_bad_metadata="report", compat=compat)  # type: ignore[arg-type]
    for _ in range(12):
        rows = [broken_row(draw) for _ in range(_BATCH)]
        table = given_rows(rows)
        assert len(table) == _BATCH
        result = read(table, TYPES, on_bad_metadata="report", compat=compat)
        kept, bad, not_named = read_slowly(rows, TYPES, original=compat == "bsmetadata")
        assert (result.bad.counts, result.not_named) == (bad, not_named)
        assert listed(result.documents) == kept
        assert len(render(result.documents, section).texts) == _BATCH
        kinds |= set(bad)
    never = {"crossing", "nesting"} if compat == "bsmetadata" else {"crossing"}
    assert kinds == set(TITLES) - never


@pytest.mark.parametrize("most", [0, 1, 3])
def test_spans_that_cross_too_many_others_are_those_of_the_slow_twin(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    draw, found = random.Random(most), 0
    monkeypatch.setattr(nesting, "MOST_CROSSED", most)
    for _ in range(8):
        rows = [crossing_row(draw) for _ in range(50)]
        result = read(given_rows(rows), TYPES, on_bad_metadata="report")
        kept, bad, _ = read_slowly(rows, TYPES, most_crossed=most)
        assert (result.bad.counts, listed(result.documents)) == (bad, kept)
        found += bad.get("crossing", 0)
    assert found > 200


def crossing_row(draw: random.Random) -> dict[str, Any]:
    """A row with up to 40 spans of a short text, of types with tags on both sides, on one side, and with
    positions."""
    text = "x" * draw.choice([5, 20])
    entries = []
    for _ in range(draw.randrange(40)):
        start, end = sorted((draw.randrange(len(text) + 1), draw.randrange(len(text) + 1)))
        key = draw.choice(["length", "mood", "entity"])
        entries.append({"key": key, "type": "local", "value": "v", "char_start_idx": start, "char_end_idx": end})
    inside = {"key": "html", "type": "local", "value": "b", "relative_start_pos": 0, "relative_end_pos": 0}
    entries.append(inside | {"char_start_idx": 1, "char_end_idx": len(text) - 1})
    draw.shuffle(entries)
    return {"text": text, "metadata": entries}


def test_records_in_arrow_types_are_read_as_the_slow_twin_reads_them(tmp_path: Path) -> None:
    draw = random.Random(9)
    numbers = ("char_start_idx", "char_end_idx", "relative_start_pos", "relative_end_pos")
    for batch in range(4):
        rows = [broken_row(draw, entry=good_entry) for _ in range(_BATCH)]
        for row in rows:
            for entry in (entry for name in row if name != "text" for entry in row[name]):
                entry |= {name: draw.choice([-1, 0, 2, 9, None]) for name in numbers if draw.random() < 0.1}
                entry |= {name: draw.choice(["local", "", None]) for name in ("type", "value") if draw.random() < 0.05}
        table = rows_in(tmp_path, rows, f"{batch}.parquet")
        assert all(not is_text(field.type) for field in table.table.schema if field.name != "text")
        result = read(table, TYPES, on_bad_metadata="report")
        kept, bad, not_named = read_slowly(rows, TYPES)
        assert (result.bad.counts, result.not_named, listed(result.documents)) == (bad, not_named, kept)
        assert result.bad.total > 50 and len(kept) > 50


def test_one_broken_record_stops_strictly_exactly_where_it_would_be_left_out() -> None:
    draw = random.Random(8)
    rows = given_rows([broken_row(draw) for _ in range(_BATCH)])
    stopped = 0
    for number in range(_BATCH):
        one = replace(rows, table=rows.table.slice(number, 1), places=rows.places.take(np.array([number])))
        bad = read(one, TYPES, on_bad_metadata="report").bad
        try:
            read(one, TYPES)
        except TextuneError as error:
            stopped += 1
            assert bad.total > 0
            assert error.place == f"rows, row {number + 1}" and error.reason and error.key.startswith("metadata")
        else:
            assert bad.total == 0
    assert 50 < stopped < _BATCH - 10


def read_shards(paths: Sequence[Path]) -> tuple[int, int, int]:
    """How many documents a stream has, how many of its rows cannot be read, and how many entries are bad."""
    section = MetadataSection(types=TYPES, on_bad_metadata="report")
    stream = open_shards(StreamSource(files=tuple(map(str, paths)), block_rows=2000))
    needed = NeededColumns({"text": "data.columns.text"}, metadata_columns(section))
    documents = skipped = bad = 0
    with closing(BlockReader(stream, needed, seed=0, shuffles=True)) as reader:
        cursor = Cursor()
        while cursor.epoch == 0:
            block = reader.read(cursor)
            cursor = block.after
            for piece in block.pieces:
                rows = piece.rows("skip")
                found = read_documents(rows, Columns(), section)
                assert len(render(found.documents, section).texts) == len(rows)
                documents, skipped = documents + len(rows), skipped + len(rows.skipped)
                bad += found.bad.total
    return documents, skipped, bad


def write_broken(folder: Path, num: int) -> list[Path]:
    """So many broken records in three shards."""
    draw = random.Random(num)
    paths = [folder / f"{num}-{shard}.jsonl" for shard in range(3)]
    for shard, path in enumerate(paths):
        with path.open("wb") as file:
            for _ in range(shard, num, 3):
                file.write(broken_line(draw, broken_row(draw)) + b"\n")
    return paths


def test_every_line_of_a_broken_shard_is_a_document_or_is_counted(tmp_path: Path) -> None:
    documents, skipped, bad = read_shards(write_broken(tmp_path, 6000))
    assert documents + skipped == 6000
    assert skipped > 20 and bad > 6000


def test_broken_files_are_read_or_refused_with_a_row(tmp_path: Path) -> None:
    for number in range(40):
        draw = random.Random(number)
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"\n".join(broken_line(draw, broken_row(draw)) for _ in range(20)))
        for on_bad_row in ("error", "skip"):
            try:
                rows = read_source(FilesSource(files=(str(path),)), on_bad_row=on_bad_row)  # type: ignore[arg-type]
                read(rows, TYPES)
            except TextuneError as error:
                assert path.name in error.place and error.reason


_MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
from metadata.test_records_fuzz import read_shards
counts = read_shards([Path(name) for name in sys.argv[1:]])
print(*counts, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
def test_a_hundred_thousand_broken_records_in_flat_memory(tmp_path: Path) -> None:
    peaks = []
    for num in (20_000, 100_000):
        command = [sys.executable, "-c", _MEMORY, *map(str, write_broken(tmp_path, num))]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
        assert done.returncode == 0, done.stderr
        documents, skipped, bad, peak = map(int, done.stdout.split())
        print(f"{num:,} records: {documents:,} documents, {skipped:,} rows skipped, {bad:,} bad, {peak / 1e6:,.0f} MB")
        assert documents + skipped == num
        peaks.append(peak)
    assert peaks[1] < 1.2 * peaks[0]
