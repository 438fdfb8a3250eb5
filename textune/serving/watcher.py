"""What is told of the requests while a server answers; before `engine.py`, which tells it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from textune.prediction import Predictor, Scores


class Watcher(Protocol):
    """Is told of every answer. It never gets a text. Calls come from the thread of the event loop where nothing else
    is said, and must be quick."""

    def answered(self, model: str, predictor: Predictor, num_tokens: np.ndarray, scores: Scores) -> None:
        """A model answered n texts of a request, within that request's context: int64 [n] tokens of each, and scores
        by head as `predictor` gives them (float64 [n, K], not calibrated, or [n]), which nobody changes any more."""

    def computed(self, model: str, num_tokens: int, seconds: float) -> None:
        """A model computed a batch of so many tokens. Called by the thread that computes."""

    def refused(self, reason: str) -> None:
        """A request was refused: one of `refusals.STATUS`."""
