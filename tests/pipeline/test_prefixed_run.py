"""Columns before each text, from training to prediction: every kind of task and source, resumed, and without them."""

from __future__ import annotations

import importlib
import json
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kits.crews import here
from kits.errors import refused
from kits.resume import end_of, same_end
from kits.runs import Listener, reviews, signal_after, write_config, write_csv, write_jsonl
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.config.values import OnBadRow
from textune.data.reading.streamoptions import StreamOptions
from textune.errors import DataError, Preempted
from textune.pipeline.predict_file import predict_file
from textune.prediction.load import load
from textune.prediction.predictor import Predictor
from textune.prediction.rows import predict_table


def rows_with_metadata(num_rows: int = 120) -> list[dict[str, Any]]:
    """Reviews with a source and a year that say nothing of the label; a fifth has no source."""
    generator = random.Random(3)
    sources = ["one", "film", "movie", "plot", None]
    return [
        {**row, "source": sources[generator.randrange(5)], "year": 1990 + generator.randrange(20)}
        for row in reviews(num_rows)
    ]


def written(row: dict[str, Any]) -> str:
    """The documented text of a row."""
    fields = [f"{name}: {row[name]}" for name in ("source", "year") if row.get(name) is not None]
    return f"{' | '.join(fields)} ||| {row['text']}" if fields else f"||| {row['text']}"


BASE: dict[str, Any] = {
    "data.metadata.columns": ["source", "year"],
    "data.metadata.dropout": {"source": 0.5, "year": 0.25},
    "data.validation.ratio": 0.2,
    "tokens.max_length": 40,
    "train.duration": "3 epochs",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_config(tmp_path_factory.mktemp("prefixed"), '[model]\npretrained = "backbone"\n')
    write_jsonl(folder / "rows.jsonl", rows_with_metadata())
    return folder


def trained(place: Path, run: Path, overrides: dict[str, Any] | None = None, *, rows: Any = None, **more: Any) -> Any:
    changed = {**BASE, "data.train.files": str(place / "rows.jsonl")} if rows is None else dict(BASE)
    return textune.train(place / "config.toml", run=run, rows=rows, overrides={**changed, **(overrides or {})}, **more)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    trained(place, place / "run")
    return place / "run"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def predictor(run: Path, said: list[str]) -> Predictor:
    return load(run, on_notice=said.append)


def test_plain_transformers_predict_the_same_of_the_written_text(run: Path, predictor: Predictor) -> None:
    rows = rows_with_metadata(40)
    assert any(row["source"] is None for row in rows)
    model = AutoModelForSequenceClassification.from_pretrained(run / "best").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "best")
    with torch.inference_mode():
        for row, scores in zip(rows, np.asarray(predictor.score(rows)), strict=True):
            logits = model(**tokenizer(written(row), truncation=True, return_tensors="pt")).logits
            assert np.allclose(logits.softmax(-1)[0].numpy(), scores, atol=1e-5)


def test_the_card_holds_the_rule(run: Path) -> None:
    card = json.loads((run / "best" / "textune.json").read_text())
    assert card["metadata"] == {
        "columns": ["source", "year"],
        "dropout": {"source": 0.5, "year": 0.25},
        "separator": " | ",
        "key_value_separator": ": ",
        "prefix_separator": " |||",
        "allow_leak": [],
    }


def test_tables_of_every_form_are_predicted_with_their_columns(predictor: Predictor, said: list[str]) -> None:
    rows = [{name: row[name] for name in ("text", "source", "year")} for row in rows_with_metadata(20)]
    first = np.asarray(predictor.score(rows))
    table = pa.Table.from_pylist(rows)
    for given in (table, table.to_pydict(), table.to_pandas()):
        assert np.array_equal(np.asarray(predictor.score(given)), first)
    without = sum(row["source"] is None for row in rows)
    assert said == [f"predicted without columns that the model was trained with: 'source' in {without} of 20 rows"]
    labels = predict_table(predictor, table).column("predicted_label").to_pylist()
    assert labels == [prediction.label for prediction in predictor.predict(rows)]  # type: ignore[union-attr]
    alone = np.concatenate([np.asarray(predictor.score([row])) for row in rows])
    assert np.allclose(alone, first, atol=1e-6)
    assert not np.allclose(first, np.asarray(predictor.score([{**row, "year": 1900} for row in rows])))


def test_texts_alone_go_without_and_say_so_once(predictor: Predictor, said: list[str]) -> None:
    texts = ["a good film", "a dull film"]
    plain = np.asarray(predictor.score(texts))
    assert np.array_equal(plain, np.asarray(predictor.score([{"text": text} for text in texts])))
    assert np.array_equal(
        plain, np.asarray(predictor.score([{"text": t, "source": " ", "year": None} for t in texts]))
    )
    assert len(said) == 1 and "'source' in 2 of 2 rows" in said[0] and "'year' in 2 of 2 rows" in said[0]
    predictor.score([{"text": "good", "year": 2000}])
    assert len(said) == 2 and "'year'" not in said[1]


def test_a_file_is_predicted_like_a_table(place: Path, run: Path, predictor: Predictor, tmp_path: Path) -> None:
    rows = rows_with_metadata(30)
    listener = Listener()
    for name, write in (("in.jsonl", write_jsonl), ("in.csv", write_csv)):
        target, source = tmp_path / f"{name}.out.jsonl", write(tmp_path / name, rows)
        predict_file(
            predictor,
            source=str(source),
            source_options=StreamOptions(source.suffix[1:]),  # type: ignore[arg-type]
            target=str(target),
            target_options=StreamOptions("jsonl"),
            columns=predictor.card.columns,
            all_scores=True,
            tracker=listener,
        )
        found = [json.loads(line) for line in target.read_text().splitlines()]
        wanted = predict_table(predictor, rows, all_scores=True)
        assert np.allclose([row["score_pos"] for row in found], wanted.column("score_pos").to_numpy(), atol=2e-6)
    without = sum(row["source"] is None for row in rows)
    said = [notice for notice in listener.notices if "predicted without" in notice]
    assert len(said) == 2 and all(f"'source' in {without} of 30 rows" in notice for notice in said)


def test_a_key_that_only_later_rows_of_a_file_have_is_read(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is predicted of a row does not depend on how many rows stand before it."""
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 4)
    bare = [{"text": row["text"]} for row in rows_with_metadata(6)]
    rows = [*bare, *({"text": "good", "source": "film", "year": year} for year in range(1990, 1996)), *bare]
    path, target, listener = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", Listener()
    predict_file(
        predictor,
        source=str(path),
        source_options=StreamOptions("jsonl"),
        target=str(target),
        target_options=StreamOptions("jsonl"),
        columns=predictor.card.columns,
        all_scores=True,
        tracker=listener,
    )
    found = [json.loads(line)["score_pos"] for line in target.read_text().splitlines()]
    wanted = [np.asarray(predictor.score([row]))[0, 1] for row in rows]
    assert np.allclose(found, wanted, atol=2e-6) and len(set(found[6:12])) > 1
    assert any("'source' in 12 of 18 rows, 'year' in 12 of 18 rows" in notice for notice in listener.notices), (
        listener.notices
    )


def test_shards_leave_out_the_rows_that_one_process_leaves_out(
    run: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 4)
    monkeypatch.setattr(importlib.import_module("textune.pipeline.predict_files"), "by_processes", here)
    rows: list[dict[str, Any]] = [{"text": "good", "source": "film", "year": year} for year in range(1990, 2006)]
    for number in (2, 4, 5, 6, 7):  # one of a shard, a whole shard
        rows[number] = {"text": "dull", "source": "film " * 50}
    del rows[12]["year"]
    path, one, several = write_jsonl(tmp_path / "in.jsonl", rows), Listener(), Listener()
    predict_file(
        predictor,
        source=str(path),
        source_options=StreamOptions("jsonl"),
        target=str(tmp_path / "one.jsonl"),
        target_options=StreamOptions("jsonl"),
        columns=predictor.card.columns,
        on_bad_row="skip",
        tracker=one,
    )
    result = textune.predict_files(run, path, tmp_path / "out.jsonl", on_bad_row="skip", tracker=several)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert (result.rows, result.skipped) == (11, 5)
    assert len(one.notices) == 2 and several.notices[-2:] == one.notices
    textune.predict_files(run, path, tmp_path / "out.parquet", on_bad_row="skip")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 11


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_rows_whose_prefix_leaves_no_room_are_left_out_by_request(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 4)
    rows = [{"text": "good", "source": "film", "year": str(year)} for year in range(1990, 2006)]
    full = [2, 4, 5, 6, 7, 15]  # one of a window, a whole window, the last row of all
    for number in full:
        rows[number] = {"text": "dull", "source": "film " * 50, "year": ""}
    path, target, listener = tmp_path / f"in.{suffix}", tmp_path / "out.jsonl", Listener()
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        (write_csv if suffix == "csv" else write_jsonl)(path, rows)

    def predict(on_bad_row: OnBadRow) -> int:
        return predict_file(
            predictor,
            source=str(path),
            source_options=StreamOptions(suffix),  # type: ignore[arg-type]
            target=str(target),
            target_options=StreamOptions("jsonl"),
            columns=predictor.card.columns,
            on_bad_row=on_bad_row,
            all_scores=True,
            tracker=listener,
        )

    first = {"jsonl": "line 3", "csv": "line 4", "parquet": "row 3"}[suffix]
    with refused(DataError, key="data.metadata.columns", place=first, reason="leaves no room"):
        predict("error")
    assert not target.exists() and not listener.notices
    assert predict("skip") == 10
    found = [json.loads(line) for line in target.read_text().splitlines()]
    kept = [row for number, row in enumerate(rows) if number not in full]
    assert [row["year"] for row in found] == [row["year"] for row in kept]
    wanted = np.asarray(predictor.score(kept))[:, 1]
    assert np.allclose([row["score_pos"] for row in found], wanted, atol=2e-6)
    (said,) = listener.notices  # none that the rows left out lack a year
    assert "6 rows left out" in said and first in said


def test_the_rows_of_a_file_are_evaluated_with_their_columns(place: Path, run: Path) -> None:
    own = textune.evaluate(run)
    whole = textune.evaluate(run, data=place / "rows.jsonl")
    assert own.value == json.loads((run / "report.json").read_text())["main"]["value"]
    assert whole.num_rows == 120


def test_files_without_the_column_are_refused_in_evaluation(run: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "bare.jsonl", reviews(20))
    with pytest.raises(DataError) as caught:
        textune.evaluate(run, data=path)
    assert (caught.value.key, caught.value.value) == ("data.metadata.columns", "source")
    assert caught.value.place == "bare.jsonl"


def test_a_column_that_no_row_went_without_is_missed(place: Path, tmp_path: Path) -> None:
    """Without dropout the model knows no row without it; texts alone are still predicted."""
    run = tmp_path / "run"
    trained(place, run, {"data.metadata.dropout": {"source": 0.5}, "train.duration": "1 steps"})
    said: list[str] = []
    predictor = load(run, on_notice=said.append)
    for given in ([{"text": "good", "source": "one"}], {"text": ["good"], "source": ["one"]}):
        with pytest.raises(DataError) as caught:
            predictor.score(given)
        error = caught.value
        assert (error.key, error.value, error.place) == ("data.metadata.columns", "year", "texts")
        assert error.reason and error.hint
    predictor.score([{"text": "good", "year": 2000, "other": 1}])
    predictor.score([{"text": "good"}])
    predictor.score(["good"])
    assert len(said) == 2
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "good", "source": "one"}])
    with pytest.raises(DataError) as caught:
        predict_file(
            predictor,
            source=str(path),
            source_options=StreamOptions("jsonl"),
            target=str(tmp_path / "out.jsonl"),
            target_options=StreamOptions("jsonl"),
            columns=predictor.card.columns,
            tracker=Listener(),
        )
    assert (caught.value.value, caught.value.place) == ("year", str(path))
    assert not (tmp_path / "out.jsonl").exists()


def stopped_and_continued(config: Path, run: Path, overrides: dict[str, Any], steps: Sequence[int]) -> None:
    for step in steps:
        stop = signal_after({step: [signal.SIGTERM]})
        with pytest.raises(Preempted):
            textune.train(config, run=run, overrides=overrides, after_step=stop)
    textune.train(config, run=run, overrides=overrides)


@pytest.mark.slow
def test_a_run_stopped_anywhere_ends_like_one_that_was_not(place: Path, tmp_path: Path) -> None:
    overrides = {**BASE, "data.train.files": str(place / "rows.jsonl")}
    textune.train(place / "config.toml", run=tmp_path / "whole", overrides=overrides)
    for prefetch, steps in ((0, (2, 5, 12)), (3, (7, 13))):
        run = tmp_path / f"prefetch-{prefetch}"
        stopped_and_continued(place / "config.toml", run, overrides | {"train.prefetch": prefetch}, steps)
        same_end(end_of(run), end_of(tmp_path / "whole"))


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("overrides", "change"),
    [
        ({"task.kind": "binary"}, {}),
        ({"task.kind": "multiclass", "data.columns.label": "kind"}, {"kind": lambda row: f"k{row['id'] % 3}"}),
        (
            {"task.kind": "multilabel", "data.columns.label": "kinds"},
            {"kinds": lambda row: ["a", "b"][: row["id"] % 3]},
        ),
        ({"task.kind": "regression", "data.columns.label": "number"}, {}),
        (
            {
                "task.kind": "multitask",
                "task.groups": {"tone": ["neg", "pos"], "odd": ["no", "yes"]},
                "data.columns.labels": ["tone", "odd"],
            },
            {"tone": lambda row: row["label"], "odd": lambda row: ["no", "yes"][row["id"] // 2 % 2]},
        ),
        ({"data.columns.text_pair": "second"}, {"second": lambda row: row["text"][:12]}),
        ({"data.columns.template": "{text} {id}"}, {}),
    ],
)
def test_every_kind_of_task_is_trained_and_predicted(
    place: Path, tmp_path: Path, overrides: dict[str, Any], change: dict[str, Callable[[Any], Any]]
) -> None:
    rows = [{**row, **{name: make(row) for name, make in change.items()}} for row in rows_with_metadata(60)]
    given = {"data.train.kind": "given", "data.train.name": "rows", **overrides, "train.duration": "2 steps"}
    result = trained(place, tmp_path / "run", given, rows={"rows": rows})
    predictor = load(tmp_path / "run", on_notice=lambda _: None)
    scores = predictor.scorer.score_store(predictor.encode(rows))
    changed = predictor.scorer.score_store(predictor.encode([{**row, "year": 3} for row in rows]))
    assert all(not np.allclose(scores[head], changed[head]) for head in scores)
    report = textune.evaluate(tmp_path / "run", rows={"rows": rows})
    assert report.metrics == result.reports["validation"].metrics


@pytest.mark.slow
def test_a_stream_is_trained_and_resumed_like_itself(place: Path, tmp_path: Path) -> None:
    rows = rows_with_metadata(120)
    for name, part in (("a.jsonl", rows[:50]), ("b.jsonl", rows[50:])):
        write_jsonl(tmp_path / name, part)
    overrides = {
        "data.train.kind": "stream",
        "data.train.files": str(tmp_path / "?.jsonl"),
        "data.train.block_rows": 30,
        "data.train.num_rows": 120,
        "data.validation": {"kind": "files", "files": str(place / "rows.jsonl")},
        "data.labels.names": ["neg", "pos"],
        "task.kind": "binary",
        "train.duration": "2 epochs",
    }
    base = {name: value for name, value in BASE.items() if not name.startswith("data.validation")}
    config = place / "config.toml"
    assert textune.train(config, run=tmp_path / "whole", overrides=base | overrides).steps == 16
    for prefetch, steps in ((0, (3, 10)), (2, (8, 13))):
        run = tmp_path / f"prefetch-{prefetch}"
        stopped_and_continued(config, run, base | overrides | {"train.prefetch": prefetch}, steps)
        same_end(end_of(run), end_of(tmp_path / "whole"))


def test_a_shard_without_the_column_is_refused(place: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", reviews(40))
    overrides = {
        "data.train": {"kind": "stream", "files": str(path), "num_rows": 40},
        "data.validation": {"kind": "none"},
        "data.labels.names": ["neg", "pos"],
        "task.kind": "binary",
        "train.duration": "2 steps",
    }
    base = {name: value for name, value in BASE.items() if not name.startswith(("data.validation", "train."))}
    with pytest.raises(DataError) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides={**base, **overrides})
    assert (caught.value.key, caught.value.value) == ("data.metadata.columns", "source")


def test_the_first_rows_of_a_shard_may_lack_a_column(place: Path, tmp_path: Path) -> None:
    """However few of them are read at once: rows without a key are rows without a value."""
    rows = [
        {key: row[key] for key in row if key != "source" or number >= 60}
        for number, row in enumerate(rows_with_metadata())
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    overrides = {
        "data.train": {"kind": "stream", "files": str(path), "num_rows": 120, "block_rows": 30},
        "data.validation": {"kind": "none"},
        "data.labels.names": ["neg", "pos"],
        "task.kind": "binary",
        "train.duration": "2 epochs",
    }
    base = {name: value for name, value in BASE.items() if not name.startswith(("data.validation", "train."))}
    assert textune.train(place / "config.toml", run=tmp_path / "run", overrides={**base, **overrides}).steps == 16


def test_a_column_that_training_rows_lack_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        trained(place, tmp_path / "run", {"data.metadata.columns": ["sourc"], "data.metadata.dropout": 0.0})
    error = caught.value
    assert (error.key, error.value, error.place) == ("data.metadata.columns", "sourc", "rows.jsonl")
    assert "'source'" in error.hint


def test_a_column_of_lists_is_refused(place: Path, tmp_path: Path) -> None:
    rows = [{**row, "source": ["a"]} for row in rows_with_metadata(20)]
    given = {"data.train.kind": "given", "data.train.name": "rows"}
    with pytest.raises(DataError) as caught:
        trained(place, tmp_path / "run", given, rows={"rows": rows})
    assert (caught.value.key, caught.value.value) == ("data.metadata.columns", "source")


def test_check_says_what_stands_before_the_texts(place: Path) -> None:
    overrides = {**BASE, "data.train.files": str(place / "rows.jsonl")}
    found = textune.check(place / "config.toml", overrides=overrides, timing=False)
    plain = {name: value for name, value in overrides.items() if "metadata" not in name}
    bare = textune.check(place / "config.toml", overrides=plain, timing=False)
    assert found.ok and found.facts.prefix == ["source", "year"] and bare.facts.prefix == []
    assert found.facts.prefix_tokens > 10 and bare.facts.prefix_tokens == 0
    assert found.words["prefix"].startswith("source, year: ") and "prefix" not in bare.words


def test_a_run_that_starts_from_another_says_that_the_prefix_differs(place: Path, run: Path) -> None:
    overrides = {"data.train.files": str(place / "rows.jsonl"), "model.pretrained": str(run), "tokens.max_length": 40}
    found = textune.check(place / "config.toml", overrides=overrides, timing=False)
    assert any('"source: ... | year: ... |||" before each text (here nothing)' in notice for notice in found.notices)
    same = textune.check(place / "config.toml", overrides=BASE | overrides, timing=False)
    assert not any("before each text" in notice for notice in same.notices)


def test_the_report_says_what_each_column_is_worth(place: Path, run: Path, tmp_path: Path) -> None:
    report = textune.evaluate(run, data=place / "rows.jsonl")
    assert [lift.column for lift in report.lifts] == ["source", "year"]
    rows = rows_with_metadata()
    for lift in report.lifts:
        without = write_jsonl(tmp_path / f"{lift.column}.jsonl", [{**row, lift.column: None} for row in rows])
        again = textune.evaluate(run, data=without)
        assert lift.without == again.value
        assert lift.lift == pytest.approx(report.value - again.value)
        assert lift.num_rows == sum(row[lift.column] is not None for row in rows)
        assert [other.lift for other in again.lifts if other.column == lift.column] == [0.0]
    kept = json.loads((run / "report.json").read_text())["lifts"]
    assert [lift["column"] for lift in kept] == ["source", "year"]
    assert "What each column is worth" in (run / "report.md").read_text()


@pytest.mark.slow
def test_columns_that_help_have_a_lift(place: Path, tmp_path: Path) -> None:
    """The label is half in the text and half in a column: the column is worth a lot, one of noise nothing."""
    generator = random.Random(0)
    rows = []
    for row in reviews(400):
        told = generator.random() < 0.7
        words = row["text"] if not told else "the film is a movie"
        hint = ("good", "bad")[row["label"] == "neg"] if told else "the"
        rows.append({"text": words, "label": row["label"], "hint": hint, "noise": str(generator.randrange(3))})
    given = {
        "data.train.kind": "given",
        "data.train.name": "rows",
        "data.metadata.columns": ["hint", "noise"],
        "data.metadata.dropout": 0.0,
        "train.duration": "12 epochs",
        "evaluate.bootstrap": 200,
    }
    report = trained(place, tmp_path / "run", given, rows={"rows": rows}).reports["validation"]
    hint, noise = report.lifts
    assert hint.interval is not None and hint.interval[0] > 0.1 and abs(noise.lift) < 0.1


def test_a_column_that_gives_the_label_away_is_refused(place: Path, tmp_path: Path) -> None:
    rows = [{**row, "source": row["label"].upper()} for row in rows_with_metadata(100)]
    given = {"data.train.kind": "given", "data.train.name": "rows", "train.duration": "1 steps"}
    with pytest.raises(DataError, match="'source' gives the label away"):
        trained(place, tmp_path / "run", given, rows={"rows": rows})
    assert not (tmp_path / "run").exists()
    found = textune.check(place / "config.toml", overrides=BASE | given, rows={"rows": rows}, timing=False)
    assert not found.ok and "column-leak" in {finding.code for finding in found.findings}
    allowed = given | {"data.metadata.allow_leak": ["source"]}
    trained(place, tmp_path / "run", allowed, rows={"rows": rows})
    found = textune.check(place / "config.toml", overrides=BASE | allowed, rows={"rows": rows}, timing=False)
    assert found.ok and [one.level for one in found.findings if one.code == "column-leak"] == ["note"]


def test_a_run_says_where_plain_tokenizers_differ(place: Path) -> None:
    """`an` and the separator `y` make `any`, which is one token."""
    rows = [{**row, "source": "an"} for row in rows_with_metadata(60)]
    config = BASE | {
        "data.train.kind": "given",
        "data.train.name": "rows",
        "data.metadata.columns": ["year", "source"],
    }
    for separator, differs in (("y", True), (" |||", False)):
        overrides = config | {"data.metadata.prefix_separator": separator}
        found = textune.check(place / "config.toml", overrides=overrides, rows={"rows": rows}, timing=False)
        assert any("joins fields" in notice for notice in found.notices) == differs
