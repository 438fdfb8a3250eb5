"""What `model.lora` cannot go with, and values of it that train nothing."""

from __future__ import annotations

from textune.config.problems import Problem, refuse
from textune.config.schema import Experiment, ModelSection


def lora_problems(experiment: Experiment) -> list[Problem]:
    """Every key that contradicts training few numbers beside frozen weights."""
    model = experiment.model
    if not isinstance(model, ModelSection) or model.lora is None:
        return []
    problems: list[Problem] = []
    if model.unfreeze:
        message = "model.unfreeze cannot go with model.lora, which leaves the backbone's own weights as they are."
        hint = "Leave it out; model.lora.targets says which layers get adapters, and the head is trained anyway."
        problems.append(Problem(("model", "unfreeze"), message, hint, value=list(model.unfreeze)))
    if "backbone" in model.freeze:
        message = 'model.freeze = "backbone" leaves nothing to adapt: a frozen layer gets no adapter.'
        hint = "Leave it out: with model.lora the backbone's own weights are not trained anyway."
        problems.append(Problem(("model", "freeze"), message, hint, value=list(model.freeze)))
    if not model.lora.targets:
        message = "model.lora.targets names no layer: there is nothing to adapt."
        hint = 'Use "all-linear", or leave model.lora out and set model.freeze = "backbone" to train the head alone.'
        problems.append(Problem(("model", "lora", "targets"), message, hint, value=[]))
    return problems


def require_adaptable(experiment: Experiment) -> None:
    """Raise ConfigError for what `lora_problems` finds."""
    refuse(lora_problems(experiment))
