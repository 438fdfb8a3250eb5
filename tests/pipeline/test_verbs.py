"""What every verb has: `--quiet`, one name for one thing, `~` in paths, and words that a shell completes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from kits.cli import runner

from textune.cli import commands
from textune.cli.verbs import UserPath, continued
from textune.config import setting_names


def every_command(group: click.Group = commands, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(every_command())
PAIRS = [("--out", "--output"), ("--set", "--part"), ("--run", "--run-folder"), ("--data", "--input")]
"""Options that are the same thing by two names: where one is known, so is the other."""
ALONE = {("--run-folder", "launch"), ("--run-folder", "chaos")} | {("--input", verb) for verb in COMMANDS}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return runner(capsys, monkeypatch, home)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_can_be_quiet(verb: str) -> None:
    assert sum("--quiet" in parameter.opts for parameter in COMMANDS[verb].params) == 1


@pytest.mark.parametrize("verb", COMMANDS)
def test_one_thing_has_one_name(verb: str) -> None:
    known = [set(parameter.opts) for parameter in COMMANDS[verb].params if isinstance(parameter, click.Option)]
    for first, second in PAIRS:
        for options in known:
            if first in options and (second, verb) not in ALONE:
                assert second in options, f"{verb} {first}"
            if second in options:
                assert first in options, f"{verb} {second}"


def test_nothing_is_said_beside_the_result_where_quiet_is_asked_for(run: Any, trained: Any, tmp_path: Path) -> None:
    assert "Wrote" in run("export", trained[0].run, "--out", tmp_path / "said").err
    done = run("export", trained[0].run, "--output", tmp_path / "unsaid", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "") and (tmp_path / "unsaid" / "config.json").is_file()
    failed = run("export", trained[0].run, "--output", tmp_path / "unsaid", "--quiet")
    assert failed.code == 2 and failed.err.startswith("Error: ")


def test_the_home_folder_may_stand_in_every_path(
    run: Any, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy("reviews.csv", tmp_path / "reviews.csv")
    answer = run("init", "~/reviews.csv", "--out=~/made.toml", "--json")
    assert (tmp_path / "made.toml").is_file(), answer.err
    missing = run("tag", "--data=~/reviews.csv", "--out=~/x.jsonl", "--html=text", "--gazetteer=~/none.csv")
    assert missing.code == 2 and "~" not in missing.err
    missing = run("evaluate", trained[0].run, "--data=~/reviews.csv", "--label-files=~/none.txt")
    assert missing.code == 2 and "~" not in missing.err


def test_files_are_known_as_such() -> None:
    kinds = {
        (verb, parameter.name): isinstance(parameter.type, UserPath)
        for verb, command in COMMANDS.items()
        for parameter in command.params
    }
    files = [("train", "config"), ("predict", "run"), ("predict", "sources"), ("export", "out"), ("tag", "gazetteer")]
    assert all(kinds[one] for one in files)
    assert not any(kinds[one] for one in [("predict", "texts"), ("predict", "text"), ("init", "pretrained")])


def completed(*words: str) -> list[tuple[str, str]]:
    *before, last = words
    shell = ShellComplete(commands, {}, "textune", "_TEXTUNE_COMPLETE")
    return [(item.type, item.value) for item in shell.get_completions(before, last)]


def test_words_are_completed() -> None:
    assert {"train", "tracking"} <= {word for _, word in completed("tr")}
    assert completed("train", "conf") == [("file", "conf")]
    assert completed("train", "config.toml", "train.optim") == [("plain", "train.optimizer.")]
    assert completed("train", "config.toml", "train.optimizer.lr") == [("plain", "train.optimizer.lr=")]
    assert ("plain", "--output") in completed("predict", "runs/x", "--ou")
    assert completed("train", "config.toml", "nothing") == []


def test_a_key_goes_on_to_its_next_dot() -> None:
    keys = ["a.b.c", "a.b.d", "a.x", "b"]
    assert continued("", keys) == ["a.", "b="]
    assert continued("a.", keys) == ["a.b.", "a.x="]
    assert continued("a.b.c", keys) == ["a.b.c="]
    assert {"data.columns.text", "train.optimizer.lr"} <= set(setting_names())
    assert len(setting_names()) == len(set(setting_names()))


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_words(tmp_path: Path) -> None:
    command = tmp_path / "textune"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m textune "$@"\n')
    command.chmod(0o700)
    script = """
    eval "$(_TEXTUNE_COMPLETE=bash_source textune)"
    compopt() { echo "compopt $1 $2"; }
    COMP_WORDS=(textune train config.toml train.optim); COMP_CWORD=3
    _textune_completion textune
    echo "${COMPREPLY[@]}"
    """
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split("\n")[:2] == ["compopt -o nospace", "train.optimizer."], done.stderr
