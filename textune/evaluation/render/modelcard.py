"""A model card in Markdown, in the form of the Hugging Face hub: what a model is for, what it was trained on, what it
reaches, and what that does not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def model_card(reports: Mapping[str, Report], story: Story, *, opened: Opened | None = None) -> str:
    """The card of a model, from the first of its run's reports, the others beside it; without any it tells of the
    model alone. `opened`: where readers find the model; by default in a folder of their own."""
    about = next(iter(reports.values())).about() if reports else "labels of texts"
    parts = [
        f"# {escape(story.name, MAX_TEXT)}",
        f"A text model trained by textune: {escape(story.facts.get('task', about), MAX_TEXT)}.",
        _results(reports),
        _uses(opened or Opened(), writes_texts=_writes_texts(reports, story)),
        _training(story),
        _labels(story),
        _limits(reports, story),
    ]
    body = "\n\n".join(part for part in parts if part)
    return f"---\n{yaml.safe_dump(_header(reports, story), sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


def _writes_texts(reports: Mapping[str, Report], story: Story) -> bool:
    return next(iter(reports.values())).amounts is not None if reports else story.writes_texts


def _header(reports: Mapping[str, Report], story: Story) -> dict[str, Any]:
    """What the hub reads; a language is not known, and a licence only where the backbone states one."""
    kind = "text-generation" if _writes_texts(reports, story) else "text-classification"
    header: dict[str, Any] = {"license": story.license} if story.license else {}
    header |= {"library_name": "transformers", "pipeline_tag": kind, "tags": ["textune"]}
    if _HUB_NAME.fullmatch(story.backbone):
        header["base_model"] = story.backbone
    if reports:
        header["metrics"] = sorted({report.metric for report in reports.values()})
    results = [
        {
            "task": {"type": kind},
            "dataset": _dataset(name, report),
            "metrics": [{"type": report.metric, "value": round(report.value, 6)}],
        }
        for name, report in reports.items()
        if not is_undefined(report.value)
    ]
    return header | ({"model-index": [{"name": story.name, "results": results}]} if results else {})


def _dataset(name: str, report: Report) -> dict[str, str]:
    """The rows of a report; their fingerprint stands where the hub has the revision of a data set."""
    revision = {"revision": report.fingerprint} if report.fingerprint else {}
    return {"name": report.dataset or name, "type": "text", "split": name} | revision


def _results(reports: Mapping[str, Report]) -> str:
    if not reports:
        return ""
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


@dataclass(frozen=True)
class Opened:
    """Where readers of a card find its model."""

    name: str = "FOLDER"
    """A folder, or a name on the hub."""
    on_hub: bool = False
    revision: str | None = None
    """Branch on the hub; None for the usual one."""

    @property
    def in_transformers(self) -> str:
        """The arguments by which plain transformers finds it."""
        return f'"{self.name}"' + (f', revision="{self.revision}"' if self.revision else "")

    @property
    def in_textune(self) -> str:
        """The lines by which textune opens it."""
        if not self.on_hub:
            return f"import textune\n\nmodel = textune.load({self.in_transformers})"
        fetched = f"snapshot_download({self.in_transformers})"
        return f"from huggingface_hub import snapshot_download\n\nimport textune\n\nmodel = textune.load({fetched})"

    def told_on(self, page: str) -> str:
        """A card that tells how to open a folder, telling of this place instead; the rest as it is."""
        folder = Opened()
        page = page.replace(folder.in_textune, self.in_textune)
        return page.replace(f"model={folder.in_transformers})", f"model={self.in_transformers})")


def _uses(opened: Opened, *, writes_texts: bool) -> str:
    """Code that runs as it stands once the name is that of the reader's folder."""
    loaded = opened.in_textune
    if writes_texts:
        plain = _plain(opened, "text-generation", '"The beginning of a text"')
        return f"{_HOW}{_code(loaded)}\n\nor in plain transformers:\n\n{plain}"
    loaded += '\nmodel.predict(["a text"])'
    plain = _plain(opened, "text-classification", '["a text"]')
    return f"{_HOW}{_code(loaded)}\n\n{_PLAIN}\n\n{plain}"


def _plain(opened: Opened, kind: str, argument: str) -> str:
    lines = ["from transformers import pipeline", "", f'model = pipeline("{kind}", model={opened.in_transformers})']
    return _code("\n".join([*lines, f"model({argument})"]))


_HOW = "## How to use it\n\n"
_PLAIN = "or in plain transformers, whose answers do not know of a decision that was fitted:"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _training(story: Story) -> str:
    lines = [f"- {escape(name, MAX_TEXT)}: {escape(said, MAX_TEXT)}" for name, said in story.facts.items()]
    lines += [
        f"- fingerprint of the {escape(name, MAX_TEXT)} data: `{mark}`" for name, mark in story.fingerprints.items()
    ]
    lines += [f"- command: {escape(story.command, MAX_TEXT)}"] if story.command else []
    versions = ", ".join(f"{name} {of}" for name, of in story.versions.items())
    lines += [f"- versions: {escape(versions, MAX_TEXT)}"] if versions else []
    return "## Training\n\n" + "\n".join(lines) if lines else ""


def _labels(story: Story) -> str:
    if not story.labels:
        return ""
    shown = ", ".join(escape(name, 60) for name in story.labels[:MAX_LABELS])
    more = f" and {len(story.labels) - MAX_LABELS:,} more" if len(story.labels) > MAX_LABELS else ""
    return f"## Labels\n\n{count(len(story.labels), 'label')}: {shown}{more}."


def _limits(reports: Mapping[str, Report], story: Story) -> str:
    """What the reports warn of and note, and what is different outside textune."""
    lines = [
        f"- {escape(name, MAX_TEXT)}: {escape(said, 2000)}"
        for name, report in reports.items()
        for said in (*report.warnings, *report.notes)
    ]
    lines += [f"- {escape(said, 2000)}" for said in story.limits]
    if reports:
        lines.append("- The intervals say how much the choice of rows matters, nothing of texts of another kind.")
    else:
        lines.append("- Nothing is known here of how good the model is.")
    return "## Limits\n\n" + "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [list(head), ["---"] * len(head), *([escape(cell, MAX_TEXT) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
