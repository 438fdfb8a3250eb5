"""The AutoML pipelines `nlp_textclassification_multiclass` and `_multilabel` as configurations of textune."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from textune.adapters.azureml.conflicts import refuse_conflicts, stage_of
from textune.adapters.azureml.inputs import FINETUNE, LATER, METRICS, SCHEDULES, SWITCH, Input, Inputs, read_inputs
from textune.adapters.azureml.training import Half, read_training
from textune.adapters.foreign import Foreign, LeftOut, Line
from textune.errors import ConfigError

Kind = Literal["multiclass", "multilabel"]
COMPONENTS: dict[Kind, str] = {
    "multiclass": "nlp_textclassification_multiclass",
    "multilabel": "nlp_textclassification_multilabel",
}
_COMPUTE = "what it runs on is up to whoever starts it (textune launch)"
_ELSEWHERE = {
    **dict.fromkeys(("compute_model_import", "compute_preprocess", "compute_finetune"), _COMPUTE),
    **dict.fromkeys(("num_nodes_finetune", "process_count_per_instance_finetune"), _COMPUTE),
    "save_as_mlflow_model": "the command writes the MLflow model once the run is complete",
}
AUTOML: dict[str, Input] = {
    one.name: one
    for one in (
        Input("model_name", "string", "bert-base-uncased", "The model, by its name on the hub or its folder."),
        Input("label_column_name", "string", None, "Column of the label, or labels.", optional=False),
        Input("training_data", "uri_file", None, "File of the training rows.", optional=False),
        Input("validation_data", "uri_file", None, "File of the validation rows.", optional=False),
        Input("training_batch_size", "integer", 32, "Training rows computed at once on a device.", minimum=1),
        Input("validation_batch_size", "integer", 32, "Validation rows computed at once on a device.", minimum=1),
        Input("number_of_epochs", "integer", 3, "Epochs.", minimum=1),
        replace(FINETUNE["gradient_accumulation_steps"]),
        replace(FINETUNE["learning_rate"], default=5e-5),
        replace(FINETUNE["warmup_steps"]),
        replace(FINETUNE["weight_decay"]),
        Input("learning_rate_scheduler", "string", "linear", "How the learning rate changes.", SCHEDULES),
        Input("enable_long_range_text", "string", "true", "256 tokens where many rows are long, else 128.", SWITCH),
        replace(FINETUNE["precision"], default="16"),
        replace(FINETUNE["enable_full_determinism"]),
        replace(FINETUNE["evaluation_strategy"]),
        replace(FINETUNE["evaluation_steps_interval"]),
        Input("evaluation_steps", "integer", 500, "Steps between two evaluations by steps.", minimum=1),
        replace(FINETUNE["logging_strategy"], default="steps"),
        replace(FINETUNE["logging_steps"]),
        Input("primary_metric", "string", "accuracy", "The metric that chooses the best model.", METRICS),
        replace(FINETUNE["apply_deepspeed"], default="true"),
        Input("deepspeed_config", "uri_file", None, "DeepSpeed's configuration, a JSON file."),
        replace(FINETUNE["apply_ort"], default="true"),
        replace(FINETUNE["save_as_mlflow_model"]),
        Input("compute_model_import", "string", None, _COMPUTE),
        Input("compute_preprocess", "string", None, _COMPUTE),
        Input("compute_finetune", "string", None, _COMPUTE),
        Input("num_nodes_finetune", "integer", 1, "Machines.", minimum=1),
        Input("process_count_per_instance_finetune", "integer", 1, "Processes on each machine.", minimum=1),
    )
}
"""The inputs of both pipelines, by name."""
_NAMES = {
    "training_batch_size": "per_device_train_batch_size",
    "validation_batch_size": "per_device_eval_batch_size",
    "number_of_epochs": "num_train_epochs",
    "learning_rate_scheduler": "lr_scheduler_type",
    "evaluation_steps": "eval_steps",
    "primary_metric": "metric_for_best_model",
    "deepspeed_config": "deepspeed",
}
"""What inputs are called by the component that trains."""
_BY_DEFAULT = {
    "apply_deepspeed": "on by default there, it shares what one device cannot hold; the training is the same without",
    "apply_ort": "on by default there, the switch does nothing; --apply_ort true trains with ONNX Runtime",
}
_OTHER_METRICS: dict[Kind, dict[object, str]] = {"multilabel": {"accuracy": "subset_accuracy"}}
"""Metrics that have another name here."""
_IN_TEMPLATES = frozenset("{}!:")
"""Characters that mean something else in a template than in the name of a column."""


def read_automl(given: Mapping[str, object], *, kind: Kind) -> Inputs:
    """The inputs of the pipeline; errors as of `read_inputs`."""
    return read_inputs(AUTOML, given, component=COMPONENTS[kind])


def convert_automl(
    inputs: Inputs, *, kind: Kind, columns: tuple[str, ...], run: str, processes: int = 1, half: Half = "bf16"
) -> Foreign:
    """The configuration that trains what the pipeline trains with these inputs.

    `columns`: those of the training rows without the label's, which become one text. `run`: the run folder.
    `processes`, `half`: as of `convert_finetune`. ConfigError lists inputs that do not go together.
    """
    trained = _as_finetune(inputs)
    stage = stage_of(trained)
    refuse_conflicts(trained, stage=stage, has_validation=True, processes=processes)
    training = read_training(trained, stage=stage, half=half, has_validation=True, processes=processes)
    lines = [*_data_lines(inputs, kind, columns), *(_by_our_names(line, kind) for line in training.lines)]
    notes = list(training.notes)
    if len(columns) > 1:
        notes.append(
            "Texts of several columns are put together in the order of the file, with a full stop between them; there"
            " their order changes from run to run."
        )
    unused = {**_ELSEWHERE, **{name: why for name, why in _BY_DEFAULT.items() if name not in inputs.given}}
    left_out = [LeftOut(name, why) for name, why in unused.items() if name in inputs.given or name in _BY_DEFAULT]
    words = tuple(f"--{name}={inputs[name]}" for name in AUTOML if name in inputs.given)
    left_out += [one for one in training.left_out if one.key in inputs.given]
    return Foreign("azureml", (COMPONENTS[kind], *words), tuple(lines), tuple(left_out), tuple(notes), run=run)


def _as_finetune(inputs: Inputs) -> Inputs:
    """The inputs of the component that trains."""
    known = {**FINETUNE, **LATER}
    values = {name: one.default for name, one in known.items()} | {"optim": "adamw_torch"}
    values |= {
        _NAMES.get(name, name): value for name, value in inputs.values.items() if _NAMES.get(name, name) in known
    }
    values |= {name: "false" for name in _BY_DEFAULT if name not in inputs.given}
    names = {_NAMES.get(name, name): name for name in inputs.given if _NAMES.get(name, name) in known}
    return Inputs(values, frozenset(names), {ours: f"--{theirs}" for ours, theirs in names.items()})


def _by_our_names(line: Line, kind: Kind) -> Line:
    names = _OTHER_METRICS.get(kind, {}) if line.key == "evaluate.metric" else {}
    return replace(line, value=names[line.value]) if line.value in names else line


def _data_lines(inputs: Inputs, kind: Kind, columns: tuple[str, ...]) -> Iterator[Line]:
    for ours, theirs in (("train", "training_data"), ("validation", "validation_data")):
        yield Line(f"data.{ours}.kind", "files", theirs)
        yield Line(f"data.{ours}.files", (inputs.text(theirs),), inputs.origin(theirs))
    if len(columns) == 1:
        yield Line("data.columns.text", columns[0], "the only column beside the label")
    else:
        _require_plain(inputs, columns)
        template = ". ".join(f"{{{name}}}" for name in columns)
        yield Line("data.columns.template", template, "all columns but the label")
    yield Line("data.columns.label", inputs["label_column_name"], inputs.origin("label_column_name"))
    yield Line("task.kind", kind, COMPONENTS[kind])
    length: int | str = "auto" if inputs.on("enable_long_range_text") else 128
    yield Line("tokens.max_length", length, inputs.origin("enable_long_range_text"))
    yield Line("model.pretrained", inputs["model_name"], inputs.origin("model_name"))
    ignore = FINETUNE["ignore_mismatched_sizes"].default == "true"
    yield Line("model.ignore_mismatched_sizes", ignore, "as text_classification_finetune has it by default")


def _require_plain(inputs: Inputs, columns: tuple[str, ...]) -> None:
    """ConfigError for a column whose name a template cannot hold."""
    for name in columns:
        if not name or _IN_TEMPLATES & set(name):
            found = f"the column {name!r} has one of {{ }} ! : in its name" if name else "a column has no name"
            raise ConfigError(
                f"--training_data = {inputs['training_data']}: {found}, so that the columns cannot be put together.",
                hint="Rename the column in both files, or leave it out of them.",
                key="training_data",
                value=name,
                place=inputs.text("training_data"),
                reason="such a name cannot stand in data.columns.template",
            )
