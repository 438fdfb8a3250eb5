"""A model card in Markdown, in the form of the Hugging Face hub: what a model is for, what it was trained on, what it
reaches, and what that does not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from textune.evaluation.render.markdown import escape
from textune.evaluation.render.story import Story
from textune.evaluation.report import Report
from textune.evaluation.undefined import is_undefined
from textune.evaluation.wording import number
from textune.wording import count

MAX_LABELS = 100
MAX_METRICS = 12
MAX_TEXT = 400
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def model_card(reports: Mapping[str, Report], story: Story) -> str:
    """The card of a run's model, from the first of its reports, the others beside it."""
    first = next(iter(reports.values()))
    parts = [
        f"# {escape(story.name, MAX_TEXT)}",
        f"A text model trained by textune: {escape(story.facts.get('task', first.about()), MAX_TEXT)}.",
        _results(reports),
        _uses(first),
        _training(story),
        _labels(story),
        _limits(reports),
    ]
    body = "\n\n".join(part for part in parts if part)
    return f"---\n{yaml.safe_dump(_header(reports, story), sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


def _header(reports: Mapping[str, Report], story: Story) -> dict[str, Any]:
    """What the hub reads."""
    first = next(iter(reports.values()))
    kind = "text-generation" if first.amounts is not None else "text-classification"
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": kind, "tags": ["textune"]}
    if _HUB_NAME.fullmatch(story.backbone):
        header["base_model"] = story.backbone
    header["metrics"] = sorted({report.metric for report in reports.values()})
    results = [
        {
            "task": {"type": kind},
            "dataset": {"name": report.dataset or name, "type": "text", "split": name},
            "metrics": [{"type": report.metric, "value": round(report.value, 6)}],
        }
        for name, report in reports.items()
        if not is_undefined(report.value)
    ]
    return header | ({"model-index": [{"name": story.name, "results": results}]} if results else {})


def _results(reports: Mapping[str, Report]) -> str:
    rows = []
    for name, report in reports.items():
        interval = "" if report.interval is None else f"{number(report.interval[0])} to {number(report.interval[1])}"
        known = report.baseline
        baseline = "" if known is None else f"{'' if known.compared == report.metric else known.compared + ' '}"
        baseline += "" if known is None else number(known.value)
        rows.append([name, report.metric, number(report.value), interval, baseline, f"{report.num_rows:,}"])
    head = ["set", "metric", "value", "95 % interval", "constant answer", "rows"]
    first = next(iter(reports.values()))
    others = [
        [name, number(value)] for name, value in list(first.metrics.items())[:MAX_METRICS] if not is_undefined(value)
    ]
    more = f"\n\nOther metrics of {escape(next(iter(reports)), MAX_TEXT)}:\n\n{_table(['metric', 'value'], others)}"
    return f"## Results\n\n{_table(head, rows)}{more if others else ''}"


_OF_TEXTS = """
The folder is a plain Hugging Face folder: `AutoModelForCausalLM.from_pretrained` opens it, and

```python
import textune

model = textune.load("FOLDER")
```
"""
_OF_ANSWERS = """
```python
import textune

model = textune.load("FOLDER")
model.predict(["a text"])
```

or in plain transformers, whose answers do not know of a decision that was fitted:

```python
from transformers import pipeline

pipeline("text-classification", model="FOLDER")(["a text"])
```
"""


def _uses(report: Report) -> str:
    return f"## How to use it\n\n{(_OF_ANSWERS if report.amounts is None else _OF_TEXTS).strip()}"


def _training(story: Story) -> str:
    lines = [f"- {escape(name, MAX_TEXT)}: {escape(said, MAX_TEXT)}" for name, said in story.facts.items()]
    lines += [
        f"- fingerprint of the {escape(name, MAX_TEXT)} data: `{mark}`" for name, mark in story.fingerprints.items()
    ]
    lines += [f"- command: {escape(story.command, MAX_TEXT)}"] if story.command else []
    lines += [f"- versions: {escape(', '.join(f'{name} {of}' for name, of in story.versions.items()), MAX_TEXT)}"]
    return "## Training\n\n" + "\n".join(lines)


def _labels(story: Story) -> str:
    if not story.labels:
        return ""
    shown = ", ".join(escape(name, 60) for name in story.labels[:MAX_LABELS])
    more = f" and {len(story.labels) - MAX_LABELS:,} more" if len(story.labels) > MAX_LABELS else ""
    return f"## Labels\n\n{count(len(story.labels), 'label')}: {shown}{more}."


def _limits(reports: Mapping[str, Report]) -> str:
    """What the reports warn of and note."""
    lines = [
        f"- {escape(name, MAX_TEXT)}: {escape(said, 2000)}"
        for name, report in reports.items()
        for said in (*report.warnings, *report.notes)
    ]
    lines.append("- The intervals say how much the choice of rows matters, nothing of texts of another kind.")
    return "## Limits\n\n" + "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [list(head), ["---"] * len(head), *([escape(cell, MAX_TEXT) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
