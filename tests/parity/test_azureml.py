"""What AzureML's component for text classification must be able to do here, line by line (AZ-01 to AZ-27)."""

import ast

import pytest
import yaml
from kits.azureml import SEED, component_words, documented_inputs

from textune.adapters.azureml.component import component_yaml
from textune.adapters.azureml.inputs import FINETUNE, read_inputs
from textune.errors import ConfigError

FOLDERS = {"preprocess_output": "p", "model_selector_output": "m"}


@pytest.mark.skipif(not SEED.is_file(), reason="the component's documentation is not beside the repository")
def test_az_01_every_input_has_the_type_default_and_choices_of_the_documentation() -> None:
    documented = documented_inputs()
    assert list(documented) == list(FINETUNE) and len(FINETUNE) == 42
    for name, row in documented.items():
        known = FINETUNE[name]
        assert known.type == row["Type"], name
        assert known.optional == (row["Optional"] == "True"), name
        assert known.choices == (tuple(ast.literal_eval(row["Enum"])) if row["Enum"] else ()), name
        default = "" if known.default is None else str(known.default)
        assert default == row["Default"], name


@pytest.mark.parametrize("name", [name for name, known in FINETUNE.items() if known.choices])
def test_az_01_a_value_outside_the_enum_is_refused_with_the_name_of_the_input(name: str) -> None:
    for choice in FINETUNE[name].choices:
        assert read_inputs(FINETUNE, {**FOLDERS, name: choice}, component="finetune")[name] == choice
    with pytest.raises(ConfigError, match=f"--{name} = .*expected .*one of") as caught:
        read_inputs(FINETUNE, {**FOLDERS, name: "other"}, component="finetune")
    assert caught.value.key == name and caught.value.value == "other"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"apply_lora": True}, '--apply_lora = True: expected a string, one of "true", "false". Write "true".'),
        ({"apply_lora": "True"}, '--apply_lora = "True": expected a string, one of "true", "false". Write "true".'),
        ({"apply_lroa": "true"}, "Unknown input apply_lroa. Did you mean apply_lora?"),
        ({"precision": "8"}, "[model.quantize]"),
        ({"learning_rate": "0"}, "--learning_rate = \"0\": expected a number above 0."),
        ({"lora_r": "8.5"}, "--lora_r = \"8.5\": expected a whole number."),
        ({"num_train_epochs": "0"}, "expected a whole number of at least 1"),
        ({"adam_beta1": "nan"}, "--adam_beta1 = \"nan\": expected a number."),
    ],
    ids=["bool", "capital", "unknown", "few bits", "no rate", "half a rank", "no epoch", "nan"],
)  # fmt: skip
def test_az_01_what_cannot_be_used_gets_a_sentence(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_inputs(FINETUNE, {**FOLDERS, **given}, component="finetune")
    assert said in str(caught.value)


def test_az_01_required_inputs_are_asked_for_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        read_inputs(FINETUNE, {}, component="finetune")
    assert "--preprocess_output" in str(caught.value) and "--model_selector_output" in str(caught.value)


def test_az_01_the_component_file_asks_for_what_the_table_has() -> None:
    tree = yaml.safe_load(component_yaml())
    assert list(tree["inputs"]) == list(FINETUNE)
    assert tree["inputs"]["apply_lora"]["default"] == "false"  # a string, not a boolean
    assert tree["inputs"]["optim"]["enum"] == ["adamw_hf", "adamw_torch", "adafactor"]
    ports = {**FOLDERS, "pytorch_model_folder": "out", "mlflow_model_folder": "flow", "apply_lora": "true"}
    words = component_words(component_yaml(), ports)
    assert words[:2] == ["textune", "text_classification_finetune"]
    assert words[words.index("--apply_lora") + 1] == "true"
    assert words[-4:] == ["--pytorch_model_folder", "out", "--mlflow_model_folder", "flow"]
    assert "--deepspeed" not in words and "--lora_r" in words  # no default; a default
