"""What is wrong with a configuration, in the user's terms: key, value, origin, what is expected, the nearest key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import ValidationError

from textune.config.fields import Place, all_keys, bare, description_of, expected, keys_of, table_values, variants
from textune.config.schema import Experiment
from textune.config.section import Section
from textune.config.toml import format_key, format_value, shorten
from textune.errors import ConfigError
from textune.wording import nearest

# Names of the same settings in other tools.
_OTHER_NAMES = {
    "adam_beta1": "train.optimizer.beta1",
    "adam_beta2": "train.optimizer.beta2",
    "adam_epsilon": "train.optimizer.eps",
    "bf16": "train.precision",
    "doc_stride": "tokens.stride",
    "early_stopping_patience": "train.early_stopping.patience",
    "enable_full_determinism": "train.deterministic",
    "enable_long_range_text": "tokens.max_length",
    "epochs": "train.duration",
    "eval_on_start": "train.evaluate_first",
    "eval_steps": "train.evaluate_every",
    "evaluate_first_step": "train.evaluate_first",
    "focal_gamma": "task.gamma",
    "fp16": "train.precision",
    "full_determinism": "train.deterministic",
    "gradient_accumulation_steps": "train.max_tokens",
    "layerwise_lr_decay": "train.optimizer.layer_decay",
    "learning_rate": "train.optimizer.lr",
    "llrd": "train.optimizer.layer_decay",
    "logging_steps": "train.log_every",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "lora_r": "model.lora.r",
    "lora_rank": "model.lora.r",
    "lora_target_modules": "model.lora.targets",
    "lr_scheduler_type": "train.schedule.kind",
    "max_seq_length": "tokens.max_length",
    "max_steps": "train.duration",
    "merge_lora_weights": "model.lora.merge",
    "metric_for_best_model": "evaluate.metric",
    "metric_name": "evaluate.metric",
    "model_name_or_path": "model.pretrained",
    "num_epochs": "train.duration",
    "num_train_epochs": "train.duration",
    "optim": "train.optimizer.kind",
    "pad_to_max_length": "tokens.pad",
    "pad_to_multiple_of": "tokens.pad_multiple",
    "per_device_train_batch_size": "train.batch_size",
    "primary_metric": "evaluate.metric",
    "test_file": "data.test.files",
    "target_modules": "model.lora.targets",
    "tokenizer_name": "model.tokenizer",
    "train_batch_size": "train.batch_size",
    "train_file": "data.train.files",
    "validation_file": "data.validation.files",
    "warmup_ratio": "train.schedule.warmup",
    "warmup_steps": "train.schedule.warmup",
}
_CERTAIN, _LIKELY = 0.82, 0.65


@dataclass(frozen=True)
class Problem:
    """One thing to fix; of several problems at the same `place` only the first is reported."""

    place: Place
    message: str
    hint: str = ""
    value: object = None
    """What cannot be used."""
    origin: str = ""
    """Where it was set."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def refuse(problems: Sequence[Problem]) -> None:
    """Raise ConfigError with all problems, one per line; do nothing if there are none."""
    places = list(dict.fromkeys(problem.place for problem in problems))
    first = [next(problem for problem in problems if problem.place == place) for place in places]
    if len(first) == 1:
        only = first[0]
        raise ConfigError(
            only.message, hint=only.hint, key=format_key(*only.place), value=only.value, place=only.origin
        )
    if first:
        lines = "".join(f"\n  - {problem}" for problem in first)
        raise ConfigError(f"The configuration has {len(first)} problems:{lines}")


def set_in(origin: str) -> str:
    """The origin of a value as a remark in brackets."""
    return f" ({origin})" if origin else ""


def unknown_key(place: Place, section: type[Section], siblings: Mapping[str, type[Section]], origin: str) -> Problem:
    """A key that `section` lacks; `siblings` are the variants of the same table, by kind."""
    name = str(place[-1])
    message = f"Unknown key {format_key(*place)}{set_in(origin)}."
    owners = [
        kind for kind, sibling in siblings.items() if kind and sibling is not section and name in keys_of(sibling)
    ]
    if owners:
        kinds = " or ".join(f'kind = "{kind}"' for kind in owners)
        has = section.model_fields["kind"].default
        return Problem(
            place, message, f'{format_key(*place[:-1])} has kind = "{has}"; {name} belongs to {kinds}.', origin=origin
        )
    near = suggest(place, section)
    if near:
        return Problem(place, message, f"Did you mean {' or '.join(near)}?", origin=origin)
    return Problem(place, message, f"{_title(place[:-1])} has the keys {', '.join(keys_of(section))}.", origin=origin)


def suggest(place: Place, section: type[Section]) -> list[str]:
    """The keys that a misspelt or misplaced key most likely stands for, best first; at most three."""
    name = str(place[-1])
    here = nearest(name, keys_of(section), cutoff=_LIKELY)
    turned = [key for key in keys_of(section) if sorted(key) == sorted(name)]
    if turned:  # such as rl for lr
        return [format_key(*place[:-1], turned[0])]
    if certain := nearest(name, keys_of(section), cutoff=_CERTAIN):
        return [format_key(*place[:-1], certain)]
    elsewhere = [key.place for key in all_keys() if key.place[-1] == name and not key.kind]
    elsewhere = elsewhere or [key.place for key in all_keys() if key.place[-1] == name]
    if elsewhere:
        parents = [str(part) for part in place[:-1]]
        ranked = sorted(elsewhere, key=lambda other: (-_shared(parents, other), len(other)))
        return list(dict.fromkeys(format_key(*other) for other in ranked))[:3]
    if name in _OTHER_NAMES:
        return [_OTHER_NAMES[name]]
    if here:
        return [format_key(*place[:-1], here)]
    last = list(dict.fromkeys(key.place[-1] for key in all_keys()))
    near = nearest(name, last, cutoff=_CERTAIN)
    return [format_key(*next(key.place for key in all_keys() if key.place[-1] == near))] if near else []


def keys_called(name: str) -> list[str]:
    """The keys that a bare name such as `lr`, or a whole dotted key, stands for; at most three."""
    if "." in name:
        return [name] if any(format_key(*key.place) == name for key in all_keys()) else []
    return suggest((name,), Experiment)


def setting_names() -> list[str]:
    """Every key of the schema as it is written, such as `train.optimizer.lr`, in order."""
    return list(dict.fromkeys(format_key(*key.place) for key in all_keys()))


def unknown_kind(place: Place, kind: object, choices: Iterable[str], origin: str) -> Problem:
    """A `kind` that the table at `place` cannot be."""
    kinds = list(choices)
    near = _surely_meant(str(kind), kinds) or nearest(str(kind), kinds)
    hint = f'Did you mean "{near}"?' if near else ""
    key = format_key(*place, "kind")
    listed = ", ".join(f'"{choice}"' for choice in kinds)
    message = f"{key} = {shorten(format_value(kind, one_line=True))}{set_in(origin)}: expected one of {listed}."
    return Problem((*place, "kind"), message, hint, value=kind, origin=origin)


def _surely_meant(kind: str, choices: Sequence[str]) -> str | None:
    """The choice that differs by a letter or two; else the longest one whose words all occur in `kind`, since other
    libraries add to a name how it is computed (`adamw_torch_fused`, `lion_32bit`)."""
    if certain := nearest(kind, choices, cutoff=_CERTAIN):
        return certain
    words = set(kind.lower().split("_"))
    within = [choice for choice in choices if words.issuperset(choice.split("_"))]
    return max(within, key=len, default=None)


def not_a_table(place: Place, value: object, choices: Mapping[str, type[Section]], origin: str) -> Problem:
    """A value where a section belongs."""
    key = format_key(*place)
    message = (
        f"{key} = {shorten(format_value(value, one_line=True))}{set_in(origin)}: {key} is a section, not a value."
    )
    if isinstance(value, str) and len(choices) > 1 and (near := _surely_meant(value, list(choices))):
        return Problem(place, message, f"Did you mean {key}.kind = {format_value(near)}?", value=value, origin=origin)
    first = next(iter(choices.values()))
    names = list(dict.fromkeys(["kind"] * (len(choices) > 1) + list(keys_of(first))))
    listed = f"Its keys are {', '.join(f'{key}.{name}' for name in names[:3])}{', ...' * (len(names) > 3)}"
    return Problem(place, message, listed, value=value, origin=origin)


def wrong_value(place: Place, value: object, expectation: str, origin: str) -> Problem:
    """A value of the wrong type, or outside its limits."""
    shown = shorten(format_value(value, one_line=True)) if value is not None else "nothing"
    hint = ""
    if isinstance(value, str) and value.strip().lower() in ("none", "null", "nil"):
        hint = f"To leave it unset, remove the key or use --unset {format_key(*place)}."
    message = f"{format_key(*place)} = {shown}{set_in(origin)}: expected {expectation}."
    return Problem(place, message, hint, value=value, origin=origin)


def translate(
    error: ValidationError, origin_of: Callable[[Place], str], *, root: type[Section] = Experiment
) -> list[Problem]:
    """pydantic's errors as problems, with the keys as the user wrote them (no union tags); `root`: what was read."""
    problems: list[Problem] = []
    for finding in error.errors(include_url=False):
        is_short = finding["type"] == "missing" and isinstance(finding["loc"][-1], int)  # a list of fixed length
        place, annotation, section = _locate(finding["loc"][:-1] if is_short else finding["loc"], root)
        origin = origin_of(place)
        if finding["type"] == "missing" and section is not None and not is_short:
            needs = "it has no default"
            if "kind" in section.model_fields:
                needs = (
                    f'{format_key(*place[:-1])} has kind = "{section.model_fields["kind"].default}", which needs it'
                )
            message = f"{format_key(*place)} is not set; {needs}: {description_of(section, str(place[-1]))}"
            examples = section.model_fields[str(place[-1])].examples
            hint = f"Set it, such as {format_key(*place)} = {format_value(examples[0])}." if examples else ""
            problems.append(Problem(place, message, hint, origin=origin))
        elif finding["type"] == "value_error":
            value = shorten(format_value(finding["input"], one_line=True))
            reason = str(finding["ctx"]["error"]).rstrip(".")
            message = f"{format_key(*place)} = {value}{set_in(origin)}: {reason}."
            problems.append(Problem(place, message, value=finding["input"], origin=origin))
        else:
            problems.append(wrong_value(place, finding["input"], expected(annotation), origin))
    inner = [problem.place for problem in problems]
    return [problem for problem in problems if not any(_is_inside(place, problem.place) for place in inner)]


def _locate(location: tuple[str | int, ...], root: type[Section]) -> tuple[Place, object, type[Section] | None]:
    """A pydantic location as the user's place, with the annotation there and the section that holds it."""
    place: Place = ()
    annotation: object = root
    section: type[Section] | None = None
    for part in location:
        choices = variants(annotation)
        if len(choices) > 1:
            annotation = choices[str(part)]
            continue
        if choices:
            section = next(iter(choices.values()))
            annotation = keys_of(section)[str(part)]
        elif isinstance(part, int):
            annotation = get_args(bare(annotation))[0]
        elif get_origin(bare(annotation)) is dict:
            annotation = table_values(annotation)
        else:  # a union of a word and a table: pydantic names the option that it tried
            options = [option for option in get_args(bare(annotation)) if table_values(option) is not None]
            annotation = options[0] if options and part.startswith("dict") else annotation
            continue
        place = (*place, part)
    return place, annotation, section


def _is_inside(inner: Place, outer: Place) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _shared(parents: list[str], other: tuple[str, ...]) -> int:
    return sum(part in parents for part in other[:-1])


def _title(place: Place) -> str:
    return f"The section {format_key(*place)}" if place else "The top level"
