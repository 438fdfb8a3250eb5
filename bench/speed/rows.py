"""Answers and the JSON rows they become: what was asked, ours, the peer's, their ratio, the goal and whether it was met."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.speed.measure import significant


@dataclass(frozen=True)
class Answer:
    """What a question measured."""

    id: str
    """Short name: that of the question, with a suffix where a question has several answers."""
    question: str
    """In words."""
    ours: float
    peer: float
    ratio: float
    """Median of ours / peer over the pairs."""
    unit: str
    peer_name: str
    goal: float | None = None
    """Bound of the ratio."""
    goal_is: Literal["at least", "at most"] = "at least"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.goal_is == "at least" else self.ratio <= self.goal


@dataclass(frozen=True)
class Row:
    """An answer with where, when and how it was measured, as it stands in `bench/results/*.json`."""

    id: str
    question: str
    ours: float
    peer: float
    ratio: float
    goal: float | None
    goal_is: str
    met: bool | None
    unit: str
    peer_name: str
    details: dict[str, Any]
    machine: str
    threads: int
    versions: dict[str, str]
    date: str
    command: str
    asked: str
    """The question that the row answers."""
    level: str
    """What the processor was used as; see `level.py`."""


def make_row(answer: Answer, **origin: Any) -> Row:
    """The row of an answer and its `origin` (machine, versions, date, command, asked, level); numbers to four digits.

    The number of threads is the one that the workers reported.
    """
    return Row(
        id=answer.id,
        question=answer.question,
        ours=significant(answer.ours),
        peer=significant(answer.peer),
        ratio=significant(answer.ratio),
        goal=answer.goal,
        goal_is=answer.goal_is,
        met=answer.met,
        unit=answer.unit,
        peer_name=answer.peer_name,
        details=answer.details,
        threads=int(answer.details.get("threads", 0)),
        **origin,
    )


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file; none where there is no file."""
    if not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def merge_rows(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """`new` in the place of rows with the same id, others kept, additions at the end."""
    by_id = {row.id: row for row in new}
    kept = [by_id.pop(row.id, row) for row in old]
    return [*kept, *by_id.values()]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Written aside first: a file that is there is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    aside.write_text(
        json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    aside.replace(path)


def show_number(value: float) -> str:
    """Three digits or so, thousands with a comma."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def show_goal(row: Row | Answer) -> str:
    """`>= 2`, or a dash."""
    if row.goal is None:
        return "-"
    return f"{'>=' if row.goal_is == 'at least' else '<='} {row.goal:g}"


def show_met(row: Row | Answer) -> str:
    """yes, no or a dash."""
    return "-" if row.met is None else "yes" if row.met else "no"


HEADER = ("question", "ours", "peer", "unit", "ratio", "goal", "met", "beside")


def cells(row: Row | Answer) -> list[str]:
    """What a table shows of a row, in the order of `HEADER`."""
    spread = row.details.get("ratio")
    span = f" ({show_number(spread['min'])} to {show_number(spread['max'])})" if spread else ""
    numbers = [show_number(row.ours), show_number(row.peer), row.unit, show_number(row.ratio) + span]
    return [row.question, *numbers, show_goal(row), show_met(row), row.peer_name]


def text_table(rows: Sequence[Row | Answer]) -> str:
    """Columns of plain text."""
    lines = [list(HEADER), *[cells(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
