"""What the first commands say of an output, an option and a file that do not fit."""

from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.errors import refused

import textune
from textune.config import FilesSource
from textune.data.reading.delimited import read_delimited
from textune.errors import ConfigError

ROWS = 'body,queue\nthe "box" is broken,post\nno café,home\n'


@pytest.mark.parametrize("name", ["x.json", "x", "x.yaml"])
def test_a_config_is_called_toml_so_that_the_next_command_reads_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    with refused(ConfigError, key="out", value=str(tmp_path / name)) as caught:
        textune.init([str(tmp_path / "rows.csv")], tmp_path / name)
    assert "Call it" in str(caught.value) and str(caught.value).endswith("x.toml.")
    assert not (tmp_path / name).exists()


def test_an_option_that_is_missing_is_said_with_its_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call: Any = runner(capsys, monkeypatch, tmp_path)
    answer = call("init", "rows.csv")
    assert answer.code == 2 and answer.err.endswith("Missing option '--out' / '--output'. Add --out CONFIG.toml.\n")


def test_another_encoding_is_not_blamed_on_quotes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS, encoding="latin-1")
    section = FilesSource(kind="files", files=("rows.csv",))
    piece = read_delimited(tmp_path / "rows.csv", "rows.csv", section, tabs=False, compares=True)
    [skipped] = piece.bad
    assert "is not UTF-8" in skipped.reason and 'set encoding = "latin-1"' in str(skipped.hint)
