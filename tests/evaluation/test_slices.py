"""The main metric by slices: each is that of its rows alone, and a report has them as data in every form."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.evaluated import facts, slicing
from kits.metrics import PROBLEMS, make_rows, same, scored_rows
from kits.severalheads import LABEL_MAPS, answered
from rich.console import Console

from textune.data.labels.map import LABEL
from textune.evaluation import reduction
from textune.evaluation.evaluated import RowFacts, rows_within
from textune.evaluation.heads import one_head
from textune.evaluation.intervals import confidence_interval
from textune.evaluation.mainmetric import MainMetric, all_metrics
from textune.evaluation.metrics import METRICS
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.naming import resolve_metric
from textune.evaluation.render import console, json, markdown
from textune.evaluation.report import Report
from textune.evaluation.slices import LENGTH, by_length, find_slices, parts_of
from textune.evaluation.taskreport import build_task_report


@given(tokens=st.lists(st.integers(1, 5000), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_lengths_fall_into_slices_that_double(tokens: list[int]) -> None:
    found = by_length(np.array(tokens, np.int32))
    for number, code in zip(tokens, found.slice_N.tolist(), strict=True):
        low, high = (int(word.replace(",", "")) for word in found.values[code].split(" to "))
        assert low <= number <= high and high in [16 * 2**power for power in range(10)]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_rows_within_are_those_rows_alone(problem: str) -> None:
    targets, scores = make_rows(problem, 1, 90, 2 if problem == "binary" else 4)
    chosen = np.flatnonzero(np.random.default_rng(0).random(90) < 0.4)
    found = rows_within(one_head(scored_rows(problem, targets, scores)), chosen)
    alone = scored_rows(problem, targets[chosen], scores[chosen])
    assert found.num_rows == len(chosen)
    assert all(
        same(getattr(found.by_head[LABEL], name), getattr(alone, name)) for name in ("targets", "scores", "loss")
    )


def test_rows_within_several_heads_and_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = answered(80, 2)
    chosen = np.arange(3, 80, 3)
    main = resolve_metric("auto", rows.task.heads)
    found, alone = rows_within(rows.scored(), chosen), rows.taken(chosen).scored()
    assert str(all_metrics(found, main)) == str(all_metrics(alone, main))
    monkeypatch.setattr(reduction, "MAX_SCORES", 100)
    sampled = rows.scored()
    sample = sampled.by_head["topic"].sample
    assert sample is not None and sample.rows is not None
    part = rows_within(sampled, chosen).by_head["topic"].sample
    assert part is not None and part.rows is not None
    assert chosen[part.rows].tolist() == sorted(set(chosen.tolist()) & set(sample.rows.tolist()))
    assert same(part.scores, rows.scores["topic"][chosen[part.rows]])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parity("deciding")
def test_a_slice_has_the_value_and_the_interval_of_its_rows(problem: str) -> None:
    targets, scores = make_rows(problem, 3, 200, 2 if problem == "binary" else 4)
    known = facts(200, slicings=(slicing(200, "a", "b", "never"),))
    never = known.slicings[0].slice_N == 2
    known.slicings[0].slice_N[never] = 0
    scored = scored_rows(problem, targets, scores)
    metric = METRICS[scored.answers.measures.main]
    found = find_slices(MainMetric(metric.name, {LABEL: metric}), one_head(scored), known, samples=50)
    assert {one.column for one in found} == {LENGTH, "source"}
    assert [one.name for one in found if one.column == "source"] == ["a", "b", None]
    for column in (LENGTH, "source"):
        assert sum(one.num_rows for one in found if one.column == column) == 200
    for one, (_, _, chosen) in zip(found, parts_of(known), strict=True):
        alone = scored_rows(problem, targets[chosen], scores[chosen])
        assert one.value == pytest.approx(metric.of(alone), nan_ok=True) and one.num_rows == len(chosen)
        interval = confidence_interval(metric, alone, samples=50)
        assert (one.interval, one.reason) == (interval.limits, interval.reason)


def report_of(**known: Any) -> Report:
    scored = one_head(scored_rows("binary", *make_rows("binary", 0, 60, 2)))
    rows = EvaluatedRows(["text"] * 60, dataset="test", facts=facts(60, **known))
    return build_task_report(scored, rows, main=resolve_metric("auto", scored.heads), bootstrap=50)


def test_a_report_has_the_slices_as_data(tmp_path: Path) -> None:
    report = report_of(slicings=(slicing(60, "imdb", "a|b <i>\n", column="so|urce"),))
    (tmp_path / "report.json").write_text(json.render(report), encoding="utf-8")
    assert json.read_report(tmp_path / "report.json").slices == report.slices != ()
    text = markdown.render(report)
    assert f"## By {LENGTH}" in text and "## By so\\|urce" in text and "| a\\|b &lt;i&gt; |" in text
    for width in (60, 120):
        stream = io.StringIO()
        console.render(report, Console(file=stream, width=width))
        assert "imdb" in stream.getvalue() and LENGTH in stream.getvalue()
        assert max(map(len, stream.getvalue().splitlines())) <= width


def test_of_several_tasks_the_slices_are_of_the_mean() -> None:
    rows = answered(150, 4)
    main, known = resolve_metric("auto", rows.task.heads), facts(150)
    report = build_task_report(rows.scored(), EvaluatedRows(["text"] * 150, facts=known), main=main, bootstrap=40)
    assert not any(task.slices for task in report.tasks.values())
    for one, (_, _, chosen) in zip(report.slices, parts_of(known), strict=True):
        of_tasks = [
            np.mean(
                part.scores[task].argmax(1)[part.targets[task] >= 0] == part.targets[task][part.targets[task] >= 0]
            )
            for part in [rows.taken(chosen)]
            for task in LABEL_MAPS
        ]
        assert one.value == pytest.approx(np.mean(of_tasks))


def test_a_report_without_facts_has_no_slices() -> None:
    scored = one_head(scored_rows("binary", *make_rows("binary", 0, 60, 2)))
    main = resolve_metric("auto", scored.heads)
    assert build_task_report(scored, EvaluatedRows(["text"] * 60), main=main, bootstrap=0).slices == ()
    empty = RowFacts(*(np.zeros(0, kind) for kind in (np.int64, np.uint64, np.int32, bool)))
    assert list(parts_of(empty)) == []
