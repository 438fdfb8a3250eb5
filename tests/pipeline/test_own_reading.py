"""predict and evaluate read a file as the run read its own of the same suffix, and say so; paths and formats that
cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused
from kits.predictions import Parrot, predict
from kits.runs import Listener, reviews

import textune
from textune.cli import main
from textune.config.paths import user_path
from textune.config.sources import DataSection, FilesSource
from textune.data.reading.streamoptions import output_format_of
from textune.errors import ConfigError, DataError
from textune.prediction.ownfiles import own_sources, read_as_run

PATTERN = r"(?P<label>\w+) \| (?P<text>.*)"


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on lines of text with their label, and on rows between semicolons."""
    folder = tmp_path_factory.mktemp("own")
    rows = reviews(60)
    (folder / "train.txt").write_text("".join(f"{row['label']} | {row['text']}\n" for row in rows))
    (folder / "validation.csv").write_text(
        "text;label\n" + "".join(f"{row['text']};{row['label']}\n" for row in rows[:20])
    )
    text = (home / "config.toml").read_text()
    text = text.replace('files = "reviews.csv"', f"files = 'train.txt'\npattern = '{PATTERN}'")
    text = text.replace("ratio = 0.2", "kind = 'files'\nfiles = 'validation.csv'\ndelimiter = ';'")
    text = text.replace('kind = "split"\ncount = 21', "kind = 'none'").replace('"backbone"', f"'{home / 'backbone'}'")
    (folder / "config.toml").write_text(text.replace("6 epochs", "2 steps").replace("1 epochs", "2 steps"))
    return Path(textune.train(folder / "config.toml", run=folder / "run").run)


def words(*arguments: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 0


def test_predict_reads_as_the_run_did(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.txt").write_text("pos | a good film\nneg | a bad film\n")
    words("predict", run, "--data", tmp_path / "new.txt", "--output", tmp_path / "a.jsonl")
    assert "new.txt is read as the run's own files: pattern = " in capsys.readouterr().err
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(row["label"], row["text"]) for row in found] == [("pos", "a good film"), ("neg", "a bad film")]
    (tmp_path / "new.csv").write_text("text;id\na good, fine film;1\n")
    words("predict", run, "--input", tmp_path / "new.csv", "--output", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().startswith("text;id;predicted_label;predicted_score\na good, fine film;1;")


def test_plain_reading_and_options_win(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("pos | a good film\n")
    words("predict", run, "--data", tmp_path / "new.txt", "--output", tmp_path / "a.jsonl", "--reading", "plain")
    assert json.loads((tmp_path / "a.jsonl").read_text())["text"] == "pos | a good film"
    (tmp_path / "new.csv").write_text("text,id\na good film,1\n")
    words("predict", run, "--data", tmp_path / "new.csv", "--output", tmp_path / "b.jsonl", "--delimiter", ",")
    assert json.loads((tmp_path / "b.jsonl").read_text())["id"] == "1"


def test_evaluate_judges_another_file_of_the_kind(run: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("pos | a good film\nneg | a bad film\n" * 3)
    listener = Listener()
    report = textune.evaluate(run, data=str(tmp_path / "test.txt"), tracker=listener)
    assert report.num_rows == 6 and any("read as the run's own files" in said for said in listener.notices)
    assert textune.evaluate(run, data=tmp_path / "test.txt").value == report.value
    assert textune.evaluate(run, data=[tmp_path / "test.txt"] * 2).num_rows == 6
    with pytest.raises(DataError, match="data holds no rows"):
        textune.evaluate(run, data={})  # type: ignore[arg-type]
    words("evaluate", run, "--data", tmp_path / "test.txt", "--where", "label=pos")


def test_the_ways_of_reading_are_kept_without_the_files() -> None:
    train = {
        "kind": "concat",
        "sources": [{"kind": "files", "files": "a/b.txt.gz", "pattern": PATTERN}, {"files": ["c.csv"]}],
    }
    train["sources"][1]["kind"] = "files"  # type: ignore[index]
    section = DataSection.model_validate(
        {"train": train, "test": {"kind": "files", "files": "d.tsv", "take": 3, "skip_lines": 2}}
    )
    own = own_sources(section)
    assert own == {".txt": FilesSource(pattern=PATTERN), ".tsv": FilesSource(skip_lines=2)}
    source, said = read_as_run(own, ["x.txt"], {"format": "csv"})
    assert source.pattern is None and said == ""
    with refused(ConfigError, key="encoding", value="klingon"):
        read_as_run(own, ["x.txt"], {"encoding": "klingon"})


@pytest.mark.parametrize("name", ["out.xlsx", "out.txt", "out.json", "out.csv.bz2", "out.arrow", "out.parquet.gz"])
def test_what_is_no_format_to_write_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"--output {name}"):
        output_format_of(name, None, "csv")


@pytest.mark.parametrize(
    ("name", "source", "wanted"),
    [
        ("out", "csv", "csv"),
        ("out.gz", "tsv", "tsv"),
        ("-", "text", "jsonl"),
        ("-", "parquet", "jsonl"),
        ("out", "arrow", "parquet"),
        ("out.TSV.gz", "csv", "tsv"),
    ],
)
def test_the_format_goes_by_the_name_and_else_by_the_input(name: str, source: Any, wanted: str) -> None:
    assert output_format_of(name, None, source) == wanted
    assert output_format_of("out.xlsx", "csv", source) == "csv"


def test_a_header_alone_keeps_its_columns(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n")
    for ending, wanted in (("csv", "id,text,predicted_label,predicted_score\n"), ("jsonl", "")):
        assert predict(Parrot(), tmp_path / "in.csv", tmp_path / f"out.{ending}") == 0
        assert (tmp_path / f"out.{ending}").read_text() == wanted


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na\n")
    real, link = tmp_path / "folder" / "real.csv", tmp_path / "link.csv"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    with pytest.raises(DataError, match="already exists"):
        predict(Parrot(), tmp_path / "in.csv", link)
    predict(Parrot(), tmp_path / "in.csv", link, force=True)
    assert link.is_symlink() and real.read_text().startswith("text,predicted_label")
    assert real.stat().st_mode & 0o777 == 0o600


def test_the_home_of_the_user_is_never_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x"
    with pytest.raises(ConfigError, match="there is no user 'nobody-of-this-name'"):
        user_path("~nobody-of-this-name/x")
