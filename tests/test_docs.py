"""The pages of the documentation: short lines, links that lead somewhere."""

import re
from pathlib import Path

import pytest
from kits.pages import DOCS, ROOT

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
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []
