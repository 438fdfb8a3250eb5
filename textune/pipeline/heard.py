"""What a caller in Python hears of a verb: sentences by `logging`, how far it is by a bar in a terminal or a notebook.

Nothing of a run is imported before somebody has to be told of it: some verbs need no PyTorch.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from textune.ranks import launched_rank

if TYPE_CHECKING:
    from textune.run import Tracker

LOG = logging.getLogger("textune")

P = ParamSpec("P")
T = TypeVar("T")


def heard(verb: Callable[P, T]) -> Callable[P, T]:
    """The same function, which says what it has to say where its caller brings no `tracker`."""

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if kwargs.get("tracker") is not None:
            return verb(*args, **kwargs)
        with speaking() as tracker:
            named = cast("dict[str, Any]", kwargs) | {"tracker": tracker}
            return cast("Callable[..., T]", verb)(*args, **named)

    return call


@contextlib.contextmanager
def speaking() -> Iterator[Tracker]:
    """Who is told of a verb that Python calls; of several processes, the first one's alone."""
    from textune.pipeline.listeners import LogTracker, bar_here
    from textune.run import SilentTracker, Trackers

    if launched_rank() or not LOG.isEnabledFor(logging.WARNING):
        yield SilentTracker()
        return
    with contextlib.ExitStack() as stack:
        bar = bar_here()
        trackers: list[Tracker] = [LogTracker()]
        if bar is not None:
            trackers.append(stack.enter_context(bar))
        yield Trackers(trackers)
