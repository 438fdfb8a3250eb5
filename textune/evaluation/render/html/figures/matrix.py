"""Which classes are taken for which: the whole matrix while names can be read beside it, else the most frequent
pairs."""

from __future__ import annotations

from collections.abc import Sequence

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import LETTER, WIDTH, Svg, box, drawing, element, joined, label, named
from textune.evaluation.report import Report
from textune.evaluation.wording import one_line

MAX_CLASSES = 80
"""Classes up to which the whole matrix is drawn."""
MAX_COUNTED = 20
"""Classes up to which each cell says its number of rows."""
NUM_SHADES = 8
MAX_PAIRS = 20
MAX_LISTED = 100
"""Pairs in the table."""


def matrix(report: Report, key: str) -> Figure | None:
    """True classes as lines, answers as columns; shades are shares of the rows of a true class."""
    if report.matrix is None or not 1 < len(report.names) <= MAX_CLASSES:
        return None
    names, counted = report.names, len(report.names) <= MAX_COUNTED
    cell = min(64.0, max(12.0, 280.0 / len(names)))
    room = min(150.0, 16 + LETTER * max(len(one_line(name, 20)) for name in names))
    size = cell * len(names)
    totals = [max(1, sum(counts)) for counts in report.matrix]
    parts = [_cells(report.matrix, totals, room, cell), box(room, room, size, size, "outline")]
    parts += _names(names, room, cell)
    if counted:
        parts += _counts(report.matrix, totals, room, cell)
    right = sum(report.matrix[number][number] for number in range(len(names)))
    description = f"{right:,} of {report.num_rows:,} rows are on the diagonal, where the answer is the true class."
    width = max(room + size + 8, WIDTH if counted else 0.0)
    title = "Confusion matrix"
    return Figure(
        title=title,
        drawing=drawing(room + size + 8, *parts, title=title, description=description, key=key, width=width),
        caption="Lines are true classes, columns answers; a cell is the darker, the more rows of its class are in it.",
        table=_listed(report),
        wide=cell * len(names) + room > WIDTH + 40,
        readout={"kind": "matrix", "names": list(names), "rows": _sparse(report.matrix), "room": room, "cell": cell},
    )


def pairs(report: Report, key: str) -> Figure | None:
    """The most frequent confusions as bars, where the matrix cannot be drawn or is too large to see them in."""
    if not report.confusions or len(report.names) <= MAX_COUNTED:
        return None
    shown = report.confusions[:MAX_PAIRS]
    most = shown[0].rows
    parts = []
    for place, pair in enumerate(shown):
        y = 6.0 + 34 * place
        parts.append(label(0, y + 8, f"{named(pair.true, 185)} → {named(pair.predicted, 185)}", kind="name"))
        parts.append(box(0, y + 13, (WIDTH - 50) * pair.rows / most, 9, "bar-wrong", rx=2))
        parts.append(label((WIDTH - 50) * pair.rows / most + 6, y + 21.5, f"{pair.rows:,}", kind="tick"))
    title = "Most frequent confusions"
    description = "; ".join(f"{pair.true} taken for {pair.predicted}: {pair.rows:,} rows" for pair in shown[:5])
    body = drawing(34.0 * len(shown) + 4, *parts, title=title, description=description, key=key)
    caption = "True class → answer, with the number of rows."
    return Figure(
        title, body, caption, None if report.matrix and len(report.names) <= MAX_CLASSES else _listed(report)
    )


def _cells(counts: Sequence[Sequence[int]], totals: Sequence[int], room: float, cell: float) -> Svg:
    """One path for all cells of a shade: thousands of cells are a few elements."""
    paths: dict[str, list[str]] = {}
    for true, row in enumerate(counts):
        for predicted, rows in enumerate(row):
            if not rows:
                continue
            shade = max(1, round(NUM_SHADES * (rows / totals[true]) ** 0.6))
            kind = f"{'right' if true == predicted else 'wrong'} shade-{shade}"
            x, y = room + predicted * cell, room + true * cell
            paths.setdefault(kind, []).append(f"M{x:g} {y:g}h{cell:g}v{cell:g}h-{cell:g}z")
    return joined(element("path", d="".join(steps), class_=kind) for kind, steps in sorted(paths.items()))


def _names(names: Sequence[str], room: float, cell: float) -> list[Svg]:
    kind = "name" if cell >= 13 else "small"
    parts = []
    for place, name in enumerate(names):
        middle, shown = room + (place + 0.5) * cell, named(name, (room - 8) * (1 if kind == "name" else 1.3))
        parts.append(label(room - 6, middle + 4, shown, anchor="end", kind=kind))
        parts.append(label(middle + 4, room - 6, shown, kind=kind, turn=-90))
    return parts


def _counts(counts: Sequence[Sequence[int]], totals: Sequence[int], room: float, cell: float) -> list[Svg]:
    parts = []
    for true, row in enumerate(counts):
        for predicted, rows in enumerate(row):
            if rows and len(f"{rows}") * LETTER <= cell + 2:
                dark = rows / totals[true] > 0.45
                x, y = room + (predicted + 0.5) * cell, room + (true + 0.5) * cell + 4
                parts.append(label(x, y, f"{rows}", anchor="middle", kind="count on-dark" if dark else "count"))
    return parts


def _sparse(counts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Class by class, the answers and their rows, one after the other, without those of no row."""
    return [[part for at, rows in enumerate(row) if rows for part in (at, rows)] for row in counts]


def _listed(report: Report) -> Table | None:
    rows = [[pair.true, pair.predicted, f"{pair.rows:,}"] for pair in report.confusions[:MAX_LISTED]]
    return Table(["true", "predicted", "rows"], rows, num_names=2) if rows else None
