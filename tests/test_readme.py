"""What the README prints is what the commands print: each of its commands is run on small data, and each line is
looked for. What it says of extras, versions and families is compared with what is there."""

import csv
import re
import tomllib
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.pages import ROOT, Place, blocks_of
from kits.runs import reviews

from textune.cli import commands
from textune.config import preset_names
from textune.model.families import PACKED_FAMILIES

README = ROOT / "README.md"


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
    instead = {
        "--out config.toml": "--out config.toml --pretrained backbone"
    }  # the starter is slow, and may be absent
    return Place(tmp_path, capsys, monkeypatch, labels=("negative", "positive"), instead=instead)


def test_every_command_of_the_readme_prints_what_it_shows(place: Place) -> None:
    blocks = [*blocks_of(README, "console"), *blocks_of(README, "python")]
    for block in blocks:
        place.run(block)
    assert [block.language for block in blocks] == ["console", "python"]
    assert len(list(blocks[0].commands())) >= 7
    assert len([line for line in blocks[1].text.splitlines() if line]) <= 10


def test_what_the_readme_says_of_installing_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name for names in re.findall(r'"\.\[([\w,]+)\]"', text) for name in names.split(",")}
    assert extras and extras <= project["optional-dependencies"].keys()
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"`?\bmake ([a-z-]+)", text)) <= targets
    lowest = project["requires-python"].removeprefix(">=")
    highest = project["classifiers"][2].rpartition(" ")[2]
    assert f"Python {lowest} or later" in text and f"Python {lowest} to {highest}" in text
    assert (ROOT / "Dockerfile").is_file()


def test_the_presets_verbs_and_wheel_that_the_readme_names_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    named = re.search(r"`--preset (\w+)`,\s`(\w+)`\sor\s`(\w+)`", text)
    assert named is not None and set(named.groups()) <= set(preset_names())
    verbs = set(re.findall(r"(?:`|\$ )textune (\w+)", text))
    assert {"models", "runs"} <= verbs <= set(commands.commands)
    folder = re.search(r"pip wheel .*--wheel-dir (\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert folder is not None and f"pip install {folder[1]}/textune-*.whl" in text


def test_the_readme_is_one_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 170


def test_the_families_that_the_readme_names_run_packed() -> None:
    names = re.search(r"tokenizer\. (.*?)\s+and their relatives", README.read_text(encoding="utf-8"), re.DOTALL)
    assert names is not None
    families = [name.strip().lower().replace("-", "") for name in names[1].replace("\n", " ").split(",")]
    known = {family.replace("-", "").replace("_", "") for family in PACKED_FAMILIES}
    assert len(families) >= 12
    assert [
        name for name in families if not any(family.startswith(name.replace("xlmr", "xlmroberta")) for family in known)
    ] == []
