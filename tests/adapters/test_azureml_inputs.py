"""What becomes of every input of AzureML's component: a line of ours, or nothing, with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from kits.azureml import finetune, stage_folders, write_json
from kits.bsmetadata import value

from textune.adapters.azureml.inputs import FINETUNE
from textune.adapters.loaded import load_foreign
from textune.errors import ConfigError

Given = dict[str, object]
LORA: Given = {"apply_lora": "true"}
ZERO: Given = {"apply_deepspeed": "true"}
STOPS: Given = {"apply_early_stopping": "true"}
STEPS: Given = {"evaluation_strategy": "steps"}

MAPPED: dict[str, list[tuple[Given, str, Any]]] = {
    "apply_lora": [(LORA, "model.lora.targets", ("query", "value")), ({}, "model.lora.r", None)],
    "merge_lora_weights": [
        (LORA, "model.lora.merge", "end"),
        (LORA | {"merge_lora_weights": "false"}, "model.lora.merge", "command"),
    ],
    "lora_alpha": [(LORA, "model.lora.alpha", 128), (LORA | {"lora_alpha": "16"}, "model.lora.alpha", 16)],
    "lora_r": [(LORA, "model.lora.r", 8), (LORA | {"lora_r": 4}, "model.lora.r", 4)],
    "lora_dropout": [(LORA | {"lora_dropout": "0.1"}, "model.lora.dropout", 0.1)],
    "num_train_epochs": [({}, "train.duration", "1 epoch"), ({"num_train_epochs": 3}, "train.duration", "3 epochs")],
    "max_steps": [({"max_steps": "7", "num_train_epochs": 3}, "train.duration", "7 steps")],
    "per_device_train_batch_size": [
        ({}, "train.batch_size", 2),
        ({"per_device_train_batch_size": 8}, "train.batch_size", 16),
    ],
    "gradient_accumulation_steps": [({"gradient_accumulation_steps": "4"}, "train.batch_size", 8)],
    "optim": [
        ({}, "train.optimizer.kind", "adamw"),
        ({"optim": "adamw_torch"}, "train.optimizer.kind", "adamw"),
        ({"optim": "adafactor"}, "train.optimizer.kind", "adafactor"),
    ],
    "learning_rate": [({}, "train.optimizer.lr", 2e-5), ({"learning_rate": "1e-3"}, "train.optimizer.lr", 1e-3)],
    "warmup_steps": [({"warmup_steps": 5}, "train.schedule.warmup", "5 steps")],
    "weight_decay": [({}, "train.optimizer.weight_decay", 0.0)],
    "adam_beta1": [({"adam_beta1": 0.8}, "train.optimizer.beta1", 0.8)],
    "adam_beta2": [({"adam_beta2": "0.98"}, "train.optimizer.beta2", 0.98)],
    "adam_epsilon": [({"adam_epsilon": "1e-6"}, "train.optimizer.eps", 1e-6)],
    "lr_scheduler_type": [
        ({"lr_scheduler_type": kind}, "train.schedule.kind", kind) for kind in FINETUNE["lr_scheduler_type"].choices
    ],
    "precision": [({}, "train.precision", "fp32"), ({"precision": "16"}, "train.precision", "fp16")],
    "seed": [({}, "train.seed", 42), ({"seed": 7}, "train.seed", 7)],
    "enable_full_determinism": [({"enable_full_determinism": "true"}, "train.deterministic", True)],
    "ignore_mismatched_sizes": [
        ({}, "model.ignore_mismatched_sizes", True),
        ({"ignore_mismatched_sizes": "false"}, "model.ignore_mismatched_sizes", False),
    ],
    "max_grad_norm": [({}, "train.max_grad_norm", 1.0), ({"max_grad_norm": 0.5}, "train.max_grad_norm", 0.5)],
    "evaluation_strategy": [({}, "train.evaluate_every", "1 epoch"), (STEPS, "train.evaluate_every", "500 steps")],
    "evaluation_steps_interval": [
        ({"evaluation_steps_interval": "0.25"}, "train.evaluate_every", "0.25 epochs"),
        (STEPS | {"evaluation_steps_interval": 0.25}, "train.checkpoint.every", "0.25 epochs"),
    ],
    "eval_steps": [
        (STEPS | {"eval_steps": 20}, "train.evaluate_every", "20 steps"),
        (STEPS | {"eval_steps": 20}, "train.checkpoint.every", "20 steps"),
    ],
    "logging_strategy": [({}, "train.log_every", "1 epoch")],
    "logging_steps": [({"logging_strategy": "steps", "logging_steps": 3}, "train.log_every", "3 steps")],
    "metric_for_best_model": [
        ({"metric_for_best_model": name}, "evaluate.metric", name)
        for name in FINETUNE["metric_for_best_model"].choices
    ],
    "save_total_limit": [
        ({}, "train.checkpoint.keep", "all"),
        ({"save_total_limit": 2}, "train.checkpoint.keep", 2),
        ({"save_total_limit": 2}, "train.checkpoint.keep_best", 1),
    ],
    "apply_early_stopping": [({}, "train.early_stopping.patience", None), (STOPS, "train.early_stopping.patience", 1)],
    "early_stopping_patience": [(STOPS | {"early_stopping_patience": 3}, "train.early_stopping.patience", 3)],
    "early_stopping_threshold": [(STOPS | {"early_stopping_threshold": 0.1}, "train.early_stopping.threshold", 0.1)],
    "apply_deepspeed": [
        (ZERO, "train.distributed.kind", "deepspeed"),
        (ZERO, "train.distributed.stage", 2),
        (ZERO, "train.distributed.cpu_offload", True),
        ({}, "train.distributed.kind", None),
    ],
    "apply_ort": [({}, "train.engine", None)],
}
LEFT_OUT: dict[str, Given] = {
    "per_device_eval_batch_size": {"per_device_eval_batch_size": 64},
    "auto_find_batch_size": {"auto_find_batch_size": "true"},
    "dataloader_num_workers": {"dataloader_num_workers": 4},
    "save_as_mlflow_model": {"save_as_mlflow_model": "false"},
    "eval_accumulation_steps": {"eval_accumulation_steps": 4},
    "lora_r": {"lora_r": 4},
    "early_stopping_patience": {"early_stopping_patience": 3},
    "deepspeed": {"deepspeed": "zero2.json"},
    "eval_steps": {"eval_steps": 20},
    "evaluation_strategy": {"evaluation_strategy": "steps", "evaluation_steps_interval": 0.5},
    "num_train_epochs": {"num_train_epochs": 2, "max_steps": 3},
}
"""Inputs that change nothing beside the others."""
ELSEWHERE = {"deepspeed", "resume_from_checkpoint", "preprocess_output", "model_selector_output"}
"""Inputs whose tests stand further down, or in the tests of whole runs."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return stage_folders(tmp_path_factory.mktemp("stages"))


def test_every_input_is_spoken_of() -> None:
    assert {*MAPPED, *LEFT_OUT, *ELSEWHERE} >= set(FINETUNE)


@pytest.mark.parametrize("name", MAPPED)
def test_an_input_becomes_a_line(folders: dict[str, str], name: str) -> None:
    for given, key, expected in MAPPED[name]:
        assert value(finetune(folders, given), key) == expected, (given, key)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_input_that_changes_nothing_is_left_out_with_the_reason(folders: dict[str, str], name: str) -> None:
    left_out = {one.key: one.reason for one in finetune(folders, LEFT_OUT[name]).left_out}
    assert len(left_out[name]) > 10


def test_the_usual_call_is_a_configuration_that_loads_and_names_where_each_value_comes_from(
    folders: dict[str, str],
) -> None:
    foreign = finetune(folders, {"learning_rate": "3e-5"})
    loaded = load_foreign(foreign)
    assert loaded.experiment.data.columns.tokens == "input_ids"
    assert loaded.experiment.data.labels.names == ("neg", "pos")
    assert loaded.experiment.tokens.max_length == 24
    origins = {line.key: line.origin for line in foreign.lines}
    assert "--learning_rate" in origins["train.optimizer.lr"]
    assert "its default" in origins["train.seed"]
    assert "1 x gradient_accumulation_steps 1 x 2 processes = 2 rows" in origins["train.batch_size"]
    costly = [note for note in foreign.notes if "cost most" in note]
    assert len(costly) == 1 and all(name in costly[0] for name in ("num_train_epochs", "save_total_limit"))
    kept = json.loads(foreign.kept["finetune_args.json"])
    assert kept["learning_rate"] == 3e-5 and kept["model_name_or_path"].endswith("tiny")


@pytest.mark.parametrize(
    ("stated", "length"),
    [({"model_max_length": 40}, 40), ({"model_max_length": 10**30}, 512)],
    ids=["known", "unknown"],
)
def test_rows_as_long_as_the_model_takes_are_as_long_as_its_tokenizer_says(
    tmp_path: Path, stated: dict[str, Any], length: int
) -> None:
    folders = stage_folders(tmp_path, max_seq_length=-1, pad_to_max_length="true")
    write_json(Path(folders["preprocess_output"]) / "tokenizer_config.json", stated)
    foreign = finetune(folders)
    assert value(foreign, "tokens.max_length") == length and value(foreign, "tokens.pad") == "max_length"


CONFLICTS: dict[str, tuple[Given, str, str]] = {
    "deepspeed and batch size": (ZERO | {"auto_find_batch_size": "true"}, "auto_find_batch_size", "apply_deepspeed"),
    "stage 3 and lora": (ZERO | LORA | {"deepspeed_stage": "3"}, "apply_lora", "stage 3"),
    "stage 3 and ort": (ZERO | {"apply_ort": "true", "deepspeed_stage": "3"}, "apply_ort", "stage 3"),
    "deepspeed and adafactor": (ZERO | {"optim": "adafactor"}, "optim", "DeepSpeed"),
    "ort and 16 bits": ({"apply_ort": "true", "precision": "16"}, "precision", "32 bits"),
    "ort and two processes": ({"apply_ort": "true"}, "apply_ort", "one process"),
    "no file": (ZERO | {"deepspeed": "absent.json"}, "deepspeed", "cannot be read"),
    "resumes nothing": ({"resume_from_checkpoint": "true"}, "resume_from_checkpoint", "checkpoints"),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_az_19_inputs_that_do_not_go_together_are_refused(folders: dict[str, str], name: str) -> None:
    given, key, said = CONFLICTS[name]
    with pytest.raises(ConfigError, match=said) as caught:
        finetune(folders, given)
    assert key in str(caught.value)


ZERO_2 = {"zero_optimization": {"stage": 2}, "train_batch_size": "auto"}
ZERO_3 = {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"fp16": {"enabled": "auto"}}, "zero_optimization.stage is missing"),
        ({"zero_optimization": {"stage": 3}}, "stage3_gather_16bit_weights_on_model_save"),
    ],
    ids=["no stage", "nothing gathered"],
)
def test_az_19_a_deepspeed_file_without_its_stage_or_whole_weights_is_refused(
    folders: dict[str, str], tmp_path: Path, tree: dict[str, Any], said: str
) -> None:
    file = write_json(tmp_path / "zero.json", tree)
    with pytest.raises(ConfigError, match=said) as caught:
        finetune(folders, ZERO | {"deepspeed": str(file)})
    assert caught.value.place == str(file)


def test_az_19_ones_own_deepspeed_file_is_kept_and_passed_on(folders: dict[str, str], tmp_path: Path) -> None:
    file = write_json(tmp_path / "zero.json", ZERO_2)
    foreign = finetune(folders, ZERO | {"deepspeed": str(file)})
    assert value(foreign, "train.distributed.config") == str(file)
    assert value(foreign, "train.distributed.stage") == 2 and value(foreign, "train.distributed.cpu_offload") is None
    assert json.loads(foreign.kept["zero.json"]) == ZERO_2
    file = write_json(tmp_path / "zero3.json", ZERO_3)
    assert value(finetune(folders, ZERO | {"deepspeed": str(file)}), "train.distributed.stage") == 3


def test_early_stopping_without_validation_rows_is_refused(tmp_path: Path) -> None:
    folders = stage_folders(tmp_path, validation=False)
    assert value(finetune(folders), "data.validation.kind") == "none"
    with pytest.raises(ConfigError, match="no validation rows"):
        finetune(folders, STOPS)


def test_a_folder_of_the_wrong_stage_is_named(folders: dict[str, str]) -> None:
    swapped = {
        "preprocess_output": folders["model_selector_output"],
        "model_selector_output": folders["preprocess_output"],
    }
    with pytest.raises(ConfigError, match="it is an output of text_classification_model_import"):
        finetune(swapped)
    with pytest.raises(ConfigError, match="it is an output of text_classification_preprocess"):
        finetune(folders | {"model_selector_output": folders["preprocess_output"]})
    with pytest.raises(ConfigError, match="there is no such folder"):
        finetune(folders | {"preprocess_output": "absent"})


def test_rows_with_label_instead_of_labels_are_told_what_to_write(tmp_path: Path) -> None:
    folders = stage_folders(tmp_path)
    file = Path(folders["preprocess_output"]) / "train.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"labels"', '"label"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="no column labels, but label: rename it to labels"):
        finetune(folders)


def test_layers_of_lora_are_those_of_the_family_or_of_finetune_config(tmp_path: Path) -> None:
    folders = stage_folders(tmp_path, model_type="unheard-of")
    foreign = finetune(folders, LORA)
    assert value(foreign, "model.lora.targets") == ("all-linear",)
    assert any("unheard-of" in note for note in foreign.notes)
    write_json(Path(folders["model_selector_output"]) / "finetune_config.json", {"lora_target_modules": ["key"]})
    again = finetune(folders, LORA)
    assert value(again, "model.lora.targets") == ("key",)
    assert json.loads(again.kept["finetune_config.json"]) == {"lora_target_modules": ["key"]}


def test_known_bugs_are_notes(folders: dict[str, str]) -> None:
    given = ZERO | {"evaluation_steps_interval": 0.5, "precision": "16"}
    said = " ".join(finetune(folders, given).notes)
    assert all(words in said for words in ("evaluation_steps_interval", "WarmupLR", "precision", "adamw_hf"))
    assert "apply_ort" in " ".join(finetune(folders, {"apply_ort": "true"}, processes=1).notes)
