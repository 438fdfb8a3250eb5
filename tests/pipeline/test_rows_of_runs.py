"""The rows that a run keeps of its reports: those of its files, with the answers that it was judged by."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from kits.runs import Listener, reviews, write_csv, write_jsonl, write_place

import textune
from textune.config.sources import FilesSource
from textune.data.labels.map import LABEL
from textune.errors import DataError
from textune.evaluation.rowsfile import read_rows
from textune.run.folder import RunFolder

CONFIG = """
[data]
train.files = "rows.csv"
validation = { kind = "split", ratio = 0.2 }
evaluations.other = { files = "other.csv" }
[model]
pretrained = "backbone"
[train]
duration = "1 steps"
[evaluate]
slices = ["source"]
"""


def sourced(num_rows: int, num_sources: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    return [row | {"source": f" s{row['id'] % num_sources} "} for row in reviews(num_rows, seed)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_place(tmp_path_factory.mktemp("sliced"), CONFIG, sourced(60))
    write_csv(folder / "other.csv", sourced(25, seed=1))
    return folder


def test_a_run_keeps_the_rows_of_every_set_that_it_reports_on(trained: Any) -> None:
    result, _ = trained
    folder = RunFolder(result.run)
    for name, report in result.reports.items():
        rows = read_rows(folder.rows_of(name))
        scored = rows.scored.by_head[LABEL]
        assert rows.main.of(rows.scored) == report.value and len(rows) == report.num_rows
        assert (rows.name, rows.dataset, rows.fingerprint) == (name, report.dataset, report.fingerprint)
        assert int((~scored.right).sum()) == report.num_mistakes and scored.scores is not None
        assert folder.rows_of(name) in folder.files().values()
    kept = {path.name for path in folder.evaluations.glob("*.parquet")}  # other tests may have evaluated more
    assert {"test.rows.parquet", "validation.rows.parquet"} <= kept


def test_a_row_is_that_of_the_file_with_the_answer_of_predict(home: Path, trained: Any) -> None:
    result, _ = trained
    whole = reviews(200)
    rows = read_rows(RunFolder(result.run).rows_of("test"))
    scored = rows.scored.by_head[LABEL]
    texts = [whole[number]["text"] for number in rows.facts.row.tolist()]
    truths = [whole[number]["label"] for number in rows.facts.row.tolist()]
    assert [scored.answers.named(target) for target in scored.targets] == truths
    answers = textune.load(result.run).predict(texts)
    assert [scored.answers.named(one) for one in scored.predictions] == [answer.label for answer in answers]
    assert np.allclose(scored.sureness, [answer.score for answer in answers], atol=1e-6)
    assert len(set(rows.facts.content.tolist())) == len(set(texts))
    assert (rows.facts.truncated == (rows.facts.tokens > 24)).all() and len(set(rows.facts.tokens.tolist())) > 5


def test_an_evaluation_keeps_its_rows_beside_its_report(home: Path, trained: Any, tmp_path: Path) -> None:
    result, _ = trained
    run = shutil.copytree(result.run, tmp_path / "run")
    before = RunFolder(run).rows_of("test").read_bytes()
    textune.evaluate(run)
    assert RunFolder(run).rows_of("test").read_bytes() == before  # of the same rows, by the same model
    for content in (reviews(12, seed=5), reviews(14, seed=6)):
        write_csv(tmp_path / "fresh.csv", content)
        textune.evaluate(run, data=tmp_path / "fresh.csv")
    found = [read_rows(path) for path in sorted((run / "evaluations").glob("fresh.csv*.parquet"))]
    assert sorted(len(rows) for rows in found) == [12, 14] and {rows.name for rows in found} == {"fresh.csv"}
    # another file by the name of one of the run's sets takes nothing's place
    write_jsonl(tmp_path / "test", reviews(9, seed=7))
    textune.evaluate(run, data=FilesSource(files=(str(tmp_path / "test"),), format="jsonl"))
    assert RunFolder(run).rows_of("test").read_bytes() == before


def test_rows_carry_the_values_of_the_slices(place: Path) -> None:
    result = textune.train(place / "config.toml", run=place / "runs" / "sliced")
    for name, source in (("validation", sourced(60)), ("other", sourced(25, seed=1))):
        rows = read_rows(RunFolder(result.run).rows_of(name))
        (slicing,) = rows.facts.slicings
        assert slicing.column == "source" and slicing.values == ("s0", "s1", "s2")
        expected = [source[number]["source"].strip() for number in rows.facts.row.tolist()]
        assert [slicing.values[code] for code in slicing.slice_N.tolist()] == expected


def test_other_files_may_lack_a_column_of_the_slices(place: Path) -> None:
    run = textune.train(place / "config.toml", run=place / "runs" / "lacking").run
    write_csv(place / "plain.csv", reviews(10))
    listener = Listener()
    textune.evaluate(run, data=place / "plain.csv", tracker=listener)
    assert any("plain.csv" in notice and "'source'" in notice for notice in listener.notices)
    assert read_rows(RunFolder(run).rows_of("plain.csv")).facts.slicings == ()
    write_csv(place / "many.csv", sourced(60, 51))
    with refused(DataError, key="evaluate.slices", value="source", place="many.csv", reason="51 values"):
        textune.evaluate(run, data=place / "many.csv")


@pytest.mark.parametrize(
    ("rows", "others", "reason"),
    [
        (reviews(60), sourced(25), "no such column"),
        (sourced(60), reviews(25), "no such column"),
        (sourced(60), sourced(60, 51), "51 values"),
        (sourced(60), [row | {"source": ["a", "b"]} for row in reviews(25)], "lists"),
    ],
)
def test_a_column_that_cannot_slice_is_refused_before_training(
    rows: list[dict[str, Any]], others: list[dict[str, Any]], reason: str, tmp_path: Path
) -> None:
    place = write_place(tmp_path, CONFIG.replace("other.csv", "other.jsonl"), rows)
    write_jsonl(place / "other.jsonl", others)
    with refused(DataError, key="evaluate.slices", value="source", reason=reason):
        textune.train(place / "config.toml", run=place / "run")
    assert not (place / "run").exists()


def test_rows_of_a_set_that_is_no_longer_reported_go_with_its_report(place: Path) -> None:
    run, config = place / "runs" / "fewer", place / "config.toml"
    steady = ["train.schedule.kind=constant"]
    textune.train(config, run=run, overrides=steady)
    assert RunFolder(run).rows_of("other").is_file()
    more = [*steady, "train.duration=2 steps"]
    textune.train(config, run=run, overrides=more, unset=["data.evaluations.other"], resume="auto")
    assert not RunFolder(run).rows_of("other").exists() and RunFolder(run).rows_of("validation").is_file()
