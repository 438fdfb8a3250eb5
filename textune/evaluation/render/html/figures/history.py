"""Learning curves: the training loss, the learning rate, and each evaluation of each set."""

from __future__ import annotations

from collections.abc import Sequence

from textune.evaluation.render.html.figure import Figure, Table
from textune.evaluation.render.html.svg import (
    NOTHING,
    NUM_STYLES,
    Frame,
    Scale,
    axes,
    curve,
    dot,
    drawing,
    key_lines,
    line,
    style_of,
    tick_label,
)
from textune.evaluation.render.story import Series, Story
from textune.evaluation.wording import number

HEIGHT = 262.0
MAX_METRICS = 4
MAX_LISTED = 60
"""Rows of the table of a curve."""


def loss(story: Story, key: str) -> list[Figure]:
    """The mean training loss."""
    return [] if story.history is None else _of([story.history.loss], "Training loss", "loss", key, story)


def rates(story: Story, key: str) -> list[Figure]:
    """The learning rate."""
    return [] if story.history is None else _of([story.history.rates], "Learning rate", "rate", key, story)


def evaluations(story: Story, key: str) -> list[Figure]:
    """Each of the first metrics, with a line for each set; none where nothing was evaluated while training."""
    found: list[Figure] = []
    for place, (metric, series) in enumerate(
        list(({} if story.history is None else story.history.evaluations).items())
    ):
        if place < MAX_METRICS:
            title = f"{metric} while training"
            found += _of(list(series[:NUM_STYLES]), title, metric, f"{key}-{place}", story, best=place == 0)
    return found


def _of(
    series: Sequence[Series], title: str, y_title: str, key: str, story: Story, *, best: bool = False
) -> list[Figure]:
    series = [one for one in series if one.steps]
    if not series:
        return []
    values = [value for one in series for value in one.values]
    last, low, high = max(one.steps[-1] for one in series), min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    frame = Frame(Scale(0, max(last, 1), 58, 388), Scale(low - room if low else 0.0, high + room, 220, 12))
    parts = [axes(frame, x_title="step", y_title=y_title)]
    if best and story.best_step is not None:
        x = frame.x.at(story.best_step)
        parts.append(line([(x, frame.y.start), (x, frame.y.end)], "baseline"))
    for at, one in enumerate(series):
        parts.append(curve(frame, one.steps, one.values, style_of(at)))
        if len(one.steps) <= 20:
            parts += [dot(frame.x.at(x), frame.y.at(y), f"dot-{at % NUM_STYLES + 1}", 3) for x, y in _points(one)]
    keyed, high_key = (
        key_lines([one.name for one in series], HEIGHT + 6) if best or len(series) > 1 else (NOTHING, 0.0)
    )
    description = "; ".join(f"{one.name} from {number(one.values[0])} to {number(one.values[-1])}" for one in series)
    body = drawing(HEIGHT + 6 + high_key, *parts, keyed, title=title, description=description, key=key)
    caption = f"The vertical line is the best model, of step {story.best_step:,}." if best and story.best_step else ""
    return [Figure(title, body, caption, _table(series))]


def _points(one: Series) -> list[tuple[int, float]]:
    return list(zip(one.steps, one.values, strict=True))


def _table(series: Sequence[Series]) -> Table:
    """The values, thinned evenly where there are many."""
    rows = []
    for one in series:
        points = _points(one)
        kept = points if len(points) <= MAX_LISTED else points[:: -(-len(points) // MAX_LISTED)]
        rows += [
            [one.name, f"{step:,}", number(value) if abs(value) >= 0.001 else tick_label(value)]
            for step, value in kept
        ]
    return Table(["", "step", "value"], rows)
