"""The command line as a person uses it: what it prints, where, and its exit codes."""

import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.cli import runner
from kits.runs import reviews, write_csv

import textune
from textune.cli import commands, main
from textune.errors import NO_MEMORY
from textune.training.loop import StepResult


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return runner(capsys, monkeypatch, home)


@pytest.mark.parametrize("verb", ["", *commands.commands])
def test_help_shows_an_example(run: Any, verb: str) -> None:
    answer = run(*([verb] if verb else []), "--help")
    assert answer.code == 0
    assert f"textune {verb}" in answer.out
    if verb:
        assert "Examples:" in answer.out


def test_verbs_stand_in_the_order_of_the_work() -> None:
    work = [
        "init",
        "check",
        "train",
        "repeat",
        "sweep",
        "evaluate",
        "decide",
        "compare",
        "report",
        "predict",
        "info",
        "runs",
    ]
    others = [
        "export",
        "push",
        "serve",
        "launch",
        "show",
        "presets",
        "models",
        "schema",
        "tag",
        "render",
        "generate",
        "convert",
        "glue",
        "tracking",
        "chaos",
    ]
    assert [verb for verb in commands.commands if verb in {*work, *others}] == [*work, *others]


@pytest.mark.parity("HF-03")
def test_init_check_and_train_from_a_bare_file(run: Any, home: Path) -> None:
    answer = run("init", "reviews.csv", "--out", "started.toml", "--pretrained", "backbone")
    assert answer.code == 0, answer.err
    text = (home / "started.toml").read_text()
    assert 'text = "text"' in text and 'label = "label"' in text and "reviews.csv" in text
    checked = run("check", "started.toml", "--json", f"tokens.cache={home / 'cache'}")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["ok"] is True
    trained = run("train", "started.toml", "--run", "runs/started", "--fast-dev-run", f"tokens.cache={home / 'cache'}")
    assert trained.code == 0, trained.err
    assert "one batch of everything works" in trained.out

    again = run("init", "reviews.csv", "--out", "started.toml")
    assert again.code == 2 and "nothing is ever overwritten" in again.err


def test_check_prints_facts_and_findings(run: Any) -> None:
    answer = run("check", "config.toml")
    assert answer.code == 0, answer.err
    assert "binary" in answer.out and "ready: textune train config.toml" in answer.out


def test_check_fails_on_what_cannot_train(run: Any, home: Path) -> None:
    rows = [{"text": " ", "label": "a"}, {"text": "", "label": "b"}] * 10
    write_csv(home / "empty.csv", rows)
    answer = run("check", "config.toml", "data.train.files=empty.csv", "data.test.kind=none")
    assert answer.code == 2
    assert "error" in answer.out and "not ready" in answer.out


def test_show_and_schema(run: Any) -> None:
    shown = run("show", "config.toml", "train.optimizer.lr=0.5", "--diff")
    assert (
        shown.code == 0
        and "lr = 0.5" in shown.out
        and "command line" in shown.out
        and "max_grad_norm" not in shown.out
    )
    assert json.loads(run("show", "config.toml", "--json").out)["config"]["train"]["batch_size"] == 16
    assert json.loads(run("schema").out)["properties"]["train"]
    assert run("schema", "--markdown").out.startswith("#")


def test_train_prints_the_report_and_what_to_do_next(run: Any) -> None:
    answer = run("train", "config.toml", "--run", "runs/cli", "train.duration=9 steps")
    assert answer.code == 0, answer.err
    assert "packed" in answer.err and "step 9/9" in answer.err
    for words in (
        "accuracy",
        "95 % interval",
        "textune predict runs/cli",
        "textune evaluate runs/cli",
        "textune info runs/cli",
    ):
        assert words in answer.out
    info = json.loads(run("info", "runs/cli", "--json").out)
    assert info["status"] == "complete" and info["labels"] == ["neg", "pos"]
    assert "complete" in run("info", "runs/cli").out


def test_json_goes_to_standard_output_alone(run: Any, trained: Any) -> None:
    answer = run("evaluate", trained[0].run, "--json", "--quiet")
    assert answer.code == 0 and answer.err == ""
    assert json.loads(answer.out)["metrics"]["accuracy"] == trained[0].reports["test"].metrics["accuracy"]


def test_evaluate_a_file_with_other_columns(run: Any, trained: Any, home: Path) -> None:
    rows = [{"review": row["text"], "verdict": row["label"]} for row in reviews(12, seed=3)]
    with (home / "other.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["review", "verdict"], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    wrong = run("evaluate", trained[0].run, "--data", "other.tsv")
    assert wrong.code == 2 and "'review', 'verdict'" in wrong.err and "--text" in wrong.err
    wrong = run("evaluate", trained[0].run, "--data", "other.tsv", "--text", "review")
    assert wrong.code == 2 and "Set --label to the right column" in wrong.err
    assert "To score rows without labels, use `textune predict`." in wrong.err
    answer = run("evaluate", trained[0].run, "--data", "other.tsv", "--text", "review", "--label", "verdict")
    assert answer.code == 0 and "12" in answer.out
    assert (trained[0].run / "evaluations" / "other.tsv.json").is_file()


def test_lines_from_standard_input_are_predicted_in_order(run: Any, trained: Any) -> None:
    answer = run("predict", trained[0].run, stdin="a good great film\n\na bad poor film\n")
    assert answer.code == 0 and answer.err == ""
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [row["text"] for row in rows] == ["a good great film", "", "a bad poor film"]
    assert [rows[0]["predicted_label"], rows[2]["predicted_label"]] == ["pos", "neg"]
    assert 0.5 <= rows[0]["predicted_score"] <= 1


@pytest.mark.every_day(2)
@pytest.mark.parametrize("format_", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parity("predicting")
def test_files_keep_their_columns_and_order(run: Any, trained: Any, home: Path, tmp_path: Path, format_: str) -> None:
    rows = reviews(25, seed=9)
    source, target = tmp_path / f"in.{format_}", tmp_path / f"out.{format_}"
    if format_ == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), source)
    elif format_ == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with source.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if format_ == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    answer = run("predict", trained[0].run, "--input", source, "--output", target, "--all-scores")
    assert answer.code == 0, answer.err
    if format_ == "parquet":
        written = pq.read_table(target).to_pylist()
    elif format_ == "jsonl":
        written = [json.loads(line) for line in target.read_text().splitlines()]
    else:
        lines = target.read_text().splitlines()
        written = list(csv.DictReader(lines, delimiter="," if format_ == "csv" else "\t"))
    wanted = textune.load(trained[0].run).predict([row["text"] for row in rows])
    for row, out, prediction in zip(rows, written, wanted, strict=True):
        assert {key: str(out[key]) for key in row} == {key: str(value) for key, value in row.items()}
        assert out["predicted_label"] == prediction.label
        assert float(out["predicted_score"]) == pytest.approx(prediction.score, abs=1e-5)
        assert float(out["score_pos"]) == pytest.approx(prediction.scores["pos"], abs=1e-5)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "nowhere.toml"], 2, "nowhere.toml"),
        (["train", "config.toml", "train.lr=1"], 2, "train.optimizer.lr"),
        (["train", "config.toml", "train.batch_size=many"], 2, "train.batch_size"),
        (["train", "config.toml", "train.duration=3"], 2, "2 epochs"),
        (["predict", "nowhere"], 2, "nowhere does not exist"),
        (["predict", "{run}", "--input", "nowhere.csv"], 2, "nowhere.csv does not exist"),
        (["predict", "{run}", "--input", "config.toml"], 2, "Name one with --format|has no column"),
        (["predict", "{run}", "--input", "reviews.csv", "--output", "reviews.csv"], 2, "is the input itself"),
        (
            ["predict", "{run}", "--input", "reviews.csv", "--text", "body"],
            2,
            "has no column 'body'; its columns are: 'id', 'text', 'label'",
        ),
        (["predict", "{run}", "--input", "reviews.csv", "--output", "no/such/folder.csv"], 2, "cannot be written"),
        (["evaluate", "{run}", "--metric", "acuracy"], 2, "accuracy"),
        (["evaluate", "{run}", "--data", "nowhere.csv"], 2, "nowhere.csv"),
        (
            ["predict", "{run}", "--input", "reviews.csv", "--output", "./backbone/../reviews.csv"],
            2,
            "is the input itself",
        ),
        (
            ["predict", "{run}", "--text-pair", "label", "--input", "reviews.csv"],
            2,
            "single texts.*Leave --text-pair out",
        ),
        (["info", "backbone"], 2, "is not a run folder"),
        (["frain"], 2, "No such command"),
        (["train"], 2, "Missing argument"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(
    run: Any, trained: Any, words: list[str], code: int, message: str
) -> None:
    import re

    answer = run(*[word.format(run=trained[0].run) for word in words])
    assert answer.code == code
    assert re.search(message, answer.err), answer.err
    assert len(answer.err) < 900


def test_an_output_that_exists_needs_force(run: Any, trained: Any, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    words = ["predict", trained[0].run, "--input", "reviews.csv", "--output", target]
    assert "Wrote 200 rows" in run(*words).err
    target.write_text("precious")
    again = run(*words)
    assert again.code == 2 and "already exists. Choose another file, or add --force" in again.err
    assert target.read_text() == "precious"
    forced = run(*words, "--force", "--json", "--quiet")
    assert forced.code == 0 and forced.err == "" and json.loads(forced.out)["rows"] == 200
    assert len(target.read_text().splitlines()) == 201


def test_init_and_predict_speak_json(run: Any, trained: Any) -> None:
    answer = run("init", "reviews.csv", "--out", "as_json.toml", "--json")
    assert answer.code == 0 and answer.err == ""
    made = json.loads(answer.out)
    assert made["path"] == "as_json.toml" and made["ok"] is True and made["chosen"]["label"] == "label"
    refused = run("predict", trained[0].run, "--json", stdin="a film\n")
    assert refused.code == 2 and "--output FILE" in refused.err and json.loads(refused.out)["ok"] is False


def test_after_training_on_several_columns_the_example_works(run: Any) -> None:
    answer = run(
        "train",
        "config.toml",
        "--run",
        "runs/template",
        "train.duration=1 steps",
        "data.columns.template={text} {number}",
    )
    assert answer.code == 0, answer.err
    assert "textune predict runs/template --data FILE --output FILE" in answer.out and "echo" not in answer.out
    done = run("predict", "runs/template", "--input", "reviews.csv", "--output", "templates.csv")
    assert done.code == 0, done.err


def test_hints_name_options_where_there_is_no_config(run: Any, trained: Any, home: Path) -> None:
    (home / "ragged.csv").write_text("text,label\na good film,pos\nbad\na bad film,neg\n")
    answer = run("evaluate", trained[0].run, "--data", "ragged.csv")
    assert (
        answer.code == 2
        and "add --skip-bad-rows to leave such rows out" in answer.err
        and "on_bad_row" not in answer.err
    )
    assert run("evaluate", trained[0].run, "--data", "ragged.csv", "--skip-bad-rows").code == 0


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_max_tokens_reaches_the_predictor(run: Any, trained: Any, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import textune.prediction.scorer

    seen = []
    real = textune.prediction.scorer.cut_by_tokens

    def spy(lengths: Any, max_tokens: int, **more: Any) -> Any:
        seen.append(max_tokens)
        return real(lengths, max_tokens, **more)

    monkeypatch.setattr(textune.prediction.scorer, "cut_by_tokens", spy)
    assert run(verb, trained[0].run, "--max-tokens", 31, stdin="a film\n").code == 0
    assert set(seen) == {31}
    assert run(verb, trained[0].run, "--max-tokens", 0, stdin="a film\n").code == 2


def test_a_cell_that_cannot_be_written_is_refused_beside_standard_output(run: Any, trained: Any) -> None:
    words = ["predict", trained[0].run, "--format", "jsonl", "--output-format"]
    line = json.dumps({"text": "a\tfilm"}) + "\n"
    answer = run(*words, "tsv", stdin=line)
    assert (answer.code, answer.out) == (2, "") and "predicting" not in answer.err
    assert "standard input, line 1 cannot be written as tsv: column 'text' holds a delimiter" in answer.err
    assert run(*words, "jsonl", stdin=line).err == ""


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"),
    ],
)
def test_too_little_memory_is_a_sentence(
    run: Any, trained: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: str) -> None:
        raise error

    monkeypatch.setattr(textune.pipeline, "info", fail)
    answer = run("info", trained[0].run)
    assert answer.code == NO_MEMORY and answer.err.startswith("Error: out of memory. Use a smaller backbone")


def test_a_fault_of_ours_is_a_sentence_and_exit_1(run: Any, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textune.pipeline, "info", lambda run: 1 / 0)
    answer = run("info", trained[0].run)
    assert answer.code == 1
    assert "internal error in textune: ZeroDivisionError" in answer.err and "--debug" in answer.err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--debug", "show", str(home / "nowhere.toml")])
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupted_run_keeps_what_it_saved(run: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(result: StepResult) -> None:
        if result.step == 10:  # after the first evaluation
            raise KeyboardInterrupt

    monkeypatch.setattr("textune.pipeline.train", partial(textune.train, after_step=interrupt))
    answer = run("train", "config.toml", "--run", "runs/interrupted")
    assert answer.code == 130 and "Interrupted" in answer.err
    monkeypatch.undo()
    assert textune.load(home / "runs" / "interrupted").predict(["a film"])
    assert json.loads((home / "runs" / "interrupted" / "manifest.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(trained: Any) -> None:
    command = f"yes 'a good film' | head -20000 | {sys.executable} -m textune predict {trained[0].run} | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    assert json.loads(done.stdout)["predicted_label"] == "pos"
    assert done.stderr == ""


NO_NETWORK = """
import json, socket, sys
def refuse(*args, **kwargs):
    raise OSError("the network was used")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from textune.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, words
"""


@pytest.mark.slow
def test_no_network_is_needed(home: Path, trained: Any, tmp_path: Path) -> None:
    """R16: with the network gone and no offline switch set, train, evaluate and predict work on local files."""
    import os

    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    commands = [
        ["train", str(home / "config.toml"), "--run", str(tmp_path / "run"), "train.duration=1 steps"],
        ["evaluate", str(trained[0].run)],
        ["predict", str(trained[0].run), "--input", str(home / "reviews.csv"), "--output", str(tmp_path / "out.csv")],
    ]
    words = [sys.executable, "-c", NO_NETWORK, json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").is_file()
