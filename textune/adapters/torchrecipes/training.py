"""`train` of a run of torchrecipes: its optimizer, and what Lightning's trainer is told."""

from __future__ import annotations

from collections.abc import Iterator

from textune.adapters.foreign import BatchLine, Line
from textune.adapters.torchrecipes.devices import Devices
from textune.adapters.torchrecipes.given import Settings, require_keys
from textune.adapters.torchrecipes.model import dotted
from textune.adapters.trainer import batch_line
from textune.config import refuse
from textune.wording import count

OPTIMIZER = "module.optim"
_ADAMW = ("torch.optim.AdamW", "torch.optim.adamw.AdamW")
_ADAM = ("torch.optim.Adam", "torch.optim.adam.Adam")
_SGD = ("torch.optim.SGD", "torch.optim.sgd.SGD")
_HOW = {
    "amsgrad": False,
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}
"""Keys of PyTorch's optimizers that have to be as they are by default, or say how the same is computed."""
_COMPUTED = ("foreach", "capturable", "fused")
_PRECISIONS = {"32": "fp32", "32-true": "fp32", "16": "fp16", "16-mixed": "fp16", "bf16": "bf16", "bf16-mixed": "bf16"}
_FOREVER = 1000
"""Epochs that Lightning trains where nobody says how long."""


def train_lines(settings: Settings, devices: Devices, notes: list[str]) -> Iterator[Line]:
    """The section `train`, without checkpoints and what stops early."""
    yield from _length(settings, notes)
    yield _batch(settings, devices.processes)
    yield Line("train.order", "sequential", "the recipe's loader has shuffle = False")
    seed = settings["random_seed"]
    unseeded = "no random_seed: there every run draws other numbers"
    yield Line("train.seed", seed or 0, unseeded if seed is None else settings.origin("random_seed"))
    yield _precision(settings)
    clip = settings["trainer.gradient_clip_val"]
    yield Line("train.max_grad_norm", float(clip or 0.0), settings.origin("trainer.gradient_clip_val"))
    yield from devices.lines
    if settings["trainer.deterministic"]:
        yield Line("train.deterministic", True, settings.origin("trainer.deterministic"))
    yield from _optimizer(settings, notes)
    yield Line("train.schedule.kind", "constant", "the recipe has no schedule")
    yield Line("train.schedule.warmup", "0 steps", "the recipe has no warm-up")
    every = settings["trainer.log_every_n_steps"] or 0
    if every > 0:
        yield Line("train.log_every", steps(every), settings.origin("trainer.log_every_n_steps"))
    yield from _evaluations(settings)


def accumulation(settings: Settings) -> int:
    """Batches of a loader whose gradients are added up; ConfigError for less than one."""
    found = settings["trainer.accumulate_grad_batches"]
    if found is not None and found < 1:
        refuse([settings.problem("trainer.accumulate_grad_batches", "expected at least 1")])
    return int(found or 1)


def _batch(settings: Settings, processes: int) -> BatchLine:
    """Rows of a step: of a process x batches whose gradients are added up x processes, said with all four numbers."""
    rows, added_up = settings["datamodule.batch_size"], accumulation(settings)
    if rows < 1:
        refuse([settings.problem("datamodule.batch_size", "expected at least 1")])
    return batch_line(
        rows,
        added_up,
        processes,
        name="datamodule.batch_size",
        accumulation_name="trainer.accumulate_grad_batches",
    )


def steps(number: int) -> str:
    """A duration."""
    return count(number, "step").replace(",", "")


def _length(settings: Settings, notes: list[str]) -> Iterator[Line]:
    """How long to train; ConfigError for no time at all."""
    epochs, most = settings["trainer.max_epochs"], settings["trainer.max_steps"]
    problems = [
        settings.problem(key, "there is nothing to train", "Set it above 0, or set MODE=test to test alone.")
        for key, value in (("trainer.max_epochs", epochs), ("trainer.max_steps", most))
        if value == 0
    ]
    refuse(problems)
    if most is not None and most > 0:
        yield Line("train.duration", steps(most), settings.origin("trainer.max_steps"))
        if epochs is not None and epochs > 0:
            notes.append(
                f"The run has {steps(most)} (trainer.max_steps), also where {epochs} epochs (trainer.max_epochs) end"
                " sooner: a run has one length."
            )
        return
    if epochs is None or epochs < 0:
        yield Line(
            "train.duration", f"{_FOREVER} epochs", "neither max_epochs nor max_steps: 1000 epochs in Lightning"
        )
        return
    yield Line(
        "train.duration", f"{epochs} {'epoch' if epochs == 1 else 'epochs'}", settings.origin("trainer.max_epochs")
    )


def _precision(settings: Settings) -> Line:
    key = "trainer.precision"
    found = _PRECISIONS.get(str(settings[key]).lower())
    if found is None:
        hint = "Write 32, 16 or bf16: weights stay fp32, and the arithmetic is mixed."
        refuse([settings.problem(key, "there is no such precision here", hint)])
    return Line("train.precision", found, settings.origin(key))


def _optimizer(settings: Settings, notes: list[str]) -> Iterator[Line]:
    target = settings.target(OPTIMIZER)
    said = settings.origin(f"{OPTIMIZER}._target_")
    coupled = target in _ADAM and settings[f"{OPTIMIZER}.weight_decay"]
    if target in (*_ADAMW, *_ADAM, None) and (coupled or settings[f"{OPTIMIZER}.amsgrad"]):
        yield from _own(settings, target or _ADAMW[0], said, notes)
    elif target in (*_ADAMW, *_ADAM, None):
        yield from _adam(settings, said, coupled=target in _ADAM)
    elif target in _SGD:
        yield from _sgd(settings, said)
    else:
        yield from _own(settings, target, said, notes)


def _own(settings: Settings, target: str, said: str, notes: list[str]) -> Iterator[Line]:
    """A class of the user's own, or another of PyTorch's, with the defaults of the class itself."""
    options = settings.table(OPTIMIZER)
    yield Line("train.optimizer.kind", "python", f"{OPTIMIZER}._target_ names a class")
    yield Line("train.optimizer.object", dotted(settings, f"{OPTIMIZER}._target_", target), said)
    for name, value in options.items():
        key = f"{OPTIMIZER}.{name}"
        if name in ("lr", "weight_decay"):
            yield Line(f"train.optimizer.{name}", _number(settings, key), settings.origin(key))
        elif isinstance(value, dict) and "_target_" in value:
            hint = "Let the class make it itself, from plain values."
            refuse([settings.problem(key, "an object cannot be an option of a class of your own", hint)])
        else:
            yield Line(f"train.optimizer.options.{name}", value, key)
    if "weight_decay" not in options and target in _ADAMW:
        yield Line("train.optimizer.weight_decay", 0.01, f"no {OPTIMIZER}.weight_decay: the default of PyTorch")
    elif "weight_decay" not in options:
        notes.append(f"{OPTIMIZER}.weight_decay is not set, so it is 0, whatever the default of {target} is.")
    if "lr" not in options:
        hint = f"Give it: +{OPTIMIZER}.lr=1e-3."
        refuse([settings.problem(f"{OPTIMIZER}.lr", "the rate of a class of your own is not known", hint)])


def _rate(settings: Settings, default: float) -> Line:
    key = f"{OPTIMIZER}.lr"
    rate = settings[key]
    if rate is None:
        return Line("train.optimizer.lr", default, f"{key} = {default:g} (default of PyTorch)")
    return Line("train.optimizer.lr", _number(settings, key), settings.origin(key))


def _number(settings: Settings, key: str) -> float:
    value = settings[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse([settings.problem(key, "expected a number")])
    return float(value)


def _require_usual(settings: Settings) -> None:
    """ConfigError where the optimizer is told what cannot be had."""
    problems = []
    for name, usual in _HOW.items():
        key = f"{OPTIMIZER}.{name}"
        if name not in _COMPUTED and settings[key] not in (None, usual):
            problems.append(settings.problem(key, "there is no such rule here", "Leave it out."))
    refuse(problems)


def _adam(settings: Settings, said: str, *, coupled: bool) -> Iterator[Line]:
    require_keys(settings, OPTIMIZER, ["lr", "betas", "eps", "weight_decay", *_HOW])
    _require_usual(settings)
    key = f"{OPTIMIZER}.weight_decay"
    decay = settings[key]
    betas = settings[f"{OPTIMIZER}.betas"] or [0.9, 0.999]
    if not (isinstance(betas, list) and len(betas) == 2 and all(isinstance(one, int | float) for one in betas)):
        refuse([settings.problem(f"{OPTIMIZER}.betas", "expected two numbers", "Write [0.9,0.999].")])
    eps = settings[f"{OPTIMIZER}.eps"]
    yield Line("train.optimizer.kind", "adamw", f"{said}: without decay the same as AdamW" if coupled else said)
    yield _rate(settings, 1e-3)
    if decay is None:
        yield Line("train.optimizer.weight_decay", 0.0 if coupled else 0.01, f"no {key}: the default of PyTorch")
    else:
        yield Line("train.optimizer.weight_decay", _number(settings, key), settings.origin(key))
    yield Line("train.optimizer.beta1", float(betas[0]), f"{OPTIMIZER}.betas")
    yield Line("train.optimizer.beta2", float(betas[1]), f"{OPTIMIZER}.betas")
    yield Line(
        "train.optimizer.eps", 1e-8 if eps is None else _number(settings, f"{OPTIMIZER}.eps"), f"{OPTIMIZER}.eps"
    )


def _sgd(settings: Settings, said: str) -> Iterator[Line]:
    require_keys(settings, OPTIMIZER, ["lr", "momentum", "dampening", "weight_decay", "nesterov", *_HOW])
    _require_usual(settings)
    if settings[f"{OPTIMIZER}.dampening"]:
        refuse([settings.problem(f"{OPTIMIZER}.dampening", "there is no such rule here", "Leave it out.")])
    yield Line("train.optimizer.kind", "sgd", said)
    yield _rate(settings, 1e-3)
    for name in ("momentum", "weight_decay"):
        key = f"{OPTIMIZER}.{name}"
        value = 0.0 if settings[key] is None else _number(settings, key)
        yield Line(f"train.optimizer.{name}", value, settings.origin(key))
    yield Line("train.optimizer.nesterov", bool(settings[f"{OPTIMIZER}.nesterov"]), f"{OPTIMIZER}.nesterov")


def _evaluations(settings: Settings) -> Iterator[Line]:
    """How often the validation rows are evaluated: in epochs, or in batches of the loader."""
    interval, epochs = settings["trainer.val_check_interval"], settings["trainer.check_val_every_n_epoch"]
    origin = settings.origin("trainer.val_check_interval", "trainer.check_val_every_n_epoch")
    if (isinstance(interval, int) or interval not in (None, 1.0)) and (epochs or 1) > 1:
        reason = f"it is within each epoch, but trainer.check_val_every_n_epoch = {epochs}"
        refuse([settings.problem("trainer.val_check_interval", reason, "Leave one of them out.")])
    if isinstance(interval, int):
        yield Line("train.evaluate_every", steps(max(1, interval // accumulation(settings))), origin)
        return
    share = 1.0 if interval is None else float(interval)
    if not 0 < share <= 1:
        hint = "Write a share of an epoch, such as 0.25, or a whole number of batches."
        refuse([settings.problem("trainer.val_check_interval", "it is not between 0 and 1", hint)])
    if epochs is not None and epochs < 1:
        refuse([settings.problem("trainer.check_val_every_n_epoch", "expected at least 1")])
    every = share if share < 1 else float(epochs or 1)
    yield Line("train.evaluate_every", f"{every:g} {'epoch' if every == 1 else 'epochs'}", origin)
