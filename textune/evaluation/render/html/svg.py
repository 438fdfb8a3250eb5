"""SVG as text: elements, scales and axes; every word of the data is escaped where it becomes markup.

Drawings are `WIDTH` wide so that their letters stay legible when a phone scales them down. Colours are classes of the
page's style sheet, which knows light and dark.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import accumulate
from typing import NamedTuple, NewType

from rich.cells import cell_len

from textune.evaluation.wording import one_line, shorten

Svg = NewType("Svg", str)
"""Markup that is safe to embed: made by the functions here alone."""

NOTHING = Svg("")
WIDTH = 400
"""Of a drawing, in units of which a letter is about seven wide."""
LETTER, WIDE = 7.6, 13.5
"""Width of a letter at the size of labels, and of one that takes two columns of a terminal, as Chinese ones do."""
MAX_WORDS = 1000
"""Characters of a text within a drawing."""
NUM_STYLES = 6
"""Colours (and dashes, so that none has to be told by its colour alone) of lines."""


class Scale(NamedTuple):
    """From values to places on the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value is; those beyond an end are at it."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


class Frame(NamedTuple):
    """The area of a drawing between its axes: from left to right, from the bottom up."""

    x: Scale
    y: Scale


def element(name: str, *children: Svg, **attributes: object) -> Svg:
    """One element. In names of attributes `_` is a hyphen, at their end nothing; one of None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Svg(f"<{name}{said}>{''.join(children)}</{name}>" if children else f"<{name}{said}/>")


def joined(parts: Iterable[Svg]) -> Svg:
    """One after the other."""
    return Svg("".join(parts))


def words(text: str) -> Svg:
    """Text of the data or our own."""
    return Svg(escape(one_line(text, MAX_WORDS)))


def label(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "", turn: float | None = None) -> Svg:
    """A line of text at a point; `kind`: classes of its style, `turn`: degrees."""
    if not text:
        return NOTHING
    rotate = None if turn is None else f"rotate({_plain(turn)} {_plain(x)} {_plain(y)})"
    anchored = None if anchor == "start" else anchor
    return element("text", words(text), x=x, y=y, text_anchor=anchored, class_=kind or None, transform=rotate)


def named(text: str, width: float) -> str:
    """A name of the data, shortened to fit into a width."""
    line = one_line(text, MAX_WORDS)
    ends = list(accumulate(WIDE if cell_len(letter) > 1 else LETTER for letter in line))
    return shorten(line, max(2, bisect_right(ends, width)))


def drawing(height: float, *parts: Svg, title: str, description: str, key: str, width: float = WIDTH) -> Svg:
    """A whole drawing; `key` makes its ids unique on the page."""
    return element(
        "svg",
        element("title", words(title), id=f"{key}-title"),
        element("desc", words(description), id=f"{key}-description"),
        *parts,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-description",
        class_="drawing",
    )


def line(points: Sequence[tuple[float, float]], kind: str) -> Svg:
    """A line through points on the drawing."""
    steps = " ".join(f"{'M' if number == 0 else 'L'}{_plain(x)} {_plain(y)}" for number, (x, y) in enumerate(points))
    return element("path", d=steps, class_=kind)


def box(x: float, y: float, width: float, height: float, kind: str, **more: object) -> Svg:
    """A rectangle."""
    return element("rect", x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=kind, **more)


def dot(x: float, y: float, kind: str, radius: float = 4) -> Svg:
    """A point."""
    return element("circle", cx=x, cy=y, r=radius, class_=kind)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as wanted."""
    if not high > low:
        return [low]
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_label(value: float) -> str:
    """A number on an axis, as short as it can be said."""
    if value == 0:
        return "0"
    if abs(value) >= 1_000_000:
        return f"{value / 1e6:g}M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:g}k"
    if abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:g}"


def axes(
    frame: Frame,
    *,
    x_title: str,
    y_title: str,
    x_label: Callable[[float], str] = tick_label,
    y_label: Callable[[float], str] = tick_label,
    y_ticks: Sequence[float] | None = None,
) -> Svg:
    """Both axes with a faint grid, round numbers and titles."""
    x, y = frame
    parts = []
    for value in ticks(y.low, y.high, 4) if y_ticks is None else y_ticks:
        parts.append(line([(x.start, y.at(value)), (x.end, y.at(value))], "grid"))
        parts.append(label(x.start - 6, y.at(value) + 4, y_label(value), anchor="end", kind="tick"))
    for value in ticks(x.low, x.high, 5):
        parts.append(line([(x.at(value), y.start), (x.at(value), y.start + 4)], "axis"))
        parts.append(label(x.at(value), y.start + 17, x_label(value), anchor="middle", kind="tick"))
    parts.append(line([(x.start, y.start), (x.end, y.start)], "axis"))
    parts.append(label((x.start + x.end) / 2, y.start + 34, x_title, anchor="middle", kind="axis-title"))
    parts.append(label(12, (y.start + y.end) / 2, y_title, anchor="middle", kind="axis-title", turn=-90))
    return joined(parts)


def curve(frame: Frame, xs: Sequence[float], ys: Sequence[float], kind: str) -> Svg:
    """A line through values."""
    return line([(frame.x.at(x), frame.y.at(y)) for x, y in zip(xs, ys, strict=True)], kind)


def style_of(number: int) -> str:
    """The classes of the n-th of several lines."""
    return f"line line-{number % NUM_STYLES + 1}"


def key_lines(names: Sequence[str], top: float, *, width: float = WIDTH, left: float = 48) -> tuple[Svg, float]:
    """What each of several lines is, below one another in columns; and how high that is."""
    columns = 2 if len(names) > 1 else 1
    room = (width - left) / columns
    parts = []
    for number, name in enumerate(names):
        x, y = left + number % columns * room, top + number // columns * 18
        parts.append(line([(x, y), (x + 22, y)], style_of(number)))
        parts.append(label(x + 28, y + 4, named(name, room - 36), kind="tick"))
    return joined(parts), 18.0 * -(-len(names) // columns)


def _plain(value: object) -> str:
    """A number with at most two decimals, or text."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
