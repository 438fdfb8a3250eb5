"""Texts that wait to be computed, of several requests: which of them are next; before `engine.py`.

A request is a job. A batch takes from jobs in their order until it is full. A job that does not fit leaves the rest of
its texts for later batches, behind those that came meanwhile: a large request delays a small one by one batch.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from textune.batches import TokenStore
from textune.prediction import Scores


class Scored(NamedTuple):
    """What a model says of n texts."""

    scores: Scores
    """By head: float64 [n, K] probabilities as the model gives them, not calibrated, or [n] numbers."""
    outputs: np.ndarray
    """float64 [n, C] the logits of all heads, one after the other."""
    num_tokens: np.ndarray
    """int64 [n] tokens that were computed of each text."""


@dataclass(eq=False)
class Job:
    """The texts of one request, as tokens, and what has been computed of them."""

    store: TokenStore
    lengths: np.ndarray
    """int64 [n] tokens of each text."""
    result: Scored
    """Filled part by part."""
    done: Future[Scored] = field(default_factory=Future)
    is_gone: bool = False
    """Nobody waits for it any more."""
    num_taken: int = 0
    num_left: int = field(init=False)
    """Texts without scores."""

    def __post_init__(self) -> None:
        self.num_left = len(self.lengths)
        # The longest first, as everywhere: texts that are computed together are of similar length.
        self._order = np.argsort(-self.lengths, kind="stable")
        self._ends = np.cumsum(self.lengths[self._order])
        self.done.set_running_or_notify_cancel()

    def take(self, room: int, *, at_least_one: bool) -> np.ndarray:
        """int64: the next texts, of at most `room` tokens together."""
        before = int(self._ends[self.num_taken - 1]) if self.num_taken else 0
        stop = int(np.searchsorted(self._ends, before + room, side="right"))
        stop = max(stop, self.num_taken + at_least_one)
        taken = self._order[self.num_taken : stop]
        self.num_taken = max(stop, self.num_taken)
        return np.sort(taken)

    @property
    def has_more(self) -> bool:
        """Whether some of its texts were not taken yet."""
        return self.num_taken < len(self.lengths)


class Share(NamedTuple):
    """The texts of one job that are in a batch."""

    job: Job
    positions: np.ndarray
    """int64, ascending."""


class Waiting:
    """Jobs in their order; several threads may use it."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job) -> None:
        """Add one behind the others."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will come: once all is taken, `take` gives nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, max_tokens: int) -> list[Share]:
        """The next batch, of at most so many tokens or a single text that has more; waits for one. Empty: closed."""
        with self._changed:
            while True:
                if batch := self._next_batch(max_tokens):
                    return batch
                if self._closed:
                    return []
                self._changed.wait()

    def _next_batch(self, max_tokens: int) -> list[Share]:
        shares: list[Share] = []
        room, jobs = max_tokens, self._jobs
        while jobs and room > 0:
            job = jobs.popleft()
            if job.is_gone:
                continue
            # Half for one job at most, where others wait.
            of_job = min(room, max(1, max_tokens // 2)) if jobs else room
            positions = job.take(of_job, at_least_one=not shares)
            if not len(positions):
                jobs.appendleft(job)
                break
            room -= int(job.lengths[positions].sum())
            shares.append(Share(job, positions))
            if job.has_more:
                jobs.append(job)
        return shares
