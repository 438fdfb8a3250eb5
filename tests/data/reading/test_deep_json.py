"""JSON nested beyond what can be read is a sentence, whatever file it stands in; a key written twice is refused
everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.rows import read

from textune.config.schema import ModelSection
from textune.config.sources import Columns, Labels, StreamSource
from textune.data.inspect.guess import guess_layout
from textune.data.labels.names import given_names
from textune.data.reading.streamoptions import StreamOptions
from textune.data.reading.windows import read_rows
from textune.data.shards.labelled import open_stream
from textune.errors import TextuneError
from textune.evaluation.render.json import read_report
from textune.model.pretrained import checkpoint_labels
from textune.prediction.card import read_card
from textune.run.manifest import read_manifest
from textune.training.checkpoint import open_checkpoint

DEEP = "[" * 100_000 + "]" * 100_000
_ROW = f'{{"text": "a", "label": "x", "more": {DEEP}}}\n'


def _lines(path: Path) -> Any:
    return list(read_rows(str(path), StreamOptions("jsonl"), text_column="text"))


def _shard(path: Path) -> Any:
    section = StreamSource(files=(str(path),), format="jsonl")
    return open_stream(section, Columns(), Labels(), on_bad_row="error").first_examples()


_READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "jsonl": ("a.jsonl", _ROW, read),
    "json": ("a.json", f"[{_ROW}]", read),
    "json by column": ("a.json", f'{{"text": {{"0": {DEEP}}}}}', read),
    "predict": ("a.jsonl", _ROW, _lines),
    "stream": ("a.jsonl", _ROW, _shard),
    "label names": ("names.json", DEEP, lambda path: given_names(Labels(names_file=str(path)))),
    "card": ("textune.json", f'{{"names": {DEEP}}}', lambda path: read_card(path.parent)),
    "manifest": ("manifest.json", f'{{"rows": {DEEP}}}', lambda path: read_manifest(path.parent)),
    "report": ("report.json", f'{{"main": {DEEP}}}', read_report),
    "checkpoint": ("manifest.json", f'{{"files": {DEEP}}}', lambda path: open_checkpoint(path.parent)),
    "backbone": (
        "config.json",
        f'{{"a": {DEEP}}}',
        lambda path: checkpoint_labels(ModelSection(pretrained=str(path.parent))),
    ),
}


@pytest.mark.parametrize("reader", _READERS)
def test_deep_json_is_a_sentence(tmp_path: Path, reader: str) -> None:
    name, content, call = _READERS[reader]
    (tmp_path / name).write_text(content)
    with pytest.raises(TextuneError, match=r"nested too deeply|maximum recursion depth") as caught:
        call(tmp_path / name)
    assert len(str(caught.value)) < 1000


def test_deep_rows_are_skipped_like_other_bad_ones(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", _ROW + '{"text": "b", "label": "y"}\n', on_bad_row="skip")
    assert len(rows) == 1 and rows.skipped[0].reason == "not usable JSON: nested too deeply"
    guess = guess_layout([str(tmp_path / "a.jsonl")])
    assert guess.columns.text == "text"


def test_deep_metadata_of_a_table_says_nothing(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "label": [0]}).replace_schema_metadata({"huggingface": DEEP})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").class_names == {}


@pytest.mark.parametrize(
    "twice", ['{"text": "a", "text": "b"}', '{"text" : "a", "text": "b"}', '{"text": "a", "n": {"k": 1, "k": 2}}']
)
@pytest.mark.parametrize("reader", ["jsonl", "json", "predict", "stream"])
def test_a_key_written_twice_is_refused_everywhere(tmp_path: Path, reader: str, twice: str) -> None:
    name, _, call = _READERS[reader]
    content = json.dumps({"text": "first", "label": "x"}) + "\n" + twice + "\n"
    (tmp_path / name).write_text(f"[{twice}]" if name == "a.json" else content)
    with pytest.raises(TextuneError, match=r"the key '(text|k)' occurs twice"):
        call(tmp_path / name)
