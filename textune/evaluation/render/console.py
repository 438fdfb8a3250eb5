"""A report on the terminal: what people look at first, at any width; the rest is in the Markdown and JSON files."""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from textune.evaluation.mainmetric import by_metric
from textune.evaluation.mistakes import Mistake
from textune.evaluation.render.decision import compared, sentences
from textune.evaluation.report import Report
from textune.evaluation.undefined import UNDEFINED
from textune.evaluation.wording import (
    answer,
    limits_of,
    number,
    one_line,
    range_of,
    signed,
    slice_name,
    split_averages,
)
from textune.wording import count

if TYPE_CHECKING:
    from rich.console import Console


MAX_CLASSES = 15
MAX_MATRIX = 10
MAX_CONFUSIONS = 10
MAX_MISTAKES = 5
MAX_SLICES = 15
MAX_NAME = 60
SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "mcc", "roc_auc", "loss")
"""The metrics in the table of several tasks, where they have them."""


def render(report: Report, console: Console) -> None:
    """Print to `console`; names and texts of the data appear as they are, never as markup."""
    _Printer(report, console).print()


class _Printer:
    """Draws the sections one after the other; all text passes `_text`, which keeps it printable in the console's
    encoding."""

    def __init__(self, report: Report, console: Console, *, indent: int = 0) -> None:
        """`indent`: how far a task stands in the report on several."""
        self.report = report
        self.indent = indent
        self.drawing = console
        self.encoding = console.encoding or "utf-8"
        self.ellipsis = "…" if self.encoding.lower().startswith("utf") else "..."

    def print(self) -> None:
        self._out(self._text(f"Evaluation of {self.report.dataset or 'the model'}", "bold"))
        self._head()
        if self.report.tasks:
            self._tasks()
        self._body()
        for name, task in self.report.tasks.items():
            self._title(f"Task {name}")
            _Printer(task, self.drawing, indent=2).print_task()

    def print_task(self) -> None:
        """One of several tasks, below its title."""
        self._head()
        self._body()

    def _body(self) -> None:
        if not self.report.tasks:
            self._metrics()
        for section in (
            self._classes,
            self._confusions,
            self._decision,
            self._slices,
            self._lifts,
            self._mistakes,
            self._hardest,
            self._notes,
        ):
            section()

    def _text(self, text: str, style: str = "", limit: int = 1000) -> Text:
        line = one_line(text, limit)
        if self.ellipsis != "…":
            line = line.replace("…", self.ellipsis)
        return Text(line.encode(self.encoding, "replace").decode(self.encoding), style=style)

    def _out(self, renderable: Text | Table, indent: int = 0) -> None:
        self.drawing.print(Padding(renderable, (0, 0, 0, self.indent + indent), expand=False), highlight=False)

    def _title(self, text: str) -> None:
        self.drawing.line()
        self._out(self._text(text, "bold"))

    def _head(self) -> None:
        report = self.report
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(overflow="fold")
        interval = "no interval"
        if report.interval is not None:
            interval = f"95 % interval {number(report.interval[0])} to {number(report.interval[1])}"
            interval += f" ({report.interval_method})" if report.interval_method else ""
        grid.add_row(self._text(report.metric, "bold"), Text(number(report.value), "bold"), interval)
        if (baseline := report.baseline) is not None:
            about = self._text(f"{baseline.compared} of {baseline.rule}")
            grid.add_row("baseline", number(baseline.value), about)
        grid.add_row(f"{report.unit}s", f"{report.num_rows:,}", self._text(report.about()))
        if report.num_left_out:
            grid.add_row("left out", f"{report.num_left_out:,}", f"{report.unit}s that could not be used")
        self._out(grid, indent=2)
        for warning in () if self.indent else report.warnings:  # those of a task stand above all of them
            self._out(Text("Warning: ", "bold yellow").append_text(self._text(warning, "yellow")))

    def _tasks(self) -> None:
        """What each task reaches, and their means."""
        report = self.report
        values = by_metric(report.metrics, report.tasks)
        shown = [name for name in SHOWN if name in values]
        table = self._table("task", "rows", *shown)
        for name, task in report.tasks.items():
            cells = (number(values[metric].get(name, UNDEFINED)) for metric in shown)
            table.add_row(self._text(name, limit=MAX_NAME), f"{task.num_rows:,}", *cells)
        for row in ("mean", "std"):
            cells = (number(values[metric].get(row, UNDEFINED)) for metric in shown)
            table.add_row(Text(row, "dim"), "", *cells)
        self._title("Tasks")
        self._out(table, indent=2)

    def _metrics(self) -> None:
        rest, averages = split_averages(self.report.metrics)
        rest.pop(self.report.metric, None)
        columns = max(1, min(3, (self.drawing.width - 2) // 36))
        grid = Table.grid(padding=(0, 4, 0, 0))
        for _ in range(columns):
            grid.add_column(no_wrap=True)
            grid.add_column(justify="right", no_wrap=True)
        cells = [[name, number(value)] for name, value in rest.items()]
        height = -(-len(cells) // columns)
        for row in range(height):
            grid.add_row(*(cell for pair in cells[row::height] for cell in pair))
        self._title("Metrics")
        self._out(grid, indent=2)
        if averages:
            kinds = next(iter(averages.values()))
            table = self._table("average", *kinds)
            for kind, values in averages.items():
                table.add_row(kind, *(number(value) for value in values.values()))
            self.drawing.line()
            self._out(table, indent=2)

    def _table(self, name: str, *numbers: str) -> Table:
        table = Table(box=box.SIMPLE_HEAD, header_style="", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(name, overflow="fold")
        for column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        return table

    def _classes(self) -> None:
        report = self.report
        if not report.classes:
            return
        order = list(range(len(report.classes)))
        hidden = max(0, len(order) - MAX_CLASSES)
        if hidden:
            order = report.worst_classes()[:MAX_CLASSES]
        kind = report.label_map.nouns.capitalize()
        self._title(f"{kind}, lowest F1 first ({hidden:,} better ones not shown)" if hidden else kind)
        # where there are no confusions to look at, the number of predictions shows what is answered too often
        counted = ("rows",) if report.label_map.exclusive else ("rows", "predicted")
        table = self._table("class", *counted, "precision", "recall", "f1", "roc_auc")
        for index in order:
            row = report.classes[index]
            values = (number(value) for value in (row.precision, row.recall, row.f1, row.roc_auc))
            counts = (f"{count:,}" for count in (row.support, row.predicted)[: len(counted)])
            table.add_row(self._text(row.name, limit=MAX_NAME), *counts, *values)
        self._out(table, indent=2)

    def _confusions(self) -> None:
        report = self.report
        if report.matrix is not None and len(report.names) <= MAX_MATRIX:
            self._title("Confusions (lines: true, columns: predicted)")
            self._matrix(report.matrix)
        elif report.confusions:
            self._title("Most frequent confusions")
            table = self._table("true", "rows")
            table.add_column("predicted", overflow="fold")
            for pair in report.confusions[:MAX_CONFUSIONS]:
                true, predicted = (self._text(name, limit=MAX_NAME) for name in (pair.true, pair.predicted))
                table.add_row(true, f"{pair.rows:,}", predicted)
            self._out(table, indent=2)

    def _matrix(self, matrix: tuple[tuple[int, ...], ...]) -> None:
        names = [self._text(name, limit=MAX_NAME) for name in self.report.names]
        widths = [max(cell_len(name.plain), 5) + 3 for name in names]
        # where the names do not fit as heads of columns, letters stand for them
        lettered = max(widths) + sum(widths) > self.drawing.width
        heads = [Text(letter) for letter in ascii_lowercase[: len(names)]] if lettered else names
        table = self._table("", *(["" for _ in names]))
        for column, head in zip(table.columns[1:], heads, strict=True):
            column.header = head
        for row, (name, counts) in enumerate(zip(names, matrix, strict=True)):
            line = Text(f"{ascii_lowercase[row]}  ").append_text(name) if lettered else name
            cells = [Text(f"{count:,}", "bold" if row == column else "") for column, count in enumerate(counts)]
            table.add_row(line, *cells)
        self._out(table, indent=2)

    def _decision(self) -> None:
        """What decides, and figures with it and without it."""
        part = self.report.decision
        if part is None:
            return
        self._title("Decision")
        for line in sentences(part):
            self._out(self._text(line), indent=2)
        table = self._table("figure", "usual rule", "decided")
        for row in compared(part):
            table.add_row(row.name, row.usual, row.decided)
        self.drawing.line()
        self._out(table, indent=2)

    def _slices(self) -> None:
        """A table for each column by whose values the rows are parted."""
        report = self.report
        for column in dict.fromkeys(one.column for one in report.slices):
            self._title(f"{report.metric} by {column}")
            table = self._table(column, f"{report.unit}s", report.metric)
            table.add_column("95 % interval", overflow="fold")
            shown = [one for one in report.slices if one.column == column]
            for one in shown[:MAX_SLICES]:
                cells = (f"{one.num_rows:,}", number(one.value), self._text(range_of(one)))
                table.add_row(self._text(slice_name(one), limit=MAX_NAME), *cells)
            self._out(table, indent=2)
            if len(shown) > MAX_SLICES:
                self._out(self._text(f"and {len(shown) - MAX_SLICES:,} more in the report", "dim"), indent=2)

    def _lifts(self) -> None:
        """What each column of the prefix is worth."""
        lifts = self.report.lifts
        if not lifts:
            return
        self._title(f"What each column is worth ({self.report.metric} with it and without it)")
        table = self._table("column", "rows with it", "without it", "lift")
        table.add_column("95 % interval", overflow="fold")
        for lift in lifts:
            values = (f"{lift.num_rows:,}", number(lift.without), signed(lift.lift))
            table.add_row(self._text(lift.column, limit=MAX_NAME), *values, self._text(limits_of(lift)))
        self._out(table, indent=2)

    def _mistakes(self) -> None:
        report = self.report
        shown = report.mistakes[:MAX_MISTAKES]
        if not shown:
            return
        if report.num_mistakes is None:
            self._title(f"Largest errors ({len(shown)} of {report.num_rows:,} rows)")
        else:
            self._title(f"Most confident mistakes ({len(shown)} of {report.num_mistakes:,})")
        for mistake in shown:
            self._out(self._mistake(mistake), indent=2)
            for text in (mistake.text, mistake.pair):
                if text is not None:
                    self._out(self._text(text, "dim", 2 * self.drawing.width - 20), indent=4)

    def _mistake(self, mistake: Mistake) -> Text:
        """How sure or how far off, what is answered, what is true, and where it stands."""
        true, predicted = (self._text(answer(value), "bold", MAX_NAME) for value in (mistake.true, mistake.predicted))
        if self.report.num_mistakes is None:
            score = f"{mistake.score:+.4g}"
        else:
            score = f"{mistake.label or ''} {number(mistake.score)}"
        line = self._text(score, limit=MAX_NAME).append("  predicted ").append_text(predicted)
        return line.append(", true ").append_text(true).append("  ").append_text(self._text(mistake.place, "dim", 80))

    def _hardest(self) -> None:
        report = self.report
        shown = report.hardest[:MAX_MISTAKES]
        if not shown:
            return
        self._title(f"Most bits per character ({len(shown)} of {count(report.num_rows, report.unit)})")
        for document in shown:
            line = Text(f"{document.bits_per_character:.4g}", "bold")
            line.append(f"  {count(document.characters, 'character')}  ")
            self._out(line.append_text(self._text(document.place, "dim", 80)), indent=2)
            self._out(self._text(document.text, "dim", 2 * self.drawing.width - 20), indent=4)

    def _notes(self) -> None:
        if self.report.notes:
            self._title("Notes")
        for note in self.report.notes:
            grid = Table.grid(padding=(0, 1))
            grid.add_row("-", self._text(note))
            self._out(grid, indent=2)
