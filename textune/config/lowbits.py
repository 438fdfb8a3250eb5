"""What weights of few bits (`model.quantize`, or those of a backbone) cannot go with, and keys that have no effect
with 8 of them."""

from __future__ import annotations

from textune.config.adapters import Quantize
from textune.config.problems import Problem, refuse
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
    return problems + _not_beside(experiment, "model.quantize", "leave model.quantize out")


def require_beside_few_bits(experiment: Experiment) -> None:
    """Raise ConfigError for what cannot go with a backbone whose files hold weights of few bits."""
    refuse(_not_beside(experiment, "a backbone whose weights have few bits", "start from plain weights"))


def _not_beside(experiment: Experiment, what: str, other: str) -> list[Problem]:
    """Every key that weights of few bits cannot go with; `what` names these, and `other` is the other way out."""
    problems: list[Problem] = []
    model, train = experiment.model, experiment.train
    lora = model.lora if isinstance(model, ModelSection) else None
    if lora is not None and lora.options.get("use_dora"):
        message = (
            f"model.lora.options.use_dora cannot go with {what}: the norms that DoRA trains are those of"
            " weights in floating point."
        )
        hint = f"Leave use_dora out, or {other}."
        problems.append(Problem(("model", "lora", "options"), message, hint, value=dict(lora.options)))
    if train.engine != "torch":
        message = f'train.engine = "{train.engine}" cannot go with {what}: it reads plain weights.'
        hint = f'Use train.engine = "torch", or {other}.'
        problems.append(Problem(("train", "engine"), message, hint, value=train.engine))
    if (kind := train.distributed.kind) != "ddp":
        why = (
            "FSDP2 cuts weights of one floating-point type, and loses the scales of those that have few bits"
            if kind == "fsdp"
            else "DeepSpeed moves and cuts weights of floating-point types"
        )
        message = f'train.distributed.kind = "{kind}" cannot go with {what}: {why}.'
        hint = f'Use train.distributed.kind = "ddp", or {other}.'
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
