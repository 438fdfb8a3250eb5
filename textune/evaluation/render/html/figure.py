"""What a figure of the page is: a drawing, what it shows in words, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textune.evaluation.render.html.svg import Svg


@dataclass(frozen=True)
class Table:
    """Numbers for those who want to read them, or cannot see the drawing."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1
    """The first columns, which are words; the others are numbers, on the right of their cells."""


@dataclass(frozen=True)
class Figure:
    """One figure."""

    title: str
    drawing: Svg
    caption: str = ""
    """How to read it, in a sentence."""
    table: Table | None = None
    wide: bool = False
    """Whether it takes the whole width, and scrolls in its box where there is less."""
    readout: object = None
    """What a script needs to say which value a reader points at."""
