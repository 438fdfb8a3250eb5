"""Whether two runs came to the same end, bit for bit; for `chaos.py`, and for anyone who doubts a resumed run.

Times, notices and paths may differ, and so may the states of the process's own random generators: nothing in textune
draws from them, and every process starts them anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import JsonValue

from textune.errors import RunError
from textune.run import read_manifest, state_of
from textune.training import Checkpoint, newest, places_in

TIMES = {"tokens_per_second", "rows_per_second", "time", "use"}
"""What a line of metrics.jsonl says of the machine and not of the training."""

Line: TypeAlias = dict[str, JsonValue]
"""A step or an evaluation in metrics.jsonl."""

_OWN_TO_A_PROCESS = "random/"
_OF_THE_FOLDER = ("folder", "trackers", "config", "machine")
"""Parts of a checkpoint's state that say where and how it was computed."""
_RESULTS = ("status", "steps", "best_step", "metrics")


@dataclass(frozen=True)
class End:
    """Everything that two runs must share. Tensors are read when they are compared: they may be larger than memory."""

    checkpoint: Checkpoint
    """The last one."""
    best: Path
    """Folder of the best model."""
    state: dict[str, JsonValue]
    """Of the last checkpoint: position, best metric, early stopping, optimizer, fingerprints."""
    lines: list[Line]
    """Steps and evaluations, as metrics.jsonl has them."""
    reports: dict[str, JsonValue]
    """By file name."""
    results: dict[str, JsonValue]
    """What the manifest says of the outcome."""


def end_of(run: Path) -> End:
    """What came of a run; RunError where its folder holds no complete checkpoint or no manifest."""
    checkpoint, passed = newest(run / "checkpoints")
    if checkpoint is None:
        raise RunError(
            " ".join([*passed, f"{run} has no complete checkpoint to compare."]), hint="Let it train to its end first."
        )
    found = state_of(checkpoint)
    found = replace(found, progress=replace(found.progress, seconds=0.0, since_logged=0.0))
    state = {key: value for key, value in found.to_dict().items() if key not in _OF_THE_FOLDER}
    manifest = read_manifest(run)
    return End(
        checkpoint,
        run / "best",
        state,
        lines_of(run),
        {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(run.glob("report*.json"))},
        {name: getattr(manifest, name) for name in _RESULTS},
    )


def lines_of(run: Path) -> list[Line]:
    """The steps and evaluations of a run, without their speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {key: value for key, value in line.items() if key not in TIMES} for line in lines if line["kind"] != "notice"
    ]


def first_difference(one: End, other: End) -> str:
    """The first difference, as a sentence that takes `other` to be right; "" for none."""
    return (
        _first_line(one.lines, other.lines)
        or _first_value(one.state, other.state, "the state of the last checkpoint")
        or _first_tensor(_of_checkpoint(one.checkpoint), _of_checkpoint(other.checkpoint), "the last checkpoint")
        or _first_tensor(_of_folder(one.best), _of_folder(other.best), "the best model")
        or _first_file(one.best, other.best)
        or _first_value(one.reports, other.reports, "the reports")
        or _first_value(one.results, other.results, "manifest.json")
    )


def weights_difference(one: Path, other: Path) -> str:
    """The first difference between the last checkpoints and the best models of two runs that took other ways to the
    same end, such as on other numbers of processes, as a sentence; "" for none."""
    mine, theirs = end_of(one), end_of(other)
    return _first_tensor(
        _of_checkpoint(mine.checkpoint), _of_checkpoint(theirs.checkpoint), "the last checkpoint"
    ) or _first_tensor(_of_folder(mine.best), _of_folder(theirs.best), "the best model")


def largest_difference(one: Path, other: Path) -> float:
    """Of any weight of the best models of two runs; infinite where they do not have the same weights."""
    mine, theirs = _of_folder(one / "best"), _of_folder(other / "best")
    if mine.keys() != theirs.keys():
        return math.inf
    pairs = [(read().double(), theirs[name]().double()) for name, read in mine.items()]
    if any(left.shape != right.shape for left, right in pairs):
        return math.inf
    return max(float((left - right).abs().max()) for left, right in pairs)


def _first_line(one: list[Line], other: list[Line]) -> str:
    for number, (mine, theirs) in enumerate(zip(one, other, strict=False), start=1):
        if found := _first_value(mine, theirs, f"{theirs['kind']} {number} of metrics.jsonl (step {theirs['step']})"):
            return found
    if len(one) != len(other):
        return f"metrics.jsonl has {len(one)} steps and evaluations, not {len(other)}."
    return ""


def _first_value(one: object, other: object, place: str) -> str:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                return f"{place}: {key} {'is missing' if key in other else 'should not be there'}."
            if found := _first_value(one[key], other[key], f"{place}: {key}"):
                return found
        return ""
    # As JSON holds them: there a value that is not a number equals itself.
    mine, theirs = json.dumps(one, allow_nan=False), json.dumps(other, allow_nan=False)
    return "" if mine == theirs else f"{place} is {_cut(mine)}, not {_cut(theirs)}."


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


_Tensors = dict[str, Callable[[], torch.Tensor]]


def _of_checkpoint(checkpoint: Checkpoint) -> _Tensors:
    names = sorted(name for name in checkpoint.names if not name.startswith(_OWN_TO_A_PROCESS))
    return {name: partial(checkpoint.read, name) for name in names}


def _of_folder(folder: Path) -> _Tensors:
    return {
        name: place.read
        for path in sorted(folder.glob("*.safetensors"))
        for name, place in sorted(places_in(path).items())
    }


def _first_tensor(one: _Tensors, other: _Tensors, place: str) -> str:
    if unlike := sorted(one.keys() ^ other.keys()):
        return f"{place}: the tensor {unlike[0]} {'is missing' if unlike[0] in other else 'should not be there'}."
    for name, read in one.items():
        mine, theirs = read(), other[name]()
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return f"{place}: the tensor {name} is {_kind(mine)}, not {_kind(theirs)}."
        bits, right = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (mine, theirs))
        if not torch.equal(bits, right):
            unequal = (bits != right).reshape(mine.numel(), -1).any(dim=1)
            first = int(unequal.nonzero()[0])
            return (
                f"{place}: the tensor {name} differs in {int(unequal.sum()):,} of {mine.numel():,} values; the first"
                f" is"
                f" {mine.reshape(-1)[first].item()!r}, not {theirs.reshape(-1)[first].item()!r}."
            )
    return ""


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _first_file(one: Path, other: Path) -> str:
    """Of the best model's other files: configuration, tokenizer, card."""
    mine, theirs = (
        {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".safetensors"}
        for folder in (one, other)
    )
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            what = "has other content" if name in mine and name in theirs else "is not in both"
            return f"the best model: {name} {what}."
    return ""
