"""The pages of the documentation: short lines, links that lead somewhere, and what they print."""

import re
import tomllib
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.pages import DOCS, ROOT, Place, blocks_of
from kits.runs import reviews, write_csv

from textune.config.load import load_tree

PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "bench").rglob("*.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings, and those that the page sets itself."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```$", "", page.read_text(encoding="utf-8"))
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"(?m)^#+ (.*)$", text)]
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("name", NAMES)
def test_source_lines_are_short(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [f"{number}: {line[:60]}" for number, line in enumerate(lines, 1) if len(line) > 119] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bench/scores/page.md"])  # a page within a page
def test_links_lead_somewhere(name: str) -> None:
    """To a file, and to a heading of it."""
    page, broken = ROOT / name, []
    text = re.sub(r"(?ms)^\s*```.*?^\s*```$", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"(?<!\\)\]\(\s*<?([^)\s>]+)>?\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        inside = DOCS not in page.parents or DOCS in target.parents  # the site has no other files
        if not (target.exists() and inside) or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


# --- pages that are run as they stand --------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder with reviews and a tiny backbone, which `init` is told of."""
    tiny_backbone("bert", tmp_path / "backbone")
    words = {"pos": "positive", "neg": "negative"}
    for name, rows in (("reviews.csv", reviews(200)), ("new.csv", reviews(20, seed=1))):
        named = [{"id": row["id"], "review": row["text"], "sentiment": words[row["label"]]} for row in rows]
        write_csv(tmp_path / name, named)
    instead = {
        "--out config.toml": "--out config.toml --pretrained backbone",
        "train config.toml --run runs/first": "train config.toml --run runs/first 'train.duration=2 epochs'",
    }
    return Place(tmp_path, capsys, monkeypatch, labels=("negative", "positive"), instead=instead)


def test_the_page_for_the_start_runs(place: Place) -> None:
    for block in [*blocks_of(DOCS / "start.md", "console"), *blocks_of(DOCS / "start.md", "python")]:
        place.run(block)


def test_every_message_of_the_page_for_trouble_is_printed(place: Place) -> None:
    """In a folder where `init` has written the config."""
    place.run_command("textune init reviews.csv --out config.toml")
    blocks = blocks_of(DOCS / "troubleshooting.md", "console")
    assert len(blocks) >= 10
    for block in blocks:
        place.run(block)


def test_the_ten_keys_exist_and_what_is_shown_of_them_loads() -> None:
    page = DOCS / "ten-keys.md"
    keys = re.findall(r"^## \d+\. `([a-z_.]+)`", page.read_text(encoding="utf-8"), re.MULTILINE)
    blocks = [tomllib.loads(block.text) for block in blocks_of(page, "toml")]
    assert len(keys) == len(blocks) == 10
    for key, tree in zip(keys, blocks, strict=True):
        section = load_tree(tree, base=ROOT).experiment
        for name in key.split("."):
            tree, section = tree[name], getattr(section, name)
