"""What metadata is worth, on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from textune.evaluation.comparison import CompareGroup, Comparison, Gain
from textune.evaluation.render.markdown import escape
from textune.evaluation.wording import number, one_line, signed

if TYPE_CHECKING:
    from rich.console import Console

_WHAT = (
    "Bits per character, over the same characters in every arm. The gain is how many more the arm without metadata"
    " needs: above 0 where metadata helps. 95 % intervals over documents."
)
MAX_NAME = 60


def as_json(comparison: Comparison) -> str:
    """The whole comparison."""
    return json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_console(comparison: Comparison, console: Console) -> None:
    """Print it."""
    console.print(Text(f"Metadata of {one_line(comparison.dataset, 200)}", "bold"), highlight=False)
    console.print(Text(_WHAT, "dim"), highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    heads = _heads(comparison)
    for place, head in enumerate(heads):
        names = place < 1 + _num_kinds(comparison)
        table.add_column(head, justify="left" if names else "right", overflow="fold")
    for row in _rows(comparison):
        table.add_row(*(Text(one_line(cell, MAX_NAME)) for cell in row))
    console.print(table, highlight=False)
    for note in comparison.notes:
        console.print(Text(f"- {one_line(note, 1000)}"), highlight=False)


def as_markdown(comparison: Comparison) -> str:
    """As a document."""
    heads, num_names = _heads(comparison), 1 + _num_kinds(comparison)
    rule = ["---" if place < num_names else "---:" for place in range(len(heads))]
    rows = [[escape(cell, MAX_NAME) for cell in row] for row in _rows(comparison)]
    lines = [f"# Metadata of {escape(comparison.dataset, 200)}", "", _WHAT, ""]
    lines += [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]
    lines += ["", "| group | arm | tokens | bits per byte | perplexity |", "| --- | --- | ---: | ---: | ---: |"]
    for group in comparison.groups:
        for arm, result in group.arms.items():
            name = escape(" ".join(_names(comparison, group)), MAX_NAME)
            cells = [name, arm, f"{result.tokens:,}", number(result.bits_per_byte), number(result.perplexity)]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {escape(note, 1000)}" for note in comparison.notes)] if comparison.notes else []
    if comparison.fingerprint:
        lines += ["", f"Data fingerprint: `{comparison.fingerprint}`"]
    return "\n".join(lines) + "\n"


def _kinds(comparison: Comparison) -> tuple[bool, bool]:
    """Whether there are several models, and several styles."""
    return (
        len({group.model for group in comparison.groups}) > 1,
        len({group.style for group in comparison.groups}) > 1,
    )


def _num_kinds(comparison: Comparison) -> int:
    return sum(_kinds(comparison))


def _names(comparison: Comparison, group: CompareGroup) -> list[str]:
    several = zip((group.model, group.style), _kinds(comparison), strict=True)
    return [group.group, *(name for name, shown in several if shown)]


def _heads(comparison: Comparison) -> list[str]:
    shown = [name for name, several in zip(("model", "style"), _kinds(comparison), strict=True) if several]
    return ["group", *shown, "documents", "characters", "with", "without", "gain", "same context", "gain"]


def _rows(comparison: Comparison) -> list[list[str]]:
    rows = []
    for group in comparison.groups:
        cells = [*_names(comparison, group), f"{group.documents:,}", f"{group.characters:,}"]
        cells.append(number(group.arms["with"].bits_per_character))
        for arm in ("without", "same-context"):
            found = group.arms.get(arm)
            cells += ["", ""] if found is None else [number(found.bits_per_character), _gain(group.gains[arm])]
        rows.append(cells)
    return rows


def _gain(gain: Gain) -> str:
    if gain.interval is None:
        return signed(gain.value)
    return f"{signed(gain.value)} ({signed(gain.interval[0])} to {signed(gain.interval[1])})"
