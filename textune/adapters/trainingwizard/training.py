"""`train`, `evaluate` and `track` of a run of training-wizard: its `training_args_spec` and `callbacks_spec`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from textune.adapters.foreign import LeftOut, Line
from textune.adapters.trainer import Arguments, read_arguments
from textune.adapters.trainingwizard.given import Given, Table, given_at
from textune.adapters.trainingwizard.keys import ARGUMENTS_BY_DEFAULT
from textune.adapters.trainingwizard.sources import Remarks
from textune.config import Problem, refuse

PLACE = ("training_args_spec",)
MLFLOW = "sqlite:///mlflow.db"
_MACRO = {"accuracy": "balanced_accuracy"} | {
    name: f"{name}_macro" for name in ("precision", "recall", "f1", "f_half")
}
_MICRO = {name: f"{name}_micro" for name in ("precision", "recall", "f1", "f_half")}
_THEIRS = {
    **{"f1_score": "f1", "f_half_score": "f_half", "auroc": "roc_auc", "matthews_corr_coef": "mcc"},
    **{"pearson_corr": "pearson", "spearman_corr": "spearman"},
}
_MEANT = {"multiclass": _MACRO, "multitask": _MACRO, "binary of two outputs": _MACRO, "multilabel": _MICRO}
"""What a name of a metric means there, by the kind of answers."""
_OF_GROUP = re.compile(r"(group_\d+)_(.+)")
"""The name of a metric of one task among several there."""


def arguments_of(top: Table, remarks: Remarks, *, processes: int, problem: str) -> Arguments:
    """What `training_args_spec` became. `problem`: the kind of answers, which names of metrics depend on."""
    given: dict[str, Any] = dict(top["training_args_spec"])
    given.pop("mlflow_experiment_name", None)
    if "label_smoothing_factor" in given:
        given.pop("label_smoothing_factor")
        reason = "training-wizard computes the loss itself and does not read it; label_smoothing is read"
        remarks.left_out.append(LeftOut("training_args_spec.label_smoothing_factor", reason))
    if not given.get("output_dir"):
        message = f"training_args_spec.output_dir is not set ({top.file.place(PLACE)}): it is the run folder."
        refuse([Problem((*PLACE, "output_dir"), message, 'Such as output_dir = "runs/first".')])
    found = read_arguments(
        given,
        where=lambda key: top.file.place((*PLACE, key)),
        defaults=ARGUMENTS_BY_DEFAULT,
        processes=processes,
        has_validation=top["validation"] is not None,
    )
    return replace(found, lines=tuple(_as_meant(line, problem) for line in found.lines))


def _as_meant(line: Line, problem: str) -> Line:
    """The line with the metric that its name means there."""
    if line.key != "evaluate.metric" or not isinstance(line.value, str):
        return line
    group, metric = ("", line.value)
    if problem == "multitask" and (found := _OF_GROUP.fullmatch(line.value)):
        group, metric = f"{found[1]}/", found[2]
    name = _THEIRS.get(metric, metric)
    return replace(line, value=f"{group}{_MEANT.get(problem, {}).get(name, name)}")


def experiment_name(top: Table, remarks: Remarks) -> Given:
    """`mlflow_experiment_name`, also from where it stood in earlier versions; a ConfigError without `run_name`."""
    arguments: Mapping[str, Any] = top["training_args_spec"]
    given = top.given("mlflow_experiment_name")
    if "mlflow_experiment_name" in arguments:
        given = given_at(top.file, (*PLACE, "mlflow_experiment_name"), arguments["mlflow_experiment_name"])
    if given.value and not arguments.get("run_name"):
        remarks.problems.append(given.problem("MLflow needs a name for the run.", 'Write run_name = "...".'))
    return given


def mlflow_lines(lines: tuple[Line, ...], name: Given, arguments: Mapping[str, Any]) -> Iterator[Line]:
    """The lines, with the experiment of MLflow among the trackers."""
    others: tuple[Mapping[str, Any], ...] = ()
    origins = [name.origin]
    for line in lines:
        if line.key == "track" and name.value:
            assert isinstance(line.value, tuple)
            others = tuple(track for track in line.value if track["kind"] != "mlflow")
            origins.append(line.origin)
        else:
            yield line
    if name.value:
        track = {"kind": "mlflow", "uri": MLFLOW, "experiment": name.value, "run_name": arguments["run_name"]}
        yield Line("track", (*others, track), ", ".join(origins))


def callback_lines(top: Table, callbacks: Table, remarks: Remarks) -> Iterator[Line]:
    """Early stopping, and the evaluation after the first step."""
    first = callbacks.given("evaluate_first_step")
    evaluates = top["validation"] is not None
    if first.value and not evaluates:
        hint = "Leave it out, or set validation."
        remarks.problems.append(first.problem("there are no validation rows to evaluate on.", hint))
    elif first.value:
        yield Line("train.evaluate_at", (1,), f"{first.origin}: after it, as there")
    enabled, patience = callbacks.given("enable_early_stopping"), callbacks.given("early_stopping_patience")
    if not enabled.value:
        if not patience.is_default:
            remarks.left_out.append(LeftOut(patience.key, "enable_early_stopping is false"))
        yield Line("train.early_stopping.patience", 0, enabled.origin)
        return
    problem = _why_not(enabled, patience, top["training_args_spec"], evaluates=evaluates)
    if problem is not None:
        remarks.problems.append(problem)
        return
    if patience.value == 0:
        remarks.notes.append("early_stopping_patience = 0 stops at the first evaluation there, and is 1 here.")
    yield Line("train.early_stopping.patience", max(patience.value, 1), f"{enabled.origin}, {patience.origin}")


def _why_not(enabled: Given, patience: Given, arguments: Mapping[str, Any], *, evaluates: bool) -> Problem | None:
    """What early stopping cannot go with."""
    if patience.value < 0:
        return patience.problem("early stopping needs a number of evaluations.", "Write early_stopping_patience = 3.")
    if not evaluates:
        return enabled.problem("without validation rows nothing says when to stop.", "Set validation.")
    strategy = arguments.get("eval_strategy", arguments.get("evaluation_strategy", "epoch"))
    if strategy == "no":
        return enabled.problem(
            f'eval_strategy = "{strategy}" never says when to stop.', 'Write eval_strategy = "epoch".'
        )
    if arguments.get("load_best_model_at_end", True) is False:
        hint = "Leave load_best_model_at_end out."
        return enabled.problem("it keeps the best model, and load_best_model_at_end = false does not.", hint)
    return None
