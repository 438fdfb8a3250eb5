"""Rows in memory: trained on, checked, resumed and evaluated like files of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from kits.errors import refused
from kits.runs import write_csv

import textune
from textune.chaos.alike import end_of, first_difference
from textune.errors import ConfigError, DataError, InputError, RunError

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


def parts(table: pa.Table) -> dict[str, Any]:
    """Rows of every set, each in another form."""
    return {
        "train": table.slice(0, 120).to_pandas().sample(frac=1, random_state=1),
        "validation": table.slice(120, 30).to_pydict(),
        "test": table.slice(150, 20).to_pylist(),
        "evaluations": {"late": table.slice(170)},
    }


def test_sets_in_memory_train_like_the_files_that_they_came_from(home: Path, table: pa.Table, tmp_path: Path) -> None:
    given = parts(table)
    sets: dict[str, Any] = {name: rows for name, rows in given.items() if name != "evaluations"}
    files: dict[str, Any] = {}
    for name, rows in {**sets, "evaluations.late": given["evaluations"]["late"]}.items():
        file = tmp_path / name.removeprefix("evaluations.")  # which is what the rows are called in the reports
        as_table = pa.Table.from_pylist(rows) if isinstance(rows, list) else pa.table(rows)
        write_csv(file, as_table.select(table.column_names).to_pylist())
        files |= {f"data.{name}.kind": "files", f"data.{name}.files": str(file), f"data.{name}.format": "csv"}
    from_files = textune.train(run=tmp_path / "files", overrides={**settings(home), **files})
    in_memory = textune.train(run=tmp_path / "memory", overrides=settings(home), **given)
    # All but the card, which keeps how files are read.
    weights = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("files", "memory")]
    assert weights[0] == weights[1]
    assert list(in_memory.reports) == list(from_files.reports) == ["validation", "test", "late"]
    for name, report in in_memory.reports.items():
        assert report.metrics == from_files.reports[name].metrics


def test_texts_and_labels_train_and_are_checked_without_a_section_of_data(
    home: Path, table: pa.Table, tmp_path: Path
) -> None:
    columns = {"text": table["text"], "label": table["label"]}
    textune.train(overrides=settings(home), run=tmp_path / "table", train=columns)
    textune.train(
        overrides=settings(home), run=tmp_path / "pair", train=(columns["text"], columns["label"].to_pylist())
    )
    assert not first_difference(end_of(tmp_path / "table"), end_of(tmp_path / "pair"))
    checked: Any = textune.check(overrides=settings(home), train=columns, timing=False)
    assert checked.ok and checked.facts.to_dict()["rows"]["train"] == 180


def test_a_run_on_given_sets_resumes_with_the_same_rows_alone(home: Path, table: pa.Table, tmp_path: Path) -> None:
    run, given = tmp_path / "run", parts(table)
    textune.train(overrides=settings(home), run=run, **given)
    longer = settings(home, steps=3)
    for name in ("train", "validation"):
        other = given | {name: table.slice(0, 60)}
        with refused(RunError, reason="changed since", place=str(run)):
            textune.train(overrides=longer, run=run, resume="latest", **other)
    with refused(DataError, key="name", value="train"):
        textune.train(run / "config.toml", run=run, overrides=["train.duration=3 steps"], resume="latest")
    again = {**given, "train": given["train"].to_dict("records")}  # the same rows in another form
    assert textune.train(overrides=longer, run=run, resume="latest", **again).steps == 3


def test_a_given_set_takes_the_place_of_files_and_says_what_it_ignores(home: Path, table: pa.Table) -> None:
    config = {"data": {"train": {"files": "absent.csv", "take": 5}, "validation": {"count": 20}}}
    for overrides in (settings(home), [f"{key}={value}" for key, value in settings(home).items()]):
        result = textune.train(config, overrides=overrides, train=table, dry_run=True)
        assert result.facts is not None and result.facts.to_dict()["rows"] == {"train": 180, "validation": 20}
        assert sum("data.train.take" in notice for notice in result.notices) == 1
    config = {"data": {"train": {"kind": "given", "name": "mine", "take": 50}, "validation": {"kind": "none"}}}
    kept = textune.train(config, overrides=settings(home), train=table, dry_run=True)
    assert kept.facts is not None and kept.facts.to_dict()["rows"]["train"] == 50


def test_columns_that_nobody_names_are_found_and_kept_in_the_configuration(
    home: Path, table: pa.Table, tmp_path: Path
) -> None:
    renamed = table.select(["text", "label"]).rename_columns(["review", "stars"])
    result = textune.train(overrides=settings(home), run=tmp_path / "run", train=renamed)
    assert sum("review" in notice and "stars" in notice for notice in result.notices) == 1
    card = textune.load(tmp_path / "run").card
    assert (card.columns.text, card.columns.label) == ("review", "stars")
    two = renamed.append_column("title", renamed["review"])
    with refused(DataError, key="data.columns.text", place="train"):
        textune.train(overrides=settings(home), run=tmp_path / "two", train=two)
    named = settings(home) | {"data.columns.text": "title"}
    textune.train(overrides=named, run=tmp_path / "named", train=two)
    assert textune.load(tmp_path / "named").card.columns.text == "title"
    with refused(DataError, key="data.columns.label", value="kind"):  # what the configuration names is not guessed
        textune.train(overrides=named | {"data.columns.label": "kind"}, run=tmp_path / "other", train=two)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"train": (["a", "b"], ["x"])}, InputError, {"key": "train"}),
        ({"train": {"text": ["a", "b"], "label": ["x"]}}, InputError, {"key": "train"}),
        ({"train": ["a", "b"]}, DataError, {"key": "data.columns.label", "place": "train"}),
        ({"train": {"text": ["a", "b", "c"], "label": ["x", None, "y"]}}, DataError, {"place": "train, row 2"}),
        ({"train": [{"text": "a", "label": "x"}, "b"]}, DataError, {"place": "train, row 2"}),
        ({"train": []}, DataError, {}),
        ({"train": 5}, InputError, {"key": "train"}),
        ({"validation": {"text": ["a"]}}, DataError, {"key": "data.columns.label", "place": "validation"}),
        ({"evaluations": ["a"]}, InputError, {"key": "evaluations"}),
        ({"evaluations": {"a b": {"text": ["a"], "label": ["pos"]}}}, ConfigError, {}),
        ({"rows": ["a"]}, InputError, {"key": "rows"}),
        ({"rows": {"train": []}}, InputError, {"key": "train", "place": "rows['train']"}),
    ],
)
def test_sets_that_do_not_fit_are_said_before_anything_is_written(
    home: Path, table: pa.Table, tmp_path: Path, given: dict[str, Any], error: Any, said: dict[str, Any]
) -> None:
    with refused(error, **said):
        textune.train(overrides=settings(home), run=tmp_path / "run", **({"train": table} | given))
    assert not (tmp_path / "run").exists()


def test_a_model_is_evaluated_on_rows_in_memory_like_the_file_they_came_from(
    home: Path, table: pa.Table, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    files = {"data.train.files": str(home / "reviews.csv"), "data.test.kind": "none"}
    textune.train(run=run, overrides={**settings(home), **files})
    rows = table.slice(0, 30)
    pyarrow.csv.write_csv(rows, tmp_path / "some.csv")
    expected = textune.evaluate(run, data=tmp_path / "some.csv")
    pair = (rows["text"].to_pylist(), rows["label"].to_pylist())
    for given in (rows, rows.to_pandas(), rows.to_pylist(), rows.to_pydict(), pair):
        report = textune.evaluate(run, data=given)
        assert report.metrics == expected.metrics and report.num_rows == 30
    assert (run / "evaluations" / "data.json").is_file() and (run / "evaluations" / "some.csv.json").is_file()
    renamed = rows.rename_columns(["t" if name == "text" else name for name in rows.column_names])
    assert textune.evaluate(run, data=renamed, columns={"text": "t"}).metrics == expected.metrics


@pytest.mark.parametrize("data", [5, [], {"text": ["a"], "label": []}, [{"words": "a"}]], ids=repr)
def test_what_a_model_cannot_be_evaluated_on_is_said(data: object, trained: Any) -> None:
    with refused((InputError, DataError)) as caught:
        textune.evaluate(trained[0].run, data=data)
    assert "data" in str(caught.value)
