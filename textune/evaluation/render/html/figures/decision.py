"""What a fitted decision is worth: figures by the usual one and by it, on the same held-out rows; label by label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textune.evaluation.render.decision import compared, sentences
from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import WIDTH, Frame, Scale, Svg, axes, dot, drawing, label, line, named
from textune.evaluation.report import Report
from textune.evaluation.undefined import is_undefined
from textune.evaluation.wording import number

START = 138.0
MAX_LABELS = 20


class _Pair(NamedTuple):
    """A value before and after."""

    name: str
    before: float
    after: float


def decision(report: Report, key: str) -> Figure | None:
    """The figures that are shares; the table has the others as well."""
    if (part := report.decision) is None:
        return None
    pairs = [_Pair(name, value, part.decided[name]) for name, value in part.usual.items()]
    known = [
        pair for pair in pairs if not is_undefined(pair.before + pair.after) and max(pair.before, pair.after) <= 1
    ]
    rows = [[row.name, row.description, row.usual, row.decided] for row in compared(part)]
    table = Table(["figure", "what it is", "usual", "decided"], rows, num_names=2)
    caption = f"Circle: by the usual decision. Point: by the one that was fitted. {' '.join(sentences(part))}"
    return _figure(known, "What the decision is worth", "value", caption, table, key)


def thresholds(report: Report, key: str) -> Figure | None:
    """What the threshold of each label is worth, those that gain most first."""
    if report.decision is None or report.decision.fit is None or not report.decision.fit.labels:
        return None
    fit = report.decision.fit
    ordered = sorted(fit.labels, key=lambda one: one.usual - one.fitted)
    rows = [[one.name, number(one.threshold), number(one.usual), number(one.fitted), one.reason] for one in ordered]
    table = Table(
        ["label", "threshold", f"usual {fit.measure}", f"held-out {fit.measure}", "why it is the usual one"], rows
    )
    pairs = [_Pair(one.name, one.usual, one.fitted) for one in ordered[:MAX_LABELS]]
    caption = f"Circle: {fit.measure} at the usual threshold. Point: at thresholds of the other folds."
    return _figure(pairs, "Thresholds", fit.measure, caption, table, key)


def _figure(pairs: Sequence[_Pair], title: str, what: str, caption: str, table: Table, key: str) -> Figure | None:
    if not pairs:
        return None
    scale = Scale(0, 1, START, WIDTH - 12)
    height = 26.0 * len(pairs) + 8
    parts: list[Svg] = [axes(Frame(scale, Scale(0, 1, height, 0)), x_title=what, y_title="", y_ticks=())]
    for place, pair in enumerate(pairs):
        y = 18.0 + 26 * place
        parts.append(label(START - 10, y + 4, named(pair.name, START - 16), anchor="end", kind="name"))
        parts.append(line([(scale.at(pair.before), y), (scale.at(pair.after), y)], "change"))
        parts.append(dot(scale.at(pair.before), y, "hollow", 5))
        parts.append(dot(scale.at(pair.after), y, "point", 5))
    description = "; ".join(f"{pair.name} {number(pair.before)}, then {number(pair.after)}" for pair in pairs[:8])
    body = drawing(height + 42, *parts, title=title, description=description, key=key)
    return Figure(title, body, caption, table)
