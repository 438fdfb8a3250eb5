"""A run that goes on from a checkpoint of transformers.Trainer: what is taken over, what is not, and what is said of
both; between `start.py` and `session.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from textune.config import AdamW
from textune.errors import RunError
from textune.run.parts import Parts
from textune.run.start import Start
from textune.run.tracking import Tracker
from textune.training import Adopted, OptimizerState, learning_rate, state_for
from textune.wording import count, listing

_SAME_EPOCHS = 0.1
"""How far apart two counts of the same epochs may be: the last batch of an epoch is smaller than the others."""


def adopted_state(start: Start, parts: Parts, tracker: Tracker) -> OptimizerState | None:
    """What the optimizer knew in the checkpoint that the run takes over, which is said; None where it takes over none.

    RunError where it does not fit: another optimizer, other weights, or more steps than the run has.
    """
    adopted = start.adopted
    if adopted is None:
        return None
    if parts.maker is not None:
        raise _refusal(adopted, "the rows of a stream are counted otherwise there", "Leave --unpickle out.")
    if adopted.step > parts.plan.total_steps:
        reason = f"it is of step {adopted.step:,}, and this run has {parts.plan.total_steps:,}"
        raise _refusal(adopted, reason, "Give the run as many epochs or steps as the one that was stopped.")
    state = state_for(adopted, parts.model, parts.settings.train.optimizer)
    for note in _said(adopted, parts):
        tracker.notice(note)
    return state


def loader_state(start: Start, parts: Parts) -> Mapping[str, object] | None:
    """Where the batches begin; None for the first step."""
    if start.adopted is not None:
        return {"next_step": start.step, "max_tokens": parts.budget.max_tokens, "drawing": parts.plan.drawing}
    return None if start.state is None else dict(start.state.loader)


def _said(adopted: Adopted, parts: Parts) -> Iterator[str]:
    section, plan = parts.settings.train, parts.plan
    yield (
        f"goes on after step {adopted.step:,} of {adopted.folder}, with the moments of its optimizer and its place in"
        " the schedule"
    )
    if adopted.unpickled:
        yield f"{listing(adopted.unpickled)} had to be unpickled, which runs what the file says"
    else:
        yield "its files were read as plain tensors: nothing in them was run"
    if num_new := sum(number not in adopted.state for group in adopted.groups for number in group["params"]):
        yield f"its optimizer has no moments of {count(num_new, 'weight')}, which begin anew"
    if plan.order != "sequential":
        yield "the rows that are left of its epoch are drawn anew: another program's order of rows is not repeated"
    if adopted.best is not None:
        yield "its best model so far is not taken over: the best from here on is kept"
    if adopted.total_steps not in (None, plan.total_steps):
        steps = f"it was to have {adopted.total_steps:,} steps; this run has {plan.total_steps:,}"
        yield f"{steps}, and its schedule counts"
    done = plan.epochs_at(adopted.step) if plan.num_rows else None
    if done and adopted.epochs and not math.isclose(adopted.epochs, done, rel_tol=_SAME_EPOCHS):
        yield (
            f"it had done {adopted.epochs:.3g} epochs; as many steps are {done:.3g} epochs here, of another number of"
            " rows or rows a batch: the run goes on from there"
        )
    here = learning_rate(
        adopted.step,
        schedule=section.schedule,
        peak=section.optimizer.lr,
        warmup_steps=plan.steps(section.schedule.warmup),
        total_steps=plan.total_steps,
    )
    if adopted.rates and not math.isclose(adopted.rates[0], here, rel_tol=1e-6, abs_tol=1e-15):
        yield f"its next learning rate was {adopted.rates[0]:.6g}; here it is {here:.6g}, which counts"
    if isinstance(section.optimizer, AdamW) and adopted.groups:
        yield from _other_numbers(adopted.groups[0], section.optimizer)


def _other_numbers(group: Mapping[str, object], section: AdamW) -> Iterator[str]:
    here = {"betas": (section.beta1, section.beta2), "eps": section.eps, "weight_decay": section.weight_decay}
    for name, value in here.items():
        there = group.get(name)
        there = tuple(there) if isinstance(there, list) else there
        if there is not None and there != value:
            yield f"its {name} was {there}; here it is {value}, which counts"


def _refusal(adopted: Adopted, reason: str, hint: str) -> RunError:
    return RunError(
        f"--unpickle: {adopted.folder} cannot be taken over: {reason}.",
        hint=hint,
        key="unpickle",
        value=str(adopted.folder),
        place=str(adopted.folder),
        reason=reason,
    )
