"""What `tokens.long = "windows"` cannot go with, and keys that have no effect without it."""

from __future__ import annotations

from textune.config.problems import Problem
from textune.config.schema import Experiment, TokensSection
from textune.config.toml import format_key, format_value


def window_problems(experiment: Experiment) -> list[Problem]:
    """Every key that contradicts how long texts are read."""
    tokens = experiment.tokens
    if tokens.long == "truncate":
        return _without_effect(tokens)
    problems: list[Problem] = []
    if tokens.truncate != "head":
        message = (
            f'tokens.truncate = "{tokens.truncate}" says which part of a long text is kept, but'
            ' tokens.long = "windows" reads all of it.'
        )
        hint = 'Leave tokens.truncate out, or set tokens.long = "truncate".'
        problems.append(Problem(("tokens", "truncate"), message, hint, value=tokens.truncate))
    second = experiment.data.columns.text_pair
    if second is not None:
        message = (
            f'tokens.long = "windows" cuts single texts, but data.columns.text_pair = "{second}" makes pairs of texts.'
        )
        hint = 'Leave text_pair out and join the texts with data.columns.template, or set tokens.long = "truncate".'
        problems.append(Problem(("tokens", "long"), message, hint, value=tokens.long))
    if tokens.pads:
        name = "pad_multiple" if tokens.pad == "batch" else "pad"
        key, value = format_key("tokens", name), getattr(tokens, name)
        message = f'{key} = {format_value(value)} cannot go with tokens.long = "windows": windows are computed packed.'
        problems.append(Problem(("tokens", name), message, f"Leave {key} out.", value=value))
    if experiment.model.attention == "padded":
        message = 'model.attention = "padded" cannot go with tokens.long = "windows": windows are computed packed.'
        problems.append(Problem(("model", "attention"), message, 'Use "auto".', value="padded"))
    return problems


def _without_effect(tokens: TokensSection) -> list[Problem]:
    """Keys about windows, of a section that has none."""
    defaults = TokensSection()
    problems: list[Problem] = []
    for name in ("stride", "pooling", "max_windows"):
        value = getattr(tokens, name)
        if value != getattr(defaults, name):
            key = format_key("tokens", name)
            message = f'{key} = {format_value(value)} has no effect with tokens.long = "truncate".'
            hint = f'Set tokens.long = "windows", or leave {key} out.'
            problems.append(Problem(("tokens", name), message, hint, value=value))
    return problems
