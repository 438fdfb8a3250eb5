"""Rows in memory: trained on, checked, resumed and evaluated like files of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest

import textune
from textune.chaos.compare import end_of, first_difference
from textune.errors import DataError, RunError

CONFIG: dict[str, Any] = {"data.train.kind": "given", "data.train.name": "reviews.csv", "data.test.kind": "none"}


@pytest.fixture
def table(home: Path) -> pa.Table:
    """With all cells as text, as textune reads csv."""
    table = pyarrow.csv.read_csv(home / "reviews.csv")
    return pa.table({name: table[name].cast(pa.string()) for name in table.column_names})


def settings(home: Path, *, steps: int = 2) -> dict[str, Any]:
    return {
        "model.pretrained": str(home / "backbone"),
        "train.duration": f"{steps} steps",
        "train.schedule.kind": "constant",
        "train.schedule.warmup": "0 steps",
        "train.precision": "fp32",
        "train.device": "cpu",
        "tokens.max_length": 24,
        "tokens.cache": str(home / "cache"),
        "evaluate.bootstrap": 0,
        "evaluate.mistakes": 0,
    }


def test_rows_in_memory_train_like_the_file_they_came_from(home: Path, table: pa.Table, tmp_path: Path) -> None:
    files = {"data.train.files": str(home / "reviews.csv"), "data.test.kind": "none"}
    for name, overrides, rows in (
        ("file", files, None),
        ("table", CONFIG, table),
        ("rows", CONFIG, table.to_pylist()),
    ):
        given = None if rows is None else {"reviews.csv": rows}
        textune.train(run=tmp_path / name, overrides={**settings(home), **overrides}, rows=given)
    ends = [end_of(tmp_path / name) for name in ("file", "table", "rows")]
    assert not first_difference(ends[0], ends[1]) and not first_difference(ends[0], ends[2])


def test_a_run_on_rows_in_memory_resumes_and_is_evaluated_with_the_same_ones(
    home: Path, table: pa.Table, tmp_path: Path
) -> None:
    run, rows = tmp_path / "run", {"reviews.csv": table}
    textune.train(run=run, overrides={**settings(home), **CONFIG}, rows=rows)
    longer = {**settings(home, steps=3), **CONFIG}
    assert textune.train(run=run, overrides=longer, rows=rows, resume="latest").steps == 3
    assert textune.evaluate(run, part="validation", rows=rows).num_rows == 20
    with pytest.raises(RunError, match=r"data.* changed since"):
        textune.evaluate(run, part="validation", rows={"reviews.csv": table.slice(10)})


def test_what_was_not_given_or_is_no_table_is_named(home: Path, tmp_path: Path) -> None:
    overrides = {**settings(home), **CONFIG}
    with pytest.raises(DataError) as missing:
        textune.train(run=tmp_path / "run", overrides=overrides, rows={"other": []})
    assert missing.value.value == "reviews.csv" and "'other'" in str(missing.value)
    with pytest.raises(DataError, match=r"rows\['reviews.csv'\] is an int"):
        textune.check(overrides=overrides, rows={"reviews.csv": 3})


def test_rows_without_a_name_are_refused_and_not_shown(home: Path, table: pa.Table, tmp_path: Path) -> None:
    rows: Any
    for rows, what in ((table.to_pylist(), "a list"), (table, "a Table")):
        with pytest.raises(DataError, match="rows") as caught:
            textune.train(run=tmp_path / "run", overrides={**settings(home), **CONFIG}, rows=rows)
        assert caught.value.key == "rows" and what in caught.value.reason and len(str(caught.value)) < 200
