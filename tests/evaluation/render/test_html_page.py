"""The page: what it holds, that nothing in the data becomes markup, and that it stays small."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from kits.reports import (
    ATTACK,
    PAGES,
    classes_report,
    documents_report,
    labels_report,
    numbers_report,
    story,
    tasks_report,
    with_decision,
    with_slices,
)

from textune.evaluation.render.html.figures.table import FIGURES
from textune.evaluation.render.html.page import page_of
from textune.evaluation.report import Report


class Elements(HTMLParser):
    """Every element of a page with its attributes, and what scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_in_the_data_becomes_markup(kind: str) -> None:
    page = page_of({"test": PAGES[kind](), f"set {ATTACK}": PAGES[kind]()}, story())
    found = Elements(page).elements
    scripts = [attributes.get("type") for tag, attributes in found if tag == "script"]
    assert scripts.count(None) == 1  # the page's own
    assert set(scripts) <= {None, "application/json"}
    assert [tag for tag, _ in found if tag in {"img", "iframe", "object", "embed", "link", "base"}] == []
    assert [name for _, attributes in found for name in attributes if name.startswith("on") or name == "style"] == []
    assert page.count("</script>") == len(scripts)
    assert re.findall(r"(?:src|href)=\"(?!#)", page) == []  # nothing is loaded from anywhere


def test_ids_are_unique_and_drawings_are_described() -> None:
    found = Elements(page_of({"test": labels_report(28, 400), "validation": classes_report(2, 60)}, story())).elements
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawings = [attributes for tag, attributes in found if tag == "svg"]
    assert len(drawings) > 10
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert set((attributes["aria-labelledby"] or "").split()) <= set(ids)


def figures_of(report: Report) -> set[str]:
    return {name for name, figure in FIGURES.items() if figure(report, "key") is not None}


def test_each_kind_of_report_has_its_figures() -> None:
    curves = {"classes", "precision-recall", "roc", "reliability"}
    assert figures_of(classes_report(2, 200)) == curves | {"matrix", "coverage", "scores"}
    assert figures_of(classes_report(77, 900)) == curves | {"matrix", "pairs", "coverage"}
    assert figures_of(classes_report(100, 900)) == curves | {"pairs", "coverage"}
    assert figures_of(labels_report(28, 400)) == curves
    assert figures_of(with_decision(labels_report(28, 400))) == curves | {"decision", "thresholds"}
    assert figures_of(with_slices(numbers_report(300))) == {"spread", "distribution", "lengths", "slices"}
    assert figures_of(numbers_report(300)) == {"spread", "distribution"}
    assert figures_of(documents_report(60)) == {"distribution"}
    assert figures_of(tasks_report(200)) == {"tasks"}


def test_a_page_is_small_whatever_is_reported() -> None:
    reports = {f"set {number}": classes_report(77, 900) for number in range(12)}
    page = page_of(reports, story())
    assert len(page.encode()) < 5_000_000
    assert "Not on this page: set 8, set 9, set 10, set 11" in page
