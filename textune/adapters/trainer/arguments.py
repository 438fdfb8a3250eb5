"""TrainingArguments as lines of ours: `read_arguments`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from textune.adapters.foreign import LeftOut, Line
from textune.adapters.trainer.batch import batch_line
from textune.adapters.trainer.given import Values, read_values
from textune.adapters.trainer.sharing import sharing_lines
from textune.adapters.trainer.timing import checkpoint_lines, duration_line, evaluation_lines, logging_lines
from textune.adapters.trainer.trackers import tracker_lines
from textune.adapters.trainer.updates import optimizer_lines, schedule_lines, table_of
from textune.wording import listing, nearest

_ACCELERATOR = (
    "split_batches",
    "dispatch_batches",
    "even_batches",
    "use_seedable_sampler",
    "non_blocking",
    "gradient_accumulation_kwargs",
    "use_configured_state",
)
_ORDERS = {"random": "shuffle", "group_by_length": "bucket", "sequential": "sequential"}


@dataclass(frozen=True)
class Arguments:
    """What TrainingArguments became."""

    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    values: Mapping[str, object]
    """Every argument by the name that it has today, its default filled in."""


def read_arguments(
    given: Mapping[str, object],
    *,
    where: Callable[[str], str],
    defaults: Mapping[str, object] | None = None,
    called: Mapping[str, str] | None = None,
    processes: int = 1,
    has_validation: bool = True,
) -> Arguments:
    """The lines of ours that train as Trainer does with these arguments.

    `given`: by name, also names of earlier versions; values as they are, or as text. `where`: the place of a key in
    words, such as `config.toml, line 12` or `--learning_rate`. `defaults`: those that the other system has instead of
    TrainingArguments' own; `called`: what it calls arguments that have another name there. `processes`: how many
    train. `has_validation`: whether there are rows to evaluate on.
    Raises a ConfigError that lists unknown names and wrong values, or names what cannot be done.
    """
    values = read_values(given, where, defaults or {}, called or {})
    lines = tuple(_lines(values, processes, has_validation))
    return Arguments(lines, tuple(values.left_out), tuple(values.notes), dict(values.values))


def _lines(values: Values, processes: int, has_validation: bool) -> Iterator[Line]:
    duration = duration_line(values)
    yield duration
    yield Line("train.rounding", "up", "as Trainer rounds shares of the run and of an epoch")
    yield _batch(values, processes)
    yield Line("train.order", _ORDERS[values["train_sampling_strategy"]], values.origin("train_sampling_strategy"))
    yield Line("train.seed", values["seed"], values.origin("seed"))
    if values["data_seed"] not in (None, values["seed"]):
        values.refuse("data_seed", "the order of the rows is drawn by seed.", "Give both the same value.")
    if values["full_determinism"]:
        yield Line("train.deterministic", True, values.origin("full_determinism"))
    yield from _computing_lines(values)
    yield from optimizer_lines(values)
    yield from schedule_lines(values)
    yield from logging_lines(values, duration)
    if has_validation:
        yield from evaluation_lines(values, duration)
    else:
        for key in ("eval_strategy", "eval_steps", "metric_for_best_model", "greater_is_better"):
            values.leave_out(key, "there are no validation rows")
    yield from checkpoint_lines(values)
    yield from sharing_lines(values)
    yield from tracker_lines(values)
    if values["label_smoothing_factor"]:
        yield Line("task.label_smoothing", values["label_smoothing_factor"], values.origin("label_smoothing_factor"))


def _batch(values: Values, processes: int) -> Line:
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if values[key] < 1:
            values.refuse(key, "it is a whole number of at least 1.")
    splits, accumulation = _accelerators(values)
    key = "per_device_train_batch_size"
    name = values.names.get(key, values.called.get(key, key))
    if splits:
        values.notes.append("split_batches: a batch is that of all processes together.")
    return batch_line(values["per_device_train_batch_size"], accumulation, 1 if splits else processes, name=name)


def _accelerators(values: Values) -> tuple[bool, int]:
    """Of `accelerator_config`: whether a batch is that of all processes, and the parts of a step."""
    key, accumulation = "accelerator_config", int(values["gradient_accumulation_steps"])
    table = table_of(values, key)
    for name in table:
        if name not in _ACCELERATOR:
            close = nearest(name, _ACCELERATOR)
            hint = f"Did you mean {close}?" if close else f"Its keys are {listing(_ACCELERATOR)}."
            values.refuse(key, f"it takes no {name}.", hint)
    kwargs = table.get("gradient_accumulation_kwargs") or {}
    if not isinstance(kwargs, dict):
        values.refuse(
            key, "gradient_accumulation_kwargs is no table.", "Write gradient_accumulation_steps = N instead."
        )
    parts = kwargs.get("num_steps")
    if parts is not None:
        if not isinstance(parts, int) or parts < 1 or accumulation > 1:
            values.refuse(key, "num_steps cannot be used.", "Write gradient_accumulation_steps = N instead.")
        accumulation = parts
    splits = bool(table.get("split_batches"))
    if values.given(key) and not splits and parts is None:
        values.leave_out(key, "every process reads its own share of a batch")
    return splits, accumulation


def _computing_lines(values: Values) -> Iterator[Line]:
    """Arithmetic, memory, the device."""
    if values["fp16"] and values["bf16"]:
        values.refuse("bf16", "fp16 is set too.", "Leave one of them out.")
    key = next((key for key in ("fp16", "bf16") if values[key]), None)
    yield Line("train.precision", key or "fp32", values.origin(key) if key else values.origin("fp16", "bf16"))
    saving = next(
        (key for key in ("activation_checkpointing", "gradient_checkpointing") if values[key] is not None), None
    )
    if saving is not None:
        yield Line("train.gradient_checkpointing", values[saving], values.origin(saving))
    if values["use_cpu"]:
        yield Line("train.device", "cpu", values.origin("use_cpu"))
    if values.given("torch_compile"):
        on = "auto" if values["torch_compile"] else "off"
        yield Line("model.compile", on, values.origin("torch_compile"))
