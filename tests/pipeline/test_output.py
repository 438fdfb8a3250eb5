"""How the command line prints: whole lines without a terminal, JSON for scripts, what matters most first."""

import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.runs import reviews, write_csv

import textune
from textune.cli import commands
from textune.cli.output import print_json_value
from textune.wording import escaped


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As from a script: no terminal, and whatever reads the output knows nothing of columns."""
    return runner(capsys, monkeypatch, home, columns=40)


def test_help_shows_whole_summaries_at_80_columns(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = run("--help").out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(commands.commands)
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 80 for line in listed)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["train", "config.toml", "--lr", "3e-5"], "train.optimizer.lr=3e-5"),
        (["train", "config.toml", "--lr=3e-5"], "train.optimizer.lr=3e-5"),
        (["check", "config.toml", "--train.optimizer.lr", "3e-5"], "train.optimizer.lr=3e-5"),
        (["show", "config.toml", "--batch-size", "8"], "train.batch_size=8"),
        (["train", "config.toml", "--log_every", "1 step"], "'train.log_every=1 step'"),
        (["launch", "config.toml", "--max_length", "64"], "tokens.max_length=64"),
        (["train", "config.toml", "--num_train_epochs", "3"], "train.duration=VALUE"),
        (["train", "config.toml", "--seed", "3"], "data.validation.seed=3 or train.seed=3"),
        (["train", "config.toml", "--shuffle"], "data.train.shuffle=VALUE"),
    ],
)
def test_a_setting_that_is_written_as_an_option(run: Any, words: list[str], setting: str) -> None:
    answer = run(*words)
    option = next(word for word in words if word.startswith("--")).partition("=")[0]
    assert answer.code == 2
    heads = answer.err.splitlines()
    assert heads[0].startswith(f"Error: There is no option {option}. Settings are written KEY=VALUE: "), answer.err
    assert all(part in heads[0] for part in setting.split(" or ")) and len(heads) == 1


def test_an_option_that_is_no_setting_either(run: Any, trained: Any) -> None:
    assert "No such option" in run("train", "config.toml", "--frobnicate", "3").err
    assert "No such option" in run("evaluate", trained[0].run, "--lr", "3").err


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (
            ["check", "config.toml", "train.optimizer.rl=1"],
            "Unknown key train.optimizer.rl (command line).",
            "Did you mean train.optimizer.lr?",
        ),
        (
            ["train", "config.toml", "--lr", "1"],
            "There is no option --lr.",
            "Settings are written KEY=VALUE: train.optimizer.lr=1.",
        ),
        (
            ["init", "rows.csv", "--label", "stars"],
            "There is no option --label.",
            "Leave it out, and set it in the config that is written: data.columns.label.",
        ),
        (
            ["info", "nowhere"],
            "nowhere does not exist; a run folder was expected.",
            "Give the folder that `textune train` wrote, such as runs/x.",
        ),
        (["train"], "Missing argument 'CONFIG'.", ""),
    ],
)
def test_an_error_is_json_too_where_json_was_asked_for(run: Any, words: list[str], error: str, hint: str) -> None:
    answer = run(*words, "--json")
    said = json.loads(answer.out)
    assert said == {"ok": False, "error": said["error"]} and answer.code == 2
    why = said["error"]
    assert (why["message"], why["hint"], why["exit_code"], why["try_again"]) == (error, hint, 2, False)
    assert f"Error: {error} {hint}".strip() in answer.err
    assert run(*words).out == ""


def test_the_fields_of_an_error_are_json_too(run: Any) -> None:
    said = json.loads(run("info", "nowhere", "--json").out)["error"]
    assert (
        (said["place"], said["reason"]) == ("nowhere", "does not exist") and "key" not in said and "value" not in said
    )
    said = json.loads(run("train", "config.toml", "train.seed=-1", "--json").out)["error"]
    assert (said["key"], said["value"], said["place"]) == ("train.seed", "-1", "command line")


def test_a_fault_of_ours_is_json_too(run: Any, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textune.pipeline, "info", lambda run: 1 / 0)
    answer = run("info", trained[0].run, "--json")
    why = json.loads(answer.out)["error"]
    assert answer.code == why["exit_code"] == 1
    assert why["message"].endswith("ZeroDivisionError: division by zero")


def test_characters_that_drive_a_terminal_are_escaped(run: Any, home: Path) -> None:
    answer = run("train", "no\x1b[31m\nsuch.toml")
    assert answer.code == 2 and "\x1b" not in answer.err and r"no\x1b[31m" in answer.err
    assert escaped("a\tb é\n  - c") == "a\\tb é\n  - c"


def test_nan_is_never_printed_as_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json_value({"value": float("nan")})


def test_the_misspelt_scheduler_comes_first(run: Any) -> None:
    assert (
        run("launch", "config.toml", "--scheduler", "slurmm").err
        == "Error: Unknown scheduler slurmm. Did you mean slurm?\n"
    )
    missing = run("launch", "config.toml", "--scheduler", "slurm")
    assert (
        missing.err
        == "Error: --gpus is missing: how many GPUs does each machine have? Set --gpus 0 for machines without.\n"
    )


def test_a_folder_of_runs_lists_them(run: Any, trained: Any, home: Path) -> None:
    os.utime(home / "runs" / "first" / "manifest.json")  # others have trained here since
    for verb in ("info", "evaluate", "predict"):
        answer = run(verb, "runs")
        assert answer.code == 2 and "is not a run folder" in answer.err
        assert "Give one of the runs in it: " in answer.err and "runs/first" in answer.err
    assert "runs/first" in run("info", ".").err
    assert "Give the folder that `textune train` wrote" in run("info", "backbone").err


# --- check -----------------------------------------------------------------------------------------------------------


def whole_lines(text: str) -> list[str]:
    """The lines of an output, none of which is filled with blanks."""
    lines = text.splitlines()
    assert not any(line != line.rstrip() for line in lines)
    return lines


def test_check_says_the_audit_first_and_the_time_last(run: Any, home: Path) -> None:
    answer = run("check", "config.toml")
    lines = whole_lines(answer.out)
    starts = [line.partition(":")[0] for line in lines]
    assert starts[0] in ("warning", "note") and starts.index("note") < starts.index("task") < starts.index("time")
    assert starts.index("time") < starts.index("memory") == len(lines) - 2
    assert re.fullmatch(r"0 errors, \d+ warnings?; ready: textune train config\.toml", lines[-1])
    model = next(line for line in lines if line.startswith("model: "))  # longer than 40 columns, and whole
    assert re.fullmatch(
        rf"model: {re.escape(str(home))}/backbone \(bert\), 0\.\d+ M parameters, 0\.\d+ M trained", model
    )


def test_check_without_measuring(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("textune.pipeline.check"), "gradients_in_memory", None)
    answer = run("check", "config.toml", "--no-timing")
    assert answer.code == 0 and "\ntime:" not in answer.out and "\nmemory: " in answer.out


def test_check_counts_one_as_one(run: Any, home: Path) -> None:
    rows = reviews(40)
    write_csv(home / "twice.csv", [*rows, rows[0]])
    words = [
        "check",
        "config.toml",
        "--no-timing",
        "data.train.files=twice.csv",
        "data.test.kind=none",
        "data.validation.kind=none",
        "train.optimizer.lr=5e-4",
    ]
    answer = run(*words)
    assert "warning: 1 text occurs twice in the train rows.\n" in answer.out
    same = "data.train.files=twice.csv data.test.kind=none data.validation.kind=none train.optimizer.lr=5e-4"
    assert answer.out.endswith(f"0 errors, 1 warning; ready: textune train config.toml {same}\n")
    write_csv(home / "often.csv", [*rows, rows[0], rows[0], rows[1]])
    words[3] = "data.train.files=often.csv"
    assert "2 texts occur more than once in the train rows. 3 rows repeat an earlier one.\n" in run(*words).out


def test_check_gives_scripts_numbers(run: Any, trained: Any) -> None:
    answer = run("check", "config.toml", "--json", "--quiet")
    found = json.loads(answer.out)
    numbers = found["numbers"]
    assert answer.err == "" and found["ok"] is True
    assert numbers["rows"] == {"train": 143, "validation": 36, "test": 21} and numbers["labels"] == ["neg", "pos"]
    assert (numbers["steps"], numbers["steps_per_epoch"], numbers["batch_size"]) == (54, 9, 16)
    assert numbers["tokens_longest"] <= 24 and numbers["seconds"] > 0 and numbers["tokens_per_second"] > 0
    assert numbers["memory_bytes"] == 4 * numbers["parameters"] + 12 * numbers["parameters_trained"]
    assert numbers["batches_measured"] == 3 and 0 < numbers["padding_by_batch"] < numbers["padding_to_max_length"] < 1
    assert set(found["facts"]) >= {"task", "rows", "time", "memory"}
    classes = {one["set"]: one["numbers"]["classes"] for one in found["findings"] if one["code"] == "classes"}
    assert {name: sum(rows.values()) for name, rows in classes.items()} == numbers["rows"]
    dry = json.loads(run("train", "config.toml", "--run", "runs/dry", "--dry-run", "--json").out)
    assert dry["dry_run"] is True and dry["numbers"]["steps"] == 54


# --- progress, quiet -------------------------------------------------------------------------------------------------


def test_progress_goes_to_standard_error_with_json_too(run: Any, home: Path) -> None:
    words = ["train", "config.toml", "train.duration=9 steps", "--run", "runs/progress"]
    answer = run(*words, "--json")
    assert answer.code == 0 and json.loads(answer.out)["steps"] == 9
    assert "step 9/9" in answer.err and "\ntask: binary, 2 labels: neg, pos\n" in "\n" + answer.err
    again = run(*words, "--resume", "auto", "--quiet")
    assert again.code == 0 and again.err == ""
    assert "Evaluation of test: reviews.csv" in again.out and "runs/progress is complete: 9 steps." in again.out
    assert json.loads(run(*words, "--resume", "auto", "--json").out)["reports"] == json.loads(answer.out)["reports"]
    changed = run(*words, "--resume", "auto", "decide.folds=7")
    assert changed.code == 0 and "decide.folds" in changed.err and "without effect on a complete run" in changed.err
    assert "`textune decide RUN` sets another rule" in changed.err


def test_a_report_is_whole_lines_without_a_terminal(run: Any, trained: Any) -> None:
    lines = whole_lines(run("evaluate", trained[0].run).out)
    shown = [mistake.text for mistake in trained[0].reports["test"].mistakes[:5]]
    assert all(f"    {text}" in lines for text in shown)
    [value] = [line for line in lines if line.startswith("  accuracy") and "interval" in line]
    assert re.fullmatch(
        r"  accuracy  [\d.]+  95 % interval [\d.]+ to [\d.]+ \(Wilson\)|  accuracy  [\d.]+  no interval", value
    )


def test_a_terminal_gets_columns(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", run("check", "config.toml", "--no-timing").out)
    assert re.search(r"^task +binary, 2 labels: neg, pos", plain, re.MULTILINE)
    assert (
        max(map(len, plain.splitlines()[1:])) > 40 and "\n         " in plain
    )  # long facts go on below their beginning


# --- info ------------------------------------------------------------------------------------------------------------


def test_info_says_first_how_good_the_model_is(run: Any, trained: Any) -> None:
    result = trained[0]
    lines = whole_lines(run("info", result.run).out)
    report = result.reports["test"]
    low, high = report.interval
    assert lines[0] == (
        f"test: accuracy {report.value:.4f} (95 % interval {low:.4f} to {high:.4f}),"
        f" baseline {report.baseline.value:.4f}, on 21 rows"
    )
    assert lines[1].startswith("validation: accuracy ") and lines[2].startswith("status: complete, 54 steps in ")
    text = "\n".join(lines)
    assert not re.search(r"[{}\[\]]|\d\.\d{5}|None|nan", text), text
    assert all(line.partition(": ")[2] for line in lines)
    assert "task: binary, 2 labels: neg, pos" in lines and "rows: 143 train, 36 validation, 21 test" in lines


def test_info_gives_scripts_numbers(run: Any, trained: Any) -> None:
    result = trained[0]
    found = json.loads(run("info", result.run, "--json").out)
    main = found["results"]["test"]
    report = result.reports["test"]
    assert (main["metric"], main["value"], tuple(main["interval_95"])) == ("accuracy", report.value, report.interval)
    assert main["baseline"]["value"] == report.baseline.value and main["rows"] == 21
    assert found["steps"] == 54 and found["rows"]["train"] == 143 and found["model_bytes"] > 1000
    assert Path(found["model"]).is_dir() and found["labels"] == ["neg", "pos"]


def test_info_of_a_model_and_of_a_checkpoint(run: Any, trained: Any) -> None:
    folder = trained[0].run
    of_model = run("info", folder / "best").out
    assert of_model.startswith("model: ") and "task: binary" in of_model and "status" not in of_model
    checkpoint = folder / "checkpoints" / "step-54"
    lines = whole_lines(run("info", checkpoint).out)
    assert lines[0].startswith(f"checkpoint: {checkpoint} (") and lines[1].startswith(
        "step: 54, the best so far at step "
    )
    assert json.loads(run("info", checkpoint, "--json").out)["step"] == 54


# --- in Python -------------------------------------------------------------------------------------------------------


def test_a_config_in_python(home: Path, tmp_path: Path) -> None:
    import tomllib

    tree = tomllib.loads((home / "config.toml").read_text())
    tree["data"]["folder"], tree["model"]["pretrained"] = str(home), str(home / "backbone")
    result = textune.train(tree, run=tmp_path / "run", overrides={"train.duration": "1 steps"}, fast_dev_run=True)
    assert result.steps == 1
    checked = textune.check(tree, overrides={"train": {"seed": 5}}, timing=False)
    assert (
        checked.ok and checked.facts.rows["train"] == 143 and "time" not in checked.words and "memory" in checked.words
    )


def test_what_a_loaded_model_shows_of_itself(trained: Any) -> None:
    model = textune.load(trained[0].run)
    assert [name for name in dir(model) if not name.startswith("_")] == [
        "card",
        "device",
        "generate",
        "predict",
        "predict_proba",
        "predict_table",
        "score",
    ]
    assert repr(model) == f"<TrainedModel: binary, 2 labels (neg, pos), texts of at most 24 tokens, {model.device}>"
    texts = ["a good film", "a bad film"]
    assert model.predict(text for text in texts) == model.predict(texts)
    assert [model.predict("a good film")] == model.predict(["a good film"])


def test_what_a_report_shows_of_itself(trained: Any) -> None:
    report = trained[0].reports["test"]
    low, high = report.interval
    assert repr(report) == (
        f"<Report of test: reviews.csv: accuracy {report.value:.4f} (95 % interval {low:.4f} to {high:.4f}),"
        f" baseline {report.baseline.value:.4f}, on 21 rows>"
    )
