"""The main metric on parts of the rows: by the length of their texts, and by the columns of `evaluate.slices`."""

from __future__ import annotations

from collections.abc import Sequence

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import (
    WIDTH,
    Frame,
    Scale,
    Svg,
    axes,
    box,
    dot,
    drawing,
    label,
    line,
    named,
)
from textune.evaluation.report import Report
from textune.evaluation.slices import LENGTH, Slice
from textune.evaluation.undefined import is_undefined
from textune.evaluation.wording import number

START, END = 138.0, WIDTH - 68
STEP = 27.0
MAX_DRAWN = 24
"""Slices of all columns that are drawn; the table has all of them."""
NO_VALUE = "(no value)"


def lengths(report: Report, key: str) -> Figure | None:
    """By length, the shortest first."""
    shown = [one for one in report.slices if one.column == LENGTH]
    if len(shown) < 2:
        return None
    return _figure(report, shown, "By length of the texts", f"{LENGTH}, before any are cut off", key)


def slices(report: Report, key: str) -> Figure | None:
    """By each column, its lowest values first."""
    columns = dict.fromkeys(one.column for one in report.slices if one.column != LENGTH)
    if not columns:
        return None
    sign = 1.0 if report.higher_is_better else -1.0
    by_column = [
        sorted(
            (one for one in report.slices if one.column == column),
            key=lambda one: (is_undefined(one.value), sign * one.value),
        )
        for column in columns
    ]
    share = max(2, MAX_DRAWN // len(columns))
    shown = [one for of_column in by_column for one in of_column[:share]][:MAX_DRAWN]
    every = [one for of_column in by_column for one in of_column]
    title = f"By {next(iter(columns))}" if len(columns) == 1 else "By columns"
    return _figure(report, shown, title, "the worst first", key, every)


def _figure(
    report: Report, shown: Sequence[Slice], title: str, order: str, key: str, every: Sequence[Slice] = ()
) -> Figure | None:
    """Points with their intervals beside the value of all rows."""
    known = [one for one in shown if not is_undefined(one.value)]
    if not known:
        return None
    ends = [end for one in known for end in (one.value, *(one.interval or ()))]
    ends += [] if is_undefined(report.value) else [report.value]
    room = max((max(ends) - min(ends)) * 0.08, 1e-6)
    scale = Scale(min(ends) - room, max(ends) + room, START, END)
    several = len({one.column for one in shown}) > 1
    parts: list[Svg] = []
    y, column = 20.0, ""
    for one in shown:
        if several and one.column != column:
            column, y = one.column, y + 6
            parts.append(label(START - 10, y + 4, named(one.column, START - 14), anchor="end", kind="group"))
            y += STEP - 4
        parts += _row(one, scale, y)
        y += STEP
    parts.append(axes(Frame(scale, Scale(0, 1, y - 8, 0)), x_title=report.metric, y_title="", y_ticks=()))
    if not is_undefined(report.value):
        parts.insert(0, line([(scale.at(report.value), 4), (scale.at(report.value), y - 8)], "baseline"))
    parts.append(label(WIDTH - 2, 10, f"{report.unit}s", anchor="end", kind="tick"))
    description = "; ".join(f"{one.name or NO_VALUE}: {number(one.value)} on {one.num_rows:,}" for one in known[:8])
    body = drawing(y + 34, *parts, title=title, description=description, key=key)
    rows = [_cells(one) for one in every or shown]
    table = Table(["column", "value", f"{report.unit}s", report.metric, "lower", "upper"], rows, num_names=2)
    more = f" {len(shown)} of {len(every)} are drawn." if len(every) > len(shown) else ""
    caption = f"With 95 % intervals, {order}; the dashed line is the value of all {report.unit}s.{more}"
    return Figure(title, body, caption, table)


def _row(one: Slice, scale: Scale, y: float) -> list[Svg]:
    parts = [label(START - 10, y + 4, named(one.name or NO_VALUE, START - 14), anchor="end", kind="name")]
    if not is_undefined(one.value):
        if one.interval is not None:
            low, high = (scale.at(end) for end in one.interval)
            parts.append(box(low, y - 5, max(high - low, 2.0), 10.0, "interval", rx=5))
        parts.append(dot(scale.at(one.value), y, "point", 5))
    parts.append(label(WIDTH - 2, y + 4, f"{one.num_rows:,}", anchor="end", kind="tick"))
    return parts


def _cells(one: Slice) -> list[str]:
    limits = ("", "") if one.interval is None else (number(one.interval[0]), number(one.interval[1]))
    return [one.column, one.name or NO_VALUE, f"{one.num_rows:,}", number(one.value), *limits]
