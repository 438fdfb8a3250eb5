"""What became of the rows of each split: read, left out, truncated."""

from __future__ import annotations

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import WIDTH, box, drawing, label, named
from textune.evaluation.render.story import Story

MAX_SPLITS = 12
START = 110.0


def splits(story: Story, key: str) -> list[Figure]:
    """A bar for each split, with the part of its rows that lost tokens, and what was left out behind it."""
    known = [split for split in story.splits if split.rows][:MAX_SPLITS]
    if not known:
        return []
    most = max((split.rows or 0) + split.left_out for split in known)
    room = WIDTH - START - 64
    parts = []
    for place, split in enumerate(known):
        y, rows = 8.0 + 30 * place, split.rows or 0
        wide = room * rows / most
        parts.append(label(START - 10, y + 12, named(split.name, START - 14), anchor="end", kind="name"))
        parts.append(box(START, y, wide, 16, "bar-1", rx=2))
        if split.truncated:
            parts.append(box(START, y + 8, wide * split.truncated / rows, 8, "bar-wrong", rx=2))
        parts.append(box(START + wide, y, room * split.left_out / most, 16, "faint-bar"))
        parts.append(label(START + wide + room * split.left_out / most + 6, y + 12, f"{rows:,}", kind="tick"))
    title = "Rows"
    lost = sum(split.truncated or 0 for split in known)
    out = sum(split.left_out for split in known)
    description = ", ".join(f"{split.name} {split.rows:,}" for split in known)
    body = drawing(30.0 * len(known) + 8, *parts, title=title, description=description, key=key)
    caption = f"Truncated (lower half of a bar): {lost:,}. Left out (faint): {out:,}."
    cells = [
        [
            split.name,
            "unknown" if split.rows is None else f"{split.rows:,}",
            f"{split.left_out:,}",
            "unknown" if split.truncated is None else f"{split.truncated:,}",
        ]
        for split in story.splits
    ]
    return [Figure(title, body, caption, Table(["set", "rows", "left out", "truncated"], cells))]
