"""Curves of the classes: how many rows of a class are found, and at what price; how probable answers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textune.evaluation.curves import Curves
from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import (
    NUM_STYLES,
    Frame,
    Scale,
    Svg,
    axes,
    box,
    curve,
    drawing,
    key_lines,
    label,
    named,
    style_of,
)
from textune.evaluation.report import Report
from textune.evaluation.wording import number

FRAME = Frame(Scale(0, 1, 52, 392), Scale(0, 1, 270, 12))
HEIGHT = 312.0


def roc(report: Report, key: str) -> Figure | None:
    """Recall over the false positive rate."""

    def points(one: Curves) -> tuple[Sequence[float], Sequence[float]]:
        known = one.thresholds
        return (0.0, *known.false_positive_rate), (0.0, *known.recall)

    chance = curve(FRAME, (0, 1), (0, 1), "chance")
    areas = {row.name: row.roc_auc for row in report.classes}
    return _of_classes(
        report,
        key,
        "ROC curve",
        points,
        under=chance,
        titles=("share of other rows mistaken", "share of rows found"),
        values=("area", areas),
        caption="Further to the upper left is better; the dashed diagonal is chance.",
    )


def precision_recall(report: Report, key: str) -> Figure | None:
    """Precision over recall."""

    def points(one: Curves) -> tuple[Sequence[float], Sequence[float]]:
        return one.thresholds.recall, one.thresholds.precision

    areas = {row.name: row.average_precision for row in report.classes}
    return _of_classes(
        report,
        key,
        "Precision and recall",
        points,
        titles=("recall: share of rows found", "precision"),
        values=("average precision", areas),
        caption="Each point is a threshold: what is found, and how much of what is answered is right.",
    )


def scores(report: Report, key: str) -> Figure | None:
    """How probable the model finds a class, for rows of it and for the others; for one class alone."""
    if len(report.curves) != 1:
        return None
    (one,) = report.curves
    reliability = one.reliability
    inside = [share * rows for share, rows in zip(reliability.share, reliability.rows, strict=True)]
    outside = [rows - own for rows, own in zip(reliability.rows, inside, strict=True)]
    tops = [max(inside) or 1.0, max(outside) or 1.0]
    frame = Frame(FRAME.x, Scale(0, 1, FRAME.y.start, FRAME.y.end))
    parts = [axes(frame, x_title=f"probability of {named(one.name, 180)}", y_title="rows, scaled", y_ticks=())]
    width = (frame.x.end - frame.x.start) / 10
    for score, own, other in zip(reliability.score, inside, outside, strict=True):
        left = frame.x.start + min(9, int(score * 10)) * width
        for rows, top, kind, shift in ((other, tops[1], "bar-2", 2), (own, tops[0], "bar-1", width / 2)):
            high = (frame.y.start - frame.y.end) * rows / top
            parts.append(box(left + shift, frame.y.start - high, width / 2 - 3, high, kind))
    names = (f"not {one.name}", one.name)
    keyed = [box(60, 320, 14, 10, "bar-2"), box(220, 320, 14, 10, "bar-1")]
    keyed += [label(x, 329, named(name, 130), kind="tick") for x, name in zip((80, 240), names, strict=True)]
    title = "Scores of both classes"
    cells = [
        [number(score), f"{own:,.0f}", f"{other:,.0f}"]
        for score, own, other in zip(reliability.score, inside, outside, strict=True)
    ]
    description = f"Rows by the probability that the model gives {one.name}, those of {one.name} and the others apart."
    body = drawing(338, *parts, *keyed, title=title, description=description, key=key)
    caption = "The further apart the two kinds of bars are, the better the model tells them apart."
    return Figure(title, body, caption, Table(["mean score", one.name, f"not {one.name}"], cells))


def _of_classes(
    report: Report,
    key: str,
    title: str,
    points: Callable[[Curves], tuple[Sequence[float], Sequence[float]]],
    *,
    titles: tuple[str, str],
    values: tuple[str, dict[str, float]],
    caption: str,
    under: Svg | None = None,
) -> Figure | None:
    """A line for each class: of a few, each in its own style; of many, faint ones, the worst of them by name."""
    if not report.curves:
        return None
    what, areas = values
    worst_first = sorted(report.curves, key=lambda one: areas.get(one.name, 1.0))
    named_lines = worst_first[:NUM_STYLES]
    parts = [axes(FRAME, x_title=titles[0], y_title=titles[1]), *([] if under is None else [under])]
    faint = [curve(FRAME, *points(one), "line faint") for one in worst_first[NUM_STYLES:]]
    lines = [curve(FRAME, *points(one), style_of(at)) for at, one in enumerate(named_lines)]
    keyed, high = key_lines([f"{one.name} {number(areas[one.name])}" for one in named_lines], HEIGHT + 14)
    description = ", ".join(f"{one.name} {number(areas[one.name])}" for one in named_lines)
    body = drawing(
        HEIGHT + 14 + high,
        *parts,
        *faint,
        *reversed(lines),
        keyed,
        title=title,
        description=f"{what} of each class: {description}.",
        key=key,
    )
    if faint:
        caption += f" By name: the {NUM_STYLES} lowest of {len(report.curves)} classes; the others are faint."
    rows = [[one.name, number(areas[one.name])] for one in worst_first]
    return Figure(title, body, caption, Table(["class", what], rows))
