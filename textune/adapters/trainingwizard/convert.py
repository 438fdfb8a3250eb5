"""A run of training-wizard as a configuration of textune: every key becomes a line, or is left out with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from textune.adapters.foreign import Foreign, Line, kept_files
from textune.adapters.trainer import Arguments
from textune.adapters.trainingwizard.data import data_lines
from textune.adapters.trainingwizard.given import Given, Table, read_table
from textune.adapters.trainingwizard.keys import CALLBACKS, RECIPE, TOP
from textune.adapters.trainingwizard.modules import Module, problem_of, read_module, task_lines
from textune.adapters.trainingwizard.sources import Remarks
from textune.adapters.trainingwizard.specfile import read_specs
from textune.adapters.trainingwizard.training import (
    MLFLOW,
    arguments_of,
    callback_lines,
    experiment_name,
    mlflow_lines,
)
from textune.adapters.trainingwizard.transformer import model_lines, tokens_lines, weights_type
from textune.config import refuse
from textune.wording import nearest

SYSTEM = "training-wizard"
_COSTLY = 3
"""How many defaults the notice about them names."""
_CALLED_ACCURACY = "accuracy is the share of rows that are right; what has this name there is balanced_accuracy here."
_OF_ANSWERS = {
    "multiclass": _CALLED_ACCURACY,
    "binary of two outputs": _CALLED_ACCURACY,
    "multilabel": "Metrics of labels are told apart by name: those of training-wizard end in _micro.",
    "multitask": _CALLED_ACCURACY,
    "regression": "Each evaluation measures mse, mae, mape, pearson and spearman; there it measures the loss alone.",
}
"""What differs, by the kind of answers."""


def convert_training_wizard(file: Path, *, processes: int | None = None) -> Foreign:
    """The configuration that trains what a file of training-wizard's specs trains.

    `processes`: how many train, which the rows of a step depend on; by default one. Relative paths start from the
    current folder. Raises a ConfigError for an unknown key, a wrong value and what cannot be done, and a DataError
    where rows lack a column that is needed. Classes of the user's own are imported where a table of rows names them.
    """
    processes = processes or 1
    specs, remarks = read_specs(file), Remarks()
    top = read_table(specs, (), specs.tree, TOP, remarks.problems)
    _require_recipe(top.given("spec_class"), remarks)
    name = experiment_name(top, remarks) if top["training_args_spec"] is not None else top.given("spec_class")
    module = None if top["wizard_module"] is None else read_module(specs, top["wizard_module"], remarks)
    callbacks = read_table(specs, ("callbacks_spec",), top["callbacks_spec"], CALLBACKS, remarks.problems)
    refuse(remarks.problems)
    assert module is not None
    task = list(task_lines(module, remarks))
    model = list(model_lines(module, callbacks.given("merge_lora"), remarks))
    tokens = list(tokens_lines(module, remarks))
    called_back = list(callback_lines(top, callbacks, remarks))
    refuse(remarks.problems)
    arguments = arguments_of(top, remarks, processes=processes, problem=problem_of(module))
    trained = list(mlflow_lines(arguments.lines, name, arguments.values))
    if name.value:
        remarks.notes.append(f"{name.short}: {MLFLOW} is used; MLFLOW_TRACKING_URI is not read.")
    seed = next(line for line in trained if line.key == "train.seed")
    data = list(data_lines(top, module.weight, (int(str(seed.value)), seed.origin), remarks))
    plots = module.saves_plots
    lines = [
        *data,
        *tokens,
        *task,
        *model,
        *_in_type_of_weights(trained, module, remarks),
        *called_back,
        Line("evaluate.plots", bool(plots.value), plots.origin),
        Line("train.layout", SYSTEM, "files as training-wizard writes them"),
    ]
    remarks.notes += [*arguments.notes, *_usual_notes(top, module, arguments, processes)]
    return Foreign(
        SYSTEM,
        (str(file),),
        tuple({line.key: line for line in lines}.values()),
        (*remarks.left_out, *arguments.left_out),
        tuple(dict.fromkeys(remarks.notes)),
        run=str(arguments.values["output_dir"]),
        kept=kept_files([file]),
    )


def _require_recipe(given: Given, remarks: Remarks) -> None:
    """The recipe is the one that trains modules."""
    if given.value is None or given.value == RECIPE:
        return
    close = nearest(str(given.value), [RECIPE], cutoff=0.9)
    hint = f"Did you mean {close}?" if close else f'textune runs "{RECIPE}"; a module and rows may be of your own.'
    remarks.problems.append(given.problem("this recipe is not one for classification or regression.", hint))


def _in_type_of_weights(lines: list[Line], module: Module, remarks: Remarks) -> Iterator[Line]:
    """The lines; where `torch_dtype` alone asks for fewer bits, arithmetic has them."""
    given = weights_type(module)
    for line in lines:
        if given is not None and line.key == "train.precision" and line.value == "fp32":
            kinds = {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16"}
            if given.value not in kinds:
                refuse([given.problem("expected bf16, fp16 or fp32.")])
            remarks.notes.append(f"{given.short}: arithmetic has this type; the weights that are trained stay fp32.")
            line = replace(line, value=kinds[given.value], origin=given.origin)
        yield line


def _usual_notes(top: Table, module: Module, arguments: Arguments, processes: int) -> Iterator[str]:
    """What textune does otherwise in such runs, and what defaults cost."""
    problem = problem_of(module)
    if top["validation"] is not None:
        yield "Metrics are those of each evaluation; there they are means of up to ten evaluations."
    if problem in _OF_ANSWERS:
        yield _OF_ANSWERS[problem]
    if processes > 1:
        yield "Gradients are averaged over the processes; there each process follows its own."
    if arguments.values.get("gradient_accumulation_steps") not in (None, 1):
        yield "A step's loss is the mean over its rows; there it may be as many times that as there are accumulations."
    if not arguments.values.get("load_best_model_at_end", True) and top["validation"] is not None:
        yield "final_checkpoint is the best model; there it is the last one, as load_best_model_at_end is false."
    if module.saves_plots.value:
        yield "Plots are drawn of the final evaluation; there of each."
    costly = list(_costly_defaults(top, module, arguments))[:_COSTLY]
    if costly:
        yield f"Defaults of training-wizard that cost most here: {'; '.join(costly)}."


def _costly_defaults(top: Table, module: Module, arguments: Arguments) -> Iterator[str]:
    """Defaults that are left as they are, the dearest first."""
    given = top["training_args_spec"]
    if not {"bf16", "fp16"} & set(given) and weights_type(module) is None:
        yield "fp32 arithmetic unless accelerate sets another, whatever its README says (bf16 = true is faster)"
    if "save_total_limit" not in given and given.get("save_strategy") != "no":
        yield "every checkpoint is kept (save_total_limit = 1)"
    if not {"warmup_steps", "warmup_ratio"} & set(given):
        yield "no warm-up (warmup_ratio = 0.1)"
    if top["validation"] is not None and "metric_for_best_model" not in given:
        yield "the lowest loss chooses the best model (metric_for_best_model)"
    if not isinstance(top["validation"], dict | None):
        yield "validation rows are not spread over the classes (data.validation.stratify = true)"
