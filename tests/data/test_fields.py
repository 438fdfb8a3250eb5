"""The fields before a text are the same whatever form their rows come in."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textune.config.sources import Columns, FilesSource, MetadataPrefix
from textune.data.fields import select_fields
from textune.data.reading.given import given_fields, given_rows
from textune.data.reading.sources import read_source
from textune.errors import DataError

VALUES: dict[str, list[Any]] = {
    "whole": [1, None, 3],
    "number": [1.0, 2.5, None],
    "small": [1e-7, 1 / 3, 1e20],
    "no_number": [1.0, float("nan"), 2.0],
    "flag": [True, False, None],
    "day": [dt.date(2020, 1, 2), None, dt.date(2021, 1, 1)],
    "time": [dt.datetime(2020, 1, 2), dt.datetime(2020, 1, 2, 3, 4, 5, 120_000), None],
    "text": ["a | b: c ||| x", " sp ", ""],
}
WRITTEN: dict[str, list[str | None]] = {
    "whole": ["1", None, "3"],
    "number": ["1", "2.5", None],
    "small": ["1e-7", "0.3333333333333333", "1e+20"],
    "no_number": ["1", None, "2"],
    "flag": ["true", "false", None],
    "day": ["2020-01-02", None, "2021-01-01"],
    "time": ["2020-01-02 00:00:00", "2020-01-02 03:04:05.120000", None],
    "text": ["a | b: c ||| x", "sp", None],
}
PREFIX = MetadataPrefix(columns=tuple(VALUES))


def as_rows(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def shown(fields: tuple[pa.ChunkedArray, ...]) -> dict[str, list[str | None]]:
    return {name: field.to_pylist() for name, field in zip(PREFIX.columns, fields, strict=True)}


def wanted(names: tuple[str, ...] = PREFIX.columns) -> dict[str, list[str | None]]:
    return {name: [v if v is None else f"{name}: {v}" for v in WRITTEN[name]] for name in names}


def test_values_are_written_alike_in_every_form(tmp_path: Path) -> None:
    table, frame = pa.table(VALUES), pd.DataFrame(VALUES)
    given = [table, frame, VALUES, as_rows(VALUES), as_rows({name: list(frame[name]) for name in frame})]
    times = [table.set_column(6, "time", table["time"].cast(pa.timestamp(unit))) for unit in ("ms", "ns")]
    for form in (*given, times[1]):
        assert shown(given_fields(given_rows(form, Columns(), PREFIX), PREFIX)) == wanted()
    pq.write_table(table, tmp_path / "rows.parquet")
    lines = [
        json.dumps({name: str(value) if isinstance(value, dt.date) else value for name, value in row.items()})
        for row in as_rows(VALUES)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("rows.parquet", "rows.jsonl"):
        rows = read_source(FilesSource(kind="files", files=(str(tmp_path / name),)), on_bad_row="error", given={})
        assert shown(select_fields(rows, PREFIX)) == wanted()


def test_time_zones_stay() -> None:
    prefix = MetadataPrefix(columns=("time",))
    time = dt.datetime(2020, 7, 2, 3, 4, 5)
    for zone, written in (("UTC", "03:04:05Z"), ("Europe/Berlin", "05:04:05+0200")):
        for unit in ("s", "ms", "us", "ns"):
            table = pa.table({"text": ["a"], "time": pa.array([time], pa.timestamp(unit, zone))})
            (field,) = given_fields(given_rows(table, Columns(), prefix), prefix)
            assert field.to_pylist() == [f"time: 2020-07-02 {written}"]


def test_a_missing_column_is_told_beside_columns_that_are_no_names() -> None:
    for given in (pd.DataFrame({"text": ["a"], 0: ["b"]}), [{"text": "a", 0: "b"}]):
        with pytest.raises(DataError) as caught:
            given_rows(given, Columns(), MetadataPrefix(columns=("time",)))
        assert (caught.value.key, caught.value.value) == ("data.metadata.columns", "time")


def test_numpy_values_and_missing_times_are_like_others() -> None:
    prefix = MetadataPrefix(columns=("time",))
    rows = [{"text": "a", "time": np.datetime64("2020-01-02T00:00:00")}, {"text": "b", "time": pd.NaT}]
    (field,) = given_fields(given_rows(rows, Columns(), prefix), prefix)
    assert field.to_pylist() == ["time: 2020-01-02 00:00:00", None]
