"""Files as they should not be: the outcome is always rows or a DataError that names the place; nothing is lost in
silence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.rows import packed_rows, read

from textune.config.sources import Columns, Labels
from textune.config.values import OnBadRow
from textune.data.columns import select_columns
from textune.data.labels.encode import encode_labels
from textune.data.labels.infer import infer_labels
from textune.data.reading.rows import Rows
from textune.errors import DataError

_HURRIED = settings(max_examples=120, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(path: Path, on_bad_row: OnBadRow, **options: Any) -> Rows | DataError:
    """Read the file and go on to targets as far as they allow; anything but DataError escapes and fails the test."""
    try:
        rows = read(path, on_bad_row=on_bad_row, **options)
    except DataError as error:
        assert str(error)
        assert "\n" not in str(error), "an error is one line"
        return error
    names = rows.table.column_names
    # Not validated: a header may hold an empty name, which no configuration can name.
    columns = Columns().model_copy(update={"text": names[0], "label": names[-1]})
    try:
        examples = select_columns(rows, columns, with_labels=True, on_bad_row=on_bad_row)
        label_map, _ = infer_labels(examples, [], Labels(), kind="auto")
        kept, targets = encode_labels(examples, label_map, Labels(), on_bad_row=on_bad_row)
        assert len(kept) == len(targets)
    except DataError as error:
        assert str(error)
    return rows


# --- any bytes at all ------------------------------------------------------------------------------------------------

_PIECES: dict[str, list[bytes]] = {
    "csv": [
        b"text,label\n",
        b'"',
        b",",
        b"\n",
        b"\r\n",
        b"a",
        b"0",
        b"\xff",
        b"\0",
        b'""',
        b"\xc3\xa9",
        b"\xef\xbb\xbf",
        b";",
    ],
    "tsv": [b"text\tlabel\n", b"\t", b"\n", b"a", b"1", b'"', b"\xe9", b"\0", b"\r"],
    "json": [
        *(b"[", b"]", b"{", b"}", b'"text":', b'"a"', b"1", b"2.5", b",", b"null", b"NaN", b"true"),
        *(b"\\ud800", b'"\\ud800"', b"\xff", b"\n"),
    ],
    "jsonl": [
        b'{"text": "a", "label": 1}\n',
        b'{"text": "b", "label": "x"}\n',
        b'{"text": null, "label": [1, "x"]}\n',
        b'{"text": {"a": []}, "label": 1e999}\n',
        b'{"text": "\\ud800", "label": 99999999999999999999}\n',
        b'{"\\ud800": 1}\n',
        b"{}\n",
        b"[1]\n",
        b"{",
        b"\n",
        b"\xff\n",
        b"[" * 2000 + b"\n",
        b'{"a": 1, "a": 2}\n',
    ],
    "txt": [b"a", b"\n", b"\r", b"\xff", b"\0", b"\xc3\xa9", b" "],
}


@pytest.mark.every_day(2)
@pytest.mark.parametrize("ending", sorted(_PIECES))
def test_any_mixture(ending: str, tmp_path: Path) -> None:
    @_HURRIED
    @given(
        st.lists(st.one_of(st.sampled_from(_PIECES[ending]), st.binary(max_size=6)), max_size=25),
        st.sampled_from(["error", "skip"]),
    )
    def check(pieces: list[bytes], on_bad_row: OnBadRow) -> None:
        path = tmp_path / f"a.{ending}"
        path.write_bytes(b"".join(pieces))
        outcome(path, on_bad_row)

    check()


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.parquet", "a.arrow"])
def test_cut_short(name: str, tmp_path: Path) -> None:
    """Every proper beginning of a packed or binary file is refused."""
    whole = packed_rows(name)
    path = tmp_path / name
    path.write_bytes(whole)
    assert isinstance(outcome(path, "error"), Rows)
    for size in {0, 1, 4, 10, len(whole) // 2, len(whole) - 10, len(whole) - 1}:
        path.write_bytes(whole[:size])
        assert isinstance(outcome(path, "skip"), DataError), f"{size} of {len(whole)} bytes were read as a whole file"


@pytest.mark.every_day(2)
@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.parquet", "a.arrow"])
def test_changed_bytes(name: str, tmp_path: Path) -> None:
    whole = packed_rows(name)

    @_HURRIED
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=5))
    def check(changes: list[tuple[int, int]]) -> None:
        data = bytearray(whole)
        for place, value in changes:
            data[place] = value
        path = tmp_path / name
        path.write_bytes(data)
        outcome(path, "skip")

    check()


# --- rows kept + rows skipped = rows in the file ---------------------------------------------------------------------

_TSV_ROW = st.lists(
    st.sampled_from([b"a", b"\t", b"\xff", b"\0", b'"', b"b c", b"\xc3\xa9"]), min_size=1, max_size=6
).map(b"".join)


@_HURRIED
@given(st.lists(_TSV_ROW, min_size=1, max_size=20))
def test_tsv_rows_add_up(tmp_path: Path, table: list[bytes]) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"text\tlabel\n" + b"\n".join(table) + b"\n")
    found = outcome(path, "skip", quoting="none")
    good = [row for row in table if row.count(b"\t") == 1 and b"\0" not in row and b"\xff" not in row]
    if not good:
        assert isinstance(found, DataError)
        return
    assert isinstance(found, Rows)
    assert found.table.to_pydict()["text"] == [row.split(b"\t")[0].decode() for row in good]
    assert len(found) + len(found.skipped) == len(table)
    bad_lines = [line for line, row in enumerate(table, 2) if row not in good]
    assert [row.place for row in found.skipped] == [f"a.tsv, line {line}" for line in bad_lines]
    if bad_lines:
        refused = outcome(path, "error")
        assert isinstance(refused, DataError)
        assert f"line {bad_lines[0]}: " in str(refused)
        if len(bad_lines) > 1:
            assert f"{len(bad_lines) - 1} more row" in str(refused)


_VALUE = st.sampled_from(["x", "y", 1, 2.5, True, None, ["a"], [], {"k": 1}, 2**80, "\ud800"])


@_HURRIED
@given(st.lists(st.one_of(_VALUE, st.just(...)), min_size=1, max_size=15))
def test_jsonl_rows_add_up(tmp_path: Path, values: list[Any]) -> None:
    path = tmp_path / "a.jsonl"
    lines = ["not json" if value is ... else json.dumps({"text": "t", "label": value}) for value in values]
    path.write_text("\n".join(lines))
    found = outcome(path, "skip")
    if isinstance(found, Rows):
        assert len(found) + len(found.skipped) == len(values)
        places = {found.place(index) for index in range(len(found))} | {row.place for row in found.skipped}
        assert len(places) == len(values)
    else:
        assert "no row that can be read" in str(found)


@_HURRIED
@given(st.binary(max_size=60))
def test_text_lines_add_up(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\n" + data)
    found = outcome(path, "skip")
    lines = (b"first\n" + data).removesuffix(b"\n").split(b"\n")
    assert isinstance(found, Rows)
    assert len(found) + len(found.skipped) == len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_thousand_malformed_rows(tmp_path: Path, seed: int) -> None:
    """20,000 odd rows in each of five files: every one of them is kept or named."""
    chooser = random.Random(seed)
    kinds: list[Callable[[], bytes]] = [
        lambda: b"good text,1",
        lambda: b"too,many,cells",
        lambda: b"one cell",
        lambda: b'"text" after a quote,1',
        lambda: b"bad \xff byte,0",
        lambda: b"nul \0 byte,0",
        lambda: b'quote in the " middle,1',
        lambda: b'"doubled ""quotes""",0',
        lambda: bytes(chooser.randrange(35, 256) for _ in range(chooser.randrange(1, 40))),
    ]
    table = [chooser.choice(kinds)() for _ in range(20_000)]
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"\n".join(table) + b"\n")
    found = outcome(path, "skip")
    assert isinstance(found, Rows)
    assert len(found) + len(found.skipped) == len(table)
    places = [found.place(index) for index in range(len(found))] + [row.place for row in found.skipped]
    assert {int(place.rpartition(" ")[2]) for place in places} == set(range(2, 20_002))
    pieces = [b"".join(chooser.choices(_PIECES["jsonl"], k=1)).rstrip(b"\n") for _ in range(20_000)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(pieces))
    lines = outcome(tmp_path / "a.jsonl", "skip")
    assert isinstance(lines, Rows)
    assert len(lines) + len(lines.skipped) == sum(piece != b"" for piece in pieces)
