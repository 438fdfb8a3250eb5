"""The inputs of the component `text_classification_finetune`: name, type, default and choices in one table.

`component.yaml` is made from it, words are read by it, and a test compares it with the component's documentation.
Booleans are the strings "true" and "false", as AzureML has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from textune.config import Problem, parse_key, refuse
from textune.wording import nearest

InputType = Literal["string", "integer", "number", "uri_file", "uri_folder", "custom_model", "mlflow_model", "mltable"]
Value = str | int | float | None


@dataclass(frozen=True)
class Input:
    """One input of a component."""

    name: str
    type: InputType
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    """What a string may be; empty for any."""
    optional: bool = True
    minimum: float | None = None
    """The smallest number that is allowed."""
    above: float | None = None
    """A number that the value must be greater than."""
    below: float | None = None
    """A number that the value must be less than."""
    instead: Mapping[str, str] | None = None
    """What to do about values that people write for good reasons, by value."""


SWITCH = ("true", "false")
"""The two values of a boolean."""

LORA = (
    Input("apply_lora", "string", "false", "Train low-rank updates beside frozen weights (LoRA).", SWITCH),
    Input("merge_lora_weights", "string", "true", "Add the updates to the weights of the saved model.", SWITCH),
    Input("lora_alpha", "integer", 128, "The updates are multiplied by lora_alpha / lora_r.", minimum=1),
    Input("lora_r", "integer", 8, "Rank of the updates.", minimum=1),
    Input("lora_dropout", "number", 0.0, "Dropout before the updates.", minimum=0, below=1),
)
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")
METRICS = ("loss", "f1_macro", "mcc", "accuracy", "precision_macro", "recall_macro")
_FEW_BITS = "Weights of few bits are [model.quantize] of a textune config; here, use 32 or 16."
TRAINING = (
    Input("num_train_epochs", "integer", 1, "Epochs.", minimum=1),
    Input("max_steps", "integer", -1, "Optimizer steps; a positive number overrides num_train_epochs."),
    Input("per_device_train_batch_size", "integer", 1, "Training rows computed at once on a device.", minimum=1),
    Input("per_device_eval_batch_size", "integer", 1, "Validation rows computed at once on a device.", minimum=1),
    Input("auto_find_batch_size", "string", "false", "Go on with less at once if memory runs out.", SWITCH),
    Input("optim", "string", "adamw_hf", "The optimizer.", ("adamw_hf", "adamw_torch", "adafactor")),
    Input("learning_rate", "number", 2e-5, "Peak learning rate.", above=0),
    Input("warmup_steps", "integer", 0, "Steps in which the learning rate rises to its peak.", minimum=0),
    Input("weight_decay", "number", 0.0, "Weight decay, on all weights but biases and norms.", minimum=0),
    Input("adam_beta1", "number", 0.9, "AdamW's beta1.", minimum=0, below=1),
    Input("adam_beta2", "number", 0.999, "AdamW's beta2.", minimum=0, below=1),
    Input("adam_epsilon", "number", 1e-8, "AdamW's epsilon.", above=0),
    Input("gradient_accumulation_steps", "integer", 1, "Batches whose gradients make one step.", minimum=1),
    Input("lr_scheduler_type", "string", "linear", "How the learning rate changes.", SCHEDULES),
    Input(
        "precision",
        "string",
        "32",
        "Arithmetic: 32 bits, or 16 where that is exact enough.",
        ("32", "16"),
        instead={"8": _FEW_BITS, "4": _FEW_BITS},
    ),
    Input("seed", "integer", 42, "Seed of everything that is random.", minimum=0),
    Input("enable_full_determinism", "string", "false", "The same bits in every run.", SWITCH),
    Input("dataloader_num_workers", "integer", 0, "Processes that prepare batches.", minimum=0),
    Input("ignore_mismatched_sizes", "string", "true", "Replace a saved head of another size by a new one.", SWITCH),
    Input("max_grad_norm", "number", 1.0, "Gradients are scaled down to this norm.", minimum=0),
    Input("evaluation_strategy", "string", "epoch", "When to evaluate.", ("epoch", "steps")),
    Input(
        "evaluation_steps_interval",
        "number",
        0.0,
        "Evaluate every so much of an epoch; unless 0, it overrides evaluation_strategy and eval_steps.",
        minimum=0,
    ),
    Input("eval_steps", "integer", 500, "Steps between two evaluations by steps.", minimum=1),
    Input("logging_strategy", "string", "epoch", "When to log.", ("epoch", "steps")),
    Input("logging_steps", "integer", 500, "Steps between two logs by steps.", minimum=1),
    Input("metric_for_best_model", "string", "loss", "The metric that chooses the best model.", METRICS),
    Input(
        "resume_from_checkpoint",
        "string",
        "false",
        "Go on from the last checkpoint of the imported model: weights, optimizer, schedule and random states.",
        SWITCH,
    ),
    Input("save_total_limit", "integer", -1, "How many checkpoints to keep; -1 keeps all.", minimum=-1),
)
EARLY_STOPPING = (
    Input("apply_early_stopping", "string", "false", "Stop when the metric no longer improves.", SWITCH),
    Input("early_stopping_patience", "integer", 1, "Evaluations without improvement before that.", minimum=1),
    Input("early_stopping_threshold", "number", 0.0, "Smallest change that counts as an improvement.", minimum=0),
)
DEEPSPEED = (
    Input("apply_deepspeed", "string", "false", "Share the training among devices with DeepSpeed.", SWITCH),
    Input("deepspeed", "uri_file", None, "DeepSpeed's configuration, a JSON file."),
)
ONNXRUNTIME = (Input("apply_ort", "string", "false", "Train with ONNX Runtime.", SWITCH),)
MLFLOW = (Input("save_as_mlflow_model", "string", "true", "Save an MLflow model too.", SWITCH),)
FOLDERS = (
    Input(
        "preprocess_output",
        "uri_folder",
        None,
        "Output of text_classification_preprocess: token ids of the training and validation rows.",
        optional=False,
    ),
    Input(
        "model_selector_output",
        "uri_folder",
        None,
        "Output of text_classification_model_import: the model and its tokenizer.",
        optional=False,
    ),
)
FINETUNE: dict[str, Input] = {
    one.name: one for one in (*LORA, *TRAINING, *EARLY_STOPPING, *DEEPSPEED, *ONNXRUNTIME, *MLFLOW, *FOLDERS)
}
"""The inputs of `text_classification_finetune` 0.0.1, by name."""

LATER: dict[str, Input] = {
    one.name: one
    for one in (
        Input("deepspeed_stage", "string", "2", "Stage of DeepSpeed where no file is given.", ("2", "3")),
        Input("eval_accumulation_steps", "integer", -1, "Prediction steps before results leave the device."),
    )
}
"""Inputs that later versions of the component have."""


@dataclass(frozen=True)
class Inputs:
    """The values of all inputs of a component, in the types of its table."""

    values: Mapping[str, Value]
    given: frozenset[str]
    """Those that somebody set."""
    places: Mapping[str, str]
    """Where a given one was set, by name."""

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def text(self, name: str) -> str:
        """A string."""
        return str(self.values[name])

    def number(self, name: str) -> float:
        """A number."""
        value = self.values[name]
        assert isinstance(value, int | float), name
        return value

    def count(self, name: str) -> int:
        """A whole number."""
        return int(self.number(name))

    def on(self, name: str) -> bool:
        """Whether a switch is "true"."""
        return self.values[name] == "true"

    def origin(self, *names: str) -> str:
        """What a line was made of, such as `lora_r = 8 (default of text_classification_finetune)`."""
        return ", ".join(self.said(name) for name in names)

    def said(self, name: str) -> str:
        """The input and its value, and whether that is the default."""
        value = f"{name} = {shown(self.values[name])}"
        return value if name in self.given else f"{value} (its default)"


def read_inputs(
    table: Mapping[str, Input], given: Mapping[str, object], *, component: str, places: Mapping[str, str] | None = None
) -> Inputs:
    """The values of a component's inputs.

    `given`: by name, as text (from words) or as JSON and YAML have them. `places`: where each was set, such as
    `job.yaml, line 7`; by default `--NAME`.
    Raises a ConfigError that lists every unknown input, value of another type or outside the choices, and every
    required input that is absent.
    """
    places = {name: (places or {}).get(name, f"--{name}") for name in given}
    problems: list[Problem] = []
    values: dict[str, Value] = {name: known.default for name, known in table.items()}
    for name, value in given.items():
        known = table.get(name)
        if known is None:
            problems.append(_unknown(name, value, table, component, places[name]))
            continue
        try:
            values[name] = _read(known, value)
        except _WrongValueError as error:
            message = f"{places[name]} = {shown(value)}: {error}."
            problems.append(Problem(parse_key(name), message, error.hint, value=value, origin=places[name]))
    problems += [
        _absent(known, component) for known in table.values() if not known.optional and known.name not in given
    ]
    refuse(problems)
    return Inputs(values, frozenset(given), places)


class _WrongValueError(ValueError):
    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


def _read(known: Input, value: object) -> Value:
    """The value in the type of the input; a ValueError says what is wrong with it."""
    if known.type in ("integer", "number"):
        return _number(known, value)
    if known.choices:
        return _choice(known, value)
    if not isinstance(value, str) or not value.strip():
        raise _WrongValueError(f"expected {'text' if known.type == 'string' else 'a path'}")
    return value


def _choice(known: Input, value: object) -> str:
    if isinstance(value, str) and value in known.choices:
        return value
    text = str(value)
    if known.instead and text in known.instead:
        raise _WrongValueError(f"expected one of {_listed(known.choices)}", known.instead[text])
    close = next((choice for choice in known.choices if choice == text.strip().lower()), None)
    close = close or nearest(text, known.choices)
    hint = f'Write "{close}".' if close else ""
    kind = "a string, one of " if not isinstance(value, str) or known.choices == SWITCH else "one of "
    raise _WrongValueError(f"expected {kind}{_listed(known.choices)}", hint)


def _number(known: Input, value: object) -> int | float:
    whole = known.type == "integer"
    kind = "a whole number" if whole else "a number"
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = int(value) if whole and not isinstance(value, float) else float(value)
        if number != number or number in (float("inf"), float("-inf")) or (whole and number != int(number)):
            raise ValueError
    except ValueError:
        raise _WrongValueError(f"expected {kind}") from None
    if known.minimum is not None and number < known.minimum:
        raise _WrongValueError(f"expected {kind} of at least {shown(known.minimum)}")
    if known.above is not None and number <= known.above:
        raise _WrongValueError(f"expected {kind} above {shown(known.above)}")
    if known.below is not None and number >= known.below:
        raise _WrongValueError(f"expected {kind} below {shown(known.below)}")
    return int(number) if whole else float(number)


def _listed(choices: Iterable[str]) -> str:
    return ", ".join(f'"{choice}"' for choice in choices)


def _unknown(name: str, value: object, table: Mapping[str, Input], component: str, place: str) -> Problem:
    close = nearest(name, table)
    hint = f"Did you mean {close}?" if close else f"{component} has no such input: leave it out."
    message = f"Unknown input {name}{'' if place == f'--{name}' else f' ({place})'}."
    return Problem(parse_key(name), message, hint, value=value, origin=place)


def _absent(known: Input, component: str) -> Problem:
    return Problem(
        parse_key(known.name),
        f"{component} needs --{known.name}.",
        f"It is this: {known.help[0].lower()}{known.help[1:]}",
    )


def shown(value: object) -> str:
    """A value as messages write it."""
    return f"{value:g}" if isinstance(value, float) else f'"{value}"' if isinstance(value, str) else str(value)
