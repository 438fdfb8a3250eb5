"""Who is told of a verb that Python calls: a logger, and a bar in a terminal or a notebook.

notices -> warnings of the logger `textune`;  facts, evaluations and figures -> its level `INFO`;  progress -> a bar
"""

from __future__ import annotations

import contextlib
import html
import importlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.pipeline.heard import LOG
from textune.run import Pace, SilentTracker, Tracker, counted, describe, evaluation_line, figures, plain

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.run import EvaluationValues, Facts, StepValues

_SECONDS_BETWEEN = 0.1
"""Between two drawings of the bar in a notebook."""


def bar_here() -> contextlib.AbstractContextManager[Tracker] | None:
    """The bar of a notebook or a terminal; None where there is neither."""
    if _in_notebook():
        return NotebookBar()
    if not sys.stderr.isatty():
        return None
    from textune.console import ConsoleTracker, open_console

    return ConsoleTracker(open_console(stderr=True), only_bar=True)


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this code; nothing is imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class LogTracker(SilentTracker):
    """Says by `logging` what the command line says on standard error."""

    def __init__(self) -> None:
        self._pace = Pace()

    def start(self, config: Mapping[str, JsonValue], facts: Facts, state: Mapping[str, JsonValue]) -> None:
        """The facts of the run, one per line."""
        for name, words in describe(facts).items():
            LOG.info("%s: %s", name, words)

    def notice(self, message: str) -> None:
        """A warning: what the user should know."""
        LOG.warning("%s", message)

    def progress(self, stage: str, done: int, total: int) -> None:
        """A line at intervals."""
        if line := self._pace.stage(stage, done, total):
            LOG.info("%s", line)

    def step(self, values: StepValues) -> None:
        """A line at intervals."""
        if line := self._pace.step(values):
            LOG.info("%s", line)

    def evaluation(self, values: EvaluationValues) -> None:
        """The main metric and a few others."""
        LOG.info("%s", plain(evaluation_line(values)))

    def finish(self, status: str, files: Mapping[str, Path]) -> None:
        """How the run ended."""
        LOG.info("the run is %s", status)


class NotebookBar(SilentTracker):
    """One bar in the output of a cell, drawn again in its place and gone at the end."""

    def __init__(self) -> None:
        self._module = importlib.import_module("IPython.display")
        self._handle: Any = None
        self._last = float("-inf")

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.update(self._module.HTML(""))

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far a stage is."""
        self._draw(stage, done, total, counted(done, total))

    def step(self, values: StepValues) -> None:
        """How far training is, with its figures."""
        done, total = values["step"], values["total_steps"]
        self._draw("training", done, total, f"{counted(done, total)}  {figures(values)}")

    def _draw(self, stage: str, done: int, total: int, words: str) -> None:
        now = time.monotonic()
        if done < total and now - self._last < _SECONDS_BETWEEN:
            return
        self._last = now
        extent = f'value="{done}" max="{total}"' if total else ""
        drawn = self._module.HTML(f"<progress {extent}></progress> {html.escape(f'{stage}  {words}')}")
        if self._handle is None:
            self._handle = self._module.display(drawn, display_id=True)
        else:
            self._handle.update(drawn)
