"""`text_classification_pipeline`: the stages before fine-tuning one after the other, beside the run that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from textune.adapters import (
    MODEL_ARGS,
    MODEL_IMPORT,
    PIPELINE,
    PREPROCESS,
    PREPROCESS_ARGS,
    read_inputs,
    read_object,
)
from textune.config import absolute
from textune.errors import ConfigError
from textune.pipeline.stages.importing import import_model
from textune.pipeline.stages.outputs import write_object
from textune.pipeline.stages.preprocessing import preprocess

COMPONENT = "text_classification_pipeline"
BESIDE = ".stages"
"""Behind the name of the run folder: where the stages before it write."""
INPUTS = "inputs.json"
"""What the stages there were asked for."""
SELECTED, PREPROCESSED = "model_selector_output", "preprocess_output"
_OWN = frozenset({"output_dir", SELECTED})
"""Inputs of the stages that the pipeline sets itself."""


def prepare_stages(given: Mapping[str, object], run: str, *, notice: Callable[[str], None]) -> dict[str, object]:
    """Import the model and preprocess the rows, unless both were done with these inputs; returns what is left of the
    inputs for the fine-tuning, with the two folders.

    `given`: the inputs of the pipeline by name. `run`: the `pytorch_model_folder`; the stages write beside it.
    ConfigError for inputs about machines that cannot be followed here, and where the folders were made with other
    inputs; else errors as of the stages.
    """
    _read_machines({name: value for name, value in given.items() if name in PIPELINE}, notice)
    folder = Path(absolute(run, Path.cwd()) + BESIDE)
    selected, preprocessed = str(folder / SELECTED), str(folder / PREPROCESSED)
    model = {name: value for name, value in given.items() if name in MODEL_IMPORT and name not in _OWN}
    rows = {name: value for name, value in given.items() if name in PREPROCESS and name not in _OWN}
    # All inputs are read before anything is written.
    read_inputs(MODEL_IMPORT, model | {"output_dir": selected}, component=COMPONENT)
    rows |= {SELECTED: selected, "output_dir": preprocessed}
    read_inputs(PREPROCESS, rows, component=COMPONENT)
    _require_same_inputs(folder, model | {name: value for name, value in rows.items() if name not in _OWN})
    if not (folder / SELECTED / MODEL_ARGS).is_file():
        import_model(model | {"output_dir": selected}, notice=notice)
    if not (folder / PREPROCESSED / PREPROCESS_ARGS).is_file():
        preprocess(rows, notice=notice)
    known = {*MODEL_IMPORT, *PREPROCESS, *PIPELINE}
    rest = {name: value for name, value in given.items() if name not in known}
    return rest | {PREPROCESSED: preprocessed, SELECTED: selected}


def _read_machines(given: Mapping[str, object], notice: Callable[[str], None]) -> None:
    """Say what becomes of inputs about machines; ConfigError for several."""
    inputs = read_inputs(PIPELINE, given, component=COMPONENT)
    if inputs.count("num_nodes_finetune") > 1:
        raise ConfigError(
            f"--num_nodes_finetune = {inputs['num_nodes_finetune']}: this command runs on this machine.",
            hint="Run the stages apart, then `textune convert azureml ... --out c.toml` and `textune launch c.toml`.",
            key="num_nodes_finetune",
            value=inputs["num_nodes_finetune"],
        )
    if given:
        notice(f"{', '.join(sorted(given))}: every stage runs on this machine, and all of its devices train")


def _require_same_inputs(folder: Path, given: Mapping[str, object]) -> None:
    """Note the inputs of the stages; ConfigError where the folder was begun with others."""
    file, now = folder / INPUTS, {name: str(value) for name, value in sorted(given.items())}
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_object(file, now)
        return
    before = read_object(file, "pytorch_model_folder")
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"{folder} was made with --{name} {before.get(name, 'left out')}, not {now.get(name, 'left out')}.",
                hint="Remove that folder, or name another --pytorch_model_folder.",
                key=name,
                value=now.get(name),
                place=str(file),
            )
