"""The plots of docs/performance.md, as SVG files that only change when their numbers do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import title
from bench.rows import Row, show_number

COLOURS, GOAL = ("#c8862b", "#1f5fa8", "#5a8f3d", "#7a5aa8"), "#b03030"
"""One for each level, in their order."""


def draw_all(levels: Mapping[str, Sequence[Row]], folder: Path) -> dict[str, Path]:
    """Every plot that the rows of the levels allow, by name; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    # The same numbers give the same file, byte for byte.
    look = {"svg.hashsalt": "textune", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    matplotlib.rcParams.update(look)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    raced = {
        level: {row.id: row for row in rows if row.unit == "rows/s" and row.goal} for level, rows in levels.items()
    }
    raced = {level: rows for level, rows in raced.items() if rows}
    if names := list(dict.fromkeys(name for rows in raced.values() for name in rows)):
        size = (8.0, 0.3 * len(names) * (1 + len(raced)) + 1.3)
        drawn["ratios"] = _save(folder / "ratios.svg", size, partial(_ratios, raced=raced, names=names))
    for name, key, label in (("scaling-rows", "rows", "rows"), ("scaling-length", "length", "tokens of each row")):
        points = {level: row.details["points"] for level, rows in levels.items() for row in rows if row.id == name}
        if points:
            drawn[name] = _save(
                folder / f"{name}.svg", (6.0, 3.4), partial(_costs, points=points, key=key, label=label)
            )
    return drawn


def _ratios(axes: Any, raced: Mapping[str, Mapping[str, Row]], names: Sequence[str]) -> None:
    """For each peer a bar for each level, a line from the smallest to the largest ratio, a mark at the goal."""
    from matplotlib.patches import Patch

    height, farthest, labels = 0.8 / len(raced), 1.0, []
    for number, name in enumerate(reversed(names)):
        for index, row in ((index, rows[name]) for index, rows in enumerate(raced.values()) if name in rows):
            spread, position = row.details["ratio"], number + 0.4 - (index + 0.5) * height
            axes.barh(position, row.ratio, color=COLOURS[index % len(COLOURS)], height=0.9 * height)
            axes.plot([spread["min"], spread["max"]], [position, position], color="black", linewidth=1)
            axes.plot(
                [row.goal, row.goal], [position - 0.45 * height, position + 0.45 * height], color=GOAL, linewidth=2
            )
            end = max(row.ratio, spread["max"], row.goal or 0.0)
            farthest = max(farthest, end)
            axes.text(end * 1.08, position, f"{show_number(row.ratio)}x", va="center", fontsize=8)
        first = next(rows[name] for rows in raced.values() if name in rows)
        # Work and model, and below it the peer without its settings.
        peer = ", ".join(first.peer_name.split(":")[0].split(" (")[0].split(", ")[:2])
        labels.append(f"{', '.join(first.question.split(', ')[:3])}\n{peer}")
    axes.set_yticks(range(len(names)), labels)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 2.0 * farthest)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5x", "1x", "2x", "5x", "10x", "20x", "50x"])
    axes.minorticks_off()
    axes.set_xlabel("times as fast as the peer\n(red: the goal; black: smallest to largest pair)")
    handles = [Patch(color=COLOURS[index % len(COLOURS)], label=title(level)) for index, level in enumerate(raced)]
    axes.legend(handles=handles, frameon=False, loc="lower right", fontsize=8)


def _costs(axes: Any, points: Mapping[str, Sequence[dict[str, Any]]], key: str, label: str) -> None:
    """Microseconds per token, in steps and in planning, for each level."""
    for index, (level, part) in enumerate(points.items()):
        at, colour = [point[key] for point in part], COLOURS[index % len(COLOURS)]
        axes.plot(
            at,
            [point["step_us"] for point in part],
            "o-",
            color=colour,
            label=f"{title(level)}: step, loading included",
        )
        if any(point["planning_us"] for point in part):
            plan = [point["planning_us"] for point in part]
            axes.plot(at, plan, "s--", color=colour, label=f"{title(level)}: plan of the epoch")
    where = sorted({point[key] for part in points.values() for point in part})
    axes.set_xscale("log", base=2 if key == "length" else 10)
    axes.set_xticks(where, [f"{value:,}" for value in where])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel("microseconds a token")
    axes.legend(frameon=False, fontsize=8)


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
