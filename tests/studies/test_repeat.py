"""`textune repeat`: each run is that of `textune train`, every row is held out once for each seed, and the spreads."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.cli import runner
from kits.errors import refused
from kits.languages import tiny_language_model
from kits.runs import reviews, signal_after, write_place

import textune
from textune.config.load import load_config
from textune.config.sources import FoldOff
from textune.errors import ConfigError, DataError, RunError
from textune.evaluation.metrics import METRICS
from textune.evaluation.render.json import read_report
from textune.evaluation.rowsfile import read_rows
from textune.jsontext import parse_json
from textune.run.folder import RunFolder
from textune.studies import runs
from textune.studies.repeat import repeat
from textune.studies.repeated import RepeatResult
from textune.studies.spread import interval_over_folds, interval_over_seeds
from textune.tasks.language import CHARACTERS

NAMES = ["fold-0-seed-3", "fold-1-seed-3", "fold-2-seed-3", "fold-0-seed-4", "fold-1-seed-4", "fold-2-seed-4"]
WORDS = ["train.seed=3", "data.test={ kind = 'split', ratio = 0.2 }", "evaluate.bootstrap=50"]


@pytest.fixture(scope="module")
def study(place: Path, tmp_path_factory: pytest.TempPathFactory) -> RepeatResult:
    folder = tmp_path_factory.mktemp("study") / "x"
    return repeat(place / "config.toml", folds=3, seeds=2, run=folder, overrides=WORDS)


def test_a_run_is_that_of_train_bit_for_bit(place: Path, study: RepeatResult, tmp_path: Path) -> None:
    assert [run.name for run in study.runs] == NAMES and study.exit_code == 0
    words = [*WORDS, "train.seed=4", "data.validation={ kind = 'fold', folds = 3, fold = 1 }"]
    alone = textune.train(place / "config.toml", run=tmp_path / "alone", overrides=words)
    ours = study.study / "fold-1-seed-4"
    assert (ours / "best" / "model.safetensors").read_bytes() == (
        alone.run / "best" / "model.safetensors"
    ).read_bytes()
    for name in ("report.json", "report-test.json", "report.md"):
        assert (ours / name).read_bytes() == (alone.run / name).read_bytes()
    assert study.runs[4].reports == alone.reports


def test_each_row_is_held_out_once_for_each_seed(place: Path, study: RepeatResult) -> None:
    """By a model that has not seen it, in the order of the source; the report is on all of them."""
    pooled = read_rows(study.study / "held-out.rows.parquet")
    assert len(pooled) == 2 * 48 and pooled.name == "held-out"
    rows = pooled.facts.row.reshape(48, 2)
    assert np.array_equal(rows[:, 0], rows[:, 1]) and np.all(np.diff(rows[:, 0]) > 0)
    answers = {}
    for seed in (3, 4):
        for fold in range(3):
            own = read_rows(RunFolder(study.study / f"fold-{fold}-seed-{seed}").rows_of("validation"))
            scored = own.scored.by_head["label"]
            assert scored.scores is not None
            for number, target, answer, score in zip(
                own.facts.row, scored.targets, scored.predictions, scored.scores, strict=True
            ):
                assert (int(number), seed) not in answers
                answers[int(number), seed] = (int(target), int(answer), score.tolist())
    scored = pooled.scored.by_head["label"]
    assert scored.scores is not None
    for place_, (number, seed) in enumerate(sorted(answers)):
        found = (int(scored.targets[place_]), int(scored.predictions[place_]), scored.scores[place_].tolist())
        assert found == answers[number, seed] and int(pooled.facts.row[place_]) == number
    assert study.report == read_report(study.study / "report.json") and study.report is not None
    right = [target == answer for target, answer, _ in answers.values()]
    assert study.report.metrics["accuracy"] == pytest.approx(np.mean(right), abs=1e-12)
    assert study.report.num_rows == 96 and study.report.interval is None and "2 times" in study.report.notes[0]


def test_its_mistakes_are_the_worst_of_all_runs(study: RepeatResult) -> None:
    assert study.report is not None
    every = [mistake for run in study.runs for mistake in run.reports["validation"].mistakes]
    worst = sorted((mistake.score for mistake in every), reverse=True)[: len(study.report.mistakes)]
    assert [mistake.score for mistake in study.report.mistakes] == worst and worst
    seen = {(mistake.place, mistake.text, mistake.score) for mistake in every}
    assert all((mistake.place, mistake.text, mistake.score) in seen for mistake in study.report.mistakes)


def test_the_spread_is_that_of_the_runs(study: RepeatResult) -> None:
    reports = [run.reports for run in study.runs]
    values = [one["validation"].metrics["accuracy"] for one in reports]
    found = study.sets["validation"].spreads["accuracy"]
    assert found.values == tuple(values) and found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == (min(values), max(values))
    assert found.interval == interval_over_folds(values, 3)
    on_test = [one["test"].metrics["accuracy"] for one in reports]
    means = [float(np.mean(on_test[start : start + 3])) for start in (0, 3)]
    assert study.sets["test"].spreads["accuracy"].interval == pytest.approx(interval_over_seeds(means))
    assert set(study.sets["validation"].spreads) == set(reports[0]["validation"].metrics)
    assert set(study.sets["validation"].spreads) <= set(METRICS)
    written = parse_json((study.study / "repeat.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(study.to_dict()))
    assert written["sets"]["validation"]["metrics"]["accuracy"]["values"] == values


def test_its_table_says_what_an_interval_means(study: RepeatResult) -> None:
    text = (study.study / "repeat.md").read_text(encoding="utf-8")
    assert text == study.markdown() and text.startswith("# 6 runs over 3 folds and 2 seeds")
    lines = study.lines("validation")
    assert lines[0][0] == study.sets["validation"].metric and len(lines[0]) == len(study.head("validation")) == 7
    assert study.report is not None and lines[0][-1] == f"{study.report.value:.4f}"
    assert len(study.lines("test")[0]) == len(study.head("test")) == 6
    assert "Nadeau" in text and "of test is" in text and "chose its best step on the fold" in text


@pytest.mark.slow
def test_tokens_are_made_once(place: Path, study: RepeatResult, tmp_path: Path) -> None:
    """One entry of the token cache for all rows, whatever fold they are in; its `meta.json` says when it was used."""
    words = [*WORDS, f"tokens.cache={tmp_path / 'cache'}"]
    stamps = []
    for number in (1, 2):
        repeat(place / "config.toml", folds=2, run=tmp_path / str(number), overrides=words)
        entries = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        stamps.append({path: path.stat().st_mtime_ns for path in entries if path.name != "meta.json"})
    assert stamps[0] and stamps[0] == stamps[1]
    assert len({path.parent for path in stamps[0]}) == 1


def test_the_same_call_repeats_nothing_and_more_seeds_are_added(place: Path, tmp_path: Path) -> None:
    config, folder = place / "config.toml", tmp_path / "x"
    first = repeat(config, seeds=1, folds=2, run=folder)
    again = repeat(config, seeds=2, folds=2, run=folder)
    assert [run.was_complete for run in again.runs] == [True, True, False, False]
    assert again.runs[0].reports == first.runs[0].reports
    with refused(RunError, key="folds", value=3):
        repeat(config, seeds=2, folds=3, run=folder)
    with refused(RunError, place=str(folder), reason="train.optimizer.lr"):
        repeat(config, seeds=2, folds=2, run=folder, overrides=["train.optimizer.lr=1e-4"])
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        f"fold-{fold}-seed-{seed}" for fold in range(2) for seed in range(2)
    ]


def test_what_is_decided_of_rows_alone_is_said(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carry_nothing_out(*args: Any, **how: Any) -> Any:
        raise RunError("stopped here.")

    monkeypatch.setitem(repeat.__globals__, "carry_out", carry_nothing_out)
    rows: Any = [{"review": row["text"], "stars": row["label"]} for row in reviews(40)]
    words = {"model.pretrained": str(place / "backbone")}
    with caplog.at_level("WARNING", logger="textune"), refused(RunError):
        repeat(rows, seeds=2, run=tmp_path / "x", overrides=words)
    assert "decided from the rows: text: review; label: stars" in caplog.text


def test_a_model_in_another_place_is_another_study(place: Path, tmp_path: Path) -> None:
    repeat(place / "config.toml", seeds=1, run=tmp_path / "x")
    shutil.copytree(place / "backbone", tmp_path / "bert")
    words = [f"model.pretrained={tmp_path / 'bert'}"]
    with refused(RunError, place=str(tmp_path / "x" / "seed-0"), key="model.pretrained"):
        repeat(place / "config.toml", seeds=2, run=tmp_path / "x", overrides=words)
    assert not (tmp_path / "x" / "seed-1").exists()


def test_runs_on_data_that_changed_between_them_are_not_put_together(place: Path, tmp_path: Path) -> None:
    rows = (place / "rows.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "rows.csv").write_text("".join(rows), encoding="utf-8")
    words = [f"data.train.files={tmp_path / 'rows.csv'}"]
    repeat(place / "config.toml", seeds=1, run=tmp_path / "x", overrides=words)
    (tmp_path / "rows.csv").write_text("".join(rows[:-4]), encoding="utf-8")
    with refused(RunError, place=str(tmp_path / "x" / "seed-1"), reason="data.train"):
        repeat(place / "config.toml", seeds=2, run=tmp_path / "x", overrides=words)


@pytest.mark.slow
def test_one_that_was_stopped_goes_on(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, real = place / "config.toml", textune.train

    def stopped(*arguments: Any, **named: Any) -> Any:
        steps = {4: [signal.SIGINT]} if named["run"].name == "fold-1" else {}
        return real(*arguments, **named, after_step=signal_after(steps))

    monkeypatch.setattr(runs, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        repeat(config, folds=2, run=tmp_path / "x")
    assert not (tmp_path / "x" / "repeat.json").exists()
    monkeypatch.undo()
    result = repeat(config, folds=2, run=tmp_path / "x")
    assert [run.was_complete for run in result.runs] == [True, False]
    whole = repeat(config, folds=2, run=tmp_path / "whole")
    for name in ("report.json", "report.md"):
        assert (result.study / name).read_bytes() == (whole.study / name).read_bytes()
    ours, theirs = (read_rows(one.study / "held-out.rows.parquet") for one in (result, whole))
    assert np.array_equal(ours.scored.by_head["label"].scores, theirs.scored.by_head["label"].scores)  # type: ignore[arg-type]


def test_seeds_alone_keep_the_validation_rows(place: Path, tmp_path: Path) -> None:
    result = repeat(place / "config.toml", seeds=2, run=tmp_path / "x")
    assert [run.name for run in result.runs] == ["seed-0", "seed-1"] and result.report is None
    rows = [read_rows(RunFolder(run.folder).rows_of("validation")).facts.row for run in result.runs]
    assert np.array_equal(*rows)
    values = result.sets["validation"].main.values
    assert result.sets["validation"].main.interval == interval_over_seeds(values)
    assert (
        not (tmp_path / "x" / "report.json").exists() and "validation is for the mean over other" in result.markdown()
    )


def test_folds_are_cut_as_the_config_cuts_its_validation_rows(tmp_path: Path) -> None:
    rows = [{**row, "user": f"u{number % 7}"} for number, row in enumerate(reviews(42))]
    config = """
data = { train = { files = "rows.csv" }, validation = { group_by = "user", seed = 5 } }
model = { pretrained = "backbone" }
train.duration = "1 steps"
"""
    place = write_place(tmp_path, config, rows)
    result = repeat(place / "config.toml", folds=2, run=tmp_path / "x")
    settings = [load_config(run.folder / "config.toml") for run in result.runs]
    folds = [one.experiment.data.validation for one in settings]
    assert folds == [FoldOff(fold=fold, folds=2, group_by="user", seed=5) for fold in range(2)]
    users = [
        {rows[number]["user"] for number in read_rows(RunFolder(run.folder).rows_of("validation")).facts.row}
        for run in result.runs
    ]
    assert users[0].isdisjoint(users[1]) and len(users[0] | users[1]) == 7


def test_a_run_that_fails(place: Path, tmp_path: Path) -> None:
    """The others are reported with --keep-going, without what needs all of them; later the missing one is added."""
    blocked = tmp_path / "x" / "fold-1"
    words = ["train.evaluate_every=6 steps"]
    repeat(place / "config.toml", folds=3, run=tmp_path / "x", overrides=words)
    for name in ("report.json", "held-out.rows.parquet"):
        (tmp_path / "x" / name).unlink()
    for path in sorted(blocked.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (blocked / "something").touch()
    with refused(RunError, place=str(blocked)):
        repeat(place / "config.toml", folds=3, run=tmp_path / "x", overrides=words)
    result = repeat(place / "config.toml", folds=3, run=tmp_path / "x", overrides=words, keep_going=True)
    assert result.exit_code == 2 and result.report is None and result.sets["validation"].main.interval is None
    assert result.sets["validation"].runs == ("fold-0", "fold-2") and "fold-1 failed" in result.markdown()
    os.unlink(blocked / "something")
    whole = repeat(place / "config.toml", folds=3, run=tmp_path / "x", overrides=words)
    assert whole.report is not None and whole.report.interval_method == "" and whole.report.num_rows == 60


def test_what_cannot_be_repeated(place: Path, tmp_path: Path) -> None:
    config, run = place / "config.toml", tmp_path / "x"
    for keywords, key, value in [
        ({}, "folds", None),
        ({"folds": 1}, "folds", 1),
        ({"folds": 0}, "folds", 0),
        ({"seeds": 0}, "seeds", 0),
        ({"folds": 2, "jobs": 0}, "jobs", 0),
        ({"seeds": 3, "overrides": [f"train.seed={2**32 - 2}"]}, "train.seed", 2**32 - 2),
        ({"folds": 2, "overrides": ["train.optimizer.lrr=1"]}, "train.optimizer.lrr", None),
    ]:
        with refused(ConfigError, key=key, value=value):
            repeat(config, run=run, **keywords)  # type: ignore[arg-type]
    with refused(DataError, key="data.validation.folds", value=31, reason="30 rows") as found:
        repeat(config, folds=31, run=run)
    assert found.value.message.startswith("fold-0: ") and "--folds" in found.value.hint
    assert not list(tmp_path.iterdir())
    result = repeat(config, folds=31, run=run, keep_going=True)  # all for one reason, which is said once
    assert result.exit_code == 2 and len(result.all_notes()) == 3 and "fold-4 and 26 more" in result.all_notes()[2]
    words = [
        "data.train={ kind = 'stream', files = 'a.jsonl', num_rows = 9 }",
        "task.kind=binary",
        "data.labels.names=['a','b']",
    ]
    with refused(ConfigError, key="data.validation"):
        repeat(config, folds=2, run=tmp_path / "y", overrides=[*words, "train.duration=1 steps"])


def test_rows_in_memory(place: Path, tmp_path: Path) -> None:
    rows = reviews(40)
    result = textune.repeat(place / "config.toml", folds=2, run=tmp_path / "x", train=rows)
    assert result.report is not None and result.report.num_rows == 40
    with refused(RunError, key="jobs"):
        textune.repeat(place / "config.toml", folds=2, run=tmp_path / "y", train=rows, jobs=2)


def test_the_command(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, tmp_path)
    answer = call("repeat", place / "config.toml", "--folds", 2, "--run", "x")
    assert answer.code == 0, answer.err
    assert "1/2 fold-0: into x/fold-0" in answer.err and "2/2 fold-1: complete, " in answer.err
    assert "2 runs over 2 folds and 1 seed" in answer.out and "Held-out rows: " in answer.out
    assert "x/held-out.rows.parquet" in answer.out and "95 % interval of the mean" in answer.out
    told = call("repeat", place / "config.toml", "--folds", 2, "--run", "x", "--json", "--quiet")
    assert told.code == 0 and told.err == "" and parse_json(told.out)["held_out"]["rows"] == 60
    refused_it = call("repeat", place / "config.toml", "--folds", 2, "--run", "x", "--json", "train.seed=9")
    assert refused_it.code == 2 and "train.seed" in parse_json(refused_it.out)["error"]["reason"]


def test_each_document_of_a_language_model_is_held_out_once(tmp_path: Path) -> None:
    """Though documents of a fold are read by themselves, they keep their numbers in the source."""
    rows = reviews(24)
    config = {
        "task": {"kind": "conditional_lm"},
        "model": {"pretrained": str(tiny_language_model("gpt2", tmp_path / "backbone"))},
        "tokens": {"max_length": 24, "cache": str(tmp_path / "cache")},
        "train": {"duration": "1 steps", "device": "cpu", "precision": "fp32"},
        "data": {"validation": {"seed": 3}},
    }
    result = repeat(config, folds=3, run=tmp_path / "x", train=rows)
    pooled = read_rows(tmp_path / "x" / "held-out.rows.parquet")
    assert pooled.facts.row.tolist() == list(range(24)) and result.report is not None
    assert result.report.amounts is not None and len(result.report.hardest) == 20
    texts = {row["text"] for row in rows}
    assert all(document.text in texts for document in result.report.hardest)
    characters = pooled.scored.by_head["label"].targets[:, CHARACTERS]
    lengths = [len(row["text"]) for row in rows]
    assert all(count <= length for count, length in zip(characters.tolist(), lengths, strict=True))
    assert np.corrcoef(characters, lengths)[0, 1] > 0.9  # chunks cut off little of such short texts


PAGE = Path(__file__).parents[2] / "docs" / "repeating.md"


@pytest.mark.slow
def test_the_commands_of_the_page_are_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what its Python reads is there."""
    call = runner(capsys, monkeypatch, tmp_path)
    quick = ["train.duration=1 steps", "data.train.take=30", "data.test={ kind = 'split', ratio = 0.2 }"]
    (tmp_path / "config.toml").write_text(f"extends = '{place / 'config.toml'}'\n", encoding="utf-8")
    fences = PAGE.read_text(encoding="utf-8").split("```")[1::2]
    lines = [line for fence in fences for line in fence.splitlines() if line.startswith("textune ")]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)[1:]
        if "--jobs" in words:  # tested with fewer runs
            continue
        answer = call(*words, *(["--run", "other"] if "--seeds" in words else []), *quick)
        assert answer.code == 0, answer.err
    python = next(fence for fence in fences if fence.startswith("python\n")).removeprefix("python\n")
    data = {"test": {"kind": "split", "ratio": 0.2}}
    config = {"extends": str(place / "config.toml"), "train": {"duration": "1 steps"}, "data": data}
    call_line, *reads = python.splitlines()
    call_line = call_line.replace('"config.toml"', "config").replace("folds=5, seeds=3", "folds=2, seeds=1")
    names: dict[str, Any] = {"textune": textune, "config": config}
    exec(call_line, names)
    for read in reads:
        assert eval(read, names) is not None
