"""`textune runs`: the runs of a folder and of its studies, which is the best, and those that are not well."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner

from textune.errors import RunError
from textune.locks import held, is_held
from textune.pipeline import runs


@pytest.fixture
def folder(trained: Any, tmp_path: Path) -> Path:
    """Copies of one run: as it is, a worse one, one in a study, one that failed, and a damaged one."""
    place = tmp_path / "runs"
    ignore = shutil.ignore_patterns("best", "checkpoints")
    for name in ("good", "worse", "study/seed-1", "other-rows", "failed", "damaged"):
        shutil.copytree(trained[0].run, place / name, ignore=ignore)
    change(place / "worse" / "report.json", value=0.01)
    change(place / "other-rows" / "report.json", fingerprint="0" * 8)
    change(place / "study" / "seed-1" / "manifest.json", started="2020-01-01T00:00:00+00:00")
    change(place / "failed" / "manifest.json", status="failed", reason="the data file is gone.")
    (place / "failed" / "report.json").unlink()
    (place / "failed" / "report-test.json").unlink()
    (place / "damaged" / "manifest.json").write_text("{")
    (place / "empty").mkdir()
    return place


def change(path: Path, *, value: float | None = None, **fields: object) -> None:
    tree = json.loads(path.read_text())
    if value is not None:
        tree["metrics"][tree["main"]["metric"]] = tree["main"]["value"] = value
    path.write_text(json.dumps(tree | fields))


def test_every_run_is_listed_with_its_metric_and_standing(folder: Path, trained: Any) -> None:
    found = {Path(run.run).relative_to(folder).as_posix(): run for run in runs(folder).runs}
    report = trained[0].reports["validation"]
    assert set(found) == {"good", "worse", "study/seed-1", "other-rows", "failed", "damaged"}
    good = found["good"]
    assert (good.metric, good.value, good.interval) == (report.metric, report.value, report.interval)
    assert (good.part, good.rows, good.status, good.task) == ("validation", report.num_rows, "complete", "binary")
    assert good.steps == trained[0].steps and good.seconds is not None
    assert (found["failed"].status, found["failed"].reason) == ("failed", "the data file is gone.")
    assert found["failed"].value is None and found["damaged"].status == "damaged" and found["damaged"].reason


def test_the_best_is_the_best_on_the_same_rows(folder: Path) -> None:
    best = {Path(run.run).name: run.best for run in runs(folder).runs}
    assert best == {
        "good": True,
        "seed-1": True,
        "worse": False,
        "other-rows": None,
        "failed": None,
        "damaged": None,
    }
    assert [Path(run.run).name for run in runs(folder).runs][-2:] == ["seed-1", "damaged"], "the newest first"


def test_a_run_that_nobody_works_on_does_not_run(folder: Path) -> None:
    change(folder / "good" / "manifest.json", status="running")
    assert next(run.status for run in runs(folder / "good").runs) == "killed"
    with held(folder / "good" / "lock"):
        assert is_held(folder / "good" / "lock")
        assert next(run.status for run in runs(folder / "good").runs) == "running"
    assert not is_held(folder / "good" / "lock") and not is_held(folder / "nothing")


def test_a_narrow_terminal_has_the_first_columns_whole(folder: Path) -> None:
    found = runs(folder)
    whole, narrow = found.table(), found.table(80)
    assert whole[0][-1] == "steps" and narrow[0] == whole[0][: len(narrow[0])] and len(narrow[0]) >= 5
    for line, cut in zip(whole, narrow, strict=True):
        assert cut == line[: len(cut)]
    widths = [max(map(len, column)) + 2 for column in zip(*narrow, strict=True)]
    assert sum(widths) - 2 <= 80
    assert len(found.table(5)[0]) == 2


def test_the_verb_prints_a_table_or_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(capsys, monkeypatch, folder.parent)
    answer = run("runs")
    assert answer.code == 0 and answer.err == ""
    assert answer.out.splitlines()[0].split()[:2] == ["run", "metric"]
    assert f"failed: {Path('runs/failed')}: the data file is gone." in answer.out
    said = json.loads(run("runs", "--json").out)
    assert said["ok"] is True and len(said["runs"]) == 6
    assert run("runs", "runs/empty").out == "There are no runs in runs/empty.\n"
    missing = run("runs", "nowhere")
    assert missing.code == 2 and "nowhere does not exist; a folder of runs was expected" in missing.err


def test_a_file_is_no_folder_of_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file; a folder of runs was expected"):
        runs(tmp_path / "file")
