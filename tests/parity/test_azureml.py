"""What AzureML's component for text classification must be able to do here, line by line (AZ-01 to AZ-27)."""

import ast
import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from kits.azureml import SEED, as_words, component_words, documented_inputs, finetune, stage_folders, write_json
from kits.bsmetadata import value
from kits.runs import write_csv
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

from textune.adapters.azureml.automl import convert_automl, read_automl
from textune.adapters.azureml.component import component_yaml
from textune.adapters.azureml.inputs import FINETUNE, METRICS, SCHEDULES, read_inputs
from textune.adapters.loaded import load_foreign
from textune.cli import commands
from textune.config.load import load_config
from textune.errors import ConfigError, DataError, ExportError, RunError
from textune.evaluation.metrics import METRICS as OURS
from textune.training.schedule import learning_rate

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
        ({"lora_dropout": "1"}, "--lora_dropout = \"1\": expected a number below 1."),
    ],
    ids=["bool", "capital", "unknown", "few bits", "no rate", "half a rank", "no epoch", "nan", "all dropped"],
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


# --- whole runs ------------------------------------------------------------------------------------------------------

SMALL = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 4, "save_as_mlflow_model": "false"}

FINETUNE_CONFIG = {"lora_target_modules": ["query", "value"]}
LORA_RUN = SMALL | {"apply_lora": "true", "evaluation_strategy": "steps", "eval_steps": 2}
OUTPUTS = {"pytorch_model_folder": "out", "mlflow_model_folder": "flow"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the stages before the component write."""
    home = tmp_path_factory.mktemp("home")
    stage_folders(home)
    write_json(home / "selected" / "finetune_config.json", FINETUNE_CONFIG)
    return home


@pytest.fixture(scope="module")
def folders(home: Path) -> dict[str, str]:
    return {"preprocess_output": "preprocessed24", "model_selector_output": "selected"}


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def run(home: Path, words: list[str]) -> str:
    """The words of textune in this folder."""
    with contextlib.chdir(home):
        done = CliRunner().invoke(commands, words)
    assert done.exit_code == 0, done.output
    return done.stderr


@pytest.fixture(scope="module")
def component_run(home: Path, folders: dict[str, str]) -> Path:
    """What AzureML starts for the component file, with LoRA, as its documentation says."""
    run(home, [*component_words(component_yaml(), folders | LORA_RUN | OUTPUTS)[1:], "--quiet"])
    return home / "out"


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def test_az_02_the_component_runs_by_its_own_file_and_says_where_each_value_comes_from(component_run: Path) -> None:
    kept = (component_run / "config.toml").read_text(encoding="utf-8")
    assert "Made from azureml" in kept and "--apply_lora" in kept
    assert json.loads((component_run / "foreign" / "finetune_args.json").read_text(encoding="utf-8"))["lora_r"] == 8
    assert not (component_run.parent / "flow").exists()  # save_as_mlflow_model is false


def test_az_22_the_folder_has_the_best_model_at_its_top_beside_every_checkpoint(component_run: Path) -> None:
    assert sorted(path.name for path in (component_run / "checkpoints").iterdir()) == ["step-2", "step-4"]
    top = AutoModelForSequenceClassification.from_pretrained(component_run)
    best = AutoModelForSequenceClassification.from_pretrained(component_run / "best")
    assert all(torch.equal(one, other) for one, other in zip(top.parameters(), best.parameters(), strict=True))
    assert top.config.id2label == {0: "neg", 1: "pos"}
    assert len(AutoTokenizer.from_pretrained(component_run)) > 0
    read = {name: json.loads((component_run / name).read_text(encoding="utf-8")) for name in AROUND}
    assert read["class_names.json"] == {"class_names": ["neg", "pos"]}
    assert read["finetune_args.json"]["apply_lora"] == "true"
    assert read["finetune_config.json"] == FINETUNE_CONFIG
    assert read["azureml_mlflow_inference_params.json"]["tokenizer_config"]["max_length"] == 24


def test_az_21_a_finished_run_becomes_an_mlflow_model_once(
    home: Path, folders: dict[str, str], component_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Path, Path]] = []

    def export(run: Path, target: Path, **_: object) -> SimpleNamespace:
        made.append((run, target))
        target.mkdir()
        (target / "MLmodel").touch()
        return SimpleNamespace(folder=target)

    monkeypatch.setattr("textune.pipeline.stages.converting.export", export)
    monkeypatch.setattr("textune.pipeline.azureml.kind_of", lambda name: None)  # whether MLflow is installed or not
    given = folders | LORA_RUN | OUTPUTS | {"save_as_mlflow_model": "true"}
    for _ in range(2):  # the run is complete, and then the model is there
        run(home, ["text_classification_finetune", *as_words(given), "--resume"])
    assert made == [(component_run, home / "flow")]
    given |= {"pytorch_model_folder": "another"}
    with contextlib.chdir(home):
        done = CliRunner().invoke(commands, ["text_classification_finetune", *as_words(given)])
    assert isinstance(done.exception, RunError) and "an MLflow model that is not of this run" in str(done.exception)
    assert not (home / "another").exists()  # said before anything is trained


def test_az_21_without_mlflow_nothing_is_trained(
    here: Path, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.exports.table.find_spec", lambda name: None)
    words = as_words(folders | SMALL | {"save_as_mlflow_model": "true", "pytorch_model_folder": "untrained"})
    done = CliRunner().invoke(commands, ["text_classification_finetune", *words])
    assert isinstance(done.exception, ExportError) and "textune[mlflow]" in str(done.exception)
    assert not (here / "untrained").exists()


AROUND = ("class_names.json", "finetune_args.json", "finetune_config.json", "azureml_mlflow_inference_params.json")


def test_az_08_lora_is_merged_or_left_as_adapters(home: Path, folders: dict[str, str], component_run: Path) -> None:
    assert not (component_run / "adapter_config.json").exists()
    given = folders | SMALL | {"apply_lora": "true", "merge_lora_weights": "false", "max_steps": 1, "lora_r": 2}
    run(home, ["text_classification_finetune", *as_words(given), "--pytorch_model_folder", "apart", "--quiet"])
    adapters = json.loads((home / "apart" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapters["r"] == 2 and adapters["lora_alpha"] == 128 and adapters["lora_dropout"] == 0.0


def test_az_18_a_run_goes_on_from_an_imported_one_with_its_optimizer_and_random_states(
    home: Path, folders: dict[str, str]
) -> None:
    usual = folders | SMALL | {"lr_scheduler_type": "constant", "evaluation_strategy": "steps", "eval_steps": 2}
    usual |= {"logging_strategy": "steps", "logging_steps": 1}
    for name, steps, limit in (("whole", 4, 1), ("half", 2, -1)):
        words = as_words(usual | {"max_steps": steps, "save_total_limit": limit, "pytorch_model_folder": name})
        run(home, ["text_classification_finetune", *words, "--quiet"])
    kept = {name: [file.name for file in (home / name / "checkpoints").iterdir()] for name in ("whole", "half")}
    assert kept == {"whole": ["step-4"], "half": ["step-2"]}
    imported = home / "imported"
    imported.mkdir()
    write_json(
        imported / "model_selector_args.json", {"model_name": "../half", "pytorch_model_path": str(home / "half")}
    )
    given = usual | {"model_selector_output": "imported", "resume_from_checkpoint": "true"}
    run(home, ["text_classification_finetune", *as_words(given), "--pytorch_model_folder", "rest", "--quiet"])
    assert losses(home / "rest") == losses(home / "whole")[2:]
    one, other = (load_file(home / name / "best" / "model.safetensors") for name in ("whole", "rest"))
    assert all((one[name] == other[name]).all() for name in one)


# --- what inputs become ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEDULES)
def test_az_09_each_schedule_has_the_rates_of_transformers(here: Path, folders: dict[str, str], kind: str) -> None:
    given = {"lr_scheduler_type": kind, "warmup_steps": 5, "max_steps": 20, "learning_rate": 1e-3}
    section = load_foreign(finetune(folders, given)).experiment.train
    warmup = section.schedule.warmup.steps(10, 20)
    ours = [
        learning_rate(step, schedule=section.schedule, peak=1e-3, warmup_steps=warmup, total_steps=20)
        for step in range(20)
    ]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = get_scheduler(kind, optimizer, num_warmup_steps=5, num_training_steps=20)
    expected = []
    for _ in range(20):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_az_10_adamw_and_adafactor_with_every_number_of_theirs(here: Path, folders: dict[str, str]) -> None:
    given = {"adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6, "weight_decay": 0.1, "learning_rate": 1e-3}
    optimizer = load_foreign(finetune(folders, given)).experiment.train.optimizer.model_dump()
    wanted = {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-6}
    assert wanted.items() <= optimizer.items()
    assert value(finetune(folders, {"optim": "adafactor"}), "train.optimizer.kind") == "adafactor"


def test_az_11_steps_before_epochs_accumulation_and_clipping(here: Path, folders: dict[str, str]) -> None:
    given = {"num_train_epochs": 3, "max_steps": 7, "gradient_accumulation_steps": 4, "max_grad_norm": 0.5}
    section = load_foreign(finetune(folders, given)).experiment.train
    assert str(section.duration) == "7 steps" and section.batch_size == 8 and section.max_grad_norm == 0.5


def test_az_12_memory_that_runs_out_never_changes_the_batch(here: Path, folders: dict[str, str]) -> None:
    foreign = finetune(folders, {"auto_find_batch_size": "true", "per_device_train_batch_size": 16})
    section = load_foreign(foreign).experiment.train
    assert section.batch_size == 32 and section.max_tokens == "auto"
    assert any(one.key == "auto_find_batch_size" and "memory" in one.reason for one in foreign.left_out)


@pytest.mark.parametrize("half", ["bf16", "fp16", "fp32"])
def test_az_13_sixteen_bits_are_what_the_machine_has(here: Path, folders: dict[str, str], half: Any) -> None:
    assert value(finetune(folders, {"precision": "16"}, half=half), "train.precision") == half
    assert value(finetune(folders, {"precision": "32"}, half=half), "train.precision") == "fp32"


def test_az_14_seed_and_full_determinism(here: Path, folders: dict[str, str]) -> None:
    section = load_foreign(finetune(folders, {"seed": 5, "enable_full_determinism": "true"})).experiment.train
    assert section.seed == 5 and section.deterministic
    assert load_foreign(finetune(folders)).experiment.train.seed == 42


def test_az_15_mismatched_sizes_are_ignored_unless_the_family_forbids_it(here: Path, folders: dict[str, str]) -> None:
    assert value(finetune(folders), "model.ignore_mismatched_sizes") is True
    args = Path(folders["preprocess_output"]) / "preprocess_args.json"
    before = args.read_text(encoding="utf-8")
    args.write_text(before.replace('"bert"', '"llama"'), encoding="utf-8")
    assert value(finetune(folders), "model.ignore_mismatched_sizes") is False
    args.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "every"),
    [
        ({}, "1 epoch"),
        ({"evaluation_strategy": "steps", "eval_steps": 20}, "20 steps"),
        ({"evaluation_steps_interval": 0.25}, "0.25 epochs"),
    ],
    ids=["epoch", "steps", "fraction"],
)
def test_az_16_evaluation_by_epoch_steps_or_fraction_saves_each_time(
    here: Path, folders: dict[str, str], given: dict[str, object], every: str
) -> None:
    foreign = finetune(folders, given | {"logging_strategy": "steps", "logging_steps": 3})
    assert value(foreign, "train.evaluate_every") == value(foreign, "train.checkpoint.every") == every
    assert value(foreign, "train.log_every") == "3 steps"
    assert value(finetune(folders, given), "train.log_every") == "1 epoch"


def test_az_17_six_metrics_in_the_right_direction_choose_the_best_model_and_stop(
    here: Path, folders: dict[str, str]
) -> None:
    stops = {"apply_early_stopping": "true", "early_stopping_patience": 2, "early_stopping_threshold": 0.01}
    for name in METRICS:
        experiment = load_foreign(finetune(folders, stops | {"metric_for_best_model": name})).experiment
        assert experiment.evaluate.metric == name and OURS[name].higher_is_better == (name != "loss")
        assert (experiment.train.early_stopping.patience, experiment.train.early_stopping.threshold) == (2, 0.01)
    assert load_foreign(finetune(folders)).experiment.train.early_stopping.patience == 0


@pytest.mark.parametrize("stage", ["2", "3"])
def test_az_19_each_stage_has_the_defaults_of_the_component(here: Path, folders: dict[str, str], stage: str) -> None:
    zero = load_foreign(finetune(folders, {"apply_deepspeed": "true", "deepspeed_stage": stage})).experiment.train
    assert zero.distributed.model_dump(include={"kind", "stage", "cpu_offload", "config"}) == {
        "kind": "deepspeed",
        "stage": int(stage),
        "cpu_offload": True,
        "config": None,
    }


def test_az_20_onnx_runtime_is_a_switch(here: Path, folders: dict[str, str]) -> None:
    assert load_foreign(finetune(folders, {"apply_ort": "true"}, processes=1)).experiment.train.engine == "onnxruntime"
    assert load_foreign(finetune(folders)).experiment.train.engine == "torch"


def test_converted_or_direct_a_run_trains_the_same_bits(home: Path, folders: dict[str, str]) -> None:
    given = folders | SMALL | {"max_steps": 2}
    run(home, ["convert", "azureml", *as_words(given), "--out", "converted.toml"])
    run(home, ["train", "converted.toml", "--run", "converted", "--quiet"])
    run(home, ["text_classification_finetune", *as_words(given), "--pytorch_model_folder", "direct", "--quiet"])
    one, other = (load_file(home / name / "best" / "model.safetensors") for name in ("converted", "direct"))
    assert all((one[name] == other[name]).all() for name in one)
    again = load_config(str(home / "direct" / "config.toml")).experiment
    assert again == load_config(str(home / "converted.toml")).experiment


# --- the pipelines of AutoML -----------------------------------------------------------------------------------------


def automl_rows(home: Path) -> list[str]:
    """Rows of two columns and a cell with a list of names as Python writes it; words that name them."""
    rows = [
        {"title": f"{word} {number}", "body": "the film is a movie", "tags": str([name for name in names if name])}
        for number, (word, names) in enumerate(
            [("good", ["up"]), ("bad", ["down"]), ("fine", ["up", "new"]), ("dull", ["down", "new"])] * 6
        )
    ]
    write_csv(home / "tagged.csv", rows)
    given = {"training_data": "tagged.csv", "validation_data": "tagged.csv", "label_column_name": "tags"}
    return as_words(given | {"model_name": "selected/tiny", "save_as_mlflow_model": "false"})


def test_az_25_a_cell_may_hold_a_list_of_names(home: Path) -> None:
    words = [*automl_rows(home), "--number_of_epochs", "1", "--pytorch_model_folder_finetune", "labels", "--quiet"]
    run(home, ["nlp_textclassification_multilabel", *words])
    config = load_config(str(home / "labels" / "config.toml")).experiment
    assert config.task.kind == "multilabel" and config.data.columns.template == "{title}. {body}"
    assert config.evaluate.metric == "subset_accuracy" and config.train.batch_size == 32
    model = AutoModelForSequenceClassification.from_pretrained(home / "labels")
    assert set(model.config.id2label.values()) == {"up", "down", "new"}
    assert model.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize("name", ["{x}", "a:b", "a!b", ""])
def test_a_column_whose_name_a_template_cannot_hold_is_named(name: str) -> None:
    files = {"training_data": "t.csv", "validation_data": "v.csv", "label_column_name": "label"}
    with pytest.raises(ConfigError, match="Rename the column") as caught:
        convert_automl(read_automl(files, kind="multiclass"), kind="multiclass", columns=("text", name), run="out")
    assert caught.value.value == name


@pytest.mark.parametrize(("given", "length"), [({}, "auto"), ({"enable_long_range_text": "false"}, 128)], ids=str)
def test_az_27_rows_may_be_longer_where_many_are(given: dict[str, object], length: object) -> None:
    files = {"training_data": "t.csv", "validation_data": "v.csv", "label_column_name": "label"}
    inputs = read_automl(files | given, kind="multiclass")
    foreign = convert_automl(inputs, kind="multiclass", columns=("text",), run="out")
    assert value(foreign, "tokens.max_length") == length  # auto is that rule: tests/batches/test_usual.py
    assert value(foreign, "train.engine") is None and value(foreign, "train.distributed.kind") is None
    assert value(foreign, "task.kind") == "multiclass" and value(foreign, "model.ignore_mismatched_sizes") is True
    left_out = {one.key for one in foreign.left_out}
    assert {"apply_ort", "apply_deepspeed"} <= left_out
    assert value(foreign, "train.optimizer.lr") == 5e-5 and value(foreign, "train.duration") == "3 epochs"


def test_a_column_of_labels_that_is_not_there_is_named(home: Path) -> None:
    words = automl_rows(home)
    words[words.index("tags")] = "tag"
    with contextlib.chdir(home):
        done = CliRunner().invoke(commands, ["nlp_textclassification_multilabel", *words])
    assert isinstance(done.exception, DataError) and "it has no column tag" in str(done.exception)
