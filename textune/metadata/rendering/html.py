"""HTML tags as text, and which of them are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textune.config import HtmlRules, Lengths

Attributes = tuple[tuple[str, str], ...]


def kept_tags(tags: Sequence[str], num_characters: np.ndarray, rules: HtmlRules) -> np.ndarray:
    """bool [L] which tags are rendered, given how many characters each encloses (int64 [L])."""
    if not rules.drop and not rules.drop_lengths and rules.drop_all_lengths is None:
        return np.ones(len(tags), bool)
    everything: Lengths = (0, int(num_characters.max(initial=0)))
    ranges = {**rules.drop_lengths, **dict.fromkeys(rules.drop, everything)}
    number_of: dict[str, int] = {}
    number_L = np.fromiter((number_of.setdefault(tag, len(number_of)) for tag in tags), np.int64, len(tags))

    def dropped(by_tag: Sequence[Lengths | None]) -> np.ndarray:
        nothing = (1, 0)
        least_most = np.array([lengths or nothing for lengths in by_tag], dtype=np.int64).reshape(-1, 2)[number_L]
        return (least_most[:, 0] <= num_characters) & (num_characters <= least_most[:, 1])

    dropped_L = dropped([ranges.get(tag) for tag in number_of])
    if rules.drop_all_lengths is not None:
        dropped_L |= dropped([None if tag in rules.keep else rules.drop_all_lengths for tag in number_of])
    return ~dropped_L


def html_tags(tags: Sequence[str], attributes: Sequence[Attributes], rules: HtmlRules) -> tuple[list[str], list[str]]:
    """Opening and closing tags: `<a href:x>` and `</a>`, with the attributes that are kept, without quotes."""
    kept = None if rules.attributes is None else frozenset(rules.attributes)
    opening = [
        f"<{tag}{''.join([f' {name}:{value}' for name, value in pairs if kept is None or name in kept])}>"
        if pairs
        else f"<{tag}>"
        for tag, pairs in zip(tags, attributes, strict=True)
    ]
    closing = {tag: f"</{tag}>" for tag in set(tags)}
    return opening, [closing[tag] for tag in tags]
