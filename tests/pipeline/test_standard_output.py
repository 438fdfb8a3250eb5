"""What becomes of results where standard output lacks characters, is full, or has nobody who reads it."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone

from textune.cli import main


class Pipe(io.RawIOBase):
    """Bytes that are written; `error` is raised instead."""

    def __init__(self, error: OSError | None = None) -> None:
        self.written = b""
        self.error = error

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        if self.error is not None:
            raise self.error
        self.written += bytes(block)
        return len(block)

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.file.close()
        super().close()

    def open(self, monkeypatch: pytest.MonkeyPatch, encoding: str, folder: Path) -> None:
        """Become standard output."""
        self.file = (folder / "spare").open("wb")
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(self, encoding=encoding, write_through=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose labels and texts that many encodings lack, and a run of it in a folder with a blank in its
    name."""
    folder = tmp_path_factory.mktemp("signs")
    tiny_backbone("bert", folder / "backbone")
    rows = "".join(f"{'süße' if n % 2 else 'böse'} wörter … {n},{'süß' if n % 2 else 'böse'}\n" for n in range(40))
    (folder / "rows.csv").write_text("text,label\n" + rows, encoding="utf-8")
    source = "[data.train]\nfiles = 'rows.csv'\n[model]\npretrained = 'backbone'\n"
    (folder / "my config.toml").write_text(source + "[tokens]\nmax_length = 24\n[train]\nduration = '2 steps'\n")
    return folder


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def test_every_result_can_be_printed_in_any_encoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = folder / "my run"
    monkeypatch.chdir(folder)
    for verb, *words in (
        ["train", "my config.toml", "--run", run],
        ["check", "my config.toml", "--no-timing"],
        ["show", "my config.toml", "data.columns.text=süß", "--diff"],
        ["info", run],
        ["evaluate", run],
        ["init", "rows.csv", "--out", tmp_path / "new.toml", "--pretrained", "backbone"],
    ):
        pipe = Pipe()
        pipe.open(monkeypatch, "koi8-r", tmp_path)
        assert call(verb, *words) == 0, capsys.readouterr().err
        assert b"\\xfc" in pipe.written or verb in ("train", "evaluate")  # their tables keep their widths: b?se
        if verb == "train":
            assert f"textune evaluate '{run}' --data FILE" in pipe.written.decode()
        if verb == "check":
            assert "ready: textune train 'my config.toml'" in pipe.written.decode()
        if verb in ("check", "info", "evaluate"):
            pipe = Pipe()
            pipe.open(monkeypatch, "koi8-r", tmp_path)
            assert call(verb, *words, "--json") == 0
            assert "süß" in json.dumps(json.loads(pipe.written), ensure_ascii=False)
    pipe = Pipe()
    pipe.open(monkeypatch, "koi8-r", tmp_path)
    assert call("predict", run, "--data", "rows.csv") == 2  # no cell is ever changed
    assert "characters that the output's encoding does not have" in capsys.readouterr().err
    assert call("predict", run, "--data", "rows.csv", "--output-format", "jsonl") == 0
    assert json.loads(pipe.written.splitlines()[-1])["text"] == "süße wörter … 39"


@pytest.mark.parametrize(("words", "code"), [(["info", "nowhere", "--json"], 2), (["schema"], 74)])
def test_a_full_disk_is_a_sentence(
    words: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Pipe(OSError(28, "No space left on device")).open(monkeypatch, "utf-8", tmp_path)
    assert call(*words) == code
    assert capsys.readouterr().err.startswith("Error: ")


def test_a_reader_who_has_seen_enough_is_no_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    Pipe(BrokenPipeError(32, "Broken pipe")).open(monkeypatch, "utf-8", tmp_path)
    assert call("check", "my config.toml", "--no-timing", "--quiet") == 0


def test_check_tells_scripts_what_it_tells_people(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert call("check", "my config.toml", "train.optimizer.lr=5", "--no-timing", "--json", "--quiet") == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any(finding["message"].startswith("train.optimizer.lr = 5 is very high") for finding in findings)


def test_a_report_that_cannot_be_kept_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert call("train", "my config.toml", "--run", "kept", "--quiet") == 0
    shutil.rmtree(folder / "kept" / "evaluations")
    (folder / "kept" / "evaluations").write_text("in the way")
    capsys.readouterr()
    assert call("evaluate", "kept", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == 4
    assert "note: the report was not kept in kept/evaluations: File exists" in captured.err
