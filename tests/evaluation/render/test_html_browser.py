"""The page in a real browser: no script error, every figure has ink, nothing to scroll sideways on a phone, no serious
fault of accessibility, in light and in dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.reports import PAGES, classes_report, story

from textune.evaluation.render.html.page import page_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `dev`)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)")

INK = """() => [...document.querySelectorAll("figure svg")].map((svg) => {
  const view = svg.getBoundingClientRect();
  const drawn = [...svg.querySelectorAll("path, rect, circle")].filter((part) => {
    const box = part.getBoundingClientRect();
    const style = getComputedStyle(part);
    const inside = box.left >= view.left - 1 && box.right <= view.right + 1 && box.top >= view.top - 1
      && box.bottom <= view.bottom + 1;
    return inside && box.width + box.height > 0 && (style.fill !== "none" || style.stroke !== "none");
  });
  return [svg.closest("figure").dataset.figure, view.width > 0 && view.height > 0, drawn.length];
})"""
"""Of every figure its name, whether it takes room, and how many shapes are drawn within its view."""
OUTSIDE = """() => [...document.querySelectorAll("figure svg text")].filter((text) => {
  const view = text.ownerSVGElement.getBoundingClientRect(), box = text.getBoundingClientRect();
  return box.left < view.left - 2 || box.right > view.right + 2 || box.top < view.top - 2
    || box.bottom > view.bottom + 2;
}).map((text) => `${text.closest("figure").dataset.figure}: ${text.textContent}`)"""
"""Words that stand beyond their drawing, and are cut off."""
IN_COLOURS = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast"]},
}
"""What axe looks for: everything once, then what other colours may change."""
OPEN_ALL = '() => document.querySelectorAll("details").forEach((one) => { one.open = true; })'
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def page(browser: Any, errors: list[str]) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1100, "height": 900})
    opened.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()


def show(page: Any, folder: Path, text: str) -> None:
    (folder / "report.html").write_text(text, encoding="utf-8")
    page.goto((folder / "report.html").as_uri())


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_whole_at_every_width_and_in_both_colours(
    kind: str, page: Any, errors: list[str], tmp_path: Path
) -> None:
    show(page, tmp_path, page_of({"test": PAGES[kind]()}, story()))
    drawn = page.evaluate(INK)
    assert len(drawn) > 4
    assert [figure for figure in drawn if not figure[1] or figure[2] < 2] == []
    assert page.evaluate(OUTSIDE) == []
    if kind == "binary":  # tables are alike on every page, and axe looks at each of their cells
        page.evaluate(OPEN_ALL)
    for colours, options in IN_COLOURS.items():
        page.emulate_media(color_scheme=colours)
        found = axe.Axe().run(page, options=options).response["violations"]
        serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        assert [
            (fault["id"], fault["nodes"][0]["html"][:200], fault["nodes"][0]["failureSummary"]) for fault in serious
        ] == []
    page.evaluate(OPEN_ALL)
    for width in (360, 768, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(SIDEWAYS) <= 0, f"{width} pixels"
    assert "attacked" not in page.title().split()  # what the names and texts of the data try
    assert errors == []


def test_mistakes_are_filtered(page: Any, errors: list[str], tmp_path: Path) -> None:
    report = classes_report(5, 200)
    show(page, tmp_path, page_of({"test": report}))
    wanted = report.mistakes[0].true
    page.select_option("select[data-side=trues]", str(wanted))
    shown = page.locator(".card:visible .truth").all_text_contents()
    assert shown == [wanted] * sum(mistake.true == wanted for mistake in report.mistakes)
    assert page.locator(".shown").text_content() == f"{len(shown)} of {len(report.mistakes)} shown"
    page.fill("input[data-side=text]", "no text says this")
    assert page.locator(".card:visible").count() == 0
    assert errors == []


def test_the_matrix_says_what_is_pointed_at(page: Any, errors: list[str], tmp_path: Path) -> None:
    report = classes_report(5, 200)
    show(page, tmp_path, page_of({"test": report}))
    assert report.matrix is not None
    box = page.locator("[data-figure=matrix] .outline").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5 / 5, box["y"] + box["height"] * 1.5 / 5)
    said = page.locator(".readout").text_content()
    rows, total = report.matrix[1][0], sum(report.matrix[1])
    assert said.startswith(f"class 1 answered as class 0: {rows} of {total} rows")
    assert errors == []


def test_a_link_opens_the_set_that_it_leads_to(page: Any, errors: list[str], tmp_path: Path) -> None:
    show(page, tmp_path, page_of({"test": classes_report(2, 60), "validation": classes_report(2, 60)}))
    assert not page.locator("#set-1 .hero").is_visible()
    page.click("nav a:has-text('validation')")
    page.locator("#set-1 .hero").wait_for(state="visible")
    assert errors == []
