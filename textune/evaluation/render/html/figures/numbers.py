"""Of a regression: predicted beside true numbers, and how far off they are; of documents: what they need."""

from __future__ import annotations

from textune.evaluation.drawn import NUM_CELLS
from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import Frame, Scale, axes, box, curve, drawing, element, joined, tick_label
from textune.evaluation.report import Report
from textune.evaluation.wording import number

NUM_SHADES = 8
SIDE = 320.0


def spread(report: Report, key: str) -> Figure | None:
    """A square of cells, the darker the more rows; on the diagonal, predictions are right."""
    if (known := report.drawn.spread) is None:
        return None
    frame = Frame(Scale(known.low, known.high, 60, 60 + SIDE), Scale(known.low, known.high, SIDE + 10, 10))
    cell, most = SIDE / NUM_CELLS, max(rows for _, _, rows in known.cells)
    paths: dict[int, list[str]] = {}
    for true, predicted, rows in known.cells:
        shade = max(2, round(NUM_SHADES * (rows / most) ** 0.5))
        x, y = 60 + true * cell, SIDE + 10 - (predicted + 1) * cell
        paths.setdefault(shade, []).append(f"M{x:g} {y:g}h{cell:g}v{cell:g}h-{cell:g}z")
    cells = joined(
        element("path", d="".join(steps), class_=f"right shade-{shade}") for shade, steps in sorted(paths.items())
    )
    diagonal = curve(frame, (known.low, known.high), (known.low, known.high), "chance")
    title = "Predicted and true"
    shown = ("pearson", "spearman", "rmse", "mae")
    ends = f"{tick_label(known.low)} to {tick_label(known.high)}"
    said = ", ".join(f"{name} {number(report.metrics[name])}" for name in shown if name in report.metrics)
    body = drawing(
        SIDE + 54,
        axes(frame, x_title="true", y_title="predicted"),
        cells,
        diagonal,
        title=title,
        description=f"Rows by true and predicted number, from {ends}; {said}",
        key=key,
    )
    return Figure(title, body, f"On the dashed line predictions are right; darker cells hold more rows. {said}.")


def distribution(report: Report, key: str) -> Figure | None:
    """How many rows have a value in each range."""
    if (known := report.drawn.distribution) is None:
        return None
    most = max(known.rows)
    frame = Frame(Scale(known.edges[0], known.edges[-1], 58, 392), Scale(0, most, 270, 12))
    parts = [axes(frame, x_title=known.what, y_title=report.unit + "s")]
    for low, high, rows in zip(known.edges[:-1], known.edges[1:], known.rows, strict=True):
        left, right, top = frame.x.at(low), frame.x.at(high), frame.y.at(rows)
        parts.append(box(left + 0.5, top, right - left - 1, frame.y.start - top, "bar-1"))
    title = known.what.partition(" (")[0].capitalize()
    highest = known.rows.index(most)
    description = f"Most {report.unit}s ({most:,}) lie from {number(known.edges[highest])} on."
    body = drawing(312, *parts, title=title, description=description, key=key)
    cells = [
        [number(low), number(high), f"{rows:,}"]
        for low, high, rows in zip(known.edges[:-1], known.edges[1:], known.rows, strict=True)
    ]
    caption = "Values beyond the ends are counted in the outermost bars."
    return Figure(title, body, caption, Table(["from", "to", report.unit + "s"], cells, num_names=0))
