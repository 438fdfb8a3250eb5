"""Whether two runs have come to the same, for tests."""

from __future__ import annotations

from textune.chaos.alike import End, end_of, first_difference

__all__ = ["End", "end_of", "same_end"]


def same_end(one: End, other: End) -> None:
    """Bit for bit."""
    difference = first_difference(one, other)
    assert not difference, difference
