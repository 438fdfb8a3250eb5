"""How long a run is, and when it logs, evaluates and saves, of TrainingArguments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal

from textune.adapters.foreign import Line
from textune.adapters.trainer.given import Values
from textune.adapters.trainer.updates import plain, share, steps

_LOWER = ("loss", "brier", "mse", "mae", "mape", "perplexity", "error", "bits_per_character", "bits_per_byte")
"""What the lower values of are better."""


def duration_line(values: Values) -> Line:
    """`max_steps`, or epochs."""
    if values["max_steps"] > 0:
        if values.given("num_train_epochs"):
            values.leave_out("num_train_epochs", "max_steps counts")
        return Line("train.duration", steps(values["max_steps"]), values.origin("max_steps"))
    epochs = float(values["num_train_epochs"])
    if epochs <= 0:
        values.refuse("num_train_epochs", "there is nothing to train.", "Write at least one epoch, or max_steps.")
    return Line("train.duration", _epochs(epochs), values.origin("num_train_epochs"))


def _epochs(number: float) -> str:
    return f"{plain(Decimal(repr(number)))} {'epoch' if number == 1 else 'epochs'}"


def _every(values: Values, key: str) -> str:
    """A number of steps, or a share of the run, which Trainer rounds up."""
    amount, total = float(values[key] or 0), values["max_steps"]
    if amount <= 0 or (amount > 1 and amount != int(amount)):
        values.refuse(key, "a whole number of steps, or a share of the run below 1, was expected.")
    if amount >= 1:
        return steps(amount)
    return steps(math.ceil(total * amount)) if total > 0 else share(amount)


def logging_lines(values: Values, duration: Line) -> Iterator[Line]:
    """How often the loss is logged."""
    strategy = values["logging_strategy"]
    if strategy == "steps":
        yield Line("train.log_every", _every(values, "logging_steps"), values.origin("logging_steps"))
        return
    values.leave_out("logging_steps", f"logging_strategy = {strategy}")
    every = "1 epoch" if strategy == "epoch" else duration.value
    yield Line("train.log_every", every, values.origin("logging_strategy"))


def evaluation_lines(values: Values, duration: Line) -> Iterator[Line]:
    """How often the validation rows are scored, and what chooses the best model."""
    strategy = values["eval_strategy"]
    if strategy == "steps":
        key = "eval_steps" if values["eval_steps"] else "logging_steps"
        yield Line("train.evaluate_every", _every(values, key), values.origin(key))
    elif strategy == "epoch":
        yield Line("train.evaluate_every", "1 epoch", values.origin("eval_strategy"))
    else:
        values.leave_out("eval_steps", "eval_strategy = no")
        origin = f"{values.origin('eval_strategy')}: at the end alone"
        yield Line("train.evaluate_every", duration.value, origin)
    if values["eval_on_start"]:
        yield Line("train.evaluate_first", True, values.origin("eval_on_start"))
    keep = "best" if values["load_best_model_at_end"] else "last"
    yield Line("evaluate.keep", keep, values.origin("load_best_model_at_end"))
    yield from _metric_lines(values)


def _metric_lines(values: Values) -> Iterator[Line]:
    key = "metric_for_best_model"
    best = values["load_best_model_at_end"]
    if best and values["eval_strategy"] == "no":
        hint = "Set eval_strategy = epoch."
        values.refuse("load_best_model_at_end", "without evaluations there is no best model.", hint)
    name = values[key] or ("loss" if best else None)
    if name is None:
        return
    metric = name.removeprefix("eval_")
    lower = metric.endswith(_LOWER)
    if values["greater_is_better"] is not None and values["greater_is_better"] == lower:
        direction = "lower" if lower else "greater"
        values.refuse("greater_is_better", f"of {metric}, {direction} values are better.", "Leave it out.")
    if best and lower and values["greater_is_better"] is None and not metric.endswith("loss"):
        values.notes.append(
            f"Of {metric}, lower values are better: the model with the lowest is kept. Trainer keeps the one with the"
            " greatest, unless greater_is_better says otherwise."
        )
    origin = values.origin(key) if values[key] else "load_best_model_at_end without metric_for_best_model"
    yield Line("evaluate.metric", metric, origin)


def checkpoint_lines(values: Values) -> Iterator[Line]:
    """How often everything is saved, and how much of it is kept."""
    strategy, best = values["save_strategy"], values["load_best_model_at_end"]
    if strategy == "steps" and values["save_steps"] <= 0:
        yield Line("train.checkpoint.every", "never", values.origin("save_steps"))
    elif strategy == "steps":
        yield Line("train.checkpoint.every", _every(values, "save_steps"), values.origin("save_steps"))
    else:
        values.leave_out("save_steps", f"save_strategy = {strategy}")
        every = "1 epoch" if strategy == "epoch" else "never"
        yield Line("train.checkpoint.every", every, values.origin("save_strategy"))
    limit = values["save_total_limit"]
    keep = "all" if limit is None or limit <= 0 else limit
    yield Line("train.checkpoint.keep", keep, values.origin("save_total_limit"))
    if strategy == "best" or (best and keep != "all"):
        origin = values.origin("save_strategy" if strategy == "best" else "load_best_model_at_end")
        yield Line("train.checkpoint.keep_best", 1, origin)
    if values["save_only_model"]:
        yield Line("train.checkpoint.save_only_model", True, values.origin("save_only_model"))
