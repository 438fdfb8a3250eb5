"""How well each class is recognised, the worst first."""

from __future__ import annotations

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import WIDTH, Frame, Scale, axes, box, dot, drawing, label, line, named
from textune.evaluation.report import Report
from textune.evaluation.wording import number

MAX_CLASSES = 20
MAX_LISTED = 200
START = 150.0


def classes(report: Report, key: str) -> Figure | None:
    """F1 of the worst classes as bars, with precision and recall as marks."""
    if not report.classes:
        return None
    order = report.worst_classes()
    shown = [report.classes[at] for at in order[:MAX_CLASSES]]
    scale = Scale(0, 1, START, WIDTH - 12)
    height = 26.0 * len(shown) + 8
    parts = [axes(Frame(scale, Scale(0, 1, height, 0)), x_title="F1", y_title="", y_ticks=())]
    for place, row in enumerate(shown):
        y = 6.0 + 26 * place
        parts.append(label(START - 10, y + 12, named(row.name, START - 18), anchor="end", kind="name"))
        if not row.support:
            parts.append(label(START + 4, y + 12, "no row here", kind="tick"))
            continue
        parts.append(box(START, y + 3, scale.at(row.f1) - START, 11, "bar-1", rx=2))
        parts.append(line([(scale.at(row.recall), y), (scale.at(row.recall), y + 17)], "mark"))
        parts.append(dot(scale.at(row.precision), y + 8.5, "hollow"))
    noun = report.label_map.nouns
    title = f"{noun.capitalize()}, lowest F1 first" if len(order) <= MAX_CLASSES else f"Worst {noun}"
    description = "; ".join(f"{row.name} F1 {number(row.f1)}, {row.support:,} rows" for row in shown[:6])
    body = drawing(height + 42, *parts, title=title, description=description, key=key)
    more = "" if len(order) <= MAX_CLASSES else f" {MAX_CLASSES} of {len(order):,}."
    return Figure(title, body, f"Bar: F1. Circle: precision. Line: recall.{more}", _table(report, order[:MAX_LISTED]))


def _table(report: Report, order: list[int]) -> Table:
    support = report.train_support
    head = [report.label_map.noun, *([] if support is None else ["training rows"]), "rows", "predicted", "precision"]
    head += ["recall", "F1", "ROC AUC", "average precision"]
    rows = []
    for at in order:
        row = report.classes[at]
        counts = [*([] if support is None else [support[at]]), row.support, row.predicted]
        values = (row.precision, row.recall, row.f1, row.roc_auc, row.average_precision)
        rows.append([row.name, *(f"{value:,}" for value in counts), *map(number, values)])
    return Table(head, rows)
