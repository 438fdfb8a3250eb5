"""The page: `template/page.html` filled with the figures, tables and texts of reports and of their run.

Whatever the data say passes `_readable` and Jinja's escaping; the drawings, which are markup, escape their own words
(`svg.py`). The page's policy lets nothing run or load but the style and the script that are written into it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import count as numbers
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from textune.evaluation.mainmetric import by_metric
from textune.evaluation.metrics import metric_called
from textune.evaluation.mistakes import Mistake
from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.figures import FIGURES, OF_RUN, score, sets
from textune.evaluation.render.story import Story
from textune.evaluation.report import Report
from textune.evaluation.wording import answer, number, one_line
from textune.wording import count

MAX_SETS = 8
"""Sets that a page shows whole; of the others it has the main metric."""
MAX_WORDS = 2000
"""Characters of a text of the data."""
_HERE = "textune.evaluation.render.html"


@dataclass(frozen=True)
class View:
    """One report as the template shows it."""

    id: str
    title: str
    report: Report
    score: Figure | None
    figures: tuple[tuple[str, Figure], ...]
    metrics: Table
    mistakes: tuple[Mapping[str, Any], ...]
    tasks: tuple[View, ...]


def page_of(reports: Mapping[str, Report], story: Story | None = None) -> str:
    """The page on one evaluation, or on all sets of a run, the first of them open: bounded by what reports hold."""
    keys = (f"f{number_of}" for number_of in numbers())
    shown = dict(list(reports.items())[:MAX_SETS])
    views = [_view(name, f"set-{place}", report, keys) for place, (name, report) in enumerate(shown.items())]
    of_run = [] if story is None else _figures_of_run(story, keys)
    page = _environment().get_template("page.html")
    return page.render(
        title=story.name if story is not None else one_line(next(iter(reports.values())).dataset or "Report", 200),
        views=views,
        sets=sets(reports, next(keys)),
        not_shown=list(reports)[MAX_SETS:],
        story=story,
        history=[one for one in of_run if one[0] != "splits"],
        rows=[one for one in of_run if one[0] == "splits"],
        style=_file("style.css"),
        script=_file("page.js"),
        policy=_policy(),
    )


def _view(title: str, key: str, report: Report, keys: Iterator[str]) -> View:
    drawn = ((name, figure(report, next(keys))) for name, figure in FIGURES.items())
    return View(
        id=key,
        title=title,
        report=report,
        score=score(report, next(keys)),
        figures=tuple((name, figure) for name, figure in drawn if figure is not None),
        metrics=_metrics(report),
        mistakes=tuple(_mistake(mistake) for mistake in report.mistakes),
        tasks=tuple(
            _view(name, f"{key}-task-{place}", task, keys) for place, (name, task) in enumerate(report.tasks.items())
        ),
    )


def _figures_of_run(story: Story, keys: Iterator[str]) -> list[tuple[str, Figure]]:
    return [(name, figure) for name, figures in OF_RUN.items() for figure in figures(story, next(keys))]


def _metrics(report: Report) -> Table:
    """Every metric with its meaning; of several tasks, its mean, deviation and value for each."""
    if report.tasks:
        columns = ["mean", "std", *report.tasks]
        rows = [
            [name, *(number(values[column]) if column in values else "" for column in columns)]
            for name, values in by_metric(report.metrics, report.tasks).items()
        ]
        return Table(["metric", *columns], rows)
    described = [[name, metric_called(name).description, number(value)] for name, value in report.metrics.items()]
    return Table(["metric", "what it is", "value"], described, num_names=2)


def _mistake(mistake: Mistake) -> dict[str, Any]:
    """As the template shows it and its filters know it."""
    true, predicted = (
        list(value) if isinstance(value, tuple) else [answer(value)] for value in (mistake.true, mistake.predicted)
    )
    return {
        "place": mistake.place,
        "text": mistake.text,
        "pair": mistake.pair,
        "true": answer(mistake.true),
        "predicted": answer(mistake.predicted),
        "trues": true,
        "predicteds": predicted,
        "score": number(mistake.score),
        "label": mistake.label,
    }


# --- the template ----------------------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(_HERE, "template"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count, "embedded": _embedded, "options": _options}
    return environment


def _readable(value: object) -> object:
    """A text without what a reader's browser would obey or could not be written; markup as it is."""
    return one_line(value, MAX_WORDS) if type(value) is str else value


def _options(mistakes: tuple[Mapping[str, Any], ...], side: str) -> list[str]:
    """What a filter of mistakes offers."""
    return sorted({value for mistake in mistakes for value in mistake[side]})


def _embedded(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _file(name: str) -> str:
    return resources.files(_HERE).joinpath("template", name).read_text(encoding="utf-8")


def _policy() -> str:
    """What the browser may do with the page: nothing but apply its style and run its script."""
    style, script = (_digest(_file(name)) for name in ("style.css", "page.js"))
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
