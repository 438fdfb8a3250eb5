"""The main metric with its interval, beside what a constant answer reaches; and that of every set of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import (
    WIDTH,
    Scale,
    Svg,
    box,
    dot,
    drawing,
    joined,
    label,
    line,
    named,
    tick_label,
    ticks,
)
from textune.evaluation.report import Report
from textune.evaluation.undefined import is_undefined
from textune.evaluation.wording import number

LEFT = 16


def score(report: Report, key: str) -> Figure | None:
    """The main metric on an axis of its own."""
    if is_undefined(report.value):
        return None
    baseline = report.baseline
    beside = baseline.value if baseline is not None and baseline.compared == report.metric else None
    values = [report.value, *(report.interval or ()), *([] if beside is None else [beside])]
    scale = _scale([value for value in values if not is_undefined(value)], LEFT, WIDTH - LEFT)
    middle = 40.0
    parts = [_axis(scale, 74)]
    if beside is not None and not is_undefined(beside):
        x = scale.at(beside)
        parts.append(line([(x, 22), (x, 58)], "baseline"))
        side = "start" if x < WIDTH / 2 else "end"
        parts.append(label(x, 14, f"constant answer {number(beside)}", anchor=side, kind="tick"))
    parts.append(_with_interval(scale, middle, report))
    description = report.headline()
    return Figure(
        title=f"{report.metric} with its 95 % interval" if report.interval else report.metric,
        drawing=drawing(100, *parts, title=report.metric, description=description, key=key),
        caption="" if report.interval is None else f"Over the choice of rows, by {report.interval_method}.",
    )


def sets(reports: Mapping[str, Report], key: str) -> Figure | None:
    """The main metric of several sets under one another; None for one alone."""
    shown = {name: report for name, report in reports.items() if not is_undefined(report.value)}
    metrics = {report.metric for report in shown.values()}
    if len(shown) < 2 or len(metrics) > 1:
        return None
    return _rows(
        [(name, report.value, report.interval, report) for name, report in shown.items()],
        f"{metrics.pop()} by set",
        key,
    )


def tasks(report: Report, key: str) -> Figure | None:
    """Of several tasks, each by its own main metric; None where these differ."""
    shown = [(name, task) for name, task in report.tasks.items() if not is_undefined(task.value)]
    if len(shown) < 2 or len({task.metric for _, task in shown}) > 1:
        return None
    return _rows(
        [(name, task.value, task.interval, task) for name, task in shown], f"{shown[0][1].metric} by task", key
    )


def _rows(values: Sequence[tuple[str, float, tuple[float, float] | None, Report]], title: str, key: str) -> Figure:
    start = 150.0
    ends = [end for _, value, interval, _ in values for end in (value, *(interval or ()))]
    scale = _scale(ends, start, WIDTH - LEFT)
    height = 30.0 * len(values) + 10
    parts = [_axis(scale, height)]
    for place, (name, _, _, report) in enumerate(values):
        y = 20.0 + 30 * place
        parts.append(label(start - 12, y + 4, named(name, start - 20), anchor="end", kind="name"))
        parts.append(_with_interval(scale, y, report))
    rows = [
        [name, number(value), *(map(number, interval) if interval else ("", "")), f"{report.num_rows:,}"]
        for name, value, interval, report in values
    ]
    table = Table(["", "value", "lower", "upper", values[0][3].unit + "s"], rows)
    description = "; ".join(f"{name} {number(value)}" for name, value, _, _ in values)
    return Figure(title, drawing(height + 30, *parts, title=title, description=description, key=key), table=table)


def _with_interval(scale: Scale, y: float, report: Report) -> Svg:
    parts = []
    if report.interval is not None:
        low, high = (scale.at(end) for end in report.interval)
        parts.append(box(low, y - 5, max(high - low, 2.0), 10.0, "interval", rx=5))
    parts.append(dot(scale.at(report.value), y, "point", 6))
    return joined(parts)


def _axis(scale: Scale, y: float) -> Svg:
    parts = [line([(scale.start, y), (scale.end, y)], "axis")]
    for value in ticks(scale.low, scale.high, 4):
        parts.append(line([(scale.at(value), y), (scale.at(value), y + 4)], "axis"))
        parts.append(label(scale.at(value), y + 18, tick_label(value), anchor="middle", kind="tick"))
    return joined(parts)


def _scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Around the values; not beyond 0 and 1, between which most metrics are, unless a value is."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.15, abs(high) * 0.02, 1e-6)
    return Scale(max(low - room, min(0.0, low)), min(high + room, max(1.0, high)), start, end)
