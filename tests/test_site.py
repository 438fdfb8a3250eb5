"""The documentation as a site: every page is in the navigation, and both builders read the same file."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kits.pages import DOCS, ROOT

CONFIG = ROOT / "mkdocs.yml"


def test_every_page_is_in_the_navigation_once() -> None:
    nav = CONFIG.read_text(encoding="utf-8").partition("\nnav:\n")[2]
    shown = re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE)
    assert sorted(shown) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert len(yaml.safe_load(f"nav:\n{nav}")["nav"]) == 10


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["mkdocs", "zensical"])
def test_the_site_builds_without_a_warning(builder: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(builder) is None:
        pytest.skip(f"the extra `docs` is not installed: {builder}")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(CONFIG, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", builder, "build", "--clean", "--strict", "-f", "mkdocs.yml"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    for path in DOCS.rglob("*.md"):
        page = path.relative_to(DOCS).with_suffix("")
        assert (tmp_path / "site" / (page.parent if page.name == "index" else page) / "index.html").is_file()
