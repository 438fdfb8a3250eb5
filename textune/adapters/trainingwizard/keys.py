"""Every key of training-wizard's specs for classification: what it takes, and its default there.

`training_args_spec` has the keys of `transformers.TrainingArguments`, which `adapters/trainer` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

REQUIRED: Any = object()
"""The default of a key that has to be set."""
Text = Annotated[str, StringConstraints(min_length=1)]
Texts = list[Text]
Smoothing = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Key:
    """One key."""

    takes: Any
    """The type of its values."""
    default: Any = REQUIRED
    aliases: tuple[str, ...] = ()
    """Other names of it."""
    hint: str = ""
    """What to write where it is wrong or missing."""
    unused: str = ""
    """Why it changes nothing here."""


PACKAGE = "training_wizard."
RECIPE = "training_wizard.recipes.modular.ModularTrainingSpec"
SIMPLE = "training_wizard.specs.dataset.SimpleDataSourceSpec"
_CLASS = {"spec_class": Key(Text, "")}

TOP = {
    "spec_class": Key(Text, aliases=("recipe_class",), hint=f'Write spec_class = "{RECIPE}".'),
    "mlflow_experiment_name": Key(str | None, None),
    "validation": Key(Any, None),
    "dataset_spec": Key(dict[str, Any], hint="It says where the rows are: [dataset_spec] with data_files."),
    "wizard_module": Key(dict[str, Any], hint="It says what is trained: [wizard_module] with spec_class."),
    "training_args_spec": Key(dict[str, Any], hint="It needs output_dir at least."),
    "callbacks_spec": Key(dict[str, Any], {}),
}
SOURCE = {
    **_CLASS,
    "data_files": Key(Text | Annotated[Texts, Field(min_length=1)], hint='Such as data_files = "rows/*.jsonl".'),
    "loader": Key(Literal["csv", "text", "json"], "json"),
    "load_dataset_kwargs": Key(dict[str, Any], {}),
    "preprocessing": Key(dict[str, Any], {}),
}
PREPROCESSING = {
    **_CLASS,
    "select_columns": Key(Texts | None, None),
    "rename_columns": Key(dict[Text, Text] | None, None),
    "shuffle": Key(
        bool, True, unused="nothing there reads it, and the order of training is drawn anew in each epoch anyway"
    ),
    "take": Key(Annotated[int, Field(ge=0)] | None, None),
    "token_length_filter": Key(dict[str, Any] | None, None),
}
TOKEN_LENGTH_FILTER = {
    "column": Key(Text | Annotated[Texts, Field(min_length=1)]),
    "max_length": Key(Annotated[int, Field(ge=1)]),
    "pretrained_name": Key(Text),
    "aggregation": Key(Literal["max", "sum"], "sum"),
}
CONCATENATED = {**_CLASS, "parents": Key(Annotated[list[dict[str, Any]], Field(min_length=1)])}
TEMPLATED = {
    **_CLASS,
    "parent": Key(dict[str, Any]),
    "text_template": Key(Text, "{text}"),
    "label_column": Key(Text, "label"),
    "keep_columns": Key(Texts, []),
}
SOURCES: dict[str, Mapping[str, Key]] = {
    "SimpleDataSourceSpec": SOURCE,
    "MultiDataSourceSpec": CONCATENATED,
    "SequenceClassificationDatasourceSpec": TEMPLATED,
}
"""Data sources for classification, by the name of their class."""

_LABELLED = {**_CLASS, "transformer_spec": Key(dict[str, Any], hint="It needs pretrained_name.")}
_METRICS = {
    "compute_eval_metrics": Key(
        bool, True, unused="metrics are computed from the same pass over the rows as the loss"
    ),
}
CLASSIFIER = {
    **_LABELLED,
    "loss_type": Key(Literal["cross_entropy", "binary_cross_entropy"], "cross_entropy"),
    "label_smoothing": Key(Smoothing, 0.0),
    **_METRICS,
    "save_plots": Key(bool, False),
}
REGRESSOR = {
    **_LABELLED,
    "loss_type": Key(Literal["mse", "smooth_l1"], "smooth_l1"),
    "activation": Key(Literal["linear", "sigmoid"], "sigmoid"),
}
MULTI_TASK = {
    **_LABELLED,
    "group_sizes": Key(Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]),
    "label_smoothing": Key(Smoothing, 0.0),
    **_METRICS,
    "show_per_group_metrics": Key(bool, False, unused="a report has a part for each task anyway"),
}
OWN_MODULE = _LABELLED
MODULES: dict[str, Mapping[str, Key]] = {
    "SequenceClassifierModule": CLASSIFIER,
    "SequenceRegressionModule": REGRESSOR,
    "MultiTaskSequenceClassifierModule": MULTI_TASK,
}
"""Modules for classification, by the name of their class."""

TRANSFORMER = {
    **_CLASS,
    "pretrained_name": Key(Text, hint='Such as pretrained_name = "microsoft/deberta-v3-xsmall".'),
    "quantization_spec": Key(dict[str, Any] | None, None, aliases=("bnb_spec",)),
    "device_map": Key(
        str | dict[str, Any] | None,
        None,
        unused="a process computes on one device; train.distributed shares the work among several",
    ),
    "from_pretrained_kwargs": Key(dict[str, Any], {}),
    "tokenizer_init_kwargs": Key(dict[str, Any], {}),
    "tokenizer_call_kwargs": Key(dict[str, Any], {}),
    "tokenizer_special_tokens": Key(dict[str, Any] | list[str] | None, None),
    "disable_tokenizer_parallelism": Key(
        bool, False, unused="texts are tokenised once, before training, and no process is forked meanwhile"
    ),
    "lora_spec": Key(dict[str, Any] | None, None),
    "apply_chat_template_kwargs": Key(dict[str, Any], {}, unused="a classifier reads texts, not messages of a chat"),
}
FEW_BITS = {
    "load_in_4bit": Key(bool, True),
    "bnb_4bit_quant_type": Key(Literal["nf4", "fp4"], "nf4"),
    "bnb_4bit_use_double_quant": Key(bool, False),
    "bnb_4bit_compute_dtype": Key(Literal["bfloat16", "float32", "float16"], "bfloat16"),
}
GPTQ = {"bits": Key(int), "use_exllama": Key(bool)}
LORA = {
    "r": Key(Annotated[int, Field(ge=1)], 32),
    "lora_alpha": Key(Annotated[int, Field(ge=1)], 64),
    "lora_dropout": Key(Annotated[float, Field(ge=0, lt=1)], 0.05),
    "bias": Key(Literal["none", "all", "lora_only"], "none"),
    "target_modules": Key(Text | Annotated[Texts, Field(min_length=1)], "all-linear"),
}
CALLBACKS = {
    "enable_early_stopping": Key(bool, False),
    "early_stopping_patience": Key(int, -1),
    "evaluate_first_step": Key(bool, False),
    "merge_lora": Key(bool, False),
}
ARGUMENTS_BY_DEFAULT: Mapping[str, object] = {
    "report_to": [],
    "overwrite_output_dir": False,
    "remove_unused_columns": False,
    "dataloader_drop_last": False,
    "load_best_model_at_end": True,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
}
"""What training-wizard sets where `training_args_spec` says nothing; the rest are defaults of transformers."""

_MODEL = "wizard_module.transformer_spec"
ELSEWHERE: Mapping[str, str] = {
    "num_labels": f"{_MODEL}.from_pretrained_kwargs",
    "torch_dtype": f"{_MODEL}.from_pretrained_kwargs",
    "max_length": f"{_MODEL}.tokenizer_call_kwargs",
    "truncation": f"{_MODEL}.tokenizer_call_kwargs",
    **{name: "wizard_module" for keys in MODULES.values() for name in keys if name != "spec_class"},
    **{name: _MODEL for name in TRANSFORMER if name != "spec_class"},
    **{name: f"{_MODEL}.lora_spec" for name in LORA},
    **{name: f"{_MODEL}.quantization_spec" for name in FEW_BITS},
    **{name: "dataset_spec" for name in SOURCE if name != "spec_class"},
    **{name: "dataset_spec.preprocessing" for name in PREPROCESSING if name != "spec_class"},
    **{name: "callbacks_spec" for name in CALLBACKS},
}
"""Which table a key belongs into, for those who write it elsewhere."""
