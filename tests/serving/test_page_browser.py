"""The page to try texts in a real browser: it shows what `textune predict` says, and every refusal as its sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.serving import client, listening, some_texts

from textune.prediction import load

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `dev`)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)")

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
ROWS = """() => [...document.querySelectorAll("#answer tr")].map((row) => {
  const bar = row.querySelector(".bar"), filled = bar && bar.firstChild.getBoundingClientRect().width;
  return [row.querySelector("th").textContent, row.querySelector(".number").textContent,
    bar && filled / bar.getBoundingClientRect().width, row.className];
})"""
"""Of every label its name, its number, how much of its bar is filled, and whether it is answered."""
Row = list[Any]


@pytest.fixture(scope="module")
def address(folders: dict[str, Path]) -> Iterator[str]:
    with listening(folders) as found:
        yield found


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
    opened = browser.new_page(viewport={"width": 900, "height": 900})
    opened.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()


def show(page: Any, address: str, model: str | None = None) -> None:
    page.goto(address)
    page.wait_for_selector("#send:enabled")
    if model is not None:
        page.select_option("#model", model)


def ask(page: Any, **texts: str) -> list[Row]:
    for name, text in texts.items():
        page.fill(f"#{name}", text)
    page.click("#send")
    page.wait_for_selector("#answer tr")
    page.wait_for_selector("#answer:not([aria-busy])")
    found: list[Row] = page.evaluate(ROWS)
    return found


@pytest.mark.every_day(1)
@pytest.mark.parametrize("model", ["topic", "tone", "tags"])
def test_bars_show_what_predict_says(
    model: str, page: Any, errors: list[str], address: str, folders: dict[str, Path]
) -> None:
    [text] = some_texts(8)[7:]
    [expected] = load(folders[model], device="cpu").predict([text])
    show(page, address, model)
    rows = ask(page, text=text)
    assert {label: number for label, number, _, _ in rows} == {
        label: f"{score:.4f}" for label, score in expected.scores.items()
    }
    for label, _, filled, _ in rows:
        assert filled == pytest.approx(expected.scores[label], abs=0.03)
    given = {label for label, _, _, mark in rows if mark == "given"}
    assert given == ({*expected.label} if isinstance(expected.label, tuple) else {expected.label})
    assert errors == []


def test_a_number_has_no_bar(page: Any, errors: list[str], address: str, folders: dict[str, Path]) -> None:
    [text] = some_texts(3)[2:]
    [expected] = load(folders["number"], device="cpu").predict([text])
    show(page, address, "number")
    [[label, number, filled, _]] = ask(page, text=text)
    assert (label, filled) == ("value", None)
    assert float(number) == pytest.approx(expected.score, rel=1e-5)
    assert errors == []


def test_pairs_fields_and_several_tasks_are_asked_and_shown(
    page: Any, errors: list[str], address: str, folders: dict[str, Path]
) -> None:
    one, other = some_texts(9)[7:]
    show(page, address, "pairs")
    expected = load(folders["pairs"], device="cpu").predict([one], [other])[0]
    rows = ask(page, text=one, second=other)
    assert rows[0][:2] == [expected.label, f"{expected.score:.4f}"]
    page.select_option("#model", "both")
    assert not page.is_visible("#second")
    expected = load(folders["both"], device="cpu").predict([one])
    rows = ask(page, text=one)
    assert page.locator("#answer h2").all_text_contents() == ["tone", "topic"]
    assert [row[0] for row in rows if row[3]] == [expected["tone"][0].label, expected["topic"][0].label]
    page.select_option("#model", "fields")
    reader = load(folders["fields"], device="cpu", on_notice=lambda notice: None)
    expected = reader.predict([{"text": one, "source": "film"}])[0]
    page.fill("[data-field=source]", "film")
    rows = ask(page, text=one)
    assert rows[0][:2] == [expected.label, f"{expected.score:.4f}"]
    assert errors == []


def test_a_withheld_answer_is_said(page: Any, address: str, folders: dict[str, Path], tmp_path: Path) -> None:
    show(page, address, "unsure")
    predictor = load(folders["unsure"], device="cpu")
    text = next(text for text in some_texts(40) if predictor.predict([text])[0].label is None)
    rows = ask(page, text=text)
    assert [row for row in rows if row[3]] == []
    assert page.locator("#answer").text_content().endswith("No label is given.")


def test_a_refusal_is_shown_and_the_next_answer_takes_its_place(page: Any, address: str) -> None:
    show(page, address, "strict")
    page.fill("#text", "film " * 500)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#error:visible")
    assert "at most" in page.locator("#error").text_content()
    assert page.locator("#answer tr").count() == 0
    assert ask(page, text="a film")
    assert not page.is_visible("#error")


def test_a_token_is_asked_for_where_one_is_needed(page: Any, folders: dict[str, Path]) -> None:
    with listening({"topic": folders["topic"]}, token="open sesame") as address:
        page.goto(address)
        page.wait_for_selector("#access:visible")
        assert "token" in page.locator("#error").text_content()
        assert not page.is_enabled("#send")
        page.fill("#token", "wrong")
        page.press("#token", "Enter")
        page.wait_for_selector("#error:visible")
        page.fill("#token", "open sesame")
        page.press("#token", "Enter")
        page.wait_for_selector("#send:enabled")
        assert not page.is_visible("#access") and not page.is_visible("#choice")
        assert len(ask(page, text="a film")) == 3
        page.goto("about:blank")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_everyone_can_read_it_at_every_width(page: Any, errors: list[str], address: str, colours: str) -> None:
    page.emulate_media(color_scheme=colours)
    show(page, address, "topic")
    ask(page, text=some_texts(8)[7])
    for width in (360, 900):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(SIDEWAYS) <= 0, f"{width} pixels"
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in serious] == []
    assert errors == []


def test_the_keyboard_is_enough(page: Any, address: str) -> None:
    show(page, address)
    page.focus("#model")
    page.keyboard.press("Tab")
    page.keyboard.type("a good film")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer tr")
    assert page.locator("#answer[aria-live=polite] tr").count() == 3


@pytest.mark.slow
def test_the_page_loads_nothing_and_holds_nothing_of_the_models(folders: dict[str, Path]) -> None:
    with client({"topic": folders["topic"]}, token="secret") as served:
        answer = served.get("/", headers={"accept": "text/html"})
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "connect-src 'self'" in policy
        assert "topic" not in answer.text and "http:" not in answer.text and "https:" not in answer.text
        assert "{style}" not in answer.text and "{script}" not in answer.text
