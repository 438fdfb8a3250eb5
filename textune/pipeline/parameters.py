"""Counts the parameters of a model part by part, and lists its linear layers, before or after a run; no weights and
no rows are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.config import (
    ConditionalLmTask,
    Experiment,
    ModelSection,
    Optimizer,
    Overrides,
    load_config,
    override_words,
    require_adaptable,
    user_path,
)
from textune.errors import ConfigError, RunError
from textune.model import (
    CARD_NAME,
    Outline,
    TextModel,
    complete_model,
    find_pretrained,
    hint_for_no_run,
    is_adapter,
    linears,
    outline,
    parts_of,
    plain_name,
    read_config,
    require_adapters,
    shape_of,
)
from textune.prediction import read_card
from textune.training import state_bytes
from textune.wording import count, millions

if TYPE_CHECKING:
    from pydantic import JsonValue

BYTES_OF_WEIGHT = 4
"""Weights are held in fp32, but for those to which `model.quantize` gives few bits."""


@dataclass(frozen=True)
class Part:
    """A part of a model that people have a word for: embeddings, a layer, the head."""

    name: str
    total: int
    """Parameters, without adapters."""
    adapters: int
    """Parameters of adapters beside them."""
    trained: int
    """Of both together."""
    weight_bytes: int
    optimizer_bytes: int


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer, by the name that `model.lora.targets` may match."""

    name: str
    inputs: int
    outputs: int
    adapted: bool
    """With adapters; without `model.lora`, whether "all-linear" would adapt it."""


@dataclass(frozen=True)
class Parameters:
    """What `textune info --parameters` tells."""

    backbone: str
    model_type: str
    adapted: bool
    """Whether `model.lora` is set."""
    parts: tuple[Part, ...]
    linears: tuple[LinearLayer, ...]
    notes: tuple[str, ...]

    @property
    def whole(self) -> Part:
        """All parts together."""
        sums = {key: sum(getattr(part, key) for part in self.parts) for key in asdict(self.parts[0]) if key != "name"}
        return Part("all", **sums)

    def to_dict(self) -> dict[str, JsonValue]:
        """As JSON holds it."""
        found: dict[str, Any] = asdict(self)
        return {**found, "whole": asdict(self.whole)}


def parameters(source: str | Path, overrides: Overrides = (), unset: Sequence[str] = ()) -> Parameters:
    """The parameters of what a config would train, of a run, a checkpoint or a model folder.

    Errors are those of `load_config` and of `outline`; RunError for a folder that is none of these.
    """
    experiment, saved = _experiment(source, overrides, unset)
    of_saved = saved is not None and (saved / CARD_NAME).is_file() and read_card(saved).is_language_model
    language = of_saved or isinstance(experiment.task, ConditionalLmTask)
    section = experiment.model
    if not isinstance(section, ModelSection):
        raise ConfigError(
            f'model.kind = "{section.kind}": parameters are counted from the configuration of a backbone of'
            " transformers, and this model is code of your own.",
            hint="`textune check` counts them.",
            key="model.kind",
            value=section.kind,
        )
    require_adaptable(experiment)
    if section.lora is not None:
        require_adapters(section.lora)
    num_outputs = None if saved is None else read_config(find_pretrained(str(saved), section, key="RUN")).num_labels
    pooling = experiment.tokens.window_pooling
    drawn = outline(section, num_outputs=num_outputs, pooling=pooling, lora=section.lora, language=language)
    model = drawn.model
    return Parameters(
        backbone=section.name,
        model_type=model.hf.config.model_type,
        adapted=section.lora is not None,
        parts=_parts(drawn, experiment.train.optimizer),
        linears=_linears(drawn),
        notes=() if language else tuple(_notes(experiment, model, num_outputs)),
    )


def _experiment(source: str | Path, overrides: Overrides, unset: Sequence[str]) -> tuple[Experiment, Path | None]:
    """The configuration behind `source`, and a folder of a model that it has saved, whose head has its final size."""
    folder = user_path(source)
    if not folder.is_dir():
        return load_config(source, overrides, unset).experiment, None
    if (folder / "config.toml").is_file():
        found = (folder / "model", complete_model(folder))
        saved = next((path for path in found if path is not None and (path / "config.json").is_file()), None)
        # A run may come from anybody: what it trusted is not trusted here.
        distrust = "model.trust_remote_code=false"
        return load_config(folder / "config.toml", [distrust, *override_words(overrides)], unset).experiment, saved
    if (folder / "config.json").is_file():
        saved = folder if (folder / "textune.json").is_file() else None
        return load_config(None, [f"model.pretrained={folder}", *override_words(overrides)], unset).experiment, saved
    raise RunError(
        f"{folder} holds neither config.toml, as a run does, nor config.json, as a model folder does.",
        hint=hint_for_no_run(folder),
        place=str(folder),
        reason="not a run folder",
    )


def _parts(drawn: Outline, optimizer: Optimizer) -> tuple[Part, ...]:
    """Every part in the order of the model; a weight that several layers share counts once."""
    model = drawn.model
    part_of = parts_of(model.hf)
    named = [(part_of[name], name, parameter) for name, parameter in model.hf.named_parameters()]
    if model.pooling is not None:
        named += [("pooling of windows", name, parameter) for name, parameter in model.pooling.named_parameters()]
    found = []
    for part in dict.fromkeys(part for part, _, _ in named):
        inside = [(name, parameter) for of, name, parameter in named if of == part]
        beside = sum(parameter.numel() for name, parameter in inside if is_adapter(name))
        total = sum(parameter.numel() for _, parameter in inside) - beside
        trained = {name: parameter for name, parameter in inside if parameter.requires_grad}
        held = sum(
            drawn.low_bits.get(plain_name(name), BYTES_OF_WEIGHT * parameter.numel()) for name, parameter in inside
        )
        numbers = sum(parameter.numel() for parameter in trained.values())
        found.append(Part(part, total, beside, numbers, held, state_bytes(optimizer, trained)))
    return tuple(found)


def _linears(drawn: Outline) -> tuple[LinearLayer, ...]:
    adapted, hf = set(drawn.adaptable), drawn.model.hf
    named = {name.removesuffix(".base_layer"): layer for name, layer in linears(hf).items() if not is_adapter(name)}
    return tuple(LinearLayer(name, *shape_of(layer), adapted=name in adapted) for name, layer in named.items())


def _notes(experiment: Experiment, model: TextModel, num_outputs: int | None) -> list[str]:
    """What these numbers leave open."""
    notes = []
    if num_outputs is None:
        notes.append(
            f"The head has an output for each label, and labels are in the data, which is not read: it is counted with"
            f" {count(model.hf.config.num_labels, 'output')}."
        )
    table = model.hf.get_input_embeddings().weight
    if table.requires_grad and experiment.train.compact_vocabulary != "off":
        notes.append("Of the token embeddings, a run may train only those that occur in its data.")
    return notes


def as_tables(found: Parameters) -> tuple[list[list[str]], list[list[str]]]:
    """Both tables in words, each with its head: the parts, and the linear layers, in which equal layers are one line
    whose name is a pattern for `model.lora.targets`."""
    parts = [["part", "parameters", *(["adapters"] if found.adapted else []), "trained", "weights", "optimizer"]]
    for part in (*found.parts, found.whole):
        numbers = [part.total, *([part.adapters] if found.adapted else []), part.trained]
        parts.append(
            [part.name, *(f"{number:,}" for number in numbers), *map(_size, (part.weight_bytes, part.optimizer_bytes))]
        )
    layers = [["linear layer", "layers", "inputs", "outputs", "adapters" if found.adapted else '"all-linear"']]
    alike: dict[tuple[str, int, int, bool], int] = {}
    for layer in found.linears:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", lambda number: "?" * len(number[0]), layer.name)
        key = (pattern, layer.inputs, layer.outputs, layer.adapted)
        alike[key] = alike.get(key, 0) + 1
    for (pattern, inputs, outputs, adapted), number in alike.items():
        layers.append([pattern, f"{number:,}", f"{inputs:,}", f"{outputs:,}", "yes" if adapted else "no"])
    return parts, layers


def headline(found: Parameters) -> str:
    """The model in a line."""
    whole = found.whole
    return (
        f"{found.backbone} ({found.model_type}): {millions(whole.total)} parameters, {millions(whole.trained)} trained"
    )


def _size(num_bytes: int) -> str:
    if not num_bytes:
        return "0"
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"
