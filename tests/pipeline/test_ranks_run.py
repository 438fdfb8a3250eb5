"""`evaluate` and `predict` started by torchrun: the files that one process writes, byte for byte, and one voice."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from kits.ranking import textune_ranks
from kits.ranks import on_ranks, torchrun
from kits.runs import Listener, reviews, write_csv

import textune
from textune.cli import main
from textune.config.sources import Columns, FilesSource
from textune.data.reading.streamoptions import StreamOptions
from textune.errors import DataError
from textune.pipeline.predict_file import predict_file
from textune.prediction.load import load
from textune.ranks import ALONE, Ranks

evaluating = importlib.import_module("textune.pipeline.evaluate")

WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]


def run_ranks(world: int, *words: object, folder: Path, stdin: bytes | None = None) -> bytes:
    """What `textune WORDS` in so many processes printed: one of them, and nothing else."""
    ended = textune_ranks(world, [str(word) for word in words], folder / "logs", stdin=stdin)
    assert ended.codes == [0] * world, ended.said
    assert not any(ended.out[1:]), ended.out
    return ended.out[0]


@pytest.mark.parametrize("world", WORLDS)
def test_evaluate_with_processes_writes_the_same_report(trained: Any, tmp_path: Path, world: int) -> None:
    options: dict[str, Any] = {"part": "validation", "max_tokens": 60, "compile": "off"}
    fresh = shutil.ignore_patterns("evaluations")  # of other tests
    shutil.copytree(trained[0].run, tmp_path / "alone", ignore=fresh)
    alone = textune.evaluate(tmp_path / "alone", **options)
    shutil.copytree(trained[0].run, tmp_path / "ranks", ignore=fresh)
    words = ["--part", "validation", "--max-tokens", 60, "--compile", "off", "--json"]
    printed = run_ranks(world, "evaluate", tmp_path / "ranks", *words, folder=tmp_path)
    # One document: the first rank alone prints, the first rank alone writes.
    assert json.loads(printed) == {"ok": True} | alone.to_dict()
    files = {folder: sorted((tmp_path / folder / "evaluations").iterdir()) for folder in ("alone", "ranks")}
    kinds = ("html", "json", "md", "rows.parquet")
    assert [file.name for file in files["ranks"]] == [f"validation.{kind}" for kind in kinds]
    for one, other in zip(files["alone"], files["ranks"], strict=True):
        assert one.read_bytes() == other.read_bytes()


def predicted_alone(run: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A file of rows, and the options under which one process has written `alone.csv`."""
    source = write_csv(tmp_path / "in.csv", reviews(301, seed=5))
    options = ["--all-scores", "--max-tokens", "80", "--compile", "off"]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run), "--input", str(source), "--output", str(tmp_path / "alone.csv"), *options])
    assert not ended.value.code
    return source, options


@pytest.mark.parametrize("world", WORLDS)
def test_predict_with_processes_writes_the_same_file(trained: Any, tmp_path: Path, world: int) -> None:
    """Through a pipe, which only one process can read."""
    run = trained[0].run
    source, options = predicted_alone(run, tmp_path)
    words = ["--format", "csv", "--output-format", "csv", *options]
    printed = run_ranks(world, "predict", run, *words, folder=tmp_path, stdin=source.read_bytes())
    assert printed == (tmp_path / "alone.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parity("HF-16")
def test_torchrun_starts_the_verbs(trained: Any, tmp_path: Path) -> None:
    run = trained[0].run
    source, options = predicted_alone(run, tmp_path)
    words = ["--format", "csv", "--output-format", "csv", *options]
    done = torchrun(2, "-m", "textune", "predict", run, *words, home=tmp_path, stdin=source.read_bytes())
    assert (done.code, done.out) == (0, (tmp_path / "alone.csv").read_bytes()), done.err
    words = ["--input", str(source), "--output", str(tmp_path / "ranks.csv"), *options]
    done = torchrun(4, "-m", "textune", "predict", run, *words, home=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "ranks.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert done.err.count("Wrote 301 rows") == 1
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    done = torchrun(2, "-m", "textune", "evaluate", tmp_path / "run", "--compile", "off", "--json", home=tmp_path)
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"] == 21


# --- the same with threads as ranks ----------------------------------------------------------------------------------


def predicted(
    run: Path, ranks: Ranks, source: Path, target: Path, listener: Listener | None = None, format_: Any = "jsonl"
) -> int:
    predictor = load(run, max_tokens=60, compile="off", ranks=ranks)
    options = StreamOptions(format=format_)
    return predict_file(
        predictor,
        source=str(source),
        source_options=options,
        target=str(target),
        target_options=options,
        columns=Columns(),
        tracker=listener or Listener(),
    )


@pytest.mark.parametrize("world", [3, *(pytest.param(world, marks=pytest.mark.slow) for world in (2, 4))])
def test_windows_are_shared(trained: Any, tmp_path: Path, world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 17)
    source = write_csv(tmp_path / "in.csv", reviews(90, seed=7))
    lines = source.read_text().splitlines(keepends=True)
    for num_rows in (90, 17, 1, 0):
        source.write_text("".join(lines[: num_rows + 1]))
        alone, target = tmp_path / f"alone-{num_rows}.csv", tmp_path / f"ranks-{num_rows}.csv"
        assert predicted(trained[0].run, ALONE, source, alone, format_="csv") == num_rows
        # Nothing but the first rank's paths is read or written.
        places = {0: (source, target)}
        counts = on_ranks(
            world,
            lambda ranks: predicted(
                trained[0].run,
                ranks,
                *places.get(ranks.rank, (tmp_path / "no", tmp_path / "no")),  # noqa: B023
                format_="csv",
            ),
        )
        assert counts == [num_rows] * world
        assert target.read_bytes() == alone.read_bytes() and alone.read_bytes().count(b"\n") == num_rows + 1
        assert not (tmp_path / "no").exists()


def test_what_the_first_rank_cannot_read_ends_all(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 2)
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n' * 5 + "{broken\n")
    with pytest.raises(DataError, match=r"in.jsonl, line 6: not JSON"):
        on_ranks(3, lambda ranks: predicted(trained[0].run, ranks, tmp_path / "in.jsonl", tmp_path / "out.jsonl"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_one_rank_writes_and_speaks(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained[0].run, run, ignore=shutil.ignore_patterns("evaluations"))
    source = write_csv(tmp_path / "rows.csv", [*reviews(30, seed=2), {**reviews(1)[0], "label": "unheard of"}])
    listeners = [Listener() for _ in range(3)]

    def work(ranks: Ranks) -> dict[str, Any]:
        place.ranks = ranks
        data = FilesSource(files=(str(source),))
        options: dict[str, Any] = {"data": data, "on_bad_row": "skip", "max_tokens": 40, "compile": "off"}
        return textune.evaluate(run, tracker=listeners[ranks.rank], **options).to_dict()

    place = threading.local()
    monkeypatch.setattr(evaluating, "joined", lambda: contextlib.nullcontext(place.ranks))
    reports = on_ranks(3, work)
    assert reports[0]["rows"] == 30 and reports[1] == reports[0] == reports[2]
    # The row that was left out stands in the report.
    assert reports[0]["rows_left_out"] == 1 and not any(listener.notices for listener in listeners)
    assert sorted(file.name for file in (run / "evaluations").iterdir()) == [
        "rows.csv.html",
        "rows.csv.json",
        "rows.csv.md",
        "rows.csv.rows.parquet",
    ]

    other = write_csv(tmp_path / "other.csv", reviews(30, seed=3))
    paths = {2: other}

    def elsewhere(ranks: Ranks) -> None:
        place.ranks = ranks
        textune.evaluate(
            run, data=FilesSource(files=(str(paths.get(ranks.rank, source)),)), on_bad_row="skip", compile="off"
        )

    with pytest.raises(DataError, match="rank 2 reads other rows than the first rank"):
        on_ranks(3, elsewhere)


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_row_that_cannot_be_read_ends_all_processes_with_a_sentence(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n' * 9000 + "{broken\n")
    words = ["--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", "--compile", "off"]
    done = torchrun(2, "-m", "textune", "predict", trained[0].run, *words, home=tmp_path)
    assert done.code != 0
    assert "Error: " in done.err and "in.jsonl, line 9001: not JSON" in done.err
    assert "textune/" not in done.err  # the only traceback is the launcher's own
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
