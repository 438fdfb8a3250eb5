"""An optimizer of the user's own, or any other of PyTorch's; below `rules.py`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from textune.config import PythonOptimizer
from textune.owncode import OwnObject

KEY = "train.optimizer.object"


def find_own_optimizer(section: PythonOptimizer) -> OwnObject:
    """The class that a configuration names; CodeError unless it is an optimizer whose step needs no function."""
    code = OwnObject.find(section.object, key=KEY)
    code.require_class({})
    name = code.target.__name__
    if not issubclass(code.target, torch.optim.Optimizer):
        raise code.error(f"the class {name} is not a torch.optim.Optimizer")
    needed = [
        parameter.name
        for parameter in list(inspect.signature(code.target.step).parameters.values())[1:]
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        hint = "A loop of your own (docs/extending.md) can give it."
        raise code.error(f"{name}.step needs {needed[0]}, but a step is done without", hint=hint, value="step")
    if "weight_decay" in section.options:
        raise code.error(
            "train.optimizer.weight_decay says it, for matrices alone", hint="Move it there from options."
        )
    code.require_call(code.target, (), {"params": [], "lr": section.lr, **section.options}, name)
    return code


def build_own_optimizer(section: PythonOptimizer, groups: Sequence[Mapping[str, object]]) -> torch.optim.Optimizer:
    """The optimizer over these groups; an exception in its step becomes a CodeError with file and line.

    CodeError where it does not take the options, or knows no `lr` or no `weight_decay` above 0.
    """
    code = find_own_optimizer(section)
    made: torch.optim.Optimizer = code.build(
        section.options, {"params": [{**group} for group in groups], "lr": section.lr}
    )
    if "lr" not in made.defaults:
        raise code.error("it has no rate lr in its defaults, so that train.schedule would change nothing")
    if section.weight_decay and "weight_decay" not in made.defaults:
        reason = f"it has no weight_decay, but train.optimizer.weight_decay = {section.weight_decay:g}"
        raise code.error(reason, hint="Set it to 0.")
    step = made.step

    @functools.wraps(step)
    def stepping(*given: Any, **named: Any) -> Any:
        with code.calling("in a step"):
            return step(*given, **named)

    vars(made)["step"] = stepping
    return made
