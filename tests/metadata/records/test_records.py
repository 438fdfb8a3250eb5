"""Rows of both versions of the schema, of every format, become the same documents."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from kits.records import Row, given_rows, listed, read, rows_in, write
from kits.streams import write_shard

from textune.config.documents import MetadataSection
from textune.config.sources import FilesSource, StreamSource
from textune.data.reading.rows import Rows
from textune.data.reading.sources import read_source
from textune.data.shards.blocks import BlockReader, Cursor, NeededColumns, open_shards
from textune.metadata.documents import NO_POSITION
from textune.metadata.records.problems import HINTS, TITLES
from textune.metadata.records.read import metadata_columns, read_document_rows, shard_id
from textune.metadata.rendering.fields import fields_text
from textune.metadata.rendering.render import render
from textune.metadata.types import TYPES

URL = {"key": "url", "type": "global", "value": "http://a.b/c"}
LENGTH = {"key": "length", "type": "global", "value": "9"}
SENTENCE = {"key": "length", "type": "local", "value": "4", "char_start_idx": 0, "char_end_idx": 4}
DESCRIPTION = {"key": "website_description", "type": "global", "value": "D."}
BOLD = {
    "key": "html",
    "type": "local",
    "value": "b",
    "char_start_idx": 1,
    "char_end_idx": 3,
    "relative_start_pos": 0,
    "relative_end_pos": 0,
    "html_attrs": {"attrs": ["class", "id"], "values": ["x", "y"]},
}
FIRST = [
    {"text": "some text", "metadata": [URL, SENTENCE, LENGTH, BOLD, DESCRIPTION]},
    {"text": "", "metadata": []},
    {"text": "more", "metadata": [URL]},
]
SECOND = [
    {
        "text": "some text",
        "metadata_url": [URL],
        "metadata_generation_length_sentence": [SENTENCE],
        "metadata_generation_length_text": [LENGTH],
        "metadata_html": [BOLD],
        "metadata_website_desc": [DESCRIPTION],
    },
    {"text": "", "metadata_url": [], "metadata_html": None},
    {"text": "more", "metadata_url": [URL]},
]
ALL = ("html", "website_desc", "url", "generation_length_text", "generation_length_sentence")


EXPECTED = {
    ("url", "http://a.b/c", 0, -1, -1, -1, -1, ()),
    ("generation_length_sentence", "4", 0, 0, 4, -1, -1, ()),
    ("generation_length_text", "9", 0, -1, -1, -1, -1, ()),
    ("html", "b", 0, 1, 3, 0, 0, (("class", "x"), ("id", "y"))),
    ("website_desc", "D.", 0, -1, -1, -1, -1, ()),
    ("url", "http://a.b/c", 2, -1, -1, -1, -1, ()),
}


@pytest.mark.parametrize("rows", [FIRST, SECOND], ids=["version 1", "version 2"])
@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.parquet", "train.arrow", "given"])
def test_both_versions_of_every_format_give_the_same_documents(tmp_path: Path, name: str, rows: list[Row]) -> None:
    result = read(given_rows(rows) if name == "given" else rows_in(tmp_path, rows, name), ALL)
    assert result.documents.texts == ["some text", "", "more"]
    assert set(listed(result.documents)) == EXPECTED
    assert len(listed(result.documents)) == len(EXPECTED)
    assert (np.diff(result.documents.entries.document) >= 0).all()
    assert (result.bad.total, result.not_named) == (0, {})


def test_entries_of_a_document_keep_the_order_of_the_record(tmp_path: Path) -> None:
    values = [entry[0] for entry in listed(read(rows_in(tmp_path, FIRST), ALL).documents)]
    assert values == [
        "url",
        "generation_length_sentence",
        "generation_length_text",
        "html",
        "website_desc",
        "url",
    ]


def test_c21_an_entry_of_a_column_without_key_takes_the_end_of_the_columns_name(tmp_path: Path) -> None:
    def column(name: str, value: str, key: str | None, **more: Any) -> Row:
        entry = {"type": "local" if more else "global", "value": value} | more
        return {f"metadata_{name}": [entry if key is None else entry | {"key": key}]}

    span = {"char_start_idx": 0, "char_end_idx": 2}
    row = {"text": "abcdef"}
    row |= column("timestamp", "1998-03-08 00:00:00", "timestamp")
    row |= column("website_desc", "D.", "website_description")
    row |= column("title", "T", "title")
    row |= column("url", "http://a.b/c%20d+e", "url")
    row |= column("generation_datasource", "a.b > c", "datasource")
    row |= column("generation_length_text", "6", "length")
    row |= column("html", "b", "html", **span, relative_start_pos=0, relative_end_pos=0)
    row |= column("entity_paragraph", "E", "entity_paragraph", **span, relative_start_pos=0, relative_end_pos=0)
    row |= column("foo", "F", None)
    types = tuple(name.removeprefix("metadata_") for name in row if name != "text")
    found = listed(read(rows_in(tmp_path, [row]), types).documents)
    assert [(name, value, start) for name, value, _, start, *_ in found] == [
        ("timestamp", "1998-03-08 00:00:00", NO_POSITION),
        ("website_desc", "D.", NO_POSITION),
        ("title", "T", NO_POSITION),
        ("url", "http://a.b/c%20d+e", NO_POSITION),
        ("generation_datasource", "a.b > c", NO_POSITION),
        ("generation_length_text", "6", NO_POSITION),
        ("html", "b", 0),
        ("entity_paragraph", "E", 0),
        ("foo", "F", NO_POSITION),
    ]


@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_c21_from_columns_to_the_prefix(tmp_path: Path, name: str, compat: str) -> None:
    values = {"timestamp": "1998-03-08 00:00:00", "website_desc": "D.", "title": "T", "url": "http://a.b/c%20d+e"}
    values |= {"generation_datasource": "a.b > c", "generation_length_text": "6"}
    span = {"char_start_idx": 0, "char_end_idx": 6, "relative_start_pos": 0, "relative_end_pos": 0}
    row: Row = {"text": "simple"}
    row |= {f"metadata_{name}": [{"type": "global", "value": value}] for name, value in values.items()}
    row |= {f"metadata_{name}": [{"type": "local", "value": "b"} | span] for name in ("html", "entity_paragraph")}
    types = ("html", *values, "entity_paragraph")
    keys = {"types_in_prefix": True, "type_tokens": {"entity_paragraph": "entity"}, "compat": compat}
    section = MetadataSection.model_validate({"types": types, **keys})
    documents = read(rows_in(tmp_path, [row], name), types, **keys).documents
    assert fields_text(render(documents, section).fields[0], section) == (
        "html | Year: 1998 | Month: March | Website Description: D. | Title: T | url: http://a.b/c d e | "
        "Datasource: a.b > c | Text Length: 6 | entity |||"
    )


def test_a_row_that_has_metadata_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = [FIRST[2] | {"metadata_title": [{"type": "global", "value": "T"}]}, SECOND[2]]
    found = listed(read(rows_in(tmp_path, rows), ("url", "title")).documents)
    assert [entry[:3] for entry in found] == [("url", "http://a.b/c", 0), ("url", "http://a.b/c", 1)]


@pytest.mark.parametrize("rows", [FIRST, SECOND], ids=["version 1", "version 2"])
def test_types_that_are_not_named_are_counted_by_document(tmp_path: Path, rows: list[Row]) -> None:
    result = read(rows_in(tmp_path, rows), ("html",), on_bad_metadata="error")
    assert [entry[0] for entry in listed(result.documents)] == ["html"]
    assert result.not_named == {
        "url": 2,
        "generation_length_sentence": 1,
        "generation_length_text": 1,
        "website_desc": 1,
    }


def test_a_row_keeps_its_identity_wherever_it_is_read(tmp_path: Path) -> None:
    rows = rows_in(tmp_path, [{"text": f"text {number}"} for number in range(5)])
    whole = read(rows, ALL).documents
    assert whole.row.tolist() == [0, 1, 2, 3, 4]
    assert whole.shard.dtype == np.uint64
    chosen = np.array([4, 2])
    part = Rows(rows.table.take(pa.array(chosen)), rows.source, rows.fingerprint, (), rows.places.take(chosen))
    some = read(part, ALL).documents
    assert (some.row.tolist(), some.shard.tolist()) == ([4, 2], whole.shard[chosen].tolist())


def test_rows_of_several_files_have_different_identities(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.jsonl", FIRST) for name in "ab"]
    documents = read(read_source(FilesSource(files=tuple(map(str, paths)))), ALL).documents
    assert len(set(zip(documents.row.tolist(), documents.shard.tolist(), strict=True))) == 6


@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.parquet", "given"])
def test_columns_that_are_empty_in_most_rows_are_read_in_the_others(tmp_path: Path, name: str) -> None:
    rows = [{"text": "x", "metadata_title": [], "metadata_url": []} for _ in range(9)]
    rows.insert(4, {"text": "y", "metadata_title": [{"type": "global", "value": "T"}], "metadata_url": []})
    found = given_rows(rows) if name == "given" else rows_in(tmp_path, rows, name)
    documents = read(found, ("url", "title")).documents
    assert [entry[:3] for entry in listed(documents)] == [("title", "T", 4)]
    assert documents.has_type.sum(axis=0).tolist() == [0, 1]


@pytest.mark.parametrize("block_rows", [2, 5, 100])
def test_documents_of_a_stream_are_the_same_however_it_is_cut(tmp_path: Path, block_rows: int) -> None:
    shards: dict[str, list[Row]] = {"a.jsonl": [*SECOND, *FIRST], "b.parquet": SECOND, "c.jsonl": FIRST[1:2] * 3}
    files = [write_shard(tmp_path / name, rows) for name, rows in shards.items()]
    section = StreamSource(files=tuple(map(str, files)), block_rows=block_rows, interleave=2)
    needed = NeededColumns({"text": "data.columns.text"}, metadata_columns(MetadataSection(types=ALL)))
    found: dict[tuple[int, int], tuple[str, list[Any]]] = {}
    with closing(BlockReader(open_shards(section), needed, seed=1, shuffles=True)) as reader:
        cursor = Cursor()
        while cursor.epoch == 0:
            block = reader.read(cursor)
            cursor = block.after
            for piece in block.pieces:
                documents = read(piece.rows("error"), ALL).documents
                entries = listed(documents)
                for number, text in enumerate(documents.texts):
                    identity = (int(documents.shard[number]), int(documents.row[number]))
                    own = [(*entry[:2], *entry[3:]) for entry in entries if entry[2] == number]
                    assert found.setdefault(identity, (text, own)) == (text, own)
    ids = [shard_id(shard.fingerprint) for shard in open_shards(section).shards]
    assert sorted(found) == sorted((ids[number], row) for number, num in enumerate((6, 3, 3)) for row in range(num))
    assert [len(entries) for identity, (_, entries) in sorted(found.items()) if identity[0] == ids[0]] == [5, 0, 1] * 2


def test_the_page_lists_every_type_and_every_kind_of_bad_entry() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metadata.md").read_text(encoding="utf-8")
    listed_types = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (global|local) \|$", page, re.MULTILINE)
    assert listed_types == [(one.name, one.key, one.scope) for one in TYPES.values()]
    kinds = page.partition("### What cannot be rendered")[2].partition("With `compat")[0]
    assert re.findall(r"^- \*\*`(\w+)`\*\*:", kinds, re.MULTILINE) == list(TITLES) == list(HINTS)


@pytest.mark.parametrize("first", ["a.parquet", "a.jsonl", "a.arrow"])
@pytest.mark.parametrize("second", ["b.parquet", "b.jsonl"])
def test_files_of_one_source_may_lack_columns_and_have_them_in_other_forms(
    tmp_path: Path, first: str, second: str
) -> None:
    others: list[Row] = [{"text": "x", "metadata_title": [{"type": "global", "value": 3}]} for _ in range(3)]
    others += [{"text": "y", "metadata_url": [{"key": "url", "value": "u", "type": "global"}], "more": 1}]
    paths = [write(tmp_path / first, SECOND), write(tmp_path / second, others), write(tmp_path / "c.jsonl", FIRST)]
    rows = read_document_rows(FilesSource(files=tuple(map(str, paths))), "error", {})
    result = read(rows, (*ALL, "title"))
    expected = [*EXPECTED]
    expected += [(*entry[:2], entry[2] + 7, *entry[3:]) for entry in EXPECTED]
    expected += [("title", "3", row, -1, -1, -1, -1, ()) for row in (3, 4, 5)] + [("url", "u", 6, -1, -1, -1, -1, ())]
    assert sorted(listed(result.documents)) == sorted(expected)
    assert "more" not in rows.table.column_names and "more" in rows.dropped
