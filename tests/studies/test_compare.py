"""Runs compared by the rows that they keep: on the command line, in Python, as files, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from kits.cli import runner
from kits.errors import refused
from kits.evaluated import evaluated, facts, slicing
from kits.metrics import make_rows, scored_rows
from kits.severalheads import answered

import textune
from textune.data.labels.map import LABEL
from textune.errors import ConfigError, RunError
from textune.evaluation.evaluated import EvaluatedSet
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import metric_called
from textune.evaluation.paired import mcnemar
from textune.evaluation.rowsfile import read_rows, write_rows
from textune.run.folder import RunFolder


def put(folder: Path, name: str, *sets: EvaluatedSet) -> Path:
    """A run with the rows of these sets, as far as `compare` looks at one."""
    run = RunFolder(folder / name)
    run.evaluations.mkdir(parents=True, exist_ok=True)
    for one in sets:
        write_rows(one, run.rows_of(one.name))
    return run.path


def answers(seed: int, problem: str = "binary", num_rows: int = 120, **known: Any) -> EvaluatedSet:
    """Answers of a model to the same rows, whatever the seed."""
    targets, _ = make_rows(problem, 0, num_rows, 2 if problem == "binary" else 4)
    _, scores = make_rows(problem, seed, num_rows, 2 if problem == "binary" else 4)
    sliced = facts(num_rows, slicings=(slicing(num_rows, "imdb", "a|b"),))
    return evaluated(scored_rows(problem, targets, scores), **({"facts": sliced} | known))


def test_two_runs_on_the_rows_they_keep(tmp_path: Path) -> None:
    one, other = (put(tmp_path, name, answers(seed)) for name, seed in (("a", 4), ("b", 9)))
    result = textune.compare([one, other])
    assert result.runs == ("a", "b") and list(result.sets) == ["test"]
    (versus,) = result.sets["test"].against
    mine, theirs = (read_rows(RunFolder(run).rows_of("test")).scored.by_head[LABEL] for run in (one, other))
    only = int((mine.right & ~theirs.right).sum()), int((theirs.right & ~mine.right).sum())
    assert versus.p_value == versus.adjusted == mcnemar(*only) and versus.test.startswith("McNemar")
    assert versus.main.first == mine.right.mean() and versus.main.other == theirs.right.mean()
    assert {(part.column, part.name) for part in versus.slices} >= {("source", "imdb"), ("source", None)}


@pytest.mark.slow
def test_real_runs_from_the_command_line(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke = runner(capsys, monkeypatch, tmp_path)
    first = trained[0].run
    other = shutil.copytree(first, tmp_path / "other")
    rows = read_rows(RunFolder(other).rows_of("test"))
    scored = rows.scored.by_head[LABEL]
    scored.predictions[:6] = 1 - scored.predictions[:6]
    write_rows(rows, RunFolder(other).rows_of("test"))
    out = tmp_path / "differing.csv"
    words = ["compare", str(first), str(other), "--set", "test", "--out", str(out)]
    answer = invoke(*words, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    versus = found["sets"]["test"]["against"]["other"]
    assert versus["num_changed"] == 6 and found["sets"]["test"]["rows"] == 21
    with out.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["row"]) for line in lines] == rows.facts.row[:6].tolist()
    assert all(line["prediction:first"] != line["prediction:other"] for line in lines)
    shown = invoke(*words[:3]).out
    assert "validation: accuracy" in shown and "test: accuracy" in shown and "number of tokens" in shown
    markdown = invoke(*words[:5], "--markdown").out
    assert markdown.startswith("## test: accuracy on 21 rows") and "| other |" in markdown


@pytest.mark.slow
def test_several_runs_are_corrected_by_holm(tmp_path: Path) -> None:
    runs = [put(tmp_path, name, answers(seed)) for name, seed in (("a", 4), ("b", 9), ("c", 12))]
    found = textune.compare(runs).sets["test"]
    alone = [textune.compare([runs[0], run]).sets["test"].against[0].p_value for run in runs[1:]]
    assert [one.p_value for one in found.against] == alone
    low, high = sorted(float(value) for value in alone if value is not None)
    assert sorted(one.adjusted for one in found.against if one.adjusted is not None) == pytest.approx(
        [min(1, 2 * low), max(min(1, 2 * low), high)]
    )


@pytest.mark.every_day(1)
@pytest.mark.parametrize("problem", ["multiclass", "multilabel", "regression"])
def test_rows_that_differ_in_a_file_of_every_kind(problem: str, tmp_path: Path) -> None:
    runs = [put(tmp_path, name, answers(seed, problem)) for name, seed in (("a", 4), ("b", 9))]
    textune.compare(runs, out=tmp_path / "rows.parquet", samples=0)
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    mine, theirs = (read_rows(RunFolder(run).rows_of("test")) for run in runs)
    one, other = mine.scored.by_head[LABEL], theirs.scored.by_head[LABEL]
    differs = np.flatnonzero((one.predictions != other.predictions).reshape(120, -1).any(axis=1))
    assert [line["row"] for line in table] == mine.facts.row[differs].tolist()
    for line, index in zip(table, differs.tolist(), strict=True):
        named = [one.answers.named(value) for value in (one.targets[index], one.predictions[index])]
        named.append(other.answers.named(other.predictions[index]))
        expected = [list(value) if isinstance(value, tuple) else value for value in named]
        assert [line["target"], line["prediction:a"], line["prediction:b"]] == expected
    for ending in (".csv", ".tsv", ".jsonl"):
        textune.compare(runs, out=tmp_path / f"rows{ending}", samples=0)
        text = (tmp_path / f"rows{ending}").read_text(encoding="utf-8")
        assert len(text.splitlines()) == len(table) + (ending != ".jsonl")


def test_several_tasks_and_documents(tmp_path: Path) -> None:
    rows = answered(80, 1)
    worse = answered(80, 1, skill=0.1)._replace(targets=rows.targets)
    runs = [put(tmp_path, name, evaluated(of.scored())) for name, of in (("a", rows), ("b", worse))]
    textune.compare(runs, out=tmp_path / "rows.jsonl", samples=20)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["task"] for line in lines} == {"tone", "urgent", "topic"}
    random = np.random.default_rng(0)
    targets = random.integers(1, 99, (50, 3))
    documents = [
        put(tmp_path, name, evaluated(scored_rows("language", targets, targets[:, 1] * random.random(50), ("text",))))
        for name in ("c", "d")
    ]
    (versus,) = textune.compare(documents, out=tmp_path / "documents.csv").sets["test"].against
    assert versus.main.metric == "bits_per_character" and versus.p_value is not None and versus.main.interval


def test_a_metric_of_the_users_own_code_gives_way_to_the_usual_one(tmp_path: Path) -> None:
    own = MainMetric("agreement", {LABEL: metric_called("agreement")})
    runs = [put(tmp_path, name, answers(seed, main=own)) for name, seed in (("a", 4), ("b", 9))]
    found = textune.compare(runs, samples=0).sets["test"]
    assert found.metric == "accuracy" and found.against[0].p_value is not None
    assert [name in note and "agreement" in note for name, note in zip("ab", found.notes, strict=True)] == [True, True]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_other_rows_and_absent_sets(tmp_path: Path) -> None:
    whole, part = put(tmp_path, "a", answers(4)), put(tmp_path, "b", answers(9).take(np.arange(100)))
    with refused(RunError, key="runs", value="b", reason="20 rows"):
        textune.compare([whole, part])
    assert textune.compare([whole, part], common=True, samples=0).sets["test"].num_rows == 100
    with refused(RunError, key="sets", value="news", place="a"):
        textune.compare([whole, part], sets="news")
    empty = tmp_path / "empty"
    empty.mkdir()
    with refused(RunError, key="runs", reason="no set"):
        textune.compare([whole, empty])
    with refused(RunError, key="metric", value="loss", place="a"):
        textune.compare([whole, put(tmp_path, "c", answers(5))], metric="loss")


def test_runs_that_are_none(tmp_path: Path) -> None:
    run = put(tmp_path, "a", answers(4))
    with refused(ConfigError, key="runs"):
        textune.compare([run])
    with refused(ConfigError, key="runs", reason="twice"):
        textune.compare([run, tmp_path / "." / "a"])
    with refused(RunError, key="runs", value=str(tmp_path / "none")):
        textune.compare([run, tmp_path / "none"])
    RunFolder(run).rows_of("test").write_bytes(b"no parquet")
    with refused(RunError, place="test.rows.parquet"):
        textune.compare([run, put(tmp_path, "b", answers(4))])


def test_a_file_that_cannot_be_made_is_refused_first(tmp_path: Path) -> None:
    runs = [put(tmp_path, "a", answers(4)), tmp_path / "none"]
    runs[1].mkdir()
    (tmp_path / "there.csv").touch()
    for name in ("there.csv", "rows.docx", "none/none/rows.csv"):
        with refused(ConfigError, key="out", value=str(tmp_path / name)):
            textune.compare(runs, out=tmp_path / name)
