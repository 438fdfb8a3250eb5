"""From a TOML file, its parents and overrides to an `Experiment`: the first room of the flow.

Precedence, lowest first: defaults, `extends`, the file, `extends` on the command line, the command line. Environment
variables play no part (except `XDG_CACHE_HOME`, the standard place of caches: `textune.caches`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue, ValidationError

from textune.config.decidable import decide_problems
from textune.config.documents import MetadataSection
from textune.config.engines import engine_problems
from textune.config.evaluations import evaluation_problems
from textune.config.fields import Place, keys_of
from textune.config.languages import language_problems
from textune.config.longtexts import window_problems
from textune.config.lowbits import low_bit_problems
from textune.config.lowrank import lora_problems
from textune.config.merge import Merged, Origin
from textune.config.multitask import multitask_problems
from textune.config.overrides import COMMAND_LINE, OVERRIDES, Overrides, gather, listed, parse_unset
from textune.config.parents import Layer, layers_of, read_layers
from textune.config.prefixes import prefix_problems
from textune.config.presets import is_preset, name_of_preset
from textune.config.problems import Problem, refuse, translate
from textune.config.rates import loss_problems, rate_problems
from textune.config.rendering import document_problems, rendering_problems
from textune.config.schema import Experiment, PythonModel
from textune.config.section import Section
from textune.config.soups import soup_problems
from textune.config.sources import ConcatSource, FilesSource, StreamSource
from textune.config.streams import split_problems, stream_problems
from textune.config.taskkinds import PythonTask
from textune.config.tokenids import token_id_problems
from textune.config.toml import Tree, format_key, format_value, shorten
from textune.errors import ConfigError

DEFAULT = "default"


_GIVEN = "config"
"""The origin of values that were given in Python."""


@dataclass(frozen=True)
class Loaded:
    """A configuration and where it came from.

    `origins` maps every dotted key to "default", the name of a file (relative to the folder of `path`) or of a preset,
    or "command line". Each entry of a free table has its own key. `notes` tell the user about values that are ignored
    since a `kind` changed.
    """

    experiment: Experiment
    origins: dict[str, str]
    path: Path | None
    """The config file; None for a preset and for values given in Python."""
    preset: str = ""
    """The preset that was loaded by its name, such as `preset:tiny`."""
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """Lines of comments for whoever reads it as a file."""
    run: str = ""
    """The run folder, if the user does not say; empty: `runs/NAME`."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Of a foreign configuration: its files and words, which the run folder keeps in `foreign/`, by name."""
    settled: frozenset[str] = frozenset()
    """Settings of `accelerate launch` that it was made of (`accelerate.py`)."""
    rows_a_process: int | None = None
    """What `train.batch_size` was counted from, by the processes that were started; None where it was set."""

    @property
    def name(self) -> str:
        """What a run of it is called, if the user does not say."""
        return self.path.stem if self.path is not None else name_of_preset(self.preset) or "model"

    @property
    def resolved(self) -> dict[str, JsonValue]:
        """Every value, as JSON holds it."""
        return self.experiment.model_dump(mode="json")


Config: TypeAlias = str | os.PathLike[str] | Mapping[str, object] | Experiment | Loaded
"""The description of a run: a TOML file, a preset (`preset:NAME`), a nested dictionary of the same form, an
`Experiment`, or a configuration that is loaded already."""


def load_config(
    config: Config | None, overrides: Overrides = (), unset: Iterable[str] = (), *, over: Sequence[Layer] = ()
) -> Loaded:
    """Read a config (None: only defaults), apply overrides, and check everything.

    `config` is the name of a TOML file or of a preset (`preset:NAME`), a nested dictionary of the same form, an
    `Experiment`, or what was loaded before. `overrides` are `key=value` words or values by dotted key; what their
    `extends` names is laid over the config. Keys in `unset` are reset to their defaults before the other overrides are
    applied. `over`: tables with origins of their own, which are laid over the config before that. Paths become
    absolute. Raises a ConfigError that lists every problem with key, value and origin.
    """
    layers, file = _layers(config)
    words, problems = gather(overrides)
    unset = listed("unset", unset)
    if isinstance(config, Loaded) and not (words or problems or unset or over):
        return config
    *laid_over, last = layers_of(words, Origin(_origin_of(overrides), Path.cwd()))
    places, more = parse_unset(unset, last.table)
    merged = Merged()
    merged.problems += problems + more
    between = [layer for table in over for layer in layers_of(table.table, table.origin)]
    for layer in (*layers, *between, *laid_over):
        merged.merge(layer.table, layer.origin)
    for place in places:
        merged.unset(place)
    merged.merge(last.table, last.origin)
    loaded = _loaded(
        merged, file, preset=config if isinstance(config, str) and is_preset(config) else "", unset=places
    )
    return _of_same_source(loaded, config) if isinstance(config, Loaded) else loaded


def _of_same_source(loaded: Loaded, before: Loaded) -> Loaded:
    """What was loaded before, with values laid over it: it keeps where it came from, and what was said of it."""
    origins = {
        key: before.origins.get(key, origin) if origin == _GIVEN else origin for key, origin in loaded.origins.items()
    }
    counted = origins.get("train.batch_size") == before.origins.get("train.batch_size")
    return replace(
        before,
        experiment=loaded.experiment,
        origins=origins,
        notes=(*before.notes, *loaded.notes),
        rows_a_process=before.rows_a_process if counted else None,
    )


def _layers(config: Config | None) -> tuple[list[Layer], Path | None]:
    """The values of a config with those that it builds on, lowest first, and its file."""
    given = Origin(_GIVEN, Path.cwd())
    if config is None:
        return [], None
    if isinstance(config, Experiment | Loaded):
        experiment = config.experiment if isinstance(config, Loaded) else config
        return [Layer(_as_given(experiment), given)], None
    if isinstance(config, Mapping):
        return layers_of(dict(config), given), None
    if isinstance(config, str | os.PathLike):
        return read_layers(config)
    raise ConfigError(
        f"config is {shorten(repr(config))}, which is not a config.",
        hint="Give the name of a TOML file, or a dictionary.",
    )


def _origin_of(overrides: Overrides) -> str:
    return OVERRIDES if isinstance(overrides, Mapping) else COMMAND_LINE


def load_tree(tree: Mapping[str, object], *, origin: str = "", base: Path) -> Loaded:
    """The configuration of a nested dictionary that does not come from a config file, but from a checkpoint, say.

    It is read like a config file in the folder `base`; None means the default. `origin` names the source of the
    values, in messages and for `textune show`. Raises a ConfigError that lists every problem.
    """
    merged = Merged()
    merged.merge(tree, Origin(origin, base))
    return _loaded(merged, None)


def require_runnable(experiment: Experiment) -> None:
    """Raise ConfigError if the config lacks something that a run needs, such as data files, or contradicts itself."""
    problems: list[Problem] = []
    if isinstance(experiment.model, PythonModel):
        if not (experiment.model.pretrained or experiment.model.tokenizer):
            message = 'model.tokenizer is not set, and a model of kind "python" has none of its own.'
            hint = 'Name a folder or hub name, such as model.tokenizer = "google-bert/bert-base-uncased".'
            problems.append(Problem(("model", "tokenizer"), message, hint))
    elif not experiment.model.pretrained:
        hint = 'Set a name of `textune models`, such as model.pretrained = "minilm", a folder, or a hub name.'
        problems.append(
            Problem(("model", "pretrained"), "model.pretrained is not set: there is no backbone to start from.", hint)
        )
    data = experiment.data
    if experiment.train.order == "weighted" and data.columns.weight is None:
        message = 'train.order = "weighted" draws rows by their weights, but data.columns.weight is not set.'
        hint = "Name the column of the weights there, or choose another train.order."
        problems.append(Problem(("train", "order"), message, hint))
    if experiment.model.attention == "packed" and experiment.tokens.pads:
        key = "pad" if experiment.tokens.pad != "batch" else "pad_multiple"
        value = getattr(experiment.tokens, key)
        message = (
            f'model.attention = "packed" computes no padding, but tokens.{key} = {format_value(value)} asks for it.'
        )
        problems.append(
            Problem(("tokens", key), message, f"Remove tokens.{key}, or set model.attention to padded.", value)
        )
    for name in ("train", "validation", "test"):
        problems += _without_files(getattr(data, name), ("data", name))
    for name, source in data.evaluations.items():
        problems += _without_files(source, ("data", "evaluations", name))
    if data.labels.names and data.labels.names_file is not None:
        hint = "Keep one of them (--unset removes a key that a parent file sets)."
        problems.append(
            Problem(("data", "labels"), "data.labels.names and data.labels.names_file are both set.", hint)
        )
    given = [name for name in ("names", "names_file", "delimiter") if getattr(data.labels, name)]
    if isinstance(experiment.task, PythonTask) and given:
        message = f'data.labels.{given[0]} is set, but with task.kind = "python" the class itself reads labels.'
        problems.append(
            Problem(("data", "labels", given[0]), message, "Remove it, or give it to the class: task.options.")
        )
    problems += [*multitask_problems(experiment), *evaluation_problems(experiment), *stream_problems(experiment)]
    problems += [*rate_problems(experiment), *loss_problems(experiment), *window_problems(experiment)]
    problems += [*lora_problems(experiment), *low_bit_problems(experiment), *engine_problems(experiment)]
    problems += [*rendering_problems(experiment), *language_problems(experiment), *prefix_problems(experiment)]
    problems += [*decide_problems(experiment), *token_id_problems(experiment), *soup_problems(experiment)]
    refuse(problems)


def require_renderable(experiment: Experiment) -> MetadataSection:
    """The section `metadata`; ConfigError if there is none, if it contradicts itself, or if data files are missing."""
    problems = [*document_problems(experiment), *split_problems(experiment)]
    data = experiment.data
    for place, source in [
        *((("data", name), getattr(data, name)) for name in ("train", "validation", "test")),
        *((("data", "evaluations", name), source) for name, source in data.evaluations.items()),
    ]:
        problems += _without_files(source, place)
    refuse(problems)
    assert experiment.metadata is not None
    return experiment.metadata


def _as_given(section: Section) -> Tree:
    """The keys of a section that were set explicitly."""
    return {name: getattr(section, name) for name in section.model_fields_set}


def leaves(section: Section, place: Place = ()) -> dict[Place, object]:
    """Every value of a section by its place, in the order of the schema; entries of a free table one by one."""
    found: dict[Place, object] = {}
    for name in keys_of(type(section)):
        value, here = getattr(section, name), (*place, name)
        if isinstance(value, Section):
            found |= leaves(value, here)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for index, item in enumerate(value):
                found |= leaves(item, (*here, index))
        elif isinstance(value, dict) and value and all(isinstance(inner, Section) for inner in value.values()):
            for entry, inner in value.items():
                found |= leaves(inner, (*here, str(entry)))
        elif isinstance(value, dict) and value:
            found |= {(*here, str(entry)): inner for entry, inner in value.items()}
        else:
            found[here] = value
    return found


def _loaded(merged: Merged, file: Path | None, *, preset: str = "", unset: Sequence[tuple[str, ...]] = ()) -> Loaded:
    experiment = _validate(merged, unset=unset)
    origins = {format_key(*place): " + ".join(merged.labels_of(place)) or DEFAULT for place in leaves(experiment)}
    return Loaded(experiment, origins, file, preset, tuple(merged.notes))


def _validate(merged: Merged, *, unset: Sequence[tuple[str, ...]]) -> Experiment:
    merged.resolve_paths()
    try:
        experiment = Experiment.model_validate(merged.values)
    except ValidationError as error:
        found = translate(error, lambda place: origin.label if (origin := merged.origin_of(place)) else "")
        for problem in found:
            if problem.place in unset:
                problem = Problem(problem.place, f"--unset {format_key(*problem.place)}: {problem.message}")
            merged.problems.append(problem)
    refuse(merged.problems)
    return experiment


def _without_files(source: Section, place: Place) -> list[Problem]:
    if isinstance(source, ConcatSource):
        nested = [_without_files(item, (*place, "sources", index)) for index, item in enumerate(source.sources)]
        return [problem for found in nested for problem in found]
    if not isinstance(source, FilesSource | StreamSource) or source.files:
        return []
    key = format_key(*place, "files")
    return [
        Problem(
            (*place, "files"),
            f"{key} is not set: there are no rows to read.",
            f'Name the data, such as {key} = ["reviews.csv"].',
        )
    ]
