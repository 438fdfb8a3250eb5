"""Rows left out are counted per split, and stand beside the score of the split that lost them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from kits.runs import Listener, reviews, write_csv
from rich.console import Console

import textune
from textune.config.sources import FilesSource
from textune.evaluation.render.console import render
from textune.evaluation.render.json import read_report
from textune.pipeline.info import in_words, info
from textune.run.manifest import read_manifest

_LOST = "3 of 33 test rows (9.1%) were left out; the first: test.csv, line"


def _settings(folder: Path, *more: str) -> list[str]:
    files = [
        f"data.{part}.{key}"
        for part in ("train", "validation", "test")
        for key in ("kind=files", f"files={folder / part}.csv")
    ]
    steps = [
        "train.duration=2 steps",
        "train.schedule.warmup=0 steps",
        "train.log_every=1 step",
        "evaluate.bootstrap=0",
    ]
    return [*files, "data.on_bad_row=skip", *steps, *more]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """61 training rows of which one has no label, 30 for validation, 33 for the test of which three cannot be read."""
    folder = tmp_path_factory.mktemp("files")
    rows: list[dict[str, Any]] = reviews(124)
    rows[0]["label"] = ""
    write_csv(folder / "train.csv", rows[:61])
    write_csv(folder / "validation.csv", rows[61:91])
    write_csv(folder / "test.csv", rows[91:121])
    with (folder / "test.csv").open("a") as file:
        file.write("one cell\none cell\none cell\n")
    return folder


@pytest.fixture(scope="module")
def run(home: Path, files: Path) -> tuple[Path, list[str]]:
    listener = Listener()
    result = textune.train(home / "config.toml", run=files / "run", overrides=_settings(files), tracker=listener)
    assert result is not None
    return result.run, listener.notices


def test_the_report_of_a_split_says_what_it_lost(run: tuple[Path, list[str]]) -> None:
    folder, notices = run
    report = read_report(folder / "report-test.json")
    assert (report.num_rows, report.num_left_out) == (30, 3)
    assert any(warning.startswith(_LOST) for warning in report.warnings)
    assert json.loads((folder / "report-test.json").read_text())["rows_left_out"] == 3
    markdown = (folder / "report-test.md").read_text()
    assert "on 30 rows (3 left out)" in markdown and "**Warning:** 3 of 33 test rows" in markdown
    console = Console(file=io.StringIO(), width=200)
    render(report, console)
    assert "left out" in console.file.getvalue() and _LOST in console.file.getvalue()  # type: ignore[attr-defined]
    of_validation = read_report(folder / "report.json")
    assert of_validation.num_left_out == 0 and not any("left out" in warning for warning in of_validation.warnings)
    assert any(notice.startswith(_LOST) for notice in notices)
    assert any(
        notice.startswith("1 of 61 train rows (1.6%) was left out; the first: train.csv, line 2") for notice in notices
    )


def test_the_manifest_counts_by_split(run: tuple[Path, list[str]]) -> None:
    manifest = read_manifest(run[0])
    assert manifest.left_out == {"train": 1, "validation": 0, "test": 3} and manifest.num_skipped == 4
    assert "60 train (1 left out), 30 validation, 30 test (3 left out)" in in_words(info(run[0]))["rows"]


@pytest.mark.parity("AZ-06")
def test_check_counts_by_split(home: Path, files: Path) -> None:
    result = textune.check(home / "config.toml", overrides=_settings(files))
    found = [finding for finding in result.findings if finding.code == "left-out"]
    assert [(finding.level, finding.count) for finding in found] == [("warning", 1), ("warning", 3)]
    assert found[1].message.startswith(_LOST) and len(found[1].examples) == 3
    assert result.facts.rows_left_out == {"train": 1, "validation": 0, "test": 3}
    assert "30 test (3 left out)" in result.words["rows"]


def test_evaluate_says_it_of_its_own_and_of_other_rows(run: tuple[Path, list[str]], files: Path) -> None:
    own = textune.evaluate(run[0])
    other = textune.evaluate(run[0], data=FilesSource(files=(str(files / "test.csv"),)), on_bad_row="skip")
    for report in (own, other):
        assert report.num_left_out == 3 and any(warning.startswith(_LOST) for warning in report.warnings)


@pytest.mark.parity("TW-11")
def test_rows_that_are_too_long_and_shares_of_a_source(home: Path, files: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = reviews(60)
    for row in rows[:7]:
        row["text"] = "very " * 60
    rows[20]["label"] = ""
    write_csv(tmp_path / "all.csv", rows)
    write_csv(tmp_path / "test.csv", reviews(90)[60:] + rows[:4])
    files = [
        f"data.train.files={tmp_path / 'all.csv'}",
        "data.test.kind=files",
        f"data.test.files={tmp_path / 'test.csv'}",
    ]
    settings = [
        *files,
        "data.on_bad_row=skip",
        "tokens.drop_longer=40",
        "train.duration=1 step",
        "train.schedule.warmup=0 steps",
    ]
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=settings)
    assert result is not None
    assert result.reports["test"].num_left_out == 4
    assert any(
        warning.startswith("4 of 34 test rows (11.8%) were left out: longer")
        for warning in result.reports["test"].warnings
    )
    share = result.reports["validation"].warnings
    assert any(
        one.startswith("1 of 60 rows of all.csv was left out before the validation rows were set aside")
        for one in share
    )
