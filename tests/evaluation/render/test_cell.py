"""A report in the cell of a notebook: what it says, and that nothing in the data becomes markup."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from kits.reports import ATTACK, probabilities, report_on

from textune.evaluation.render import cell

ALLOWED = {"div", "p", "b", "br", "small", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}


class Tags(HTMLParser):
    """The tags of a text, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: list[Any] = []
        self.words: list[str] = []
        self.depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes += attrs
        self.depth += tag != "br"

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def report(num: int = 40) -> Any:
    targets = np.arange(num) % 3
    return report_on("multiclass", targets, probabilities(targets, 3, strength=0.5), ("a", "b", ATTACK))


def test_a_report_shows_headline_metrics_classes_and_mistakes() -> None:
    made = report()
    seen = Tags(made._repr_html_())
    assert seen.depth == 0 and made.headline() in seen.words
    assert {"metric", "accuracy", f"{made.metrics['accuracy']:.4f}", "3 classes, the worst first"} <= set(seen.words)
    assert made.mistakes and made.mistakes[0].place in seen.words


def test_what_the_data_say_stays_text() -> None:
    seen = Tags(cell.render({ATTACK: report()}, ATTACK))
    assert seen.found <= ALLOWED and seen.attributes == []
    assert any("<script>" in word for word in seen.words)


@pytest.mark.parametrize("problem", ["binary", "multilabel", "regression"])
def test_every_kind_of_problem_is_shown(problem: str) -> None:
    random = np.random.default_rng(0)
    names: tuple[str, ...] = ("a", "b")
    if problem == "binary":
        targets, scores = np.arange(20) % 2, random.random((20, 2))
    elif problem == "multilabel":
        targets, scores = random.integers(0, 2, (20, 2)), random.random((20, 2))
    else:
        targets, scores, names = random.random(20), random.random(20), ()
    made = report_on(problem, targets, scores, names)
    seen = Tags(made._repr_html_())
    assert seen.found <= ALLOWED and made.headline() in seen.words
