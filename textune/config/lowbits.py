"""What weights of few bits (`model.quantize`) cannot go with, and keys that have no effect with 8 of them."""

from __future__ import annotations

from textune.config.adapters import Quantize
from textune.config.problems import Problem
from textune.config.schema import Experiment, ModelSection
from textune.config.toml import format_value


def low_bit_problems(experiment: Experiment) -> list[Problem]:
    """Every key that contradicts `model.quantize`, or that it makes useless."""
    model = experiment.model
    if not isinstance(model, ModelSection) or model.quantize is None:
        return []
    problems = _without_effect(model.quantize)
    bits = model.quantize.bits
    if model.lora is None:
        message = f"model.quantize is set without model.lora, but weights of {bits} bits cannot be trained themselves."
        hint = "Add a table [model.lora], which may be empty: it trains adapters beside them. Or leave quantize out."
        problems.append(Problem(("model", "quantize"), message, hint, value=model.quantize.model_dump()))
    elif model.lora.options.get("use_dora"):
        message = (
            "model.lora.options.use_dora cannot go with model.quantize: the norms that DoRA trains are those of"
            " weights in floating point."
        )
        hint = "Leave use_dora out, or model.quantize."
        problems.append(Problem(("model", "lora", "options"), message, hint, value=dict(model.lora.options)))
    if experiment.train.engine != "torch":
        message = f'train.engine = "{experiment.train.engine}" cannot go with model.quantize: it reads plain weights.'
        hint = 'Use train.engine = "torch", or leave model.quantize out.'
        problems.append(Problem(("train", "engine"), message, hint, value=experiment.train.engine))
    kind = experiment.train.distributed.kind
    if kind != "ddp":
        why = (
            "FSDP2 cuts weights of one floating-point type, and loses the scales of those that bitsandbytes made"
            if kind == "fsdp"
            else "DeepSpeed moves and cuts weights of floating-point types"
        )
        message = f'train.distributed.kind = "{kind}" cannot go with model.quantize: {why}.'
        hint = 'Use train.distributed.kind = "ddp", or leave model.quantize out.'
        problems.append(Problem(("train", "distributed", "kind"), message, hint, value=kind))
    return problems


def _without_effect(quantize: Quantize) -> list[Problem]:
    """Keys about 4 bits, where there are 8."""
    problems: list[Problem] = []
    for name in ("kind", "double") if quantize.bits == 8 else ():
        value = getattr(quantize, name)
        if value != getattr(Quantize(), name):
            message = f"model.quantize.{name} = {format_value(value)} has no effect with model.quantize.bits = 8."
            hint = f"Leave {name} out, or set bits = 4."
            problems.append(Problem(("model", "quantize", name), message, hint, value=value))
    return problems
