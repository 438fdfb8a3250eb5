"""What an engine beside PyTorch cannot go with, as a table of the values that each key may have."""

from __future__ import annotations

from typing import NamedTuple

from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.toml import format_key, format_value


class _Limit(NamedTuple):
    """A key with the values that an engine can go with, the first of which is what to write instead of others."""

    place: tuple[str, ...]
    allowed: tuple[object, ...]
    why: str
    """What the engine does."""


LIMITS: dict[str, tuple[_Limit, ...]] = {
    "torch": (),
    "onnxruntime": (
        _Limit(("model", "kind"), ("pretrained",), "takes models of transformers"),
        _Limit(("model", "attention"), ("auto", "padded"), "computes padded batches"),
        _Limit(("model", "compile"), ("auto", "off"), "computes without compiled kernels"),
        _Limit(("tokens", "long"), ("truncate",), "computes padded batches, and windows are computed packed"),
        _Limit(("train", "precision"), ("auto", "fp32"), "computes in fp32"),
        _Limit(("train", "device"), ("auto", "cpu"), "computes on a CPU"),
        _Limit(("train", "gradient_checkpointing"), (False,), "keeps every layer for its backward pass"),
        _Limit(("train", "distributed", "kind"), ("ddp",), "computes in one process"),
        _Limit(("train", "distributed", "devices"), ("auto", 1), "computes in one process"),
    ),
}
"""By `train.engine`."""


def engine_problems(experiment: Experiment) -> list[Problem]:
    """Every key whose value contradicts `train.engine`."""
    engine = experiment.train.engine
    problems = []
    for limit in LIMITS[engine]:
        value: object = experiment
        for name in limit.place:
            value = getattr(value, name, None)
        if value is None or value in limit.allowed:
            continue
        key = format_key(*limit.place)
        message = f'{key} = {format_value(value)} cannot go with train.engine = "{engine}", which {limit.why}.'
        hint = f'Use {key} = {format_value(limit.allowed[0])}, or train.engine = "torch".'
        problems.append(Problem(limit.place, message, hint, value=value))
    return problems
