"""The plots of docs/performance.md, as SVG files that only change when their numbers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.speed.rows import Row, show_number

OURS, OTHER, GOAL = "#1f5fa8", "#c8862b", "#b03030"


def draw_all(rows: Sequence[Row], folder: Path) -> dict[str, Path]:
    """Every plot that the rows allow, by name; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    # The same numbers give the same file, byte for byte.
    matplotlib.rcParams.update(
        {"svg.hashsalt": "textune", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    )
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {row.id: row for row in rows}
    drawn = {}
    if raced := [row for row in rows if row.unit == "rows/s" and row.goal is not None]:
        drawn["ratios"] = _save(folder / "ratios.svg", (8.0, 0.55 * len(raced) + 1.1), partial(_ratios, rows=raced))
    for name, key, label in (("scaling-rows", "rows", "rows"), ("scaling-length", "length", "tokens of each row")):
        if name in by_id:
            points = by_id[name].details["points"]
            drawn[name] = _save(folder / f"{name}.svg", (6.0, 3.4), partial(_costs, points=points, key=key, label=label))
    return drawn


def _ratios(axes: Any, rows: Sequence[Row]) -> None:
    """A bar for each peer, a line from the smallest to the largest ratio, a mark at the goal."""
    for position, row in enumerate(reversed(rows)):
        spread = row.details["ratio"]
        axes.barh(position, row.ratio, color=OURS, height=0.6)
        axes.plot([spread["min"], spread["max"]], [position, position], color="black", linewidth=1)
        axes.plot([row.goal, row.goal], [position - 0.38, position + 0.38], color=GOAL, linewidth=2)
        end = max(row.ratio, spread["max"], row.goal or 0.0)
        axes.text(end * 1.08, position, f"{show_number(row.ratio)}x", va="center")
    axes.set_yticks(range(len(rows)), [_short(row) for row in reversed(rows)])
    axes.set_xscale("log")
    axes.set_xlim(0.5, 2.0 * max(max(row.details["ratio"]["max"], row.goal or 1.0) for row in rows))
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5x", "1x", "2x", "5x", "10x", "20x", "50x"])
    axes.minorticks_off()
    axes.set_xlabel("times as fast as the peer\n(red: the goal; black: smallest to largest pair)")


def _costs(axes: Any, points: Sequence[dict[str, Any]], key: str, label: str) -> None:
    """Microseconds a token, in steps and in planning."""
    where = [point[key] for point in points]
    axes.plot(where, [point["step_us"] for point in points], "o-", color=OURS, label="step, loading included")
    if any(point["planning_us"] for point in points):
        axes.plot(where, [point["planning_us"] for point in points], "s--", color=OTHER, label="plan of the epoch")
    axes.set_xscale("log", base=2 if key == "length" else 10)
    axes.set_xticks(where, [f"{value:,}" for value in where])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel("microseconds a token")
    axes.legend(frameon=False)


def _short(row: Row) -> str:
    """Work and model, and below it the peer without its settings."""
    subject = ", ".join(row.question.split(", ")[:2])
    peer = ", ".join(row.peer_name.split(":")[0].split(" (")[0].split(", ")[:3])
    return f"{subject}\n{peer}"


def _save(path: Path, size: tuple[float, float], draw: Callable[[Any], None]) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=size)
    try:
        draw(axes)
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)
    return path
