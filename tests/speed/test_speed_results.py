"""Rows, their file, the table and the generated part of docs/performance.md."""

import json
import platform
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.speed import __main__ as command
from bench.speed import page as page_module
from bench.speed.__main__ import main, without_paths
from bench.speed.goals import with_goal
from bench.speed.page import BEGIN, END, GPU_SECTION, SECTIONS, floor, render, render_readme, replace_block
from bench.speed.plots import draw_all
from bench.speed.questions import QUESTIONS, Question
from bench.speed.questions.common import Settings
from bench.speed.rows import Answer, Row, make_row, merge_rows, read_rows, text_table, write_rows
from bench.speed.workers import WorkerError

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


def a_row(level: str = "avx2", **values: Any) -> Row:
    return make_row(
        an_answer(**values),
        machine="a processor, 2 cores",
        versions={"torch": "2.13"},
        date="2026-11-20",
        command="python -m x",
        asked="train-best",
        level=level,
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
    write_rows(tmp_path / "results" / "cpu-avx2.json", rows)
    assert read_rows(tmp_path / "results" / "cpu-avx2.json") == rows
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["cpu-avx2.json"]
    (first, second) = json.loads((tmp_path / "results" / "cpu-avx2.json").read_text())
    keys = {
        "asked",
        "level",
        "question",
        "ours",
        "peer",
        "ratio",
        "goal",
        "met",
        "unit",
        "peer_name",
        "details",
        "machine",
        "threads",
    }
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


def test_the_page_holds_every_row_plot_and_origin_of_both_levels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    details = {**an_answer().details, "left_out": {"ONNX": "missing"}, "accuracy": {"textune": 0.91, "ONNX": 0.9}}
    points = [{"dropout": 0.1, "length": 8, "kernel": 1.5, "products": 2.0, "sdpa": 3.0}]
    levels = {
        "avx2": [
            a_row(),
            scaling_row("scaling-rows", "rows"),
            scaling_row("scaling-length", "length"),
            a_row(id="predict-pipeline", question="prediction", details=details),
        ],
        "avx512bf16": [
            a_row("avx512bf16", ratio=3.1, peer_name="Trainer, bf16"),
            a_row("avx512bf16", id="attention-dropout", unit="ms", goal=None, details={"threads": 1, "points": points}),
        ],
    }
    plots = draw_all(levels, tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"ratios.svg", "scaling-rows.svg", "scaling-length.svg"}
    text = render(levels, plots, page=tmp_path / "performance.md")
    both = "| 612, 301 rows/s | 2.03 (1.9 to 2.2) | >= 2: yes | 612, 301 rows/s | 3.1 (1.9 to 2.2) | >= 2: yes |"
    peers = " AVX2, fp32: Trainer at its best; AVX-512, bf16: Trainer, bf16 |"
    assert f"| training, MiniLM-L6, short texts, batch 32 {both}{peers}" in text
    assert "| prediction | 612, 301 rows/s | 2.03 (1.9 to 2.2) | >= 2: yes | not measured | - | - |" in text
    assert "](plots/scaling-length.svg)" in text and "](plots/ratios.svg)" in text
    assert "| train-best | textune 900, Trainer 1,500 | textune 900, Trainer 1,500 |" in text
    assert "| 0.1 | 8 | - | 1.5 / 2 / 3 |" in text
    assert "| ONNX | 0.9000 | - |" in text
    assert "AVX2, fp32: 2026-11-20, a processor, 2 cores, 2 threads; torch 2.13" in text
    assert "AVX2, fp32: ONNX left out: missing." in text
    assert "On a GPU" not in text


def test_the_floor_is_what_the_products_alone_take() -> None:
    """32 rows of 10 tokens, a million parameters: 1.92 GFLOP, at 0.5 TFLOP/s 3.84 ms; the peer takes 32 ms."""
    facts = {"threads": 2, "encoder_parameters": 10**6, "batch_size": 32, "tokens_per_row": 10.0}
    rows = [
        a_row(ours=4000.0, peer=1000.0, details=facts),
        a_row(id="limit-short", ours=0.25, peer=0.5),
        a_row(id="predict-pipeline", ours=8000.0, peer=4000.0, details={**facts, "tokens_per_row": None}),
    ]
    assert floor(rows, "train-best") == pytest.approx((8.0, 32.0, 3.84))
    assert floor(rows, "predict-pipeline") == pytest.approx((4.0, 8.0, 1.28))
    assert floor(rows, "bert-base") is None and floor(rows[:1], "train-best") is None
    assert "| train-best | 8 / 32 / 3.84 | 8.33 |" in render({"avx2": rows}, {}, page=Path("x"))


def test_the_readme_shows_every_level_or_says_that_it_is_missing() -> None:
    text = render_readme({"avx2": [a_row(), a_row(id="train-padded-fp32", ratio=13.04)], "avx512bf16": []})
    assert "| work | compared with | AVX2, fp32 | AVX-512, fp32 | AVX-512, bf16 |" in text
    assert "| training MiniLM-L6, short texts | `Trainer` at its best | 2 | to be measured | to be measured |" in text
    assert "fp32 | 13 | to be measured |" in text
    assert text.endswith("- AVX2, fp32: a processor, 2 cores, 2026-11-20\n")


def test_the_same_numbers_draw_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [a_row(), scaling_row("scaling-rows", "rows")]
    first, second = draw_all({"avx2": rows}, tmp_path / "a"), draw_all({"avx2": rows}, tmp_path / "b")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)
    changed = draw_all({"avx2": [replace(rows[0], ratio=3.0)]}, tmp_path / "c")
    assert changed["ratios"].read_bytes() != first["ratios"].read_bytes()


def test_only_the_block_between_the_markers_is_written() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_block(text, "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_block(once, "new\n") == once
    with pytest.raises(ValueError, match="needs the lines"):
        replace_block("no markers", "new")


def test_the_shipped_pages_are_made_of_the_shipped_results(tmp_path: Path) -> None:
    """`make docs` was run after `make bench`: no figure of a table of docs/performance.md or README.md was typed."""
    pytest.importorskip("matplotlib")
    copies = {path: tmp_path / path.name for path in (page_module.PAGE, page_module.README)}
    for path, copy in copies.items():
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    assert page_module.main(*copies.values(), page_module.RESULTS) == 0
    assert [path.name for path, copy in copies.items() if copy.read_text() != path.read_text()] == []


def test_each_results_file_holds_one_level() -> None:
    for path in (ROOT / "bench" / "results").glob("cpu-*.json"):
        assert {f"cpu-{row.level}" for row in read_rows(path)} == {path.stem}


def test_a_goal_is_that_of_the_level() -> None:
    answer = an_answer(goal=None)
    assert (with_goal(answer, "avx2").goal, with_goal(answer, "avx512bf16").goal) == (1.7, 2.0)
    assert with_goal(answer, "aarch64-default").goal is None
    assert with_goal(an_answer(id="loop", goal=None), "aarch64-default").goal == 1.02
    assert with_goal(an_answer(id="predict-sentence-transformers", goal=None), "avx2").goal is None


def test_every_question_has_a_place_on_the_page() -> None:
    prefixes = tuple(prefix for _, group in (*SECTIONS, GPU_SECTION) for prefix in group)
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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three questions of which the second fails; the list holds what was asked."""
    names: list[str] = []

    def question(name: str) -> Question:
        def ask(settings: Settings) -> list[Answer]:
            """A question of a test."""
            names.append(name)
            if name == "second":
                raise WorkerError("broken on purpose")
            return [an_answer(id=name)]

        return Question(ask, seconds=10)

    questions = {name: question(name) for name in ("first", "second", "third")}
    monkeypatch.setattr(command, "QUESTIONS", questions)
    monkeypatch.setattr(command, "busy_share", lambda: None)
    return names


def test_a_question_that_fails_costs_no_other_and_a_resumed_run_asks_only_it(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert command.main(["--fresh", "--out", str(out)]) == 1
    assert asked == ["first", "second", "third"]
    assert [row.asked for row in read_rows(out)] == ["first", "third"]
    assert "second: failed, broken on purpose" in capsys.readouterr().err
    assert command.main(["--resume", "--out", str(out)]) == 1
    assert asked[3:] == ["second"]
    assert [row.asked for row in read_rows(out)] == ["first", "third"]


def test_what_does_not_fit_into_the_minutes_is_named(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--minutes", "0", "--out", str(tmp_path / "out.json")]) == 0
    assert asked == []
    assert "left out, the 0 minutes were over: first, second, third" in capsys.readouterr().out


@pytest.mark.skipif(platform.machine().lower() not in {"x86_64", "amd64"}, reason="the levels are those of x86")
def test_everything_is_held_to_a_level() -> None:
    """In a process of its own: libraries read their caps when they are loaded."""
    code = (
        "from bench.speed.level import found_level, has_bf16, hold_to; hold_to('avx2');"
        "from bench.speed.peers import precision; from textune.model import processor;"
        "print(found_level(), has_bf16(), precision.has_bf16('cpu'), processor.has_bf16(), processor.vectors())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["avx2", "False", "False", "False", "AVX2"]


def test_results_hold_no_places_of_this_machine(tmp_path: Path) -> None:
    details = {"header": {"model": f"{tmp_path}/backbones/x (bert)", "steps": "6"}, "data": str(ROOT / "x.csv"), "number": 2}
    answer = without_paths(an_answer(details=details), tmp_path)
    assert answer.details == {"header": {"model": "WORK/backbones/x (bert)", "steps": "6"}, "data": "./x.csv", "number": 2}


def test_plots_have_an_extra_of_their_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(name.startswith("matplotlib") for name in project["optional-dependencies"]["bench"])
