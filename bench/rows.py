"""Rows: what was asked, ours, the peer's, their ratio, the goal and whether it was met, and where, when and how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.questions import GOALS, TABLE
from bench.speed.measure import Comparison, significant


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, as it stands in `bench/results/*.json`. Questions give it up to `details`, the command adds the
    rest."""

    id: str
    """Short name: that of the question, with a suffix where a question has several rows."""
    question: str
    """In words."""
    ours: float
    peer: float
    ratio: float
    """Median of ours / peer over the pairs."""
    goal: float | None = None
    goal_is: str = "at least"
    """Or `at most`."""
    met: bool | None = None
    unit: str
    peer_name: str
    details: dict[str, Any]
    machine: str = ""
    threads: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    date: str = ""
    command: str = ""
    asked: str = ""
    """The question that the row answers."""
    level: str = ""
    """What the processor was used as; see `machine.py`."""


def compared(name: str, question: str, pairs: Comparison, details: dict[str, Any], *, unit: str, peer: str) -> Row:
    """A row of pairs."""
    ours, other, ratio = pairs.medians()
    row = beside(name, question, (ours, other), {**pairs.details(), **details}, unit=unit, peer=peer)
    return replace(row, ratio=ratio)


def beside(
    name: str, question: str, values: tuple[float, float], details: dict[str, Any], *, unit: str, peer: str
) -> Row:
    """A row of two numbers, ours and the peer's, and their quotient."""
    ours, other = values
    return Row(
        id=name,
        question=question,
        ours=ours,
        peer=other,
        ratio=ours / other,
        unit=unit,
        peer_name=peer,
        details=details,
    )


def completed(row: Row, *, level: str, **origin: Any) -> Row:
    """The row with four digits, its goal at this level, and its `origin` (machine, versions, date, command, asked)."""
    goals, at_most = GOALS.get(row.id, {}), row.id in TABLE["goals_at_most"]
    goal = goals.get(level, goals.get("any"))
    return replace(
        row,
        ours=significant(row.ours),
        peer=significant(row.peer),
        ratio=significant(row.ratio),
        goal=goal,
        goal_is="at most" if at_most else "at least",
        met=None if goal is None else row.ratio <= goal if at_most else row.ratio >= goal,
        threads=int(row.details.get("threads", 0)),
        level=level,
        **origin,
    )


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file; none where there is no file."""
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def merge_rows(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """`new` in the place of rows with the same id, others kept, additions at the end."""
    by_id = {row.id: row for row in new}
    kept = [by_id.pop(row.id, row) for row in old]
    return [*kept, *by_id.values()]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace the results file."""
    write_json(path, [asdict(row) for row in rows])


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write aside, then rename: a file that is there is complete."""
    aside = path.with_suffix(".writing")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def show_number(value: float) -> str:
    """Three digits or so, thousands with a comma."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def show_ratio(row: Row) -> str:
    """The median, and the smallest and largest of the pairs."""
    spread = row.details.get("ratio")
    span = f" ({show_number(spread['min'])} to {show_number(spread['max'])})" if spread else ""
    return show_number(row.ratio) + span


def show_goal(row: Row) -> str:
    """`>= 2: yes`, or a dash."""
    if row.goal is None:
        return "-"
    return f"{'>=' if row.goal_is == 'at least' else '<='} {row.goal:g}: {'yes' if row.met else 'no'}"


def text_table(rows: Sequence[Row]) -> str:
    """Columns of plain text."""
    lines = [["question", "ours", "peer", "unit", "ratio", "goal, met", "beside"]]
    for row in rows:
        numbers = [show_number(row.ours), show_number(row.peer), row.unit, show_ratio(row)]
        lines.append([row.question, *numbers, show_goal(row), row.peer_name])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
