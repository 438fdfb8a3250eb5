"""How a report writes numbers, names and texts from the data, so that none of them can break its layout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textune.evaluation.undefined import DASH, is_undefined

if TYPE_CHECKING:
    from textune.evaluation.lift import Lift
    from textune.evaluation.slices import Slice

_SPACE = re.compile(r"\s+")
# Control characters can drive a terminal, direction marks can reorder a line, lone surrogates cannot be written at
# all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
AVERAGED = ("precision", "recall", "f1")
AVERAGES = ("macro", "micro", "weighted", "samples")


def number(value: float) -> str:
    """Four decimals, fewer for large numbers; a dash where undefined."""
    if is_undefined(value):
        return DASH
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:,.0f}"


def signed(value: float) -> str:
    """A difference: as `number`, with its sign."""
    return number(value) if is_undefined(value) or value < 0 else f"+{number(value)}"


def limits_of(lift: Lift) -> str:
    """The interval of a lift, or why there is none."""
    if lift.interval is None:
        return lift.reason or "none"
    return f"{signed(lift.interval[0])} to {signed(lift.interval[1])}"


def slice_name(one: Slice) -> str:
    """The value that the rows of a slice have in common."""
    return "(none)" if one.name is None else one.name


def range_of(one: Slice) -> str:
    """The interval of a slice's value, or why there is none."""
    if one.interval is None:
        return one.reason or "none"
    return f"{number(one.interval[0])} to {number(one.interval[1])}"


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, an ellipsis for what is cut off."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def one_line(text: str, limit: int) -> str:
    """Shortened, without line breaks and without characters that a terminal or a reader would obey."""
    # a text may be megabytes long; what lies far beyond the limit is never looked at
    return shorten(
        _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _SPACE.sub(" ", text[: 4 * limit + 100]).strip()), limit
    )


def answer(value: str | tuple[str, ...] | float) -> str:
    """A target or a prediction: a name, several names, or a number."""
    if isinstance(value, tuple):
        return ", ".join(value) if value else "(no label)"
    return value if isinstance(value, str) else number(value)


def headline(
    metric: str, value: float, interval: tuple[float, float] | None, baseline: tuple[str, float] | None, rows: str
) -> str:
    """One line on an evaluation: the main metric, its interval, the constant answer in its own metric where there is
    one, and how many rows."""
    limits = "no interval" if interval is None else f"95 % interval {number(interval[0])} to {number(interval[1])}"
    beside = ""
    if baseline is not None:
        beside = f", baseline {'' if baseline[0] == metric else f'{baseline[0]} '}{number(baseline[1])}"
    return f"{metric} {number(value)} ({limits}){beside}, on {rows}"


def split_averages(metrics: dict[str, float]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The metrics apart from those that exist in several averages, and these as kind -> average -> value."""
    table = {
        kind: {average: metrics[name] for average in AVERAGES if (name := f"{kind}_{average}") in metrics}
        for kind in AVERAGED
    }
    rest = {name: value for name, value in metrics.items() if name.rpartition("_")[0] not in AVERAGED}
    return rest, {kind: averages for kind, averages in table.items() if averages}
