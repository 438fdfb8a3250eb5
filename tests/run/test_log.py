"""run.log: the words of the terminal with the time of each line, whoever watches, and whatever ends the process."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.runs import reviews, write_config, write_csv

import textune
from textune.errors import RunError
from textune.run.folder import RunFolder
from textune.run.manifest import command_line
from textune.run.spoken import INTERVAL_SECONDS, Pace, evaluation_line, notice_line, plain
from textune.run.tracking.log import RunLog

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ( {2}.*)?")
ROWS = reviews(60)
TRAIN = [{"text": row["text"], "label": row["label"]} for row in ROWS]
CONFIG = """
[model]
pretrained = "backbone"
[data.validation]
count = 20
[train]
duration = "4 steps"
evaluate_every = "2 steps"
log_every = "1 steps"
schedule = { kind = "constant" }
[evaluate]
mistakes = 2
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return write_config(tmp_path, CONFIG)


def lines_of(run: Path) -> list[str]:
    """The lines of a log without their times, which each of them has."""
    text = (run / "run.log").read_text(encoding="utf-8")
    assert text.endswith("\n") and all(STAMP.fullmatch(line) for line in text.splitlines())
    return [line[22:] for line in text.splitlines()]


def test_the_command_holds_no_password_of_a_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "x.toml", 'track=[{kind = "python", options = {key = "s3cret"}}]', "track.0.options.key=s3cret"]
    words += ['track=[{uri = "https://me:s3cret@host"}]', "train.seed=1"]
    monkeypatch.setattr("sys.argv", ["/bin/textune", *words])
    assert command_line() == (
        *("textune", "train", "x.toml", "track=…", "track.0.options.key=…"),
        *('track=[{uri = "https://host"}]', "train.seed=1"),
    )


@pytest.mark.parity("run-log")
def test_the_log_is_what_the_terminal_showed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.run.spoken.INTERVAL_SECONDS", 0.0)  # every line of both
    write_csv(place / "rows.csv", ROWS)
    call = runner(capsys, monkeypatch, place)
    shown = call("train", "config.toml", "--run", "run", "data.train.files=rows.csv")
    assert shown.code == 0

    def timeless(lines: Iterable[str]) -> list[str]:
        return [re.sub(r"  [\d:]+ left$", "", line.rstrip()) for line in lines if line.strip()]

    logged, printed = timeless(lines_of(place / "run")), timeless(shown.err.splitlines())
    assert logged[0].startswith("$ ") and logged[1 : len(printed) + 1] == printed
    assert {line.split(" ")[0] for line in printed} >= {"note:", "step", "evaluated", "task:"}
    # Reports and what comes next are the result, on standard output.
    assert logged[len(printed) + 1 :] == timeless(shown.out.splitlines())
    assert "       textune info run" in logged and "Evaluation of validation: rows.csv" in logged


def test_quiet_runs_and_runs_of_python_are_logged_and_a_resumed_one_goes_on(place: Path) -> None:
    run = place / "run"
    textune.train(place / "config.toml", run=run, train=TRAIN)
    first = lines_of(run)
    assert sum("evaluated at step" in line for line in first) == 2
    longer = {"train.duration": "6 steps"}
    textune.train(place / "config.toml", run=run, train=TRAIN, overrides=longer, resume="latest")
    both = lines_of(run)
    assert both[: len(first)] == first and sum(line.startswith("$ ") for line in both) == 2
    assert sum("evaluated at step 6" in line for line in both) == 1
    size = (run / "run.log").stat().st_size
    assert textune.train(place / "config.toml", run=run, train=TRAIN, overrides=longer, resume="auto").complete_before
    assert (run / "run.log").stat().st_size == size


def test_a_failed_run_says_why(place: Path) -> None:
    def fail(result: Any) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        textune.train(place / "config.toml", run=place / "run", train=TRAIN, after_step=fail)
    assert lines_of(place / "run")[-1] == "failed: no more"


@pytest.mark.slow
def test_a_killed_process_loses_no_line(place: Path) -> None:
    script = (
        "import os, json, textune\n"
        "def die(result):\n"
        "    if result.step == 3: os.kill(os.getpid(), 9)\n"
        f"rows = json.load(open({str(place / 'rows.json')!r}))\n"
        f"textune.train({str(place / 'config.toml')!r}, run={str(place / 'run')!r}, train=rows, after_step=die)\n"
    )
    (place / "rows.json").write_text(json.dumps(TRAIN))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    killed = lines_of(place / "run")
    assert any(line.startswith("evaluated at step 2") for line in killed)
    textune.train(place / "config.toml", run=place / "run", train=TRAIN, resume="auto")
    both = lines_of(place / "run")
    assert both[: len(killed)] == killed and any(line.startswith("Trained 4 steps") for line in both)


def test_a_full_disk_is_said_once_and_stops_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the device that is always full; a whole run on it is the run without it."""
    free = textune.train(place / "config.toml", run=place / "free", train=TRAIN)
    monkeypatch.setattr(RunFolder, "log", property(lambda self: Path("/dev/full")))
    full = textune.train(place / "config.toml", run=place / "run", train=TRAIN)
    reason = os.strerror(errno.ENOSPC)
    said = [notice for notice in full.notices if reason in notice]
    assert said == [f"/dev/full cannot be written: {reason}; the run goes on"]
    weights = [(place / name / "best" / "model.safetensors").read_bytes() for name in ("free", "run")]
    assert weights[0] == weights[1] and full.reports["validation"].metrics == free.reports["validation"].metrics


def test_a_log_that_cannot_be_opened_is_said_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "run.log").mkdir()
    with RunLog(RunFolder(tmp_path), said.append) as log:
        log.notice("hear")
        assert said == []
        log.step(STEP)
        log.step(STEP)
    assert len(said) == 1 and "run.log" in said[0]


STEP: Any = {
    "step": 1,
    "total_steps": 10,
    "epoch": 0.5,
    "loss": 0.25,
    "lr": 1e-3,
    "grad_norm": 1.0,
    "tokens_per_second": 1234.0,
    "rows_per_second": 12.0,
    "use": {},
}


def test_control_characters_are_written_out(tmp_path: Path) -> None:
    with RunLog(RunFolder(tmp_path), lambda message: None) as log:
        log.notice("a \x1b[31mred\x07 word\r, and\tmore\nin two lines \ud800 ä")
    *_, first, second = lines_of(tmp_path)
    assert first == r"note: a \x1b[31mred\x07 word\r, and\tmore" and second == r"in two lines \ud800 ä"


def test_a_line_that_was_cut_off_is_ended_before_the_next(tmp_path: Path) -> None:
    log = RunLog(RunFolder(tmp_path), lambda message: None)
    file: Any = log._file

    class Short:
        def write(self, content: bytes) -> int:
            written: int = file.write(content[:30])
            return written

    log._file = Short()  # type: ignore[assignment]
    log.notice("a line of which the disk takes only a part")
    log._file = file
    log.notice("whole")
    with log:
        pass
    text = (tmp_path / "run.log").read_text().splitlines()
    assert len(text[0]) == 30 and text[1].endswith("note: whole")


def test_lines_come_at_intervals_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("textune.run.spoken.time.monotonic", lambda: now)
    pace = Pace()
    assert pace.step(STEP) == "step 1/10  epoch 0.50  loss 0.2500  lr 1.0e-03  1,234 tokens/s"
    assert pace.step(STEP | {"step": 2}) is None and pace.stage("tokenising", 1, 3) is None
    now += INTERVAL_SECONDS
    assert (pace.step(STEP | {"step": 3}) or "").endswith("tokens/s  0:35 left")
    assert pace.step(STEP | {"step": 10}) is not None
    now += INTERVAL_SECONDS
    assert pace.stage("tokenising", 3, 3) is None and pace.stage("reading", 2, 0) == "reading: 2 rows"
    now += INTERVAL_SECONDS
    assert pace.stage("tokenising", 1, 3) == "tokenising: 1/3"


def test_the_words_of_an_evaluation() -> None:
    metrics = {"accuracy": 0.5, "f1": 0.25, "loss": 1.0}
    values: Any = {"set": "news", "step": 3, "epoch": 1.5, "main": "f1", "is_best": True, "metrics": metrics}
    assert plain(evaluation_line(values)) == (
        "evaluated news at step 3, epoch 1.50: f1 0.2500  accuracy 0.5000  best so far"
    )
    by_task = {"f1": 0.5, "tone/f1": 0.25, "odd/f1": 0.75}
    several = values | {"set": "validation", "is_best": False, "metrics": by_task}
    assert plain(evaluation_line(several)).endswith("at step 3, epoch 1.50: f1 0.5000  tone f1 0.2500  odd f1 0.7500")
    assert plain(notice_line("[red]hear")) == "note: [red]hear"


def test_a_run_that_is_refused_leaves_no_log(place: Path) -> None:
    with pytest.raises(RunError):
        textune.train(place / "config.toml", run=place / "config.toml", train=TRAIN)
    assert not list(place.rglob("run.log"))
