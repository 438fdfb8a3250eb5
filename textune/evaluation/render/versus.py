"""Runs beside each other on the same rows, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from textune.evaluation.render.markdown import escape
from textune.evaluation.setcomparison import SetComparison
from textune.evaluation.versus import Difference, Versus, better_of
from textune.evaluation.wording import number, one_line, signed
from textune.wording import count

if TYPE_CHECKING:
    from rich.console import Console

MAX_NAME = 60
MAX_NOTE = 2000


@dataclass(frozen=True)
class _Part:
    """A title, sentences, and a table whose first column holds names."""

    title: str
    sentences: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def to_console(sets: Mapping[str, SetComparison], console: Console) -> None:
    """Print it."""
    for part in _parts(sets):
        console.print(Text(one_line(part.title, 200), "bold"), highlight=False)
        for sentence in part.sentences:
            console.print(Text(one_line(sentence, MAX_NOTE)), highlight=False)
        if part.head:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
            for place, head in enumerate(part.head):
                table.add_column(one_line(head, MAX_NAME), justify="right" if place else "left", overflow="fold")
            for row in part.rows:
                table.add_row(*(Text(one_line(cell, MAX_NAME)) for cell in row))
            console.print(table, highlight=False)
        console.line()


def as_markdown(sets: Mapping[str, SetComparison]) -> str:
    """As a document."""
    parts = []
    for part in _parts(sets):
        lines = [f"## {escape(part.title, 200)}", ""]
        for sentence in part.sentences:
            lines += [escape(sentence, MAX_NOTE), ""]
        if part.head:
            rule = ["---:" if place else "---" for place in range(len(part.head))]
            rows = [[escape(cell, MAX_NAME) for cell in row] for row in (part.head, *part.rows)]
            lines += [f"| {' | '.join(cells)} |" for cells in (rows[0], rule, *rows[1:])]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def _parts(sets: Mapping[str, SetComparison]) -> Iterator[_Part]:
    for found in sets.values():
        yield _main(found)
        for run, versus in zip(found.runs[1:], found.against, strict=True):
            yield from _details(found, run, versus)


def _main(found: SetComparison) -> _Part:
    """The main metric of all runs."""
    first = found.against[0].main.first
    rows = [(found.runs[0], number(first), "", "", "", "")]
    for run, versus in zip(found.runs[1:], found.against, strict=True):
        p_values = (_p(versus.p_value), _p(versus.adjusted))
        rows.append((run, number(versus.main.other), signed(versus.main.difference), _range(versus.main), *p_values))
    head = ("run", found.metric, "difference", "95 % interval", "p", "p of all (Holm)")
    narrow = len(found.against) == 1
    return _Part(
        f"{found.name}: {found.metric} on {count(found.num_rows, 'row')}",
        tuple(
            [
                *(_verdict(found, run, one) for run, one in zip(found.runs[1:], found.against, strict=True)),
                *found.notes,
            ]
        ),
        head[:5] if narrow else head,
        tuple(row[:5] if narrow else row for row in rows),
    )


def _verdict(found: SetComparison, run: str, versus: Versus) -> str:
    """Whether a run differs from the first one, as a sentence."""
    first, changed = (
        found.runs[0],
        f"{versus.num_changed:,} of {count(found.num_rows, 'row')} are answered differently",
    )
    if versus.p_value is None:
        return f"{run} and {first} cannot be compared by {found.metric}: it has no value here; {changed}."
    if not versus.differs:
        return f"{run} does not differ from {first} by more than chance explains ({versus.test}); {changed}."
    better = better_of(versus.main, higher_is_better=found.higher_is_better) == "other"
    return f"{run} is {'better' if better else 'worse'} than {first} ({versus.test}); {changed}."


def _details(found: SetComparison, run: str, versus: Versus) -> Iterator[_Part]:
    beside = f"{found.name}: {run} beside {found.runs[0]}"
    if versus.agreement:
        rows = tuple(
            (
                one.head if len(versus.agreement) > 1 else "rows",
                *(f"{num:,}" for num in (one.both, one.only_other, one.only_first, one.neither)),
                _p(one.p_value),
            )
            for one in versus.agreement
        )
        head = ("", "both right", f"only {run}", f"only {found.runs[0]}", "neither", "p (McNemar)")
        yield _Part(f"{beside}, right answers", versus.notes, head, rows)
    metrics = ("metric", found.runs[0], run, "difference", "95 % interval")
    yield _Part(f"{beside}, other metrics", (), metrics, tuple(_line(one.metric, one) for one in versus.metrics))
    for column in dict.fromkeys(one.column for one in versus.slices):
        of_slices = tuple(
            (first, f"{one.num_rows:,}", *rest)
            for one in versus.slices
            if one.column == column
            for first, *rest in [_line("(none)" if one.name is None else one.name, one.main)]
        )
        names = (column, "rows", found.runs[0], run, "difference", "95 % interval")
        yield _Part(f"{beside}, {found.metric} by {column}", (), names, of_slices)


def _line(name: str, one: Difference) -> tuple[str, ...]:
    return name, number(one.first), number(one.other), signed(one.difference), _range(one)


def _range(one: Difference) -> str:
    """The interval of a difference, or why there is none."""
    if one.interval is None:
        return one.reason or "none"
    return f"{signed(one.interval[0])} to {signed(one.interval[1])}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
