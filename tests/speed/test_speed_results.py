"""Rows, their file, the command, and the generated pages."""

import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import page as page_module
from bench.page import BEGIN, END, floor, render, render_readme, replace_block
from bench.plots import draw_all
from bench.questions import QUESTIONS, TABLE, Question
from bench.rows import Row, beside, completed, merge_rows, read_rows, text_table, write_rows
from bench.speed import __main__ as command
from bench.speed.work import Settings
from bench.worker import WorkerError

ROOT = Path(__file__).parents[2]
DETAILS: dict[str, Any] = {
    "threads": 2,
    "ratio": {"median": 2.0331, "min": 1.9, "max": 2.2},
    "data": "SST-2 train, 12,800 rows",
    "segment": {"steps": 50, "rows": 1600, "segments": 4},
    "memory_mb": {"textune": {"peak_memory_mb": 900}, "Trainer": {"peak_memory_mb": 1500}},
    "busy_before": 0.01,
}
ORIGIN = {
    "machine": "a processor, 2 cores",
    "versions": {"torch": "2.13"},
    "date": "2026-11-20",
    "command": "python -m x",
}


def a_row(level: str = "avx2", **values: Any) -> Row:
    question = "training, MiniLM-L6, short texts, batch 32"
    row = beside("train-best", question, (612.3456, 301.2), DETAILS, unit="rows/s", peer="Trainer at its best")
    return completed(replace(row, **values), **ORIGIN, asked="train-best", level=level)


def test_a_goal_is_that_of_the_level_and_a_bound_of_the_ratio() -> None:
    best = {level: a_row(level, ratio=1.9) for level in ("avx2", "avx512bf16", "aarch64-default")}
    assert [(row.goal, row.met) for row in best.values()] == [(1.7, True), (2.0, False), (None, None)]
    loops = [a_row("aarch64-default", id="loop", ratio=ratio) for ratio in (1.01, 1.03)]
    assert [(row.goal, row.goal_is, row.met) for row in loops] == [(1.02, "at most", True), (1.02, "at most", False)]
    assert a_row(id="predict-sentence-transformers").goal is None


def test_rows_are_written_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cpu-avx2.json"
    rows = [a_row(), a_row(id="switch-x")]
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert [path.name for path in path.parent.iterdir()] == ["cpu-avx2.json"]
    first, second = json.loads(path.read_text())
    assert (first["ours"], first["ratio"], first["met"], first["threads"]) == (612.3, 2.033, True, 2)
    assert (second["goal"], second["met"]) == (None, None)
    assert read_rows(tmp_path / "absent.json") == []


def test_a_question_asked_again_replaces_its_rows() -> None:
    old = [a_row(id="a", ours=1.0), a_row(id="b", ours=2.0)]
    merged = merge_rows(old, [a_row(id="b", ours=3.0), a_row(id="c", ours=4.0)])
    assert [(row.id, row.ours) for row in merged] == [("a", 1.0), ("b", 3.0), ("c", 4.0)]


def test_the_table_shows_ratio_goal_and_verdict() -> None:
    lines = [line.split("  ") for line in text_table([a_row(), a_row(id="no-goal")]).splitlines()]
    shown = [[cell.strip() for cell in line if cell] for line in lines]
    assert shown[1][1:] == ["612", "301", "rows/s", "2.03 (1.9 to 2.2)", ">= 1.7: yes", "Trainer at its best"]
    assert "-" in shown[2]


# --- pages -----------------------------------------------------------------------------------------------------------


def scaling_row(name: str, key: str) -> Row:
    points = [{key: value, "step_us": 3.0 + value / 1e6, "planning_us": 0.1} for value in (1_000, 10_000)]
    return a_row(id=name, unit="us/token", details={"threads": 2, "points": points, "data": "generated"})


def test_the_page_holds_every_row_plot_and_origin_of_both_levels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    details = {**DETAILS, "left_out": {"ONNX": "missing"}, "accuracy": {"textune": 0.91, "ONNX": 0.9}}
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
            a_row("avx512bf16", id="attention-dropout", unit="ms", details={"threads": 1, "points": points}),
        ],
    }
    plots = draw_all(levels, tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "ratios.svg",
        "scaling-rows.svg",
        "scaling-length.svg",
    }
    gpu_memory = {"memory_mb": {"textune": {"peak_memory_mb": 900, "gpu_peak_memory_mb": 2000}}}
    gpu = [a_row("cuda", id="gpu-train", details={**DETAILS, **gpu_memory})]
    text = render(levels, plots, page=tmp_path / "performance.md", gpu=gpu)
    for line in (
        "- **train-best**: training, MiniLM-L6, short texts, batch 32. Peer: AVX2, fp32: Trainer at its best;"
        " AVX-512, bf16: Trainer, bf16",
        "| train-best | 612, 301 rows/s | 2.03 (1.9 to 2.2) | >= 1.7: yes |",
        "| train-best | 612, 301 rows/s | 3.1 (1.9 to 2.2) | >= 2: yes |",
        "| predict-pipeline | 612, 301 rows/s | 2.03 (1.9 to 2.2) | >= 2: yes |",
        "](plots/scaling-length.svg)",
        "](plots/ratios.svg)",
        "- train-best: AVX2, fp32: textune 900, Trainer 1,500; AVX-512, bf16: textune 900, Trainer 1,500",
        "| 0.1 | 8 | - | 1.5 / 2 / 3 |",
        "| ONNX | 0.9000 | - |",
        "AVX2, fp32: 2026-11-20, a processor, 2 cores, 2 threads; torch 2.13",
        "AVX2, fp32: ONNX left out: missing.",
        "### On a GPU",
        "- gpu-train: GPU: textune 900 (GPU: 2,000)",
    ):
        assert line in " ".join(text.split())
    assert "On a GPU" not in render(levels, plots, page=tmp_path / "performance.md")


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
        copy.write_bytes(path.read_bytes())
    assert page_module.main(*copies.values(), page_module.RESULTS) == 0
    assert [path.name for path, copy in copies.items() if copy.read_bytes() != path.read_bytes()] == []


def test_each_results_file_holds_one_level() -> None:
    for path in (ROOT / "bench" / "results").glob("cpu-*.json"):
        assert {f"cpu-{row.level}" for row in read_rows(path)} == {path.stem}


# --- the table and the command ---------------------------------------------------------------------------------------


def test_every_question_has_a_function_and_a_place_on_the_page() -> None:
    prefixes = tuple(prefix for group in TABLE["sections"].values() for prefix in group)
    for name, question in QUESTIONS.items():
        assert callable(question.answers)
        # The first word of a question's name begins the ids of its rows.
        assert any(prefix.startswith(name.partition("-")[0].removesuffix("es")) for prefix in prefixes), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "no question nonsense"),
        (["--data", "absent"], "--data absent"),
        (["--minutes", "-5"], "-5"),
        (["--seconds", "nan"], "nan"),
        (["--rows", "0"], "0"),
    ],
)
def test_a_mistake_in_the_command_is_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(words)
    assert said in capsys.readouterr().err


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three questions of which the second fails; the list holds what was asked."""
    names: list[str] = []

    def ask(settings: Settings, name: str) -> list[Row]:
        names.append(name)
        if name == "second":
            raise WorkerError("broken on purpose")
        return [a_row(id=name)]

    table = {name: Question("?", 10, "unused", options={"name": name}) for name in ("first", "second", "third")}
    monkeypatch.setattr(command, "QUESTIONS", table)
    monkeypatch.setattr(Question, "answers", property(lambda question: ask))
    monkeypatch.setattr("psutil.cpu_percent", lambda seconds: 0.0)
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
    assert "first, second, third" in capsys.readouterr().out


@pytest.mark.every_day(1)
@pytest.mark.skipif(platform.machine().lower() not in {"x86_64", "amd64"}, reason="the levels are those of x86")
@pytest.mark.parametrize("level", ["avx2", None])
def test_the_benchmarks_and_textune_see_the_same_processor(level: str | None) -> None:
    """In a process of its own: libraries read their caps when they are loaded. `auto` is bf16 for both or for
    neither."""
    code = (
        f"from bench.machine import best_precision, found_level, hold_to; hold_to({level!r});"
        "from textune.model import processor;"
        "print(found_level(), best_precision(), processor.prefers_bf16(), processor.vectors())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found, precision, prefers_bf16, vectors = done.stdout.split()
    assert (precision == "bf16") == (prefers_bf16 == "True")
    if level:
        assert (found, precision, vectors) == (level, "fp32", level.upper())


def test_results_hold_no_places_of_this_machine(tmp_path: Path) -> None:
    details = {
        "header": {"model": f"{tmp_path}/backbones/x (bert)", "steps": "6"},
        "data": str(ROOT / "x.csv"),
        "number": 2,
    }
    row = command.without_paths(a_row(details=details), tmp_path)
    assert row.details == {
        "header": {"model": "WORK/backbones/x (bert)", "steps": "6"},
        "data": "./x.csv",
        "number": 2,
    }
