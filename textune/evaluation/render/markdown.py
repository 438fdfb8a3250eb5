"""A report as a Markdown document; nothing in the data can break its tables or become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from textune.evaluation.mainmetric import by_metric
from textune.evaluation.metrics import metric_called
from textune.evaluation.render.decision import compared, sentences
from textune.evaluation.report import Report
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

MAX_MATRIX = 20
"""Classes up to which the confusion matrix is drawn; above, the most frequent confusions are listed."""
MAX_CONFUSIONS = 20
MAX_CLASSES = 100
MAX_NAME = 60
MAX_TEXT = 200
# `&` and `<` first of all for HTML, `$` for mathematics; an underscore within a word means nothing and stays readable
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def render(report: Report) -> str:
    """The whole report, sections that do not apply left out; of several tasks, each has its own after what they have
    in common."""
    parts = [_head(report), _tasks(report) if report.tasks else _metrics(report), *_sections(report)]
    for name, task in report.tasks.items():
        parts.append(f"## Task {escape(name, MAX_NAME)}\n\n{_summary(task)}")
        # a line that begins with # is a heading: in what the data say it is escaped
        parts += [re.sub("^#", "##", part, flags=re.MULTILINE) for part in (_metrics(task), *_sections(task))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sections(report: Report) -> list[str]:
    """What follows the metrics."""
    sections = [
        _classes(report),
        _confusions(report),
        _decision(report),
        _slices(report),
        _lifts(report),
        _mistakes(report),
        _hardest(report),
    ]
    return [*sections, _bullets("Notes", report.notes)]


def escape(text: str, limit: int) -> str:
    """`text` on one line, shown as it is wherever it stands in the document."""
    return _MARKUP.sub(
        lambda match: f"&{_ENTITIES[match[0]]};" if match[0] in _ENTITIES else f"\\{match[0]}", one_line(text, limit)
    )


_ENTITIES = {"&": "amp", "<": "lt", ">": "gt"}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1) -> str:
    """A table whose first `names` columns are left-aligned and whose other ones, numbers, are right-aligned."""
    rule = ["---" if index < names else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _bullets(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {escape(line, 2000)}" for line in lines) if lines else ""


def _head(report: Report) -> str:
    lines = [f"# Evaluation of {escape(report.dataset, 200) or 'the model'}", _summary(report)]
    lines.extend(f"> **Warning:** {escape(warning, 2000)}" for warning in report.warnings)
    if report.fingerprint:
        lines.append(f"Data fingerprint: `{report.fingerprint}`")
    return "\n\n".join(lines)


def _summary(report: Report) -> str:
    """The main metric, its interval, and what a constant answer reaches."""
    interval = ""
    if report.interval is not None:
        method = f", {report.interval_method}" if report.interval_method else ""
        interval = f" (95 % interval {number(report.interval[0])} to {number(report.interval[1])}{method})"
    rows = f"{report.num_rows:,} {report.unit}s"
    rows += f" ({report.num_left_out:,} left out)" if report.num_left_out else ""
    name = escape(report.metric, 2 * MAX_NAME)
    main = f"**{name} {number(report.value)}**{interval} on {rows}; {escape(report.about(), 200)}."
    baseline = report.baseline
    if baseline is None:
        return main
    values = ", ".join(f"{escape(name, 2 * MAX_NAME)} {number(value)}" for name, value in baseline.metrics.items())
    return f"{main}\n\nBaseline, {escape(baseline.rule, 2 * MAX_TEXT)}: {values}."


def _tasks(report: Report) -> str:
    """Every metric: its mean over the tasks, its standard deviation, and its value for each."""
    columns = ["mean", "std", *report.tasks]
    rows = [
        [name, *(number(values[column]) if column in values else "" for column in columns)]
        for name, values in by_metric(report.metrics, report.tasks).items()
    ]
    return "## Metrics\n\n" + _table(["metric", *(escape(column, MAX_NAME) for column in columns)], rows)


def _metrics(report: Report) -> str:
    rest, averages = split_averages(report.metrics)
    rows = [(name, number(value), metric_called(name).description) for name, value in rest.items()]
    text = "## Metrics\n\n" + _three_columns(rows)
    if averages:
        columns = list(next(iter(averages.values())))
        cells = [[kind, *(number(values[column]) for column in columns)] for kind, values in averages.items()]
        text += "\n\n" + _table(["average", *columns], cells)
    return text


def _three_columns(rows: Sequence[tuple[str, str, str]]) -> str:
    lines = ["| metric | value | what it is |", "| --- | ---: | --- |"]
    return "\n".join([*lines, *(f"| {name} | {value} | {meaning} |" for name, value, meaning in rows)])


def _classes(report: Report) -> str:
    if not report.classes:
        return ""
    head = [
        report.label_map.noun,
        "rows",
        "predicted",
        "correct",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "average_precision",
    ]
    order = list(range(len(report.classes)))
    kind = report.label_map.nouns.capitalize()
    title = f"## {kind}"
    if len(order) > MAX_CLASSES:
        order = report.worst_classes()[:MAX_CLASSES]
        title = f"## {kind}: the {MAX_CLASSES} with the lowest F1 of {len(report.classes):,}"
    if report.train_support is not None:
        head.insert(1, "training rows")
    rows = []
    for index in order:
        row = report.classes[index]
        counts = [f"{count:,}" for count in (row.support, row.predicted, row.correct)]
        if report.train_support is not None:
            counts.insert(0, f"{report.train_support[index]:,}")
        values = (row.precision, row.recall, row.f1, row.roc_auc, row.average_precision)
        rows.append([escape(row.name, MAX_NAME), *counts, *(number(value) for value in values)])
    return f"{title}\n\n{_table(head, rows)}"


def _confusions(report: Report) -> str:
    names = [escape(name, MAX_NAME) for name in report.names]
    if report.matrix is not None and len(names) <= MAX_MATRIX:
        rows = [[name, *(f"{count:,}" for count in counts)] for name, counts in zip(names, report.matrix, strict=True)]
        return "## Confusion matrix\n\n" + _table(["true \\ predicted", *names], rows)
    if not report.confusions:
        return ""
    shown = report.confusions[:MAX_CONFUSIONS]
    cells = [[escape(pair.true, MAX_NAME), escape(pair.predicted, MAX_NAME), f"{pair.rows:,}"] for pair in shown]
    return "## Most frequent confusions\n\n" + _table(["true", "predicted", "rows"], cells, names=2)


def _decision(report: Report) -> str:
    part = report.decision
    if part is None:
        return ""
    text = "## Decision\n\n" + "\n".join(f"- {escape(line, 2000)}" for line in sentences(part))
    text += "\n\n" + _table(
        ["figure", "what it is", "usual rule", "decided"],
        [[row.name, escape(row.description, MAX_TEXT), row.usual, row.decided] for row in compared(part)],
        names=2,
    )
    labels = () if part.fit is None else part.fit.labels[:MAX_CLASSES]
    if part.fit is None or not labels:
        return text
    head = ["label", "why not", "threshold", f"held-out {part.fit.measure} at 0.5", "fitted"]
    rows = [
        [
            escape(label.name, MAX_NAME),
            escape(label.reason, MAX_TEXT),
            *(number(value) for value in (label.threshold, label.usual, label.fitted)),
        ]
        for label in labels
    ]
    return f"{text}\n\n{_table(head, rows, names=2)}"


def _slices(report: Report) -> str:
    """A table for each column."""
    columns = dict.fromkeys(one.column for one in report.slices)
    parts = []
    for column in columns:
        rows = [
            [
                escape(slice_name(one), MAX_NAME),
                f"{one.num_rows:,}",
                number(one.value),
                escape(range_of(one), MAX_TEXT),
            ]
            for one in report.slices
            if one.column == column
        ]
        head = [escape(column, MAX_NAME), f"{report.unit}s", escape(report.metric, 2 * MAX_NAME), "95 % interval"]
        parts.append(f"## By {escape(column, MAX_NAME)}\n\n{_table(head, rows)}")
    return "\n\n".join(parts)


def _lifts(report: Report) -> str:
    if not report.lifts:
        return ""
    head = ["column", "rows with it", f"{escape(report.metric, 2 * MAX_NAME)} without it", "lift", "95 % interval"]
    rows = [
        [
            escape(lift.column, MAX_NAME),
            f"{lift.num_rows:,}",
            number(lift.without),
            signed(lift.lift),
            escape(limits_of(lift), MAX_TEXT),
        ]
        for lift in report.lifts
    ]
    return f"## What each column is worth\n\n{_table(head, rows)}"


def _hardest(report: Report) -> str:
    if not report.hardest:
        return ""
    title = f"Most bits per character ({len(report.hardest)} of {count(report.num_rows, report.unit)})"
    rows = [
        [
            escape(document.place, MAX_TEXT),
            escape(document.text, MAX_TEXT),
            number(document.bits_per_character),
            f"{document.characters:,}",
        ]
        for document in report.hardest
    ]
    return f"## {title}\n\n{_table(['place', 'text', 'bits per character', 'characters'], rows, names=2)}"


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    if report.num_mistakes is None:
        title, score = f"Largest errors ({len(report.mistakes)} of {report.num_rows:,} rows)", "error"
    else:
        title, score = f"Most confident mistakes ({len(report.mistakes)} of {report.num_mistakes:,})", "score"
    head = ["place", "true", "predicted", score, "text"]
    rows = []
    for mistake in report.mistakes:
        text = escape(mistake.text, MAX_TEXT)
        if mistake.pair is not None:
            text += f"<br>{escape(mistake.pair, MAX_TEXT)}"
        label = f"{escape(mistake.label, MAX_NAME)} " if mistake.label is not None else ""
        true, predicted = (escape(answer(value), MAX_TEXT) for value in (mistake.true, mistake.predicted))
        rows.append([escape(mistake.place, MAX_TEXT), true, predicted, f"{label}{number(mistake.score)}", text])
    return f"## {title}\n\n{_table(head, rows, names=len(head))}"
