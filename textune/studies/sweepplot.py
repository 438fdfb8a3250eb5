"""The runs of a sweep as a figure: each with its interval, and the metric over each key; an SVG file by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from textune.config import format_value
from textune.evaluation import Scale, Svg, element, label, line, named, number, tick_label, ticks, words
from textune.studies.cells import short_keys
from textune.studies.sweepresult import CellResult, StageResult, SweepResult

MAX_ROWS = 60
"""Runs that are drawn with their names; of more, the best ones."""
_WIDTH, _NAMES, _ROW = 760, 330, 20
_PANEL_WIDTH, _PANEL_HEIGHT = 370, 190
_LOG_FROM = 20
"""How many times the least value the greatest is where an axis is logarithmic."""
_STYLE = """
svg { font: 12px system-ui, sans-serif; color-scheme: light dark; background: #fff; }
text { fill: #333; } .title { font-weight: 600; } .grid { stroke: #ddd; }
.whisker { stroke: #5b8db8; stroke-width: 2; } .dot { fill: #2f6f9f; } .best { fill: #c8501e; }
.whisker.best { stroke: #c8501e; }
@media (prefers-color-scheme: dark) {
  svg { background: #16191d; } text { fill: #ddd; } .grid { stroke: #333a42; } .dot { fill: #7fb5dd; }
  .best { fill: #ff9a6b; } .whisker.best { stroke: #ff9a6b; }
}
"""


def plot(result: SweepResult) -> str:
    """The figure, stage under stage; runs without a value are left out."""
    parts: list[Svg] = []
    top = 10.0
    for stage in result.stages:
        drawn, height = _stage(stage, top)
        parts += drawn
        top += height
    drawing = element(
        "svg",
        element("title", words(f"{result.config}: the metric of each run")),
        element("style", Svg(_STYLE)),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {max(top, 40):g}",
        width=_WIDTH,
        role="img",
    )
    return f"{drawing}\n"


def _stage(stage: StageResult, top: float) -> tuple[list[Svg], float]:
    measured = _shown(stage)
    name = f"{stage.name}: " if stage.name else ""
    if not measured:
        return [label(10, top + 14, f"{name}no run has a value yet", kind="title")], 30.0
    parts = [label(10, top + 14, f"{name}{stage.metric} with its 95 % interval", kind="title")]
    rows, height = _rows(stage, measured, top + 26)
    parts += rows
    panels, more = _panels(stage, measured, top + 26 + height)
    return [*parts, *panels], 26 + height + more + 10


def _shown(stage: StageResult) -> list[CellResult]:
    """The cells that are drawn, in the order of the file."""
    measured = stage.measured
    if len(measured) <= MAX_ROWS:
        return measured
    sign = -1 if measured[0].report is not None and measured[0].report.higher_is_better else 1
    kept = {cell.name for cell in sorted(measured, key=lambda cell: sign * (cell.value or 0.0))[:MAX_ROWS]}
    return [cell for cell in measured if cell.name in kept]


def _rows(stage: StageResult, measured: Sequence[CellResult], top: float) -> tuple[list[Svg], float]:
    """A line for each run: its name, its value as a dot, its interval as a whisker."""
    ends = [limit for cell in measured for limit in _limits(cell)]
    x = _scale(min(ends), max(ends), _NAMES + 15, _WIDTH - 15)
    bottom = top + _ROW * len(measured)
    parts = [_grid(x.at(tick), top, x.at(tick), bottom) for tick in ticks(min(ends), max(ends))]
    parts += [
        label(x.at(tick), bottom + 14, tick_label(tick), anchor="middle") for tick in ticks(min(ends), max(ends))
    ]
    for place, cell in enumerate(measured):
        y = top + _ROW * (place + 0.5)
        low, value, high = _limits(cell)
        best = " best" if cell is stage.best else ""
        parts.append(label(_NAMES, y + 4, named(cell.name, _NAMES - 15), anchor="end"))
        parts.append(line([(x.at(low), y), (x.at(high), y)], f"whisker{best}"))
        parts.append(_dot(x.at(value), y, cell, best=bool(best)))
    return parts, bottom - top + 28


def _limits(cell: CellResult) -> tuple[float, float, float]:
    assert cell.report is not None and cell.value is not None
    low, high = cell.report.interval or (cell.value, cell.value)
    return low, cell.value, high


def _panels(stage: StageResult, measured: Sequence[CellResult], top: float) -> tuple[list[Svg], float]:
    """For each key with several values: the metric over them, two panels side by side."""
    keys = list(dict.fromkeys(key for cell in measured for key in cell.values))
    keys = [key for key in keys if len({_said(cell.values[key]) for cell in measured if key in cell.values}) > 1]
    short = short_keys(keys)
    parts: list[Svg] = []
    for at, key in enumerate(keys):
        left = 10 + (at % 2) * (_PANEL_WIDTH + 10)
        parts += _panel(stage, measured, key, short[key], (left, top + (at // 2) * (_PANEL_HEIGHT + 10)))
    return parts, math.ceil(len(keys) / 2) * (_PANEL_HEIGHT + 10.0)


def _panel(
    stage: StageResult, measured: Sequence[CellResult], key: str, name: str, corner: tuple[float, float]
) -> list[Svg]:
    left, top = corner
    measured = [
        cell for cell in measured if key in cell.values
    ]  # of values that belong together, not all set each key
    values = [cell.value for cell in measured if cell.value is not None]
    y = _scale(min(values), max(values), top + _PANEL_HEIGHT - 40, top + 30)
    given = [cell.values[key] for cell in measured]
    places, marks = _places(given, left + 60, left + _PANEL_WIDTH - 20)
    parts = [label(left, top + 16, f"{stage.metric} by {name}", kind="title")]
    for tick in ticks(min(values), max(values), wanted=3):
        parts += [_grid(left + 50, y.at(tick), left + _PANEL_WIDTH - 10, y.at(tick))]
        parts += [label(left + 44, y.at(tick) + 4, tick_label(tick), anchor="end")]
    room = (_PANEL_WIDTH - 60) / max(len(marks), 1)
    for x, said in marks:
        parts.append(label(x, top + _PANEL_HEIGHT - 16, named(said, room), anchor="middle"))
    for cell, x in zip(measured, places, strict=True):
        assert cell.value is not None
        parts.append(_dot(x, y.at(cell.value), cell, best=cell is stage.best))
    return parts


def _places(values: Sequence[object], start: float, end: float) -> tuple[list[float], list[tuple[float, str]]]:
    """Where values are on an axis, and its ticks: numbers by size, anything else one beside the other."""
    if all(map(_is_number, values)):
        numbers = [float(value) for value in values if _is_number(value)]
        low, high = min(numbers), max(numbers)
        if low > 0 and high / low >= _LOG_FROM:
            x = _scale(math.log(low), math.log(high), start, end)
            places = [x.at(math.log(value)) for value in numbers]
        else:
            x = _scale(low, high, start, end)
            places = [x.at(value) for value in numbers]
        known = dict(zip(numbers, places, strict=True))
        distinct = sorted(known)
        kept = distinct if len(distinct) <= 6 else [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
        return places, [(known[value], f"{value:.3g}".replace("e-0", "e-")) for value in kept]
    names = list(dict.fromkeys(map(_said, values)))
    at = {name: start + (place + 0.5) * (end - start) / len(names) for place, name in enumerate(names)}
    return [at[_said(value)] for value in values], [(x, name) for name, x in at.items()]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: object) -> str:
    return value if isinstance(value, str) else format_value(value, one_line=True)


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    """From values to places; one value alone is in the middle."""
    return Scale(low, high, start, end) if high > low else Scale(low - 1, high + 1, start, end)


def _grid(x1: float, y1: float, x2: float, y2: float) -> Svg:
    return line([(x1, y1), (x2, y2)], "grid")


def _dot(x: float, y: float, cell: CellResult, *, best: bool) -> Svg:
    """A run, which a pointer that rests on it names."""
    assert cell.value is not None
    said = element("title", words(f"{cell.name}: {number(cell.value)}"))
    return element("circle", said, cx=x, cy=y, r=5 if best else 4, class_="best" if best else "dot")
