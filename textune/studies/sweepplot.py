"""The runs of a sweep as a figure: each with its interval, and the metric over each key; an SVG file by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import TypeGuard

from textune.config import format_value
from textune.evaluation import number
from textune.studies.cells import short_keys
from textune.studies.sweepresult import CellResult, StageResult, SweepResult

MAX_ROWS = 60
"""Runs that are drawn with their names; of more, the best ones."""
_WIDTH, _NAMES, _ROW = 760, 330, 20
_PANEL_WIDTH, _PANEL_HEIGHT = 370, 190
_LETTER = 6.4
"""Mean width of a letter."""
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
    parts: list[str] = []
    top = 10.0
    for stage in result.stages:
        drawn, height = _stage(stage, top)
        parts += drawn
        top += height
    title = f"{escape(result.config)}: the metric of each run"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {max(top, 40):g}" width="{_WIDTH}" role="img">'
        f"<title>{title}</title><style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _stage(stage: StageResult, top: float) -> tuple[list[str], float]:
    measured = _shown(stage)
    name = f"{stage.name}: " if stage.name else ""
    if not measured:
        return [_text(10, top + 14, f"{name}no run has a value yet", kind="title")], 30.0
    parts = [_text(10, top + 14, f"{name}{stage.metric} with its 95 % interval", kind="title")]
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


def _rows(stage: StageResult, measured: Sequence[CellResult], top: float) -> tuple[list[str], float]:
    """A line for each run: its name, its value as a dot, its interval as a whisker."""
    ends = [limit for cell in measured for limit in _limits(cell)]
    x = _scale(min(ends), max(ends), _NAMES + 15, _WIDTH - 15)
    bottom = top + _ROW * len(measured)
    parts = [_grid(x(tick), top, x(tick), bottom) for tick in _ticks(min(ends), max(ends))]
    parts += [_text(x(tick), bottom + 14, f"{tick:g}", anchor="middle") for tick in _ticks(min(ends), max(ends))]
    for place, cell in enumerate(measured):
        y = top + _ROW * (place + 0.5)
        low, value, high = _limits(cell)
        best = " best" if cell is stage.best else ""
        parts.append(_text(_NAMES, y + 4, _fitting(cell.name, _NAMES - 15), anchor="end"))
        parts.append(f'<line class="whisker{best}" x1="{x(low):.1f}" y1="{y:g}" x2="{x(high):.1f}" y2="{y:g}"/>')
        parts.append(_dot(x(value), y, cell, best=bool(best)))
    return parts, bottom - top + 28


def _limits(cell: CellResult) -> tuple[float, float, float]:
    assert cell.report is not None and cell.value is not None
    low, high = cell.report.interval or (cell.value, cell.value)
    return low, cell.value, high


def _panels(stage: StageResult, measured: Sequence[CellResult], top: float) -> tuple[list[str], float]:
    """For each key with several values: the metric over them, two panels side by side."""
    keys = list(dict.fromkeys(key for cell in measured for key in cell.values))
    keys = [key for key in keys if len({_said(cell.values.get(key)) for cell in measured}) > 1]
    short = short_keys(keys)
    parts: list[str] = []
    for at, key in enumerate(keys):
        left = 10 + (at % 2) * (_PANEL_WIDTH + 10)
        parts += _panel(stage, measured, key, short[key], (left, top + (at // 2) * (_PANEL_HEIGHT + 10)))
    return parts, math.ceil(len(keys) / 2) * (_PANEL_HEIGHT + 10.0)


def _panel(
    stage: StageResult, measured: Sequence[CellResult], key: str, name: str, corner: tuple[float, float]
) -> list[str]:
    left, top = corner
    values = [cell.value for cell in measured if cell.value is not None]
    y = _scale(min(values), max(values), top + _PANEL_HEIGHT - 40, top + 30)
    given = [cell.values[key] for cell in measured]
    places, ticks = _places(given, left + 60, left + _PANEL_WIDTH - 20)
    parts = [_text(left, top + 16, f"{stage.metric} by {name}", kind="title")]
    for tick in _ticks(min(values), max(values), wanted=3):
        parts += [_grid(left + 50, y(tick), left + _PANEL_WIDTH - 10, y(tick))]
        parts += [_text(left + 44, y(tick) + 4, f"{tick:g}", anchor="end")]
    room = (_PANEL_WIDTH - 60) / max(len(ticks), 1)
    for x, said in ticks:
        parts.append(_text(x, top + _PANEL_HEIGHT - 16, _fitting(said, room), anchor="middle"))
    for cell, x in zip(measured, places, strict=True):
        assert cell.value is not None
        parts.append(_dot(x, y(cell.value), cell, best=cell is stage.best))
    return parts


def _places(values: Sequence[object], start: float, end: float) -> tuple[list[float], list[tuple[float, str]]]:
    """Where values are on an axis, and its ticks: numbers by size, anything else one beside the other."""
    if all(map(_is_number, values)):
        numbers = [float(value) for value in values if _is_number(value)]
        low, high = min(numbers), max(numbers)
        if low > 0 and high / low >= _LOG_FROM:
            x = _scale(math.log(low), math.log(high), start, end)
            places = [x(math.log(value)) for value in numbers]
        else:
            x = _scale(low, high, start, end)
            places = [x(value) for value in numbers]
        known = dict(zip(numbers, places, strict=True))
        distinct = sorted(known)
        kept = distinct if len(distinct) <= 6 else [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
        return places, [(known[value], f"{value:.4g}".replace("e-0", "e-")) for value in kept]
    names = list(dict.fromkeys(map(_said, values)))
    at = {name: start + (place + 0.5) * (end - start) / len(names) for place, name in enumerate(names)}
    return [at[_said(value)] for value in values], [(x, name) for name, x in at.items()]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: object) -> str:
    return value if isinstance(value, str) else format_value(value, one_line=True)


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values to places; one value alone is in the middle."""
    if high <= low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from `low` to `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [round(at * step, 12) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def _fitting(words: str, width: float) -> str:
    limit = max(4, int(width / _LETTER))
    return words if len(words) <= limit else f"{words[: limit - 1]}…"


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float, cell: CellResult, *, best: bool) -> str:
    said = escape(f"{cell.name}: {number(cell.value if cell.value is not None else math.nan)}")
    kind = "best" if best else "dot"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{5 if best else 4}"><title>{said}</title></circle>'
