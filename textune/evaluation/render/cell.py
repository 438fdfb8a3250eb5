"""A report in the cell of a notebook: headline, metrics, classes and the worst mistakes as small tables of HTML.

Every word passes `html.escape`, whatever the data say; there is no script and no style that reaches beyond the cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from textune.evaluation.report import Report
from textune.evaluation.wording import answer, number, one_line
from textune.wording import count

MAX_CLASSES = 20
MAX_MISTAKES = 5
MAX_NAME = 60
MAX_TEXT = 200
_CLASS_HEADER = ("class", "rows", "precision", "recall", "f1")


def render(reports: Mapping[str, Report], title: str = "") -> str:
    """The reports of several sets, one below the other, each with its name where there is one."""
    parts = [f"<p>{escape(one_line(title, MAX_TEXT))}</p>"] if title else []
    for name, report in reports.items():
        parts += [_of_set(name, report), *(_of_set(task, one) for task, one in report.tasks.items())]
    return f"<div>{''.join(parts)}</div>"


def _of_set(name: str, report: Report) -> str:
    about = report.about() + (f"; {report.dataset}" if report.dataset else "")
    heading = f"<b>{escape(one_line(name, MAX_NAME))}</b> " if name else ""
    return (
        f"<p>{heading}{escape(report.headline())}<br><small>{escape(one_line(about, MAX_TEXT))}</small></p>"
        f"{_table(('metric', 'value'), _metrics(report))}"
        f"{_classes(report)}{_mistakes(report)}"
    )


def _metrics(report: Report) -> Iterable[tuple[str, str]]:
    named = {name: value for name, value in report.metrics.items() if "/" not in name}
    return ((name, number(value)) for name, value in named.items())


def _classes(report: Report) -> str:
    worst = report.worst_classes()
    rows = [
        (one_line(one.name, MAX_NAME), f"{one.support:,}", number(one.precision), number(one.recall), number(one.f1))
        for one in (report.classes[index] for index in worst[:MAX_CLASSES])
    ]
    return _folded(count(len(worst), "class", "classes") + ", the worst first", _table(_CLASS_HEADER, rows))


def _mistakes(report: Report) -> str:
    rows = [
        (one.place, answer(one.true), answer(one.predicted), number(one.score), one_line(one.text, MAX_TEXT))
        for one in report.mistakes[:MAX_MISTAKES]
    ]
    shown = [tuple(one_line(cell, MAX_TEXT) for cell in row) for row in rows]
    return _folded("worst mistakes", _table(("row", "label", "predicted", "score", "text"), shown))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Nothing where there are no rows."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else ""


def _folded(title: str, table: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{table}</details>" if table else ""
