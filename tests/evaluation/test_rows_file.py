"""Rows of an evaluation, written and read again: the same bits for every head, and a sentence for damaged files."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.errors import refused
from kits.evaluated import evaluated, facts, random_set, slicing
from kits.metrics import PROBLEMS, head_of, make_rows, same, scored_rows
from kits.severalheads import answered

from textune.data.labels.map import LABEL
from textune.errors import RunError
from textune.evaluation import reduction, rowsfile
from textune.evaluation.evaluated import EvaluatedSet
from textune.evaluation.mainmetric import all_metrics
from textune.evaluation.reduction import Reduction, RowLosses
from textune.evaluation.rowsfile import read_rows, write_rows
from textune.evaluation.scored import Scored
from textune.tasks.decision import Decision
from textune.tasks.task import with_decision

SLICED = (slicing(60, "imdb", "a\nb|c"), slicing(60, "x", column="weekday", seed=1))


def again(one: EvaluatedSet, path: Path) -> EvaluatedSet:
    write_rows(one, path)
    return read_rows(path)


def require_same(one: EvaluatedSet, other: EvaluatedSet) -> None:
    """Everything but the heads, which are made anew, bit for bit."""
    assert (one.name, one.dataset, one.fingerprint) == (other.name, other.dataset, other.fingerprint)
    assert one.main.name == other.main.name and one.main.by_head.keys() == other.main.by_head.keys()
    assert one.scored.num_rows == other.scored.num_rows and one.scored.by_head.keys() == other.scored.by_head.keys()
    for name in ("row", "content", "tokens", "truncated"):
        assert same(getattr(one.facts, name), getattr(other.facts, name)), name
    for mine, theirs in zip(one.facts.slicings, other.facts.slicings, strict=True):
        assert (mine.column, mine.values) == (theirs.column, theirs.values) and same(mine.slice_N, theirs.slice_N)
    for name, scored in one.scored.by_head.items():
        require_same_rows(scored, other.scored.by_head[name])
    assert str(all_metrics(one.scored, one.main)) == str(all_metrics(other.scored, other.main))


def require_same_rows(one: Scored, other: Scored) -> None:
    assert one.head.label_map == other.head.label_map and one.head.name == other.head.name
    for field in fields(Scored):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "sample" and mine is not None:
            require_same_rows(mine, theirs)
        elif field.name != "head":
            assert same(mine, theirs), field.name


@pytest.mark.every_day(5)
@pytest.mark.parametrize("block", [1, 64, 1 << 20])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_rows_are_read_as_they_were_written(
    problem: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowsfile, "MAX_BLOCK", block)
    for seed in range(3):
        one = random_set(problem, seed, facts=facts(60, seed=seed, slicings=SLICED))
        require_same(one, again(one, tmp_path / "test.rows.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["test.rows.parquet"]


@pytest.mark.parametrize("problem", ["multiclass", "multilabel"])
def test_scores_of_a_sample_stay_those_of_a_sample(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction, "MAX_SCORES", 100)
    monkeypatch.setattr(rowsfile, "MAX_BLOCK", 40)
    one = random_set(problem, 1, metric="roc_auc")
    assert one.scored.by_head[LABEL].sample is not None
    require_same(one, again(one, tmp_path / "test.rows.parquet"))


def test_the_loss_of_the_task_is_kept_where_it_is_measured(tmp_path: Path) -> None:
    taken = Reduction(head_of("multiclass"), num_rows=30, with_losses=True)
    targets, scores = make_rows("multiclass", 2, 30, 3)
    random = np.random.default_rng(3)
    taken.add(np.arange(30), targets, scores, RowLosses(random.random(30), random.random(30)))
    one = evaluated(taken.finish(), metric="loss")
    require_same(one, again(one, tmp_path / "test.rows.parquet"))


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_several_heads_with_rows_that_have_no_label(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowsfile, "MAX_BLOCK", block)
    one = evaluated(answered(41, 3).scored())
    other = again(one, tmp_path / "test.rows.parquet")
    require_same(one, other)
    table = pq.read_table(tmp_path / "test.rows.parquet")
    assert {"tone/target", "urgent/prediction", "topic/scores", "row"} <= set(table.column_names)
    missing = sum(value is None for value in table["tone/target"].to_pylist())
    assert missing == 41 - len(one.scored.by_head["tone"]) > 0


def test_documents_of_a_language_model(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    targets = random.integers(1, 99, (50, 3))
    scored = scored_rows("language", targets, random.random(50) * 90, ("text",))
    documents = scored.by_document(np.repeat(np.arange(10) * 3, 5))
    of_documents = replace(evaluated(scored), scored=replace(evaluated(scored).scored, num_rows=10))
    one = replace(of_documents, facts=facts(10))
    one.scored.by_head[LABEL] = documents
    found = again(
        replace(one, facts=replace(one.facts, tokens=documents.targets[:, 0].astype(np.int32))), tmp_path / "x"
    )
    mine = found.scored.by_head[LABEL]
    assert same(mine.targets, documents.targets) and same(mine.predictions, documents.predictions)
    table = pq.read_table(tmp_path / "x")
    assert np.allclose(
        table["bits_per_character"], documents.predictions / documents.targets[:, 1] / np.log(2), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("problem", "decision"),
    [
        ("multilabel", Decision(thresholds=(0.9, 0.8, 0.95))),
        ("multilabel", Decision(temperature=1.7)),
        ("multiclass", Decision(temperature=0.6, abstain_below=0.4)),
        ("multiclass", Decision(costs=((0, 1, 5), (1, 0, 1), (1, 2, 0)))),
        ("binary", Decision(temperature=2.0, thresholds=(0.8,))),
    ],
)
def test_a_rule_of_decision_is_kept_with_the_rows(problem: str, decision: Decision, tmp_path: Path) -> None:
    head = with_decision(head_of(problem), decision)
    targets, scores = make_rows(problem, 4, 80, 2 if problem == "binary" else 3)
    one = evaluated(reduction.scored_rows(head, targets, scores))
    found = again(one, tmp_path / "test.rows.parquet")
    require_same(one, found)
    assert found.scored.by_head[LABEL].head == head and same(found.scored.by_head[LABEL].scores, scores)
    usual = reduction.scored_rows(head_of(problem), targets, scores)
    assert not all(
        same(getattr(found.scored.by_head[LABEL], of), getattr(usual, of)) for of in ("predictions", "loss")
    )


def test_other_programs_read_names_and_numbers(tmp_path: Path) -> None:
    targets, scores = np.array([0, 1, 1]), np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
    write_rows(evaluated(scored_rows("binary", targets, scores)), tmp_path / "x")
    table = pq.read_table(tmp_path / "x")
    assert table["target"].to_pylist() == ["no", "yes", "yes"]
    assert table["prediction"].to_pylist() == ["no", "no", "yes"]
    assert table["score"].to_pylist() == [0.75, 0.5, 0.875]
    assert table["scores"].to_pylist() == scores.tolist()
    sets, given = np.array([[1, 0, 1], [0, 0, 0]]), np.array([[0.9, 0.1, 0.2], [0.1, 0.2, 0.3]])
    write_rows(evaluated(scored_rows("multilabel", sets, given)), tmp_path / "y")
    table = pq.read_table(tmp_path / "y")
    assert table["target"].to_pylist() == [["class 0", "class 2"], []]
    assert table["prediction"].to_pylist() == [["class 0"], []]
    assert table["suspect"].to_pylist() == ["class 2", None]


# --- what is wrong with a file ---------------------------------------------------------------------------------------


def changed(path: Path, column: str, values: Any) -> None:
    """Write the file again with other values in a column."""
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    array = pa.array(values, table.schema.field(column).type)
    pq.write_table(table.set_column(index, table.schema.field(column), array), path)


def described(path: Path, **changes: Any) -> None:
    table = pq.read_table(path)
    told = json.loads(table.schema.metadata[b"textune"]) | changes
    pq.write_table(table.replace_schema_metadata({b"textune": json.dumps(told).encode()}), path)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "test.rows.parquet"
    write_rows(random_set("multiclass", 0, 12, 3), path)
    return path


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("target", ["class 0"] * 11 + ["class 9"]),
        ("prediction", [None] + ["class 0"] * 11),
        ("score", [1.5] * 12),
        ("score", [None] * 12),
        ("loss", [float("nan")] * 12),
        ("row", [None] * 12),
        ("scores", [[0.5, 0.5]] * 12),
        ("scores", [[0.5, 0.25, -0.25]] * 12),
    ],
)
def test_values_that_no_evaluation_writes(column: str, values: list[Any], kept: Path) -> None:
    if column in ("target", "prediction"):
        values = pa.array(values).dictionary_encode()
        table = pq.read_table(kept)
        index = table.schema.get_field_index(column)
        pq.write_table(table.set_column(index, table.schema.field(column), values), kept)
    else:
        changed(kept, column, values)
    with refused(RunError, place=str(kept)):
        read_rows(kept)


def test_a_file_that_is_cut_off_foreign_or_absent(kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PAR1", b"no parquet", whole[:200] + bytes(300) + whole[500:]):
        kept.write_bytes(content)
        with refused(RunError, place=str(kept)):
            read_rows(kept)
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"text": ["a"]}), foreign)
    for path in (foreign, tmp_path / "none.rows.parquet"):
        with refused(RunError, place=str(path)):
            read_rows(path)


def test_a_description_that_does_not_fit(kept: Path) -> None:
    whole = kept.read_bytes()
    other = {"name": "label", "problem": "regression", "names": ["score"], "decision": {}, "extras": []}
    for changes in ({"heads": []}, {"heads": [other]}, {"slices": [{"column": "source", "values": []}]}, {"heads": 3}):
        kept.write_bytes(whole)
        described(kept, **changes)
        with refused(RunError, place=str(kept)):
            read_rows(kept)
    kept.write_bytes(whole)
    described(kept, version=2)
    with refused(RunError, place=str(kept), value=2):
        read_rows(kept)
