"""What the README prints is what the commands print: each of its commands is run on small data, and each line is
looked for.

Numbers, paths and labels of the data may differ, and so may what depends on the machine; words may not.
"""

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.markdown import blocks_of, commands_of, look_for
from kits.runs import reviews

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
DEMO = "[data.test]\nkind = 'split'\ncount = 40\n[data.validation]\ncount = 40\n[train]\nduration = '8 epochs'\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the README starts from."""
    tiny_backbone("bert", tmp_path / "backbone")
    for name, seed, rows in (("reviews.csv", 0, 200), ("new.csv", 1, 20)):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["review", "sentiment"])
            words = {"pos": "positive", "neg": "negative"}
            writer.writerows([row["text"], words[row["label"]]] for row in reviews(rows, seed))
    source = "[data.train]\nfiles = 'reviews.csv'\n[data.columns]\ntext = 'review'\nlabel = 'sentiment'\n"
    model = "[model]\npretrained = 'backbone'\n"
    (tmp_path / "demo.toml").write_text(source + DEMO + model, encoding="utf-8")
    return tmp_path


def test_every_command_of_the_readme_prints_what_it_shows(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = runner(capsys, monkeypatch, place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setattr("textune.run.spoken.INTERVAL_SECONDS", 0.0)
    shown = [(one.text, list(one.shown)) for block in blocks_of(README) for one in commands_of(block)]
    assert len(shown) >= 7 and "train.optimizer.rl=3e-5" in README
    for command, lines in shown:
        stdin = ""
        if command == "make demo":
            command = "textune train demo.toml --run runs/demo"
        if " | " in command:
            said, command = command.split(" | ")
            stdin = shlex.split(said)[1] + "\n"
        words = shlex.split(command)
        assert words[0] == "textune"
        if words[1] == "init":  # the starter may not be installed, and is slow
            words += ["--pretrained", "backbone"]
            lines = [line for line in lines if not line.startswith("model: ")]
        answer = run(*words[1:], stdin=stdin)
        assert answer.code == (2 if any(line.startswith("Error:") for line in lines) else 0), answer.err
        look_for(lines, answer.err + answer.out, command)
