"""training-wizard's generator: a grid of experiments and stages as files of specs, and the command that runs them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from textune.adapters.trainingwizard.given import Table, read_table
from textune.adapters.trainingwizard.keys import Key, Text, Texts
from textune.adapters.trainingwizard.specfile import read_specs
from textune.config import Problem, format_key, format_value, refuse

_T = TypeVar("_T")
_Joiner = Literal["&&", "and", "||", "or"]
_Count = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Rate = Annotated[float, Field(gt=0)]
GRID = {
    "stages": Key(Annotated[Texts, Field(min_length=1)], hint="Names of files in base_path, without .toml."),
    "base_path": Key(Text),
    "experiment_name": Key(Text),
    "base_model": Key(Text),
    "experiments": Key(Annotated[list[dict[str, Any]], Field(min_length=1)], hint="Write a table [[experiments]]."),
    "mlflow_experiment_name": Key(str | None, None),
    "name_template": Key(Text, "{base}_{experiment_name}_{experiment_index}_{stage}"),
    "executor_command": Key(Text, "textune training-wizard"),
    "experiment_joiner": Key(_Joiner, "||"),
    "stage_joiner": Key(_Joiner, "&&"),
}
EXPERIMENT = {
    "epochs": Key(_Count | list[_Count]),
    "batch_size": Key(_Count | list[_Count]),
    "dataset_size": Key(_Count | list[_Count]),
    "warmup_steps_ratio": Key(_Share | list[_Share]),
    "gradient_accumulation_steps": Key(_Count | list[_Count], 1),
    "neftune_noise_alpha": Key(float | list[float] | None, None),
    "optimizer": Key(Text | Texts),
    "learning_rate": Key(_Rate | list[_Rate]),
}
"""Values of each stage, or one for all of them."""
_ARGUMENTS = {
    "batch_size": ("per_device_train_batch_size", "per_device_eval_batch_size"),
    "gradient_accumulation_steps": ("gradient_accumulation_steps",),
    "learning_rate": ("learning_rate",),
    "optimizer": ("optim",),
    "epochs": ("num_train_epochs",),
}


@dataclass(frozen=True)
class Grid:
    """What a grid becomes."""

    files: Mapping[Path, str]
    """The text of each file to write."""
    command: str
    """One line of a shell that trains all of them."""


def read_grid(file: Path) -> Grid:
    """The files and the command of a grid; nothing is written.

    Each stage starts from the final checkpoint of the one before it, and the first from `base_model`. Raises a
    ConfigError for an unknown key, a wrong value, lists that do not have a value for each stage, and stages without a
    file.
    """
    specs, problems = read_specs(file), list[Problem]()
    grid = read_table(specs, (), specs.tree, GRID, problems)
    refuse(problems)
    experiments = [read_table(specs, ("experiments",), tree, EXPERIMENT, problems) for tree in grid["experiments"]]
    folder = Path(grid["base_path"]).expanduser()
    bases = [_base(grid, folder, stage, problems) for stage in grid["stages"]]
    for experiment in experiments:
        problems += _uneven(experiment, len(bases))
    refuse(problems)
    files: dict[Path, str] = {}
    commands = []
    for number, experiment in enumerate(experiments):
        words = []
        for path, tree in _stages(grid, folder, bases, number, experiment):
            files[path] = as_text(tree)
            words.append(f"{grid['executor_command']} {path}")
        commands.append(_joined(grid["stage_joiner"], words))
    return Grid(files, _joined(grid["experiment_joiner"], commands))


def _base(grid: Table, folder: Path, stage: str, problems: list[Problem]) -> Mapping[str, Any]:
    """The file that a stage starts from."""
    path = folder / f"{stage.removesuffix('.toml')}.toml"
    if not path.is_file():
        given = grid.given("stages")
        problems.append(given.problem(f"{path} does not exist.", "Each stage is a file in base_path."))
        return {}
    specs = read_specs(path)
    missing = [name for name in ("wizard_module", "dataset_spec", "training_args_spec") if name not in specs.tree]
    problems += [
        Problem((path.name, name), f"{path}: it has no table [{name}].", origin=str(path)) for name in missing
    ]
    return specs.tree


def _uneven(experiment: Table, num_stages: int) -> Iterator[Problem]:
    for name in EXPERIMENT:
        value = experiment[name]
        if isinstance(value, list) and len(value) not in (1, num_stages):
            reason = f"{len(value)} values for {num_stages} stages."
            yield experiment.given(name).problem(reason, "Give one for each stage, or one for all.")


def _stages(
    grid: Table, folder: Path, bases: list[Mapping[str, Any]], number: int, experiment: Table
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of an experiment, one for each stage."""
    pretrained = grid["base_model"]
    for index, (stage, base) in enumerate(zip(grid["stages"], bases, strict=True)):
        name = _name(grid, number, stage)
        output = (folder / stage / "output" / name).resolve()
        tree = copy.deepcopy(dict(base))
        values = {key: _of_stage(experiment[key], index) for key in EXPERIMENT}
        tree["wizard_module"].setdefault("transformer_spec", {})["pretrained_name"] = pretrained
        tree["dataset_spec"].setdefault("preprocessing", {})["take"] = values["dataset_size"]
        arguments = tree["training_args_spec"]
        arguments |= {"output_dir": str(output), "run_name": name.replace("_", " ").title()}
        for key, names in _ARGUMENTS.items():
            arguments |= dict.fromkeys(names, values[key])
        if values["neftune_noise_alpha"] is not None:
            arguments["neftune_noise_alpha"] = values["neftune_noise_alpha"]
        steps = values["dataset_size"] / (values["batch_size"] * values["gradient_accumulation_steps"])
        arguments["warmup_steps"] = int(steps * values["epochs"] * values["warmup_steps_ratio"])
        if grid["mlflow_experiment_name"]:
            tree["mlflow_experiment_name"] = grid["mlflow_experiment_name"]
        pretrained = str(output / "final_checkpoint")
        yield output.with_name(f"{output.name}.toml"), tree


def _name(grid: Table, number: int, stage: str) -> str:
    template = grid.given("name_template")
    names = {"base": grid["base_model"], "experiment_name": grid["experiment_name"]}
    try:
        return str(template.value.format(**names, experiment_index=number, stage=stage))
    except (KeyError, IndexError, ValueError) as error:
        hint = f"In braces stand {', '.join(names)}, experiment_index and stage."
        refuse([template.problem(f"{error} cannot be filled in.", hint)])
        raise


def _of_stage(value: _T | list[_T], index: int) -> _T:
    if not isinstance(value, list):
        return value
    return value[0] if len(value) == 1 else value[index]


def _joined(joiner: str, words: list[str]) -> str:
    """As bash has it, or fish, whose words are `and` and `or`."""
    return (f"; {joiner} " if joiner.isalpha() else f" {joiner} ").join(words)


def as_text(tree: Mapping[str, Any]) -> str:
    """Nested tables as TOML: values first, then each table within."""
    return "\n".join(_lines(tree, ())).lstrip("\n") + "\n"


def _lines(tree: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    inner = {name: value for name, value in tree.items() if isinstance(value, Mapping)}
    values = {name: value for name, value in tree.items() if name not in inner}
    if above and (values or not inner):
        yield f"\n[{format_key(*above)}]"
    for name, value in values.items():
        yield f"{format_key(name)} = {format_value(value)}"
    for name, value in inner.items():
        yield from _lines(value, (*above, name))
