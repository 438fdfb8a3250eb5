"""`textune glue`: which tasks have rows, a run for each, what fails, what is resumed, and the table."""

from __future__ import annotations

import importlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.errors import refused
from kits.glue import GLUE, NUM_DEV, NUM_TRAIN, write_glue, write_hub, write_sample

from textune.config.presets import preset_names
from textune.errors import ConfigError, DataError, RunError
from textune.evaluation.render.json import read_report
from textune.jsontext import parse_json
from textune.run.folder import RunFolder
from textune.studies.glue import glue
from textune.studies.gluetable import TASKS, GlueResult

RUNS = importlib.import_module("textune.studies.runs")
MODEL = "package:textune/presets/tiny/model"
WORDS = ["extends=preset:cpu", "tokens.max_length=32", "train.duration=2 steps", "evaluate.bootstrap=20"]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


def command(*words: object) -> list[object]:
    return ["glue", "--data", "rows", "--pretrained", MODEL, "--out", "out", *words, *WORDS]


@pytest.mark.parity("HF-01")
def test_every_task_has_a_preset_and_its_published_scores() -> None:
    assert set(TASKS) == set(GLUE)
    assert {f"glue/{name}" for name in TASKS} <= set(preset_names())
    assert {name: TASKS[name].title for name in TASKS} == {name: task.folder for name, task in GLUE.items()}


@pytest.mark.parity("HF-01")
def test_the_tasks_that_have_rows_are_run_and_the_others_named(call: Any, tmp_path: Path) -> None:
    write_glue(tmp_path / "rows", "rte", "mrpc", "mnli")
    (tmp_path / "rows" / "QNLI").mkdir()
    shutil.copy(tmp_path / "rows" / "RTE" / "dev.tsv", tmp_path / "rows" / "QNLI" / "dev.tsv")
    answer = call(*command())
    assert answer.code == 0, answer.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"glue.json", "glue.md", "mnli", "mrpc", "rte"}
    table = (tmp_path / "out" / "glue.md").read_text(encoding="utf-8")
    assert table.strip() in answer.out and "mrpc: into out/mrpc" in answer.err
    found = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    lines = {cells[0]: cells for cells in found}
    assert list(lines)[2:] == ["MRPC", "MNLI", "RTE"]
    report = read_report(RunFolder(tmp_path / "out" / "mrpc").reports()["validation"])
    assert report.interval is not None
    low, high = (f"{100 * limit:.1f}" for limit in report.interval)
    scores = " / ".join(f"{100 * report.metrics[name]:.2f}" for name in ("f1", "accuracy"))
    rows = f"{NUM_TRAIN} / {NUM_DEV}"
    assert lines["MRPC"][1:6] == ["f1 / accuracy", scores, f"{low} to {high}", "88.85 / 84.07", rows]
    assert lines["MNLI"][1] == "accuracy / accuracy (mismatched)" and lines["MNLI"][4] == "83.91 / 84.10"
    assert lines["MNLI"][5] == f"{NUM_TRAIN} / {NUM_DEV} + {NUM_DEV}" and lines["RTE"][7] == "0:57"
    assert "- QNLI has no rows: File not found: " in table and "QNLI/train.tsv" in table
    assert "- SST-2 has no rows: " in table and "interval is that of their mean" in table
    tasks = parse_json((tmp_path / "out" / "glue.json").read_text(encoding="utf-8"))["tasks"]
    assert [task["status"] for task in tasks].count("done") == 3
    mrpc = next(task for task in tasks if task["task"] == "mrpc")
    assert mrpc["reports"]["validation"]["metrics"]["f1"] == report.metrics["f1"] and mrpc["train_rows"] == NUM_TRAIN


def test_the_same_command_again_repeats_nothing_that_is_done(call: Any, tmp_path: Path) -> None:
    write_glue(tmp_path / "rows", "rte", "wnli")
    assert call(*command("--tasks", "rte")).code == 0
    model = tmp_path / "out" / "rte" / "best" / "model.safetensors"
    written = model.stat().st_mtime_ns
    answer = call(*command())
    assert answer.code == 0 and model.stat().st_mtime_ns == written and "out/rte is complete" in answer.err
    table = (tmp_path / "out" / "glue.md").read_text(encoding="utf-8")
    assert "| RTE |" in table and "| WNLI |" in table


def test_a_task_that_fails_does_not_stop_the_others(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_glue(tmp_path / "rows", "mrpc", "rte")
    (tmp_path / "rows" / "MRPC" / "train.tsv").write_text("Quality\t#1 String\n1\ta\n", encoding="utf-8")
    answer = call(*command())
    assert answer.code == 2 and "- MRPC failed: " in answer.out and "| RTE |" in answer.out
    done = parse_json((tmp_path / "out" / "glue.json").read_text(encoding="utf-8"))["tasks"]
    assert {task["task"]: task["status"] for task in done if task["status"] != "missing"} == {
        "mrpc": "failed",
        "rte": "done",
    }

    def broken(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(RUNS, "train", broken)
    answer = call(*command("--json", "--quiet"))
    assert answer.code == 1
    failed = [task for task in parse_json(answer.out)["tasks"] if task["status"] == "failed"]
    assert {task["exit_code"] for task in failed} == {1} and "ZeroDivisionError: a bug" in failed[0]["reason"]


def test_samples_of_large_tasks_are_found_in_a_second_folder(tmp_path: Path) -> None:
    write_glue(tmp_path / "rows", "rte")
    write_sample(tmp_path / "samples", "qnli")
    data = [tmp_path / "rows", tmp_path / "samples"]
    result = glue(data, MODEL, tasks=["qnli"], out=tmp_path / "out", overrides=WORDS)
    assert result.exit_code == 0 and result.tasks[0].preset == "preset:glue/qnli/sample"
    assert "| QNLI (sample) |" in result.markdown() and "(sample): trained and evaluated on parts" in result.markdown()


def test_rows_of_the_hub(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    rows = write_hub(tmp_path / "hub")
    words = [*WORDS, f"data.train.name={rows}", f"data.validation.name={rows}"]
    result = glue(["hub"], MODEL, tasks=["rte"], out=tmp_path / "out", overrides=words)
    assert result.tasks[0].preset == "preset:glue/rte/hub" and result.tasks[0].num_train == NUM_TRAIN
    assert result.exit_code == 0 and "| RTE |" in result.markdown()


def test_what_is_undefined_is_no_number(tmp_path: Path) -> None:
    """A task whose metric has no value, and MNLI without its mismatched rows."""
    write_glue(tmp_path / "rows", "rte")
    [done] = glue([tmp_path / "rows"], MODEL, tasks=["rte"], out=tmp_path / "out", overrides=WORDS).tasks
    report = done.reports["validation"]
    bare = replace(report, metrics=report.metrics | {"accuracy": float("nan")}, interval=None)
    mnli = replace(done, task="mnli", preset="preset:glue/mnli/sample", reports={"validation": bare})
    table = GlueResult(tmp_path, MODEL, (mnli,)).markdown()
    assert "| MNLI (sample) | accuracy | undefined | none | 83.91 |" in table and "mean" not in table


def test_a_run_of_another_backbone_is_not_taken_for_this_one(tmp_path: Path) -> None:
    write_glue(tmp_path / "rows", "rte")
    assert glue([tmp_path / "rows"], MODEL, out=tmp_path / "out", overrides=WORDS).exit_code == 0
    result = glue([tmp_path / "rows"], MODEL, out=tmp_path / "out", overrides=[*WORDS, "train.optimizer.lr=1e-3"])
    rte = next(task for task in result.tasks if task.task == "rte")
    assert (rte.status, result.exit_code) == ("failed", 2) and "train.optimizer.lr" in rte.reason


def test_what_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_glue(tmp_path / "rows", "rte")
    rows, out = [tmp_path / "rows"], tmp_path / "out"
    with refused(ConfigError, key="tasks", value="SST-3"):
        glue(rows, MODEL, tasks=["rte", "SST-3"], out=out)
    with refused(DataError, key="data"):
        glue([tmp_path / "nothing"], MODEL, out=out)
    with refused(ConfigError, key="train.lr"):
        glue(rows, MODEL, out=out, overrides=["train.lr=1"])
    monkeypatch.setattr(RUNS, "launched", lambda: True)
    with refused(RunError):
        glue(rows, MODEL, out=out)
    assert not out.exists()


def test_an_archive_without_the_rows_of_its_task_is_a_failure(tmp_path: Path) -> None:
    """Unlike a task that the folder does not hold at all; and what is said is about it, not about the others."""
    rows = write_glue(tmp_path / "rows", "rte")
    (rows / "WNLI.zip").write_bytes(b"no archive")
    with zipfile.ZipFile(rows / "MRPC.zip", "w") as archive:
        archive.writestr("MRPC/dev.tsv", "x")
    result = glue([rows], MODEL, out=tmp_path / "out", overrides=WORDS)
    codes = {task.task: task.exit_code for task in result.tasks}
    assert result.exit_code == 2 and {name for name, code in codes.items() if code} == {"wnli", "mrpc"}
    assert "MRPC.zip holds no file 'MRPC/train.tsv'" in result.markdown() and "WNLI.zip" in result.markdown()
    shutil.rmtree(rows / "RTE")
    (rows / "MRPC.zip").unlink()
    with pytest.raises(DataError, match="WNLI"):
        glue([rows], MODEL, out=tmp_path / "none", overrides=WORDS)


def test_names_of_tasks_are_taken_as_they_are_typed(call: Any, tmp_path: Path) -> None:
    write_glue(tmp_path / "rows", "rte")
    for nothing in ("", " , "):
        refused_it = call(*command("--tasks", nothing))
        assert refused_it.code == 2 and "--tasks" in refused_it.err and not (tmp_path / "out").exists()
    assert call(*command("--tasks", "rte, ")).code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"glue.json", "glue.md", "rte"}


def test_a_missing_task_that_was_asked_for_is_a_failure(tmp_path: Path) -> None:
    write_glue(tmp_path / "rows", "rte")
    result = glue([tmp_path / "rows"], MODEL, tasks=["rte", "cola"], out=tmp_path / "out", overrides=WORDS)
    assert [task.status for task in result.tasks] == ["done", "missing"] and result.exit_code == 2
