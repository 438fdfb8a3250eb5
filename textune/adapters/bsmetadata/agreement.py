"""Numbers that both files of a run have: the original takes some of each and never compares them; here they must
agree, or one file is preferred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from textune.adapters.bsmetadata.deepspeed import ZeroFile
from textune.adapters.bsmetadata.given import Given, Settings
from textune.adapters.bsmetadata.keys import DATA
from textune.adapters.shown import shown
from textune.config import Problem, parse_key, refuse

Prefer = Literal["none", "config", "deepspeed"]


@dataclass(frozen=True)
class _Pair:
    """A number with two owners."""

    ours: str
    """In the Hydra configuration."""
    theirs: tuple[str, ...]
    """In the DeepSpeed file; the first that is there counts."""
    original: str
    """Which of them the original takes."""
    silent: bool = False
    """Whether a value that nobody set in the Hydra configuration gives way."""
    same: Callable[[Any, Any], bool] = lambda ours, theirs: ours == theirs


_SCHEDULES = {
    "linear": "WarmupDecayLR",
    "cosine": "WarmupCosineLR",
    "constant_with_warmup": "WarmupLR",
}
"""Shapes of the learning rate by both names."""

PAIRS = (
    _Pair(
        "gradient_accumulation_steps",
        ("gradient_accumulation_steps",),
        "the original trains with the second and counts its steps by the first",
    ),
    _Pair(
        DATA + "per_device_train_batch_size",
        ("train_micro_batch_size_per_gpu",),
        "the original loads rows by the first and counts them by the second",
    ),
    _Pair(
        "learning_rate",
        ("scheduler.params.warmup_max_lr", "optimizer.params.lr"),
        "the original trains with the second and ignores the first",
        silent=True,
    ),
    _Pair(
        "num_warmup_steps",
        ("scheduler.params.warmup_num_steps",),
        "the original trains with the second and ignores the first",
        silent=True,
    ),
    _Pair(
        "max_train_steps",
        ("scheduler.params.total_num_steps",),
        "the original stops after the first, and its learning rate ends at the second",
    ),
    _Pair(
        "weight_decay",
        ("optimizer.params.weight_decay",),
        "the original trains with the first, which its groups of weights have, and ignores the second",
    ),
    _Pair(
        "lr_scheduler_type",
        ("scheduler.type",),
        "the original trains with the second and ignores the first",
        silent=True,
        same=lambda ours, theirs: _SCHEDULES.get(ours) == theirs,
    ),
)
"""Every number that both files may have; the rows of a step are compared apart."""


@dataclass(frozen=True)
class Agreed:
    """The numbers that both files have, settled."""

    settings: Settings
    zero: ZeroFile
    chosen: dict[str, Given]
    """By the key of the Hydra configuration."""
    batch: Batch
    notes: tuple[str, ...]
    """How contradictions were settled."""

    def value(self, key: str) -> Any:
        """The settled value."""
        return self.chosen[key].value

    def origin(self, key: str) -> str:
        """What it was made of."""
        given = self.chosen[key]
        return f"{given.short} of {given.place}" if given.place == self.zero.name else self.settings.origin(key)


@dataclass(frozen=True)
class Batch:
    """The rows of an optimizer step, and what they are made of."""

    size: int
    origin: str
    accumulation: int = 1
    """Steps of gradient accumulation that it was counted from."""
    processes: int = 0
    """Processes that it was counted from; 0 where the DeepSpeed file says it whole."""


def agree(settings: Settings, zero: ZeroFile, *, prefer: Prefer = "none", processes: int | None = None) -> Agreed:
    """Both files' numbers as one; ConfigError has a sentence with both values for each that they do not agree on.

    `prefer`: whose value counts where they differ. `processes`: how many train; by default as many as the rows of a
    step in the DeepSpeed file need, or one.
    """
    chosen: dict[str, Given] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for pair in PAIRS:
        ours = settings.given(pair.ours)
        theirs = next((found for key in pair.theirs if (found := zero.get(key)) is not None), None)
        differ = theirs is not None and not pair.same(ours.value, theirs.value)
        gives_way = pair.silent and ours.is_default
        if theirs is not None and ours.value is None:
            gives_way = True
        if not differ or theirs is None:
            chosen[pair.ours] = ours
        elif gives_way:
            chosen[pair.ours] = theirs
        elif prefer == "none":
            message = f"{ours.said} and {_full(theirs)} disagree: {pair.original}."
            problems.append(Problem(parse_key(pair.ours), message, value=ours.value, origin=ours.place))
            chosen[pair.ours] = ours
        else:
            chosen[pair.ours] = ours if prefer == "config" else theirs
            notes.append(
                f"{ours.said} and {_full(theirs)} disagree; {shown(chosen[pair.ours].value)} is used (--prefer"
                f" {prefer}). {pair.original[0].upper()}{pair.original[1:]}."
            )
    batch, problem = _batch(settings, zero, chosen, prefer, processes)
    if problem is not None:
        problems.append(problem)
    if problems:
        last = problems[-1]
        hint = "Make the two agree, or say which one counts: --prefer config or --prefer deepspeed."
        problems[-1] = Problem(last.place, last.message, f"{last.hint} {hint}".strip(), last.value, last.origin)
    refuse(problems)
    return Agreed(settings, zero, chosen, batch, tuple(notes))


def _full(given: Given) -> str:
    """A value of the DeepSpeed file with its whole key."""
    return f"{given.key} = {shown(given.value)} ({given.place})"


def _batch(
    settings: Settings, zero: ZeroFile, chosen: dict[str, Given], prefer: Prefer, processes: int | None
) -> tuple[Batch, Problem | None]:
    """Rows of a step: those of a process x accumulation x processes, which the DeepSpeed file may also give."""
    micro, accumulation = (chosen[DATA + "per_device_train_batch_size"], chosen["gradient_accumulation_steps"])
    product = micro.value * accumulation.value
    total = zero.get("train_batch_size")
    factors = f"per_device_train_batch_size {micro.value} x gradient_accumulation_steps {accumulation.value}"
    if total is None or prefer == "config":
        count = processes or (total.value // product if total is not None and total.value % product == 0 else 1)
        return Batch(product * count, f"{factors} x {_processes(count)}", accumulation.value, count), None
    if processes is None and total.value % product == 0:
        count = total.value // product
        return Batch(total.value, f"{factors} x {_processes(count)}", accumulation.value, count), None
    if processes is not None and total.value == product * processes:
        return Batch(total.value, f"{factors} x {_processes(processes)}", accumulation.value, processes), None
    if prefer == "deepspeed":
        return Batch(total.value, f"train_batch_size of {zero.name}"), None
    made = f"{product * (processes or 1)}" if processes is not None else f"a multiple of {product}"
    by = f" x {_processes(processes)}" if processes is not None else ""
    message = f"{_full(total)} and {factors}{by}, which is {made}, disagree: DeepSpeed stops there."
    return Batch(total.value, ""), Problem(parse_key(DATA + "per_device_train_batch_size"), message, value=micro.value)


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"
