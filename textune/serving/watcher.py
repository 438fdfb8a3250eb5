"""What is told of the requests while a server answers; before `engine.py`, which tells it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from textune.prediction import Scores


class Watcher(Protocol):
    """Is told of every answer. It never gets a text. Calls come from the thread of the event loop, and must be
    quick."""

    def answered(self, model: str, num_tokens: np.ndarray, scores: Scores, seconds: float) -> None:
        """A model answered n texts: int64 [n] tokens of each, scores by head as the model gives them (float64 [n, K],
        not calibrated, or [n]), and the time from the request to its scores."""

    def refused(self, reason: str) -> None:
        """A request was refused: one of `refusals.STATUS`."""

    def queued(self, model: str, num_tokens: int) -> None:
        """So many tokens wait now, with those that are computed."""
