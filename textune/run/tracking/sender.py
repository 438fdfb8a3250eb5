"""A thread that keeps one sink up to date while a run trains.

    a line in metrics.jsonl --(wake)--> open --> send, send, ... --(nothing new)--> wait
                                         ^  any fault: close, wait 1, 2, ... 60 s  |
                                         +-----------------------------------------+
    the run ends --(end)--> send the rest --> files --> finish --> close

The file is the queue: it takes no memory, and nothing that a sink does can fill it or make the run wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textune.run.tracking.delivery import Delivery, trouble_of
from textune.run.tracking.sink import Ended

BATCH_SECONDS = 5.0
"""Between two sendings, so that many records travel together: MLflow takes 13 ms of processor time for each, however
few they are."""
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
"""Waiting after a fault: twice as long each time."""
LAST_ATTEMPTS = 3
"""Once the run has ended, a second apart."""
ANSWER_SECONDS = 60.0
"""A sink that does nothing for so long is reported."""


@dataclass(frozen=True)
class _End:
    """How the run ended, and what it leaves."""

    ended: Ended
    files: Mapping[str, Path]


class Sender:
    """Sends to one sink, in a thread of its own that ends with the process, whatever the sink does."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.trouble = ""
        """Why the sink does not work now."""
        self.is_done = False
        """Whether the sink has everything and knows how the run ended."""
        self._at: float | None = None
        """Since when the sink has been working on what it was last asked, by the monotonic clock."""
        self._end: _End | None = None
        self._is_abandoned = False
        self._news, self._hurry = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker {delivery.target.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new in metrics.jsonl."""
        self._news.set()

    def end(self, ended: Ended, files: Mapping[str, Path]) -> None:
        """Nothing more comes: send the rest, then finish."""
        self._end = _End(ended, files)
        self._hurry.set()
        self._news.set()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for the thread; whether the sink has everything."""
        self._thread.join(seconds)
        return self.is_done

    def abandon(self) -> None:
        """Ask nothing more of the sink. A thread that is in it stays there, or ends as soon as it comes back."""
        self._is_abandoned = True
        self._hurry.set()
        self._news.set()

    def complaint(self) -> str:
        """Why the sink does not work, in words; empty where it does."""
        since = self._at
        if since is not None and time.monotonic() - since > ANSWER_SECONDS:
            return f"it has not answered for {ANSWER_SECONDS:.0f} s"
        return self.trouble

    def _work(self) -> None:
        delay, is_open, attempts = FIRST_DELAY_SECONDS, False, LAST_ATTEMPTS
        while attempts and not (self._is_abandoned or self.is_done):
            self._news.clear()  # before looking: news of an end that comes right now is not lost
            end = self._end  # what comes before the end is in the file by now
            self._at = time.monotonic()
            try:
                if not is_open:
                    self.delivery.open()
                    is_open = True
                self._send(end)
            except BaseException as error:  # a panic in Rust, too, is no Exception: whatever it is, the run goes on
                self._at = None
                self.trouble = trouble_of(error)
                self.delivery.close()
                is_open = False
                if end is None:
                    self._hurry.wait(delay)  # the end of the run cuts it short
                    delay = min(2 * delay, LONGEST_DELAY_SECONDS)
                elif attempts := attempts - 1:
                    time.sleep(FIRST_DELAY_SECONDS)
                continue
            self._at, self.trouble, delay = None, "", FIRST_DELAY_SECONDS
            if not (self.is_done or self._is_abandoned):
                self._hurry.wait(BATCH_SECONDS)
                self._news.wait()
        self.delivery.close()

    def _send(self, end: _End | None) -> None:
        while not self._is_abandoned and self.delivery.send_next():
            self._at = time.monotonic()
        if end is not None and not self._is_abandoned:
            self.delivery.finish(end.ended, end.files)
            self.is_done = True
