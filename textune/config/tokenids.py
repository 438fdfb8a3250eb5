"""What rows that come as token ids (`data.columns.tokens`) cannot go with."""

from __future__ import annotations

from textune.config.fields import Place
from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.sources import StreamSource
from textune.config.taskkinds import ConditionalLmTask
from textune.config.toml import format_key


def token_id_problems(experiment: Experiment) -> list[Problem]:
    """Every key that needs the texts themselves; none where rows are tokenised here."""
    data, name = experiment.data, experiment.data.columns.tokens
    if name is None:
        return []
    found: list[tuple[Place, object, str]] = []
    if data.columns.template is not None:
        found.append((("data", "columns", "template"), data.columns.template, "puts texts together"))
    if data.metadata is not None:
        found.append((("data", "metadata"), None, "puts columns before a text"))
    if experiment.tokens.long == "windows":
        found.append((("tokens", "long"), "windows", "cuts texts"))
    if isinstance(data.train, StreamSource):
        found.append((("data", "train", "kind"), "stream", "tokenises texts as they are read"))
    if isinstance(experiment.task, ConditionalLmTask):
        found.append((("task", "kind"), experiment.task.kind, "renders documents itself"))
    problems = [
        Problem(
            place,
            f"{format_key(*place)} {what}, but data.columns.tokens = {name!r} gives rows that are tokenised already.",
            "Leave one of them out.",
            value=value,
        )
        for place, value, what in found
    ]
    taken = {data.columns.text: "text", data.columns.label: "label", data.columns.weight: "weight"}
    if name in taken:
        message = f"data.columns.tokens names {name!r}, which is data.columns.{taken[name]} already."
        problems.append(Problem(("data", "columns", "tokens"), message, "Name another column.", value=name))
    return problems
