"""Whose configuration a file is: told by its keys, and turned into ours where it is another system's.

To add a system, write a row in `SYSTEMS`: the keys that tell its files, and what reads one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from textune.adapters.foreign import Foreign
from textune.adapters.loaded import load_foreign
from textune.config import (
    CONFIG_SUFFIXES,
    Config,
    Experiment,
    Loaded,
    Overrides,
    is_preset,
    keys_of,
    laid_over,
    load_config,
    read_tree,
    require_suitable,
    user_path,
)
from textune.errors import ConfigError


@dataclass(frozen=True)
class System:
    """How files of one system are told, and read."""

    suffixes: tuple[str, ...]
    told_by: Callable[[Mapping[str, object]], bool]
    """Whether a table of keys is one of the system's."""
    read: Callable[[Path, int | None], Foreign] | None = None
    """Reads one, for so many processes (None: as many as the file says, or one). None: it is no configuration of a run
    by itself."""
    instead: str = ""
    """What to do with such a file, if `read` is None."""


def _bsmetadata(file: Path, processes: int | None) -> Foreign:
    from textune.adapters import convert_bsmetadata

    return convert_bsmetadata(file, processes=processes)


def _torchrecipes(file: Path, processes: int | None) -> Foreign:
    from textune.adapters import Named, convert_torchrecipes

    return convert_torchrecipes(Named.of_file(file), processes=processes)


def _training_wizard(file: Path, processes: int | None) -> Foreign:
    from textune.adapters import convert_training_wizard

    return convert_training_wizard(file, processes=processes)


def _has(*keys: str) -> Callable[[Mapping[str, object]], bool]:
    """Tells tables that have any of these keys."""
    return lambda tree: any(key in tree for key in keys)


_YAML = (".yaml", ".yml")
SCRIPTS = "the scripts of transformers"
SYSTEMS: dict[str, System] = {
    "training-wizard": System(
        (".toml", ".json"),
        _has("training_args_spec", "wizard_module", "dataset_spec", "spec_class", "recipe_class"),
        _training_wizard,
    ),
    SCRIPTS: System(
        (".json",),
        _has("model_name_or_path", "per_device_train_batch_size", "num_train_epochs"),
        instead="A script trains with it, such as textune run_glue.py {file}.",
    ),
    "bsmetadata": System(_YAML, _has("data_config", "metadata_config", "out_dir"), _bsmetadata),
    "torchrecipes": System(_YAML, _has("datamodule", "module", "trainer", "defaults"), _torchrecipes),
    "AzureML": System(
        _YAML,
        lambda tree: "jobs" in tree or ("inputs" in tree and ("command" in tree or "outputs" in tree)),
        instead="Give its inputs to the component, such as textune text_classification_finetune --help.",
    ),
    "DeepSpeed": System(
        (".json",),
        _has("zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size"),
        instead="It goes with the configuration of a run: --deepspeed {file}, where a system has that option.",
    ),
    "accelerate": System(
        (*_YAML, ".json"),
        _has("compute_environment", "distributed_type", "mixed_precision"),
        instead="Start with it: accelerate launch --config_file {file} -m textune ...",
    ),
}
"""By the name that messages have; the first whose keys a file has is its system."""


def system_of(file: Path) -> str | None:
    """The name of the system whose configuration a file is; None for ours, and for what nobody's keys are in.

    ConfigError for a file that cannot be read as what its name says.
    """
    suffix = file.suffix.lower()
    if suffix not in CONFIG_SUFFIXES or not file.is_file():
        return None
    tree = read_tree(file, shown=str(file))
    if tree.keys() & {*keys_of(Experiment), "extends"}:
        return None
    return next((name for name, one in SYSTEMS.items() if suffix in one.suffixes and one.told_by(tree)), None)


def script_of(file: Path) -> str | None:
    """The script of transformers whose flags a file holds, or most of them, so that it can say which it does not know;
    None for any other file. ConfigError where several scripts know all of them."""
    if system_of(file) != SCRIPTS:
        return None
    from textune.adapters import scripts_of

    found = scripts_of(read_tree(file, shown=str(file)).keys())
    if len(found) > 1:
        raise ConfigError(
            f"{file} could be for {' or '.join(f'{one}.py' for one in found)}: they know all of its flags.",
            hint=f"Name the script, such as textune {found[0]}.py {file}.",
            place=str(file),
            reason="several scripts know all of its flags",
        )
    return found[0]


def load_any(
    config: Config | None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    *,
    processes: int | None = None,
    preset: str | None = None,
) -> Loaded:
    """As `load_config`, where `config` may also be the file of another system.

    `overrides` and `unset` are keys of ours, which are laid over what the file becomes. `processes`: how many train,
    if somebody says; the rows of a step of a foreign configuration depend on it. `preset`: `fast`, `balanced` or
    `best`, laid over the configuration and under `overrides`. Raises a ConfigError for a file that is no configuration
    of a run by itself, and all that the system's own adapter refuses.
    """
    overrides = laid_over(overrides, preset)
    foreign = None
    if isinstance(config, str | os.PathLike) and not is_preset(config):
        foreign = read_foreign(user_path(config), processes=processes)
    loaded = load_config(config, overrides, unset) if foreign is None else load_foreign(foreign, overrides, unset)
    require_suitable(loaded.experiment, preset)
    return loaded


def read_foreign(file: Path, *, processes: int | None = None) -> Foreign | None:
    """Another system's file, read by its adapter; None for a file of ours. ConfigError as of `load_any`."""
    name = system_of(file)
    return None if name is None else _read(file, name, processes)


def _read(file: Path, name: str, processes: int | None) -> Foreign:
    system = SYSTEMS[name]
    if system.read is None:
        raise ConfigError(
            f"{file} is a file of {name}, which does not train by itself.",
            hint=system.instead.format(file=file, stem=file.stem),
            place=str(file),
            reason=f"a file of {name}",
        )
    return system.read(file, processes)
