"""What tokenising the rows showed, and what there is to say of it; used by `audit.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from textune.data.inspect.findings import Finding, Level, Numbers
from textune.wording import count, listing

MAX_TRUNCATED, MAX_UNKNOWN = 0.1, 0.01


@dataclass(frozen=True)
class TokenFacts:
    """What tokenising the splits showed."""

    lengths: Mapping[str, np.ndarray]
    """Tokens of each row after truncation (those of all its windows), int64 [N], by split."""
    truncated: Mapping[str, int] = field(default_factory=dict)
    """Rows that lost tokens, by split."""
    windows: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """How many rows have how many windows, by split; empty where long texts are cut."""
    beyond: Mapping[str, int] = field(default_factory=dict)
    """Tokens that cutting each row at `max_length` loses, by split."""
    max_length: int | None = None
    num_unknown: int = 0
    """Unknown tokens in all splits."""
    num_tokens: int = 0
    """Tokens that were searched for unknown ones."""
    padding_share: float | None = None
    """Share of computed tokens that a padded run of the same batches would waste."""


def token_findings(tokens: TokenFacts) -> list[Finding]:
    findings = []
    for name, lengths in tokens.lengths.items():
        if not len(lengths):
            continue
        low, middle, high, top = (int(value) for value in np.percentile(lengths, [0, 50, 95, 100]))
        message = f"{name} rows have {low} to {top} tokens, half of them at most {middle}, 95 % at most {high}."
        numbers: Numbers = {"least": low, "median": middle, "percentile_95": high, "longest": top}
        findings.append(Finding("note", "lengths", message, int(lengths.sum()), set=name, numbers=numbers))
        limit = f" {tokens.max_length}" if tokens.max_length is not None else ""
        windows, beyond = tokens.windows.get(name, {}), tokens.beyond.get(name, 0)
        if windows:
            findings.append(_windows(name, windows, beyond, limit))
        cut = tokens.truncated.get(name, 0)
        if cut:
            level: Level = "warning" if cut > MAX_TRUNCATED * len(lengths) else "note"
            reason = "more windows than tokens.max_windows" if windows else f"longer than tokens.max_length{limit}"
            lost = f", {beyond:,} in all" if beyond and not windows else ""
            message = f"{count(cut, f'{name} row')} ({cut / len(lengths):.1%}) lose tokens{lost}: {reason}."
            numbers = {"share": cut / len(lengths), "tokens_lost": beyond}
            findings.append(Finding(level, "truncated", message, cut, set=name, numbers=numbers))
    if tokens.num_unknown:
        rate = tokens.num_unknown / max(tokens.num_tokens, 1)
        level = "warning" if rate > MAX_UNKNOWN else "note"
        message = f"{rate:.2%} of the tokens ({tokens.num_unknown:,}) are unknown to the tokenizer."
        numbers = {"share": rate}
        findings.append(Finding(level, "unknown-tokens", message, tokens.num_unknown, numbers=numbers))
    if tokens.padding_share is not None:
        used = int(tokens.lengths["train"].sum()) if "train" in tokens.lengths else 0
        wasted = round(used * tokens.padding_share / max(1 - tokens.padding_share, 1e-9))
        message = f"With padding, a run would spend {tokens.padding_share:.0%} of its computation on it."
        numbers = {"share": float(tokens.padding_share)}
        findings.append(Finding("note", "padding", message, wasted, set="train", numbers=numbers))
    return findings


def _windows(name: str, windows: Mapping[int, int], beyond: int, limit: str) -> Finding:
    """How many rows have how many windows, and what cutting them would lose."""
    shown = listing([f"{rows:,} with {number}" for number, rows in windows.items()], 6)
    several = sum(rows for number, rows in windows.items() if number > 1)
    message = f"{name} rows by windows: {shown}."
    if several:
        message += f" Cut at tokens.max_length{limit}, {count(several, 'row')} would lose {beyond:,} tokens."
    rows = {str(number): num for number, num in windows.items()}
    numbers: Numbers = {"rows_by_windows": rows, "tokens_lost": beyond}
    return Finding("note", "windows", message, several, set=name, numbers=numbers)
