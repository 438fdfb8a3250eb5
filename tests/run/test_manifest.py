"""`manifest.json`: typed, of every version, and never a traceback for one that is damaged."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from textune.errors import RunError
from textune.run.folder import RunFolder
from textune.run.manifest import Manifest, Resumption, command_line, read_manifest

OLD = Path(__file__).parents[1] / "data-of-versions" / "0.1.0" / "run"


def test_an_old_one_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    before = json.loads((OLD / "manifest.json").read_text(encoding="utf-8"))
    manifest = read_manifest(OLD)
    assert (manifest.status, manifest.rows) == ("preempted", {"train": 60, "validation": 20})
    manifest.write(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8")) == before


def test_fields_of_a_later_version_are_kept(tmp_path: Path) -> None:
    tree = {
        "status": "running",
        "started": "2026-01-01T00:00:00+00:00",
        "rows": {"train": None},
        "carbon": {"grams": 3},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(tree))
    RunFolder(tmp_path).end("complete", steps=4, metrics={"validation": {"accuracy": None}})
    after = json.loads((tmp_path / "manifest.json").read_text())
    assert {key: after[key] for key in tree if key != "status"} == {key: tree[key] for key in tree if key != "status"}
    assert (after["status"], after["steps"], after["metrics"]) == ("complete", 4, {"validation": {"accuracy": None}})
    assert "finished" in after and "reason" not in after


def test_resuming_takes_back_how_it_ended(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    for step in (29, 31):
        folder.end("failed", reason="the disk is full")
        folder.resume(Resumption(started="now", step=step), config_text="")
    manifest = read_manifest(folder.path)
    assert manifest.status == "running" and [again.step for again in manifest.resumed] == [29, 31]
    assert manifest.finished is None and manifest.reason is None and manifest.data == read_manifest(OLD).data


def test_files_of_another_system_are_kept_and_those_of_a_later_session_replace_them(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    kept = folder.path / "foreign"
    folder.resume(Resumption(started="now", step=1), config_text="", foreign={"a.yaml": "one", "group/b.yaml": "two"})
    assert [(kept / name).read_text() for name in ("a.yaml", "group/b.yaml")] == ["one", "two"]
    assert {"foreign/a.yaml", "foreign/group/b.yaml"} <= folder.files().keys()  # trackers get them, too
    folder.resume(Resumption(started="now", step=2), config_text="")  # by a configuration of ours
    assert (kept / "a.yaml").is_file()
    folder.resume(Resumption(started="now", step=3), config_text="", foreign={"a.yaml": "three"})
    assert (kept / "a.yaml").read_text() == "three" and not (kept / "group").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1"),
        ("[]", "not a JSON object"),
        ('{"status": "running"}', "started"),
        ('{"status": "asleep", "started": "x"}', "status"),
        ('{"status": "running", "started": "x", "rows": {"train": "many"}}', "rows.train"),
    ],
)
def test_a_damaged_one_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError) as caught:
        read_manifest(tmp_path)
    assert (
        str(tmp_path / "manifest.json") in caught.value.message and words in caught.value.message and caught.value.hint
    )


def test_files_and_reports_are_found_by_their_sets(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    Manifest(status="running", started="now").write(tmp_path)
    for name in ("report", "report-test", "report-news", "report-a-b"):
        (tmp_path / f"{name}.json").write_text("{}")
        (tmp_path / f"{name}.md").write_text("")
    assert list(folder.reports()) == ["validation", "test", "a-b", "news"]
    assert folder.files().keys() == {"manifest.json", *(path.name for path in tmp_path.glob("report*"))}


def test_the_command_is_one_that_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    for program, named in [
        ("/x/textune/__main__.py", "textune"),
        ("/usr/bin/textune", "textune"),
        ("/y/train.py", "train.py"),
    ]:
        monkeypatch.setattr(sys, "argv", [program, "train", "config.toml"])
        assert command_line() == (named, "train", "config.toml")
