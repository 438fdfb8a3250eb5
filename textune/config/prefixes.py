"""What `data.metadata` cannot go with."""

from __future__ import annotations

from textune.config.fields import Place
from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.toml import format_key, format_value

_HERE = ("data", "metadata")


def prefix_problems(experiment: Experiment) -> list[Problem]:
    """Every key that contradicts a prefix of columns; none without one."""
    prefix, columns = experiment.data.metadata, experiment.data.columns
    if prefix is None:
        return []
    problems: list[Problem] = []
    taken = {columns.label: "label"} if not columns.labels else dict.fromkeys(columns.labels, "labels")
    taken |= {name: key for name, key in ((columns.text_pair, "text_pair"), (columns.weight, "weight")) if name}
    taken |= {columns.text: "text"} if columns.template is None else {}
    for name in prefix.columns:
        if name in taken:
            message = f"data.metadata.columns names {name!r}, which is data.columns.{taken[name]} already."
            problems.append(Problem((*_HERE, "columns"), message, "Leave it out.", value=name))
    for name in dict.fromkeys(name for name in prefix.columns if prefix.columns.count(name) > 1):
        message = f"data.metadata.columns names {name!r} more than once."
        problems.append(Problem((*_HERE, "columns"), message, "Keep one of them.", value=name))
    named: list[tuple[Place, str]] = [((*_HERE, "allow_leak"), name) for name in prefix.allow_leak]
    if isinstance(prefix.dropout, dict):
        named += [((*_HERE, "dropout", name), name) for name in prefix.dropout]
    for place, name in named:
        if name not in prefix.columns:
            listed = format_value(list(prefix.columns), one_line=True)
            message = f"{format_key(*place)} is about {name!r}, which is not among data.metadata.columns = {listed}."
            problems.append(Problem(place, message, "Name one of them, or leave it out.", value=name))
    if experiment.tokens.long == "windows":
        message = (
            'tokens.long = "windows" cannot go with data.metadata: a prefix stands before a text, not before each'
        )
        message += " of its windows."
        hint = (
            'Set tokens.long = "truncate", which shortens the text and keeps the prefix, or leave data.metadata out.'
        )
        problems.append(Problem(("tokens", "long"), message, hint, value=experiment.tokens.long))
    return problems
