"""Where the windows of a long text begin and end: a pure function of its length; used by `tokens.py`."""

from __future__ import annotations


def cut_windows(num_tokens: int, *, room: int, stride: int, max_windows: int | None = None) -> list[slice]:
    """Windows of at most `room` tokens over a text of `num_tokens`, each beginning `stride` tokens before the end of
    the one before; the last one ends with the text, unless there would be more than `max_windows`.

    `stride` is less than `room`. A text that fits into one window, even an empty one, has one.
    """
    step = room - stride
    needed = 1 + max(0, -(-(num_tokens - room) // step))
    number = needed if max_windows is None else min(needed, max_windows)
    return [slice(start, min(start + room, num_tokens)) for start in range(0, number * step, step)]
