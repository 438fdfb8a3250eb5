"""What each column of a prefix is worth."""

from __future__ import annotations

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import WIDTH, Frame, Scale, axes, box, dot, drawing, label, line, named
from textune.evaluation.report import Report
from textune.evaluation.undefined import is_undefined
from textune.evaluation.wording import limits_of, number, signed

START = 150.0


def lifts(report: Report, key: str) -> Figure | None:
    """The lift of each column with its interval, beside nothing gained."""
    shown = [lift for lift in report.lifts if not is_undefined(lift.lift)]
    if not shown:
        return None
    ends = [end for lift in shown for end in (lift.lift, *(lift.interval or ()))]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = max((high - low) * 0.1, 1e-6)
    scale = Scale(low - room, high + room, START, WIDTH - 12)
    height = 30.0 * len(shown) + 6
    parts = [axes(Frame(scale, Scale(0, 1, height, 0)), x_title=f"lift of {report.metric}", y_title="", y_ticks=())]
    parts.append(line([(scale.at(0), 0), (scale.at(0), height)], "baseline"))
    for place, lift in enumerate(shown):
        y = 18.0 + 30 * place
        parts.append(label(START - 10, y + 4, named(lift.column, START - 18), anchor="end", kind="name"))
        if lift.interval is not None:
            left, right = (scale.at(end) for end in lift.interval)
            parts.append(box(left, y - 5, max(right - left, 2.0), 10, "interval", rx=5))
        parts.append(dot(scale.at(lift.lift), y, "point", 6))
    title = "What each column is worth"
    description = "; ".join(f"{lift.column} {signed(lift.lift)}" for lift in shown)
    body = drawing(height + 42, *parts, title=title, description=description, key=key)
    rows = [
        [lift.column, f"{lift.num_rows:,}", number(lift.without), signed(lift.lift), limits_of(lift)]
        for lift in report.lifts
    ]
    caption = f"How much better {report.metric} is with a column than without it, with its 95 % interval."
    return Figure(title, body, caption, Table(["column", "rows", "without", "lift", "95 % interval"], rows))
