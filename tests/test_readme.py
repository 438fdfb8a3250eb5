"""What the README prints is what the commands print: each of its commands is run on small data, and each line is
looked for."""

import csv
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.pages import ROOT, Place, blocks_of
from kits.runs import reviews

README = ROOT / "README.md"
DEMO = "[data.test]\nkind = 'split'\ncount = 40\n[data.validation]\ncount = 40\n[train]\nduration = '8 epochs'\n"


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
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
    instead = {
        "make demo": "textune train demo.toml --run runs/demo",
        "--out config.toml": "--out config.toml --pretrained backbone",  # the starter may not be there, and is slow
    }
    return Place(tmp_path, capsys, monkeypatch, labels=("negative", "positive"), instead=instead)


def test_every_command_of_the_readme_prints_what_it_shows(place: Place) -> None:
    blocks = blocks_of(README, "console")
    for block in blocks:
        place.run(block)
    assert sum(len(list(block.commands())) for block in blocks) >= 7
    assert "train.optimizer.rl=3e-5" in README.read_text(encoding="utf-8")
