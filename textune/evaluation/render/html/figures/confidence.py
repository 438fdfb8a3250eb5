"""How far the model's own probabilities can be trusted: reliability, and what is right among the surest answers."""

from __future__ import annotations

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import Frame, Scale, axes, box, curve, dot, drawing
from textune.evaluation.report import Report
from textune.evaluation.wording import number

FRAME = Frame(Scale(0, 1, 52, 392), Scale(0, 1, 270, 12))
HEIGHT = 312.0
BARS = 44.0
"""Height of the bars that say how many rows are in a range."""


def reliability(report: Report, key: str) -> Figure | None:
    """Share of right answers over their probability; the bars are rows."""
    if (known := report.drawn.confidence) is None:
        return None
    score, share, rows = (getattr(known.reliability, name) for name in ("score", "share", "rows"))
    what = "answers that are right" if report.label_map.exclusive else "labels that a row has"
    x, y = FRAME
    parts = [axes(FRAME, x_title="probability, as the model says", y_title=f"share of {what}")]
    width = (x.end - x.start) / 10 - 4
    for at, number_of in zip(score, rows, strict=True):
        high = BARS * number_of / max(rows)
        parts.append(box(x.start + min(9, int(at * 10)) * (width + 4) + 2, y.start - high, width, high, "faint-bar"))
    parts += [curve(FRAME, (0, 1), (0, 1), "chance"), curve(FRAME, score, share, "line line-1")]
    parts += [dot(x.at(at), y.at(of), "point") for at, of in zip(score, share, strict=True)]
    title = "Reliability"
    error = f"expected calibration error {number(known.error)}"
    body = drawing(HEIGHT, *parts, title=title, description=f"Share of {what} by probability; {error}.", key=key)
    cells = [[number(at), number(of), f"{num:,}"] for at, of, num in zip(score, share, rows, strict=True)]
    caption = f"On the diagonal, probabilities mean what they say; {error}. Bars: rows."
    return Figure(title, body, caption, Table(["mean probability", "share", "rows"], cells))


def coverage(report: Report, key: str) -> Figure | None:
    """Accuracy of the surest answers, over how many are given."""
    if (known := report.drawn.coverage) is None:
        return None
    low = min(known.accuracy)
    floor = max(0.0, int(low * 10 - 0.5) / 10)
    frame = Frame(FRAME.x, Scale(floor, 1, FRAME.y.start, FRAME.y.end))
    parts = [axes(frame, x_title="coverage: share of rows that are answered", y_title="share of these that is right")]
    parts.append(curve(frame, known.coverage, known.accuracy, "line line-1"))
    parts.append(dot(frame.x.at(known.coverage[-1]), frame.y.at(known.accuracy[-1]), "point"))
    title = "What abstaining is worth"
    points = list(zip(known.coverage, known.accuracy, known.threshold, strict=True))
    half = min(points, key=lambda point: abs(point[0] - 0.5))
    said = f"of the surest {half[0]:.0%} of rows {half[1]:.1%} are right, of all {known.accuracy[-1]:.1%}"
    body = drawing(HEIGHT, *parts, title=title, description=f"{said}.", key=key)
    cells = [[f"{of:.1%}", number(right), number(at)] for of, right, at in points]
    caption = f"Where only answers of at least some probability are given: {said}."
    return Figure(title, body, caption, Table(["coverage", "accuracy", "least probability"], cells, num_names=0))
