"""Rows, their file, the table and the generated part of docs/performance.md."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.speed import page as page_module
from bench.speed.__main__ import main, without_paths
from bench.speed.page import BEGIN, END, SECTIONS, render, replace_block
from bench.speed.plots import draw_all
from bench.speed.questions import QUESTIONS
from bench.speed.rows import Answer, Row, make_row, merge_rows, read_rows, text_table, write_rows

ROOT = Path(__file__).parents[2]


def an_answer(**values: Any) -> Answer:
    given: dict[str, Any] = {
        "id": "train-best",
        "question": "training, MiniLM-L6, short texts, batch 32",
        "ours": 612.3456,
        "peer": 301.2,
        "ratio": 2.0331,
        "unit": "rows/s",
        "peer_name": "Trainer at its best",
        "goal": 2.0,
        "details": {
            "threads": 2,
            "ratio": {"median": 2.0331, "min": 1.9, "max": 2.2},
            "data": "SST-2 train, 12,800 of 67,349 rows",
            "segment": {"steps": 50, "rows": 1600, "segments": 4},
            "memory_mb": {"textune": {"peak_memory_mb": 900}, "Trainer": {"peak_memory_mb": 1500}},
            "busy_before": 0.01,
        },
    }
    return Answer(**{**given, **values})


def a_row(**values: Any) -> Row:
    return make_row(
        an_answer(**values),
        machine="a processor, 2 cores",
        versions={"torch": "2.13"},
        date="2026-11-20",
        command="python -m x",
    )


@pytest.mark.parametrize(
    ("goal", "goal_is", "ratio", "met"),
    [(2.0, "at least", 2.0, True), (2.0, "at least", 1.99, False), (1.1, "at most", 1.05, True), (1.1, "at most", 1.2, False)],
)
def test_a_goal_is_a_bound_of_the_ratio(goal: float, goal_is: Any, ratio: float, met: bool) -> None:
    assert an_answer(goal=goal, goal_is=goal_is, ratio=ratio).met is met
    assert an_answer(goal=None).met is None


def test_rows_are_written_as_they_are_read(tmp_path: Path) -> None:
    rows = [a_row(), a_row(id="loop", goal=None)]
    write_rows(tmp_path / "results" / "cpu.json", rows)
    assert read_rows(tmp_path / "results" / "cpu.json") == rows
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["cpu.json"]
    (first, second) = json.loads((tmp_path / "results" / "cpu.json").read_text())
    keys = {"question", "ours", "peer", "ratio", "goal", "met", "unit", "peer_name", "details", "machine", "threads"}
    assert keys | {"versions", "date", "command"} <= set(first)
    assert (first["ours"], first["ratio"], first["met"], first["threads"]) == (612.3, 2.033, True, 2)
    assert (second["goal"], second["met"]) == (None, None)
    assert read_rows(tmp_path / "absent.json") == []


def test_a_question_asked_again_replaces_its_rows() -> None:
    old = [a_row(id="a", ours=1.0), a_row(id="b", ours=2.0)]
    merged = merge_rows(old, [a_row(id="b", ours=3.0), a_row(id="c", ours=4.0)])
    assert [(row.id, row.ours) for row in merged] == [("a", 1.0), ("b", 3.0), ("c", 4.0)]


def test_the_table_shows_ratio_goal_and_verdict() -> None:
    lines = text_table([an_answer(), an_answer(goal=None, question="no goal")]).splitlines()
    assert re.search(r"612\s+301\s+rows/s\s+2\.03 \(1\.9 to 2\.2\)\s+>= 2\s+yes\s+Trainer", lines[1])
    assert re.search(r"2\.03 \(1\.9 to 2\.2\)\s+-\s+-\s+Trainer", lines[2])


def scaling_row(name: str, key: str) -> Row:
    points = [{key: value, "step_us": 3.0 + value / 1e6, "planning_us": 0.1} for value in (1_000, 10_000)]
    return a_row(id=name, unit="us/token", goal=None, details={"threads": 2, "points": points, "data": "generated"})


def test_the_page_holds_every_row_plot_and_origin(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        a_row(),
        scaling_row("scaling-rows", "rows"),
        scaling_row("scaling-length", "length"),
        a_row(id="predict-pipeline", question="prediction", details={**an_answer().details, "left_out": {"ONNX": "missing"}}),
    ]
    plots = draw_all(rows, tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"ratios.svg", "scaling-rows.svg", "scaling-length.svg"}
    text = render(rows, plots, page=tmp_path / "performance.md")
    assert "| training, MiniLM-L6, short texts, batch 32 | 612 | 301 | rows/s | 2.03 (1.9 to 2.2) | >= 2 | yes |" in text
    assert "](plots/scaling-length.svg)" in text and "](plots/ratios.svg)" in text
    assert "| train-best | textune 900, Trainer 1,500 |" in text
    assert "2026-11-20, a processor, 2 cores, 2 threads; torch 2.13" in text
    assert "Left out: ONNX: missing." in text
    assert "On a GPU" not in text


def test_the_same_numbers_draw_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [a_row(), scaling_row("scaling-rows", "rows")]
    first, second = draw_all(rows, tmp_path / "a"), draw_all(rows, tmp_path / "b")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)
    changed = draw_all([replace(rows[0], ratio=3.0)], tmp_path / "c")
    assert changed["ratios"].read_bytes() != first["ratios"].read_bytes()


def test_only_the_block_between_the_markers_is_written() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_block(text, "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_block(once, "new\n") == once
    with pytest.raises(ValueError, match="needs the lines"):
        replace_block("no markers", "new")


def test_the_shipped_page_is_made_of_the_shipped_results(tmp_path: Path) -> None:
    """`make docs` was run after `make bench`."""
    pytest.importorskip("matplotlib")
    shipped = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    copy = tmp_path / "performance.md"
    copy.write_text(shipped, encoding="utf-8")
    assert page_module.main(copy, ROOT / "bench" / "results") == 0
    assert copy.read_text(encoding="utf-8") == shipped


def test_every_question_has_a_place_on_the_page() -> None:
    prefixes = tuple(prefix for _, group in SECTIONS for prefix in group)
    # The first word of a question's name begins the ids of its answers.
    assert [name for name in QUESTIONS if not any(prefix.startswith(name.partition("-")[0]) for prefix in prefixes)] == [
        "switches"
    ]
    assert "switch-" in prefixes


def test_the_command_names_its_questions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--list"]) == 0
    assert all(name in capsys.readouterr().out for name in ["train-best"])
    assert main(["nonsense"]) == 2
    assert "there is no question nonsense" in capsys.readouterr().err
    assert main(["--data", str(tmp_path / "absent")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_results_hold_no_places_of_this_machine(tmp_path: Path) -> None:
    details = {"header": {"model": f"{tmp_path}/backbones/x (bert)", "steps": "6"}, "data": str(ROOT / "x.csv"), "number": 2}
    answer = without_paths(an_answer(details=details), tmp_path)
    assert answer.details == {"header": {"model": "WORK/backbones/x (bert)", "steps": "6"}, "data": "./x.csv", "number": 2}


def test_plots_have_an_extra_of_their_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(name.startswith("matplotlib") for name in project["optional-dependencies"]["bench"])
