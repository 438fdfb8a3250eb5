"""What a run says while it works, in lines: a terminal shows them (`console.py`), and run.log keeps them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from textune.wording import clock, count

if TYPE_CHECKING:
    from textune.prediction import ModelCard
    from textune.run.tracking import EvaluationValues, StepValues

PLAIN_WIDTH = 10_000
"""Width without a terminal: whatever reads the output needs unbroken lines."""
INTERVAL_SECONDS = 10.0
"""Between two lines on how far a stage or the training is."""
MAX_TASKS = 6
"""Tasks whose main metric is shown while training."""
_BESIDE_THE_MAIN = ("accuracy", "f1", "f1_macro", "mcc", "log_loss", "pearson", "mae")

Line: TypeAlias = tuple[tuple[str, str], ...]
"""A line as parts: a text, and the style that a terminal gives it."""


def plain(line: Line) -> str:
    """The words of a line."""
    return "".join(text for text, _ in line)


def notice_line(message: str) -> Line:
    """A sentence, marked as a note."""
    return ("note:", "yellow"), (f" {message}", "")


def evaluation_line(values: EvaluationValues) -> Line:
    """The main metric and a few others; of several tasks, what it is of each."""
    metrics, main = values["metrics"], values["main"]
    others = [name for name in _BESIDE_THE_MAIN if name in metrics and name != main]
    by_task = {f"{task} {main}": f"{task}/{main}" for task in _tasks_with(metrics, main)}
    named = {main: main, **(by_task or {name: name for name in others[:3]})}
    shown = "  ".join(f"{name} {metrics[key]:.4f}" for name, key in named.items())
    what = "evaluated" if values["set"] == "validation" else f"evaluated {values['set']}"
    line = (f"{what} at step {values['step']}, epoch {values['epoch']:.2f}: {shown}", "")
    return (line, ("  best so far", "green")) if values["is_best"] else (line,)


def figures(values: StepValues) -> str:
    """Loss, learning rate and speed of the last logged steps."""
    return f"loss {values['loss']:.4f}  lr {values['lr']:.1e}  {values['tokens_per_second']:,.0f} tokens/s"


def counted(done: int, total: int) -> str:
    """How far a stage is; `total` 0 means not known."""
    return f"{done:,}/{total:,}" if total else count(done, "row")


class Pace:
    """Lines on how far a run is, of which there is one every `INTERVAL_SECONDS`."""

    def __init__(self) -> None:
        self._last_line = float("-inf")
        self._started: tuple[float, int] | None = None

    def stage(self, stage: str, done: int, total: int) -> str | None:
        """The line on a stage that is not at its end, if one is due."""
        if (done < total or total == 0) and self._is_due():
            return f"{stage}: {counted(done, total)}"
        return None

    def step(self, values: StepValues) -> str | None:
        """The line on a logged step, if one is due or it is the last, with the time that is left."""
        done, total = values["step"], values["total_steps"]
        if self._started is None:
            self._started = (time.monotonic(), done)
        if not (self._is_due() or done == total):
            return None
        elapsed, since = time.monotonic() - self._started[0], done - self._started[1]
        left = f"  {clock(elapsed / since * (total - done))} left" if since and done < total else ""
        return f"step {done}/{total}  epoch {values['epoch']:.2f}  {figures(values)}{left}"

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last_line < INTERVAL_SECONDS:
            return False
        self._last_line = now
        return True


def closing_words(
    run: Path, card: ModelCard, *, steps: int, best_step: int, seconds: float, complete_before: bool = False
) -> str:
    """Where the model of a run is, and the commands that use it, in a few lines."""
    num = count(steps, "step")
    done = f"{run} is complete: {num}." if complete_before else f"Trained {num} in {seconds:.0f} s."
    named, code = shlex.quote(str(run)), "".join(f" --code {path}" for path in card.code)
    return (
        f"{done} The best model (step {best_step:,}) is in {run}/best.\n"
        f"Next:  {_use_of(card, named)}{code}\n"
        f"       textune evaluate {named} {_evaluated(card)}{code}\n"
        f"       textune info {named}"
    )


def _use_of(card: ModelCard, named: str) -> str:
    """How to use a model: a classifier needs a file unless it reads one text column."""
    columns = card.columns
    if card.is_language_model:
        return f"textune generate {named} --prompt 'a text'"
    if columns.template is None and columns.text_pair is None:
        return f"textune predict {named} 'a text'"
    return f"textune predict {named} --data FILE --output FILE"


def _evaluated(card: ModelCard) -> str:
    """On what a model can be evaluated at once: documents with their metadata and without it, or rows with labels."""
    return "--by-metadata" if card.documents is not None else "--data FILE"


def _tasks_with(metrics: Mapping[str, float], main: str) -> list[str]:
    """The first tasks that have the main metric each, beside their mean."""
    return [name.removesuffix(f"/{main}") for name in metrics if name.endswith(f"/{main}")][:MAX_TASKS]
