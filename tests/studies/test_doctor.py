"""`textune doctor`: what it finds in flipped labels, in texts that occur twice and in leaks, and what mending
them is worth."""

from __future__ import annotations

import csv
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from kits.cli import runner
from kits.errors import refused
from kits.runs import reviews, write_config, write_csv, write_jsonl

import textune
from textune.data.corrections import Correction, read_corrections, write_corrections
from textune.errors import ConfigError, DataError
from textune.evaluation.render.json import read_report
from textune.evaluation.rowsfile import read_rows
from textune.jsontext import parse_json
from textune.studies.diagnosis import Diagnosis
from textune.studies.mending import apply_corrections

CONFIG = """
[data.train]
files = "train.csv"
[data.test]
kind = "files"
files = "test.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
[train]
duration = "4 epochs"
log_every = "5 steps"
"""
NUM_ROWS = 480
OTHER = {"pos": "neg", "neg": "pos"}


def flipped(rows: list[dict[str, Any]], share: float, seed: int) -> set[int]:
    """Turn the labels of so many rows, and say which."""
    chosen = random.Random(seed).sample(range(len(rows)), round(share * len(rows)))
    for number in chosen:
        rows[number]["label"] = OTHER[rows[number]["label"]]
    return set(chosen)


def place_of(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], config: str = CONFIG) -> Path:
    write_csv(folder / "train.csv", train)
    write_csv(folder / "test.csv", test)
    write_config(folder, config)
    return folder / "config.toml"


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Diagnosis, set[int]]:
    """One of ten labels flipped, a leak, and equal texts of which one is labelled otherwise."""
    folder = tmp_path_factory.mktemp("doctor")
    train, test = reviews(NUM_ROWS, 1), reviews(80, 2)
    wrong = flipped(train, 0.1, 3)
    same = "the film is great and charming and good and fine indeed"
    for text, label in ((same, "pos"), (same.upper() + "!", "pos"), (same, "neg")):
        train.append({"id": 0, "text": text, "label": label, "number": 0.0})
    nearly = "a movie that is dull and boring and poor and the worst of all the bad ones"
    for text, label in ((nearly, "neg"), (nearly + " ever", "neg"), (nearly + " yet", "pos")):
        train.append({"id": 0, "text": text, "label": label, "number": 0.0})
    train.append({"id": 0, "text": test[7]["text"].upper(), "label": test[7]["label"], "number": 0.0})
    config = place_of(folder, train, test)
    return config, textune.doctor(config, folds=3, run=folder / "study"), wrong


def line_of(found: Diagnosis, row: int) -> Correction:
    (line,) = [one for one in found.lines if one.row == row]
    return line


def test_flipped_labels_are_found_and_what_is_not_is_hardly(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    _, found, wrong = examined
    proposed = {line.row for line in found.lines if line.proposed and line.row < NUM_ROWS}
    assert len(proposed & wrong) / len(wrong) > 0.8
    assert len(proposed - wrong) < 0.1 * NUM_ROWS
    assert all(line.proposed == OTHER[line.label] for line in found.lines if line.proposed)


def test_the_suspects_are_those_of_cleanlab(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    _, found, _ = examined
    held_out = read_rows(found.study / "held-out.rows.parquet")
    scored = held_out.scored.by_head["label"]
    issues = find_label_issues(scored.targets, scored.scores, filter_by="confident_learning")
    suspects = {line.row for line in found.lines if "suspect label" in line.why}
    assert suspects == set(held_out.facts.row[np.flatnonzero(issues)].tolist()) and suspects
    for line in found.lines:
        if line.row in suspects and line.why.startswith("suspect") and ";" not in line.why:
            (place,) = np.flatnonzero(held_out.facts.row == line.row)
            assert scored.scores is not None
            assert line.worth == pytest.approx(1 - scored.scores[place, scored.targets[place]])


def test_a_repeat_lists_the_same_suspects_without_texts(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    _, found, _ = examined
    with (found.study / "suspects.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    suspects = {line.row: line for line in found.lines if "suspect label" in line.why}
    assert {int(one["row"]) for one in listed} == suspects.keys() and listed
    worths = [float(one["worth"]) for one in listed]
    assert worths == sorted(worths, reverse=True)
    for one in listed:
        line = suspects[int(one["row"])]
        assert one["label"] == line.label and f"suspect label: {one['why']}" in line.why
        assert line.proposed in (one["proposed"], "")
    (note,) = [note for note in read_report(found.study / "report.json").notes if "suspects.csv" in note]
    assert note.startswith(f"{len(listed)} labels of {found.num_rows} rows are probably wrong")


def test_texts_that_occur_twice_and_leaks(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    """Of equal texts the label of most, of nearly equal ones too; a row of the test set is left out."""
    _, found, _ = examined
    outvoted = line_of(found, NUM_ROWS + 2)
    assert (outvoted.label, outvoted.proposed) == ("neg", "pos") and "equal texts: 2 of 3 rows" in outvoted.why
    assert outvoted.worth >= 2 / 3
    near = line_of(found, NUM_ROWS + 5)
    assert (near.label, near.proposed) == ("pos", "neg") and "near-duplicate: 2 of 3 rows" in near.why
    leak = line_of(found, NUM_ROWS + 6)
    assert leak.proposed == "" and "leak: the same text is in the test rows" in leak.why and leak.worth >= 1
    assert found.counts["leak"] >= 1 and found.counts["equal texts"] == 1 and found.counts["near-duplicate"] == 1


def test_one_list_by_worth_and_files_to_review(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    config, found, _ = examined
    worths = [line.worth for line in found.lines]
    assert worths == sorted(worths, reverse=True) and found.num_rows == NUM_ROWS + 7
    rows = [line.row for line in found.lines]
    assert len(rows) == len(set(rows))
    read = read_corrections(found.corrections)
    assert [(one.row, one.proposed, one.content) for one in read.lines] == [
        (one.row, one.proposed, one.content) for one in found.lines
    ]
    assert parse_json((found.study / "doctor.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(found.to_dict())
    )
    assert (found.study / "doctor.md").read_text(encoding="utf-8") == found.markdown()
    again = textune.doctor(config, folds=3, run=found.study)  # nothing is trained again
    assert again == found


@pytest.mark.slow
def test_mending_gains(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    """On test rows, the same for both; a file that is changed gets a run of its own."""
    config, found, _ = examined
    mended = apply_corrections(config, found.corrections, run=found.study)
    assert mended.compared.name == "test" and mended.compared.num_rows == 80
    versus = mended.compared.against[0]
    rows = [read_rows(run / "evaluations" / "test.rows.parquet") for run in (mended.before, mended.after)]
    assert np.array_equal(rows[0].facts.content, rows[1].facts.content)
    right = [one.scored.by_head["label"].right.mean() for one in rows]
    if mended.compared.metric == "accuracy":
        assert mended.regained == pytest.approx(right[1] - right[0])
    assert ("no difference" in mended.sentence()) == (not versus.differs)
    assert mended.after.name.startswith("after-")
    again = apply_corrections(config, found.corrections, run=found.study)
    assert again == mended


@pytest.mark.slow
def test_only_what_is_worth_so_much_is_applied(examined: tuple[Path, Diagnosis, set[int]]) -> None:
    config, found, _ = examined
    least = sorted(line.worth for line in found.lines)[len(found.lines) // 2]
    mended = apply_corrections(config, found.corrections, run=found.study, least_worth=least)
    written = read_corrections(mended.after.with_name(mended.after.name.replace("after", "corrections") + ".csv"))
    kept = [line.row for line in found.lines if float(f"{line.worth:.4g}") >= float(f"{least:.4g}")]
    assert [line.row for line in written.lines] == kept and mended.num_lines == len(kept) < len(found.lines)
    assert written.lines[0].why == found.lines[0].why and mended.after.name == f"after-{written.fingerprint}"


def numbers(folder: Path) -> Path:
    train, test = reviews(40, 1), reviews(20, 2)
    train += [dict(train[0], number=train[0]["number"] + by) for by in (0.0, 2.0)]
    config = CONFIG + '[data.columns]\nlabel = "number"\n[task]\nkind = "regression"\n'
    return place_of(folder, train, test, config)


def test_numbers_have_equal_texts_and_leaks_alone(tmp_path: Path) -> None:
    found = textune.doctor(numbers(tmp_path), run=tmp_path / "study")
    assert found.folds is None and sorted(item.name for item in (tmp_path / "study").iterdir()) == [
        "corrections.csv",
        "doctor.json",
        "doctor.md",
        "lock",
        "study.json",
    ]
    assert line_of(found, 41).proposed == "" and "equal texts: 3 rows with the same text" in line_of(found, 41).why
    assert all("leak" in line.why for line in found.lines if line.row != 41)
    assert 0 not in {line.row for line in found.lines if "leak" not in line.why}


def test_the_command_finds_and_applies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = reviews(60, 1)
    flipped(train, 0.1, 1)
    place_of(tmp_path, train, reviews(30, 2))
    call = runner(capsys, monkeypatch, tmp_path)
    quick = ["config.toml", "train.duration=2 steps", "--quiet", "--run", "study"]
    answer = call("doctor", *quick, "--folds", 2, "--json")
    assert answer.code == 0, answer.err
    told = parse_json(answer.out)
    written = parse_json((tmp_path / "study" / "doctor.json").read_text(encoding="utf-8"))
    assert told["lines"] and told == {"ok": True} | written
    shown = call("doctor", *quick, "--folds", 2)
    assert shown.code == 0 and "--apply study/corrections.csv" in shown.out and "Worth counts rows" in shown.out
    applied = call("doctor", *quick, "--apply", "study/corrections.csv")
    assert applied.code == 0 and "30 test rows" in applied.out, applied.err
    mended = call("doctor", *quick, "--apply", "study/corrections.csv", "--json")
    assert parse_json(mended.out)["sentence"] == applied.out.strip()
    assert call("doctor", *quick, "--apply", "x.csv", "--folds", 2).code == 2
    assert call("doctor", *quick, "--least-worth", 0.9).code == 2


def test_what_cannot_be_examined_or_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = reviews(40, 1)
    train[1]["label"] = "odd"
    config = place_of(tmp_path, train, reviews(20, 2))
    with refused(ConfigError, key="data.train.kind", reason="streamed"):
        textune.doctor(config, overrides={"data.train": {"kind": "stream", "files": "train.csv"}})
    with refused(DataError, key="data.validation.folds"):
        textune.doctor(config, folds=50, run=tmp_path / "study")
    with refused(DataError, key="data.corrections", place="none.csv"):
        apply_corrections(config, tmp_path / "none.csv", run=tmp_path / "study")
    others = [Correction(1, "label", "odd", "neg", "0" * 16), Correction(0, "label", "pos", "neg", "0" * 16)]
    write_corrections(others, tmp_path / "other.csv")
    with refused(DataError, key="data.corrections", reason="another text"):
        apply_corrections(config, tmp_path / "other.csv", run=tmp_path / "study")
    write_corrections([], tmp_path / "empty.csv")
    with refused(ConfigError, key="apply", place="empty.csv"):
        apply_corrections(config, tmp_path / "empty.csv", run=tmp_path / "study")
    with refused(ConfigError, key="least_worth", value=0.5):
        apply_corrections(config, tmp_path / "other.csv", run=tmp_path / "study", least_worth=0.5)
    (tmp_path / "own.csv").write_text("row,task,label,proposed,content\n1,label,odd,neg,0\n")
    with refused(DataError, key="data.corrections", place="own.csv", reason="no number for `worth`"):
        apply_corrections(config, tmp_path / "own.csv", run=tmp_path / "study", least_worth=0.5)
    with refused(ConfigError, key="data.corrections"):
        textune.doctor(config, overrides={"data.corrections": str(tmp_path / "other.csv")})
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with refused(ConfigError, reason="datasketch is not installed") as caught:
        textune.doctor(config, run=tmp_path / "study")
    assert "textune[doctor]" in str(caught.value.hint)


WORDS = ["the", "film", "is", "a", "movie", "now", "later", "good", "fine", "bad", "dull"]
SEVERAL = """
[data]
train.files = "train.jsonl"
validation.ratio = 0.2
test = { kind = "files", files = "test.jsonl" }
[model]
pretrained = "backbone"
[train]
duration = "8 epochs"
"""
TASKS = """
[data.columns]
labels = ["tone", "urgent"]
[task]
kind = "multitask"
groups = { tone = ["neg", "pos"], urgent = ["no", "yes"] }
"""
TAGS = """
[data.columns]
label = "tags"
[task]
kind = "multilabel"
"""


def messages(num_rows: int, seed: int) -> list[dict[str, Any]]:
    """Rows whose two labels are plain from their words, as two tasks and as a list."""
    generator = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        tone, urgent = generator.choice(["neg", "pos"]), generator.choice(["no", "yes"])
        words = generator.choices(WORDS[:5], k=generator.randint(4, 12))
        words += generator.choices(["good", "fine"] if tone == "pos" else ["bad", "dull"], k=2)
        words += ["now" if urgent == "yes" else "later"] * 2
        generator.shuffle(words)
        rows.append({"text": " ".join(words), "tone": tone, "urgent": urgent})
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("columns", [TASKS, TAGS], ids=["tasks", "tags"])
def test_each_task_and_each_of_several_labels_is_asked_about(tmp_path: Path, columns: str) -> None:
    """The wrong one is proposed, in the form that `data.corrections` reads, and not the other one of the row."""
    train, test = messages(300, 1), messages(30, 2)
    wrong = random.Random(5).sample(range(300), 30)
    for number in wrong:
        train[number]["tone"] = OTHER[train[number]["tone"]]
    for row in (*train, *test):
        row["tags"] = [name for name, has in (("pos", row["tone"] == "pos"), ("yes", row["urgent"] == "yes")) if has]
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "test.jsonl", test)
    config = write_config(tmp_path, SEVERAL + columns, words=WORDS) / "config.toml"
    found = textune.doctor(config, folds=3, run=tmp_path / "study")
    if columns is TASKS:
        expected = {(number, "tone", OTHER[train[number]["tone"]]) for number in wrong}
    else:
        expected = {(number, "label", "-pos" if train[number]["tone"] == "pos" else "+pos") for number in wrong}
    proposed = {(line.row, line.task, line.proposed) for line in found.lines}
    assert len(proposed & expected) / len(expected) > 0.6
    with (tmp_path / "study" / "suspects.csv").open(newline="") as file:
        listed = {(int(one["row"]), one["task"], one["proposed"]) for one in csv.DictReader(file)}
    assert listed == {(line.row, line.task, line.proposed) for line in found.lines if "suspect label" in line.why}
    mended = apply_corrections(config, found.corrections, run=tmp_path / "study", overrides=["train.duration=1 steps"])
    assert mended.compared.num_rows == 30 and mended.num_lines == len(found.lines)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.1])
def test_points_are_regained_in_the_mean(tmp_path: Path, share: float) -> None:
    """Of labels flipped with three seeds; more than six of ten are found."""
    regained, recalls = [], []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        train = reviews(NUM_ROWS, seed)
        wrong = flipped(train, share, seed)
        config = place_of(folder, train, reviews(300, 10 + seed))
        found = textune.doctor(config, folds=3, run=folder / "study")
        recalls.append(len({line.row for line in found.lines if line.proposed} & wrong) / len(wrong))
        regained.append(apply_corrections(config, found.corrections, run=folder / "study").regained)
    assert min(recalls) > 0.6, recalls
    assert np.mean(regained) > 0, regained


PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


@pytest.mark.slow
def test_the_commands_of_the_page_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order; and what its Python reads is there."""
    train = reviews(60, 1)
    flipped(train, 0.1, 1)
    place_of(tmp_path, train, reviews(20, 2))
    call = runner(capsys, monkeypatch, tmp_path)
    fences = PAGE.read_text(encoding="utf-8").split("```")[1::2]
    lines = [line for fence in fences for line in fence.splitlines() if line.startswith("textune ")]
    assert len(lines) == 4
    for line in lines:
        words = [word.replace("10", "2").replace("0.9", "0.1") for word in line.split()[1:]]  # quick, and unsure
        answer = call(*words, "train.duration=1 steps", "evaluate.bootstrap=0")
        assert answer.code == 0, answer.err
    python = next(fence for fence in fences if fence.startswith("python\n")).removeprefix("python\n")
    call_line, *reads = python.splitlines()
    given = 'overrides=["train.duration=1 steps", "evaluate.bootstrap=0"])'
    names: dict[str, Any] = {"textune": textune}
    exec(call_line.replace("folds=5)", f"folds=5, {given}"), names)
    for read in reads:
        assert eval(read, names) is not None
