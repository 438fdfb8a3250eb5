"""Whether the tags of entries nest, by their characters and relative positions."""

from __future__ import annotations

from collections.abc import Iterable

Tag = tuple[int, int, int, int]
"""Of a span: its first character and the one behind it, the positions of its opening and of its closing tag."""


def assert_nested(spans: Iterable[Tag]) -> None:
    """No two tags share a place, and what opened last closes first."""
    numbered = list(enumerate(spans))
    tags = [(start, opening, number, True) for number, (start, _, opening, _) in numbered]
    tags = sorted(tags + [(end, closing, number, False) for number, (_, end, _, closing) in numbered])
    assert len({tag[:2] for tag in tags}) == len(tags)
    open_tags: list[int] = []
    for _, _, number, opens in tags:
        if opens:
            open_tags.append(number)
        else:
            assert open_tags.pop() == number
    assert open_tags == []
