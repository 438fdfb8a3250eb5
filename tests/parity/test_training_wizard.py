"""What people of training-wizard need, line by line: its files of specs, its commands and its folders."""

import dataclasses
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.errors import refused
from kits.runs import signal_after
from kits.trainingwizard import (
    DATASETS,
    MULTI_TASK,
    REGRESSION,
    SPECS,
    converted,
    experiment,
    specs,
    value,
    write_rows,
    write_specs,
)
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

import textune
from textune.adapters.loaded import load_foreign
from textune.adapters.trainer.fields import FIELDS
from textune.adapters.trainingwizard.convert import convert_training_wizard
from textune.cli import main
from textune.config.schema import ModelSection
from textune.config.sources import DataSection
from textune.config.taskkinds import BinaryTask, MultitaskTask, RegressionTask
from textune.data.reading.sources import read_source
from textune.errors import CodeError, ConfigError, DataError
from textune.imports import quietly
from textune.pipeline.train import TrainResult
from textune.run.manifest import read_manifest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows and tiny models, which no test changes."""
    folder = tmp_path_factory.mktemp("wizard")
    write_rows(folder)
    tiny_backbone("bert", folder / "backbone")
    tiny_backbone("gpt2", folder / "decoder")
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with links to them, which is the current one."""
    for path in place.iterdir():
        if path.name in ("rows.tsv", "rows.jsonl", "backbone", "decoder"):
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(**values: Any) -> dict[str, Any]:
    return {"training_args_spec": values}


def module(**values: Any) -> dict[str, Any]:
    return {"wizard_module": values}


def transformer(**values: Any) -> dict[str, Any]:
    return {"wizard_module": {f"transformer_spec.{key}": one for key, one in values.items()}}


NINE = transformer(**{"from_pretrained_kwargs.num_labels": 9})


def rows_of(data: DataSection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_source(data.train).table.to_pylist()  # type: ignore[arg-type]
    return found


def train(foreign: Any, run: Path, *overrides: str, **options: Any) -> TrainResult:
    quick = ("train.device=cpu", "tokens.cache=cache", "evaluate.bootstrap=0", *overrides)
    return textune.train(load_foreign(foreign), run=run, overrides=quick, **options)


# --- the file --------------------------------------------------------------------------------------------------------


def test_tw_01_one_file_of_toml_or_json_says_everything(here: Path) -> None:
    toml = converted(here)
    (here / "config.json").write_text(json.dumps(specs()), encoding="utf-8")
    as_json = convert_training_wizard(here / "config.json")
    assert {line.key: line.value for line in toml.lines} == {line.key: line.value for line in as_json.lines}
    assert toml.run == "output"
    assert "config.toml" in toml.kept
    load_foreign(toml)


def test_tw_01_published_names_of_the_recipe_are_taken(here: Path) -> None:
    foreign = converted(here, {"spec_class": None, "recipe_class": SPECS["spec_class"]})
    assert value(foreign, "task.kind") == "binary"


def test_tw_02_a_data_source_of_ones_own_gives_the_rows(here: Path) -> None:
    own = {"spec_class": "kits.wizardsources.Reviews", "num_rows": 8}
    loaded = load_foreign(converted(here, {"dataset_spec": None}, {"dataset_spec": own})).experiment
    assert [row["labels"] for row in rows_of(loaded.data)] == [0, 1] * 4
    assert "training_wizard" not in sys.modules, "the stand-in goes when the rows are there"


def test_tw_02_sources_of_ones_own_and_of_training_wizard_stand_in_each_other(here: Path) -> None:
    own = {"spec_class": "kits.wizardsources.Shouted", "parent": SPECS["dataset_spec"]}
    loaded = load_foreign(converted(here, {"dataset_spec": None}, {"dataset_spec": own})).experiment
    assert rows_of(loaded.data)[0]["text"] == "A GOOD FILM"


def test_tw_02_a_module_of_ones_own_is_a_task(here: Path) -> None:
    change = {"spec_class": "kits.own.Stars", "most": 3}
    foreign = converted(here, module(**change))
    assert value(foreign, "task.object") == "kits.own:Stars"
    assert value(foreign, "task.options") == {"most": 3}
    load_foreign(foreign)


@pytest.mark.parametrize(
    ("own", "error", "said"),
    [
        ({"spec_class": "kits.wizardsources.Reviews", "num_row": 8}, ConfigError, "num_row"),
        ({"spec_class": "kits.wizardsources.Broken"}, CodeError, "no rows today"),
        ({"spec_class": "kits.wizardsources.Review"}, CodeError, "Reviews"),
        ({"spec_class": "kits.nowhere.Reviews"}, CodeError, "kits.nowhere"),
        ({"spec_class": "kits.own.Stars"}, CodeError, "DataSourceSpec"),
        ({"spec_class": "Reviews"}, ConfigError, "your.module.Name"),
    ],
)
def test_tw_02_a_class_that_does_not_fit_is_named(here: Path, own: Any, error: type[Any], said: str) -> None:
    with pytest.raises(error, match=said):
        converted(here, {"dataset_spec": None}, {"dataset_spec": own})


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        ({"valdation": 6}, "valdation", "validation"),
        (module(los_type="cross_entropy"), "wizard_module.los_type", "loss_type"),
        (module(num_labels=2), "wizard_module.num_labels", "from_pretrained_kwargs"),
        (transformer(pretrained="x"), "wizard_module.transformer_spec.pretrained", "pretrained_name"),
        (transformer(quantization_spec={"load_in_4bits": True}, lora_spec={"r": 4}), "", "load_in_4bit"),
        ({"dataset_spec": {"data_file": "rows.tsv"}}, "dataset_spec.data_file", "data_files"),
        ({"dataset_spec": {"preprocessing.takes": 3}}, "dataset_spec.preprocessing.takes", "take"),
        ({"callbacks_spec": {"early_stopping": True}}, "callbacks_spec.early_stopping", "enable_early_stopping"),
        (arguments(learning_rat=1e-3), "learning_rat", "learning_rate"),
        (module(loss_type="crossentropy"), "wizard_module.loss_type", "cross_entropy"),
    ],
)
def test_tw_03_an_unknown_key_or_value_is_named_with_its_line(here: Path, change: Any, key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        converted(here, change)
    assert "config.toml, line" in str(caught.value)
    assert not key or caught.value.key == key


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        (0.25, {"kind": "split", "ratio": 0.25}),
        (6, {"kind": "split", "count": 6}),
        ({"data_files": "rows.jsonl"}, {"kind": "files", "files": ("rows.jsonl",)}),
        (None, {"kind": "none"}),
    ],
)
def test_tw_04_validation_rows_in_each_of_four_ways(here: Path, validation: Any, expected: dict[str, Any]) -> None:
    foreign = converted(here, {"validation": validation})
    for key, one in expected.items():
        assert value(foreign, f"data.validation.{key}") == one
    if expected["kind"] == "split":
        assert value(foreign, "data.validation.stratify") is False
    load_foreign(foreign)


@pytest.mark.parametrize("validation", [True, 0, 1.0, -3, "rows.tsv"])
def test_tw_04_anything_else_is_refused(here: Path, validation: Any) -> None:
    with refused(ConfigError, key="validation", value=validation):
        converted(here, {"validation": validation})


# --- modules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "labels", "task"),
    [
        ("cross_entropy", 2, {"kind": "binary", "num_logits": 2}),
        ("cross_entropy", 5, {"kind": "multiclass"}),
        ("binary_cross_entropy", 1, {"kind": "binary", "num_logits": 1}),
        ("binary_cross_entropy", 4, {"kind": "multilabel"}),
    ],
)
def test_tw_05_each_loss_gives_its_kinds_of_answers(here: Path, loss: str, labels: int, task: dict[str, Any]) -> None:
    change = {"loss_type": loss, "transformer_spec.from_pretrained_kwargs": {"num_labels": labels}}
    foreign = converted(here, module(**change))
    for key, one in task.items():
        assert value(foreign, f"task.{key}") == one
    assert value(foreign, "data.labels.names") == tuple(map(str, range(max(labels, 2))))
    load_foreign(foreign)


def test_tw_05_names_of_labels_are_all_of_them_or_refused(here: Path) -> None:
    named = converted(
        here, transformer(from_pretrained_kwargs={"num_labels": 2, "id2label": {"0": "bad", "1": "good"}})
    )
    assert value(named, "data.labels.names") == ("bad", "good")
    assert not named.left_out
    with pytest.raises(ConfigError, match="labels 0 to 1"):
        converted(here, transformer(from_pretrained_kwargs={"num_labels": 2, "id2label": {"0": "bad"}}))


def test_tw_05_one_class_of_cross_entropy_is_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match="binary_cross_entropy"):
        converted(here, transformer(from_pretrained_kwargs={"num_labels": 1}))


@pytest.mark.parametrize("backbone", ["backbone", "decoder"])
def test_tw_06_encoders_and_decoders_train(here: Path, backbone: str) -> None:
    foreign = converted(here, transformer(pretrained_name=backbone), arguments(max_steps=2))
    train(foreign, here / "output")
    saved = here / "output" / "final_checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(saved)
    config = AutoModelForSequenceClassification.from_pretrained(saved).config
    assert tokenizer.pad_token is not None
    assert config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_tw_07_label_smoothing_of_both_losses(here: Path, loss: str) -> None:
    labels = 2 if loss == "cross_entropy" else 1
    change = {"loss_type": loss, "transformer_spec.from_pretrained_kwargs": {"num_labels": labels}}
    task = experiment(here, module(label_smoothing=0.2, **change)).task
    assert isinstance(task, BinaryTask)
    assert task.label_smoothing == 0.2


@pytest.mark.parametrize(("loss", "activation"), [("smooth_l1", "sigmoid"), ("mse", "linear")])
def test_tw_08_regression_with_weights(here: Path, loss: str, activation: str) -> None:
    columns = {"dataset_spec": {"preprocessing.rename_columns": {"labels": "class", "number": "labels"}}}
    foreign = converted(
        here, REGRESSION, module(loss_type=loss, activation=activation), columns, arguments(max_steps=1)
    )
    task = load_foreign(foreign).experiment.task
    assert isinstance(task, RegressionTask)
    assert (task.loss, task.activation, task.beta) == (loss, activation, 0.1)
    assert value(foreign, "data.columns.weight") == "sample_weight"
    if loss == "mse":  # one run is enough
        return
    done = train(foreign, here / "output")
    assert {"mse", "mae", "mape", "pearson", "spearman"} <= set(done.reports["validation"].metrics)


def test_tw_09_several_tasks_with_weights(here: Path) -> None:
    foreign = converted(here, MULTI_TASK, module(show_per_group_metrics=True), arguments(max_steps=1))
    task = load_foreign(foreign).experiment.task
    assert isinstance(task, MultitaskTask)
    assert task.group_sizes == (3, 2)
    assert value(foreign, "data.columns.weight") == "weight"
    report = train(foreign, here / "output").reports["validation"]
    assert set(report.tasks) == {"group_0", "group_1"}
    each = [report.tasks[name].metrics["f1_macro"] for name in ("group_0", "group_1")]
    assert report.metrics["f1_macro"] == pytest.approx(sum(each) / 2)
    assert report.metrics["f1_macro_std"] == pytest.approx(abs(each[0] - each[1]) / 2)
    assert report.metrics["group_1/f1_macro"] == each[1]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("f1_score", "f1_macro"),
        ("accuracy", "balanced_accuracy"),
        ("group_1_f1_score", "group_1/f1_macro"),
        ("eval_group_0_matthews_corr_coef", "group_0/mcc"),
    ],
)
def test_tw_09_names_of_metrics_of_several_tasks(here: Path, theirs: str, ours: str) -> None:
    assert value(converted(here, MULTI_TASK, arguments(metric_for_best_model=theirs)), "evaluate.metric") == ours


def test_tw_09_sizes_must_agree_with_the_outputs(here: Path) -> None:
    with pytest.raises(ConfigError, match="num_labels = 5"):
        converted(here, MULTI_TASK, transformer(**{"from_pretrained_kwargs.num_labels": 9}))


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "table"),
    [
        ("a.csv", "text,labels\nfine,1\n", {"loader": "csv", "load_dataset_kwargs": None}),
        ("a.tsv", "text\tlabels\nfine\t1\n", {}),
        ("a.txt", "text;labels\nfine;1\n", {"load_dataset_kwargs": {"sep": ";"}}),
        ("a.csv", "fine,1\n", {"load_dataset_kwargs": {"names": ["text", "labels"]}}),
        ("a.jsonl", '{"text": "fine", "labels": 1}\n', {"loader": None, "load_dataset_kwargs": None}),
        ("a.json", '[{"text": "fine",\n "labels": 1}]\n', {"loader": "json", "load_dataset_kwargs": None}),
        ("b.json", '{"text": "fine", "labels": 1}\n', {"loader": "json", "load_dataset_kwargs": None}),
        (
            "c.json",
            '{"data": [{"text": "fine", "labels": 1}]}',
            {"loader": "json", "load_dataset_kwargs": {"field": "data"}},
        ),
    ],
)
def test_tw_10_files_of_each_loader(here: Path, name: str, text: str, table: dict[str, Any]) -> None:
    (here / name).write_text(text, encoding="utf-8")
    found = experiment(here, {"dataset_spec": {"data_files": name, **table}})
    assert [(row["text"], str(row["labels"])) for row in rows_of(found.data)] == [("fine", "1")]


def test_tw_10_lines_of_text_are_a_column(here: Path) -> None:
    (here / "lines.txt").write_text("one\ntwo\n", encoding="utf-8")
    with refused(DataError, reason="no column labels"):
        converted(here, {"dataset_spec": {"data_files": "lines.txt", "loader": "text", "load_dataset_kwargs": None}})


def test_tw_10_several_files_and_patterns(here: Path) -> None:
    for number in (1, 2):
        (here / f"part-{number}.csv").write_text(f"text,labels\nfine,{number}\n", encoding="utf-8")
    found = experiment(here, {"dataset_spec": {"data_files": ["part-*.csv", "rows.csv"], "load_dataset_kwargs": None}})
    assert found.data.train.files[0].endswith("part-*.csv")  # type: ignore[union-attr]
    one = experiment(here, {"dataset_spec": {"data_files": "part-*.csv", "load_dataset_kwargs": None}})
    assert [row["labels"] for row in rows_of(one.data)] == ["1", "2"]


@pytest.mark.parametrize(
    ("options", "preprocessing", "expected"),
    [
        ({"nrows": 3}, {"take": 5}, ["1", "2", "3"]),
        ({"nrows": 3}, {"take": 2}, ["1", "2"]),
        ({"skiprows": 1}, {}, ["1", "2", "3", "4"]),
        ({"header": 0, "names": ["text", "labels", "kept"]}, {}, ["labels", "1", "2", "3", "4"]),
        ({"skiprows": 1, "header": 0, "names": ["text", "labels", "kept"]}, {}, ["1", "2", "3", "4"]),
        ({"header": 0, "names": ["text", "labels", "kept"], "skiprows": 1}, {}, ["1", "2", "3", "4"]),
    ],
)
def test_tw_10_options_that_meet_count_together(here: Path, options: Any, preprocessing: Any, expected: Any) -> None:
    first = "# made by hand,,\n" if "skiprows" in options or "header" in options else ""
    rows = "".join(f"fine,{number},x\n" for number in range(1, 5))
    (here / "a.csv").write_text(f"{first}text,labels,more\n{rows}", encoding="utf-8")
    change = {"data_files": "a.csv", "load_dataset_kwargs": options, "preprocessing": preprocessing}
    assert [row["labels"] for row in rows_of(experiment(here, {"dataset_spec": change}).data)] == expected


def test_tw_10_columns_that_the_reader_leaves_out_are_not_there(here: Path) -> None:
    options = {"sep": "\t", "usecols": ["text", "number"]}
    chosen = {"load_dataset_kwargs": options, "preprocessing.rename_columns": {"number": "labels"}}
    foreign = converted(here, REGRESSION, {"dataset_spec": chosen})
    assert value(foreign, "data.columns.text_pair") is None
    assert value(foreign, "data.columns.weight") is None
    assert sorted(rows_of(load_foreign(foreign).experiment.data)[0]) == ["labels", "text"]


def test_tw_10_rows_of_each_of_several_files_are_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"preprocessing\.take"):
        converted(here, {"dataset_spec": {"data_files": ["a.csv", "b.csv"], "load_dataset_kwargs": {"nrows": 3}}})


@pytest.mark.parametrize(
    ("option", "said"),
    [({"sep": "\\s+"}, "one character"), ({"split": "train"}, "itself"), ({"thousands": ","}, "no")],
)
def test_tw_10_an_option_that_cannot_be_done_is_refused(here: Path, option: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        converted(here, {"dataset_spec": {"load_dataset_kwargs": option}})


def test_tw_11_columns_and_rows_are_chosen(here: Path) -> None:
    chosen = {"select_columns": ["text", "number"], "rename_columns": {"number": "labels"}, "take": 3}
    found = experiment(here, REGRESSION, {"dataset_spec": {"preprocessing": chosen}})
    assert [sorted(row) for row in rows_of(found.data)] == [["labels", "text"]] * 3


def test_tw_11_rows_with_too_many_tokens_are_left_out(here: Path) -> None:
    pytest.importorskip("datasets")
    limit = {"column": ["text", "text_pair"], "max_length": 7, "pretrained_name": "backbone", "aggregation": "sum"}
    found = experiment(here, {"dataset_spec": {"preprocessing.token_length_filter": limit}})
    tokenizer = AutoTokenizer.from_pretrained(here / "backbone")
    texts = [row["text"] for row in rows_of(found.data)]
    kept = [text for text in texts if len(tokenizer(text)["input_ids"]) + len(tokenizer("the film")["input_ids"]) <= 7]
    assert texts == kept and 0 < len(texts) < 18


def test_tw_11_texts_are_made_of_columns(here: Path) -> None:
    templated = {
        "spec_class": f"{DATASETS}.SequenceClassificationDatasourceSpec",
        "parent": SPECS["dataset_spec"],
        "text_template": "{text} / {number}",
        "label_column": "labels",
    }
    foreign = converted(here, {"dataset_spec": None}, {"dataset_spec": templated})
    assert value(foreign, "data.columns.template") == "{text} / {number}"
    assert value(foreign, "data.columns.text_pair") is None, "it is not among keep_columns"


def test_tw_11_sources_of_different_forms_are_brought_into_one(here: Path) -> None:
    pytest.importorskip("datasets")
    templated = {
        "spec_class": f"{DATASETS}.SequenceClassificationDatasourceSpec",
        "parent": SPECS["dataset_spec"],
        "text_template": "{text} / {number:.1f}",
        "label_column": "labels",
    }
    both = {"spec_class": f"{DATASETS}.MultiDataSourceSpec", "parents": [templated, templated]}
    found = experiment(here, {"dataset_spec": None}, {"dataset_spec": both})
    rows = rows_of(found.data)
    assert len(rows) == 36
    assert rows[1] == {"text": "bad and boring / 0.1", "labels": 1}


def test_tw_11_sources_are_put_together(here: Path) -> None:
    both = {"spec_class": f"{DATASETS}.MultiDataSourceSpec", "parents": [SPECS["dataset_spec"]] * 2}
    found = experiment(here, {"dataset_spec": None}, {"dataset_spec": both})
    assert found.data.train.kind == "concat"
    assert len(rows_of(found.data)) == 36


def test_tw_12_a_second_text_is_read_where_the_rows_have_one(here: Path) -> None:
    assert value(converted(here), "data.columns.text_pair") == "text_pair"
    alone = converted(here, {"dataset_spec": {"preprocessing.select_columns": ["text", "labels"]}})
    assert value(alone, "data.columns.text_pair") is None
    assert experiment(here).tokens.pair_separator == "auto", "a tokenizer that joins both texts gets a separator"


# --- training --------------------------------------------------------------------------------------------------------


def test_tw_13_every_field_of_training_arguments_is_known_and_seven_defaults_differ(here: Path) -> None:
    assert {one.name for one in dataclasses.fields(TrainingArguments) if one.init} <= set(FIELDS)
    foreign = converted(here)
    assert value(foreign, "train.evaluate_every") == "1 epoch"
    assert value(foreign, "train.checkpoint.every") == "1 epoch"
    assert value(foreign, "evaluate.metric") == "loss"
    assert value(foreign, "track") is None
    assert value(foreign, "train.precision") == "fp32", "whatever its README says"
    assert any("fp32" in note for note in foreign.notes)


def test_tw_13_names_of_earlier_versions_are_taken(here: Path) -> None:
    older = arguments(
        warmup_ratio=0.1, evaluation_strategy="steps", eval_steps=2, optim="adamw_hf", group_by_length=True
    )
    foreign = converted(here, older)
    assert value(foreign, "train.schedule.warmup") == "10 %"
    assert value(foreign, "train.evaluate_every") == "2 steps"
    assert value(foreign, "train.order") == "bucket"
    assert any("adamw_hf" in note for note in foreign.notes)


def test_tw_13_smoothing_of_the_trainer_changes_nothing_as_there(here: Path) -> None:
    foreign = converted(here, arguments(label_smoothing_factor=0.3))
    assert value(foreign, "task.label_smoothing") == 0.0
    assert any("label_smoothing_factor" in one.key for one in foreign.left_out)


def test_tw_14_precision_optimizer_accumulation_warm_up_and_decay(here: Path) -> None:
    change = arguments(
        bf16=True,
        optim="adamw_bnb_8bit",
        gradient_accumulation_steps=3,
        gradient_checkpointing=True,
        warmup_steps=5,
        weight_decay=0.1,
    )
    train = experiment(here, change).train
    assert (train.precision, train.optimizer.kind, train.batch_size) == ("bf16", "adamw_8bit", 12)
    assert train.gradient_checkpointing
    assert str(train.schedule.warmup) == "5 steps"
    assert train.optimizer.weight_decay == 0.1  # type: ignore[union-attr]
    assert experiment(here, arguments(fp16=True)).train.precision == "fp16"


def test_tw_15_early_stopping_and_an_evaluation_after_the_first_step(here: Path) -> None:
    callbacks = {"callbacks_spec": {"enable_early_stopping": True, "early_stopping_patience": 3}}
    foreign = converted(
        here, callbacks, {"callbacks_spec": {**callbacks["callbacks_spec"], "evaluate_first_step": True}}
    )
    assert value(foreign, "train.early_stopping.patience") == 3
    assert value(foreign, "train.evaluate_at") == (1,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"callbacks_spec": {"enable_early_stopping": True}}, "early_stopping_patience = -1"),
        (
            {"validation": None, "callbacks_spec": {"enable_early_stopping": True, "early_stopping_patience": 1}},
            "without validation rows",
        ),
        ({"validation": None, "callbacks_spec": {"evaluate_first_step": True}}, "no validation rows"),
    ],
)
def test_tw_15_what_cannot_stop_early_is_refused(here: Path, change: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        converted(here, change)


@pytest.fixture(scope="module")
def done(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the command, in a folder with a file of Python."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("rows.tsv", "backbone"):
        (folder / name).symlink_to(place / name)
    (folder / "mine.py").write_text("ANSWER = 42\n", encoding="utf-8")
    write_specs(folder, module(save_plots=True), arguments(use_cpu=True))
    words = ["training-wizard", "config.toml", "--quiet"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["textune", *words])
        main(words)
    assert not ended.value.code
    return folder


def test_tw_16_the_best_model_is_the_final_checkpoint(done: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(done / "output" / "final_checkpoint")
    assert model.config.num_labels == 2
    assert model.config.id2label == {0: "0", 1: "1"}


def test_tw_16_a_round_trip_by_convert_trains_the_same_bits(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, done)
    assert call("convert", "training-wizard", "config.toml", "--out", "ours.toml").code == 0
    textune.train(done / "ours.toml", run=done / "again")
    first, second = (done / name / "best" / "model.safetensors" for name in ("output", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("merged", [True, False])
def test_tw_17_lora_with_its_defaults_merged_or_not(here: Path, merged: bool) -> None:
    foreign = converted(here, transformer(lora_spec={}), {"callbacks_spec": {"merge_lora": merged}})
    model = load_foreign(foreign).experiment.model
    assert isinstance(model, ModelSection) and model.lora is not None
    assert (model.lora.r, model.lora.alpha, model.lora.dropout, model.lora.targets) == (32, 64, 0.05, ("all-linear",))
    assert model.lora.merge == ("end" if merged else "command")


@pytest.mark.slow
def test_tw_17_a_command_merges_adapters_of_textune_and_of_peft(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    call = runner(capsys, monkeypatch, here)
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_pretrained(here / "backbone", num_labels=3)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    ids = torch.tensor([[1, 5, 9]])
    with quietly("peft"), torch.no_grad():
        adapted = peft.get_peft_model(plain, config).eval()
        adapted.save_pretrained(here / "adapter")
        expected = adapted(ids).logits
    answer = call("merge-adapter-main-models", "adapter", "backbone")
    assert answer.code == 0, answer.err
    merged = AutoModelForSequenceClassification.from_pretrained(here / "adapter_merged").eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, expected, rtol=1e-5, atol=1e-6)
    assert call("merge-adapter-main-models", "adapter", "backbone").code == 2, "nothing is overwritten"
    foreign = converted(here, transformer(lora_spec={"r": 2}), arguments(max_steps=1))
    train(foreign, here / "output")
    again = call("merge-adapter-main-models.py", "output/final_checkpoint", "backbone", "-m", "whole")
    assert again.code == 0, again.err
    assert AutoModelForSequenceClassification.from_pretrained(here / "whole").config.num_labels == 2


def test_tw_18_weights_of_four_bits_and_of_gptq(here: Path) -> None:
    few = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "float32"}
    model = experiment(here, transformer(bnb_spec=few, lora_spec={})).model
    assert isinstance(model, ModelSection) and model.quantize is not None
    assert model.quantize.model_dump() == {"bits": 4, "kind": "fp4", "double": True, "compute": "fp32"}
    gptq = converted(here, transformer(quantization_spec={"bits": 4, "use_exllama": False}, lora_spec={}))
    assert value(gptq, "model.quantize.bits") is None
    assert any("use_exllama" in one.key for one in gptq.left_out)
    with pytest.raises(ConfigError, match="lora_spec"):
        converted(here, transformer(bnb_spec={}))


def test_tw_19_its_metrics_and_plots(done: Path) -> None:
    report = json.loads((done / "output" / "report.json").read_text(encoding="utf-8"))
    names = {"accuracy", "precision", "recall", "f1", "f_half", "roc_auc", "mcc"}
    assert names <= set(report["metrics"])
    pytest.importorskip("matplotlib")
    [drawn] = (done / "output" / "plots").glob("0_step_*")
    assert {"precision_recall_curve.png", "density_plot.png"} <= {path.name for path in drawn.iterdir()}


def test_tw_19_names_of_metrics_mean_what_they_mean_there(here: Path) -> None:
    best = arguments(metric_for_best_model="eval_accuracy")
    assert value(converted(here, best), "evaluate.metric") == "balanced_accuracy"
    several = transformer(from_pretrained_kwargs={"num_labels": 4})
    labels = module(loss_type="binary_cross_entropy", save_plots=True)
    f1 = arguments(metric_for_best_model="f1_score")
    assert value(converted(here, several, labels, f1), "evaluate.metric") == "f1_micro"
    assert value(converted(here, labels), "evaluate.plots") is True


@pytest.mark.parametrize("inside", [True, False])
def test_tw_20_one_key_turns_mlflow_on(here: Path, inside: bool) -> None:
    name = {"mlflow_experiment_name": "reviews"}
    foreign = converted(
        here, arguments(run_name="first", **name) if inside else arguments(run_name="first"), {} if inside else name
    )
    [track] = value(foreign, "track")
    assert any("MLFLOW_TRACKING_URI" in note for note in foreign.notes)
    assert (track["kind"], track["experiment"], track["run_name"]) == ("mlflow", "reviews", "first")
    with pytest.raises(ConfigError, match="run_name"):
        converted(here, name)


def test_tw_21_a_folder_says_where_the_run_comes_from(done: Path) -> None:
    folder = done / "output" / "reproducibility"
    said = tomllib.loads((folder / "main.toml").read_text(encoding="utf-8"))
    assert "training-wizard config.toml" in said["call"]["Command"]
    assert said["call"]["WorkingDirectory"] == str(done)
    assert (folder / "config.toml").read_bytes() == (done / "config.toml").read_bytes()
    assert (folder / "mine.py").is_file()
    assert (done / "output" / "run.log").is_file()
    ours = tomllib.loads((done / "output" / "config.toml").read_text(encoding="utf-8"))
    assert ours["train"]["layout"] == "training-wizard"


def test_tw_22_ctrl_c_ends_the_run_after_its_step(here: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(converted(here), here / "output", after_step=signal_after({1: [signal.SIGINT]}))
    assert read_manifest(here / "output").status == "interrupted"


def test_tw_23_rows_of_a_step_follow_from_the_processes(here: Path) -> None:
    foreign = converted(here, arguments(gradient_accumulation_steps=2), processes=3)
    [line] = [line for line in foreign.lines if line.key == "train.batch_size"]
    assert line.value == 24
    assert all(number in line.origin for number in ("4", "2", "3", "24"))


def test_tw_23_a_precision_that_accelerate_contradicts_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert load_foreign(converted(here)).experiment.train.precision == "fp16", "the file says nothing"
    write_specs(here, arguments(bf16=False, use_cpu=True))
    answer = runner(capsys, monkeypatch, here)("training-wizard", "config.toml")
    assert answer.code == 2
    assert "mixed precision fp16" in answer.err and 'train.precision = "fp32"' in answer.err
    assert not (here / "output").exists()


@pytest.mark.slow
def test_tw_23_accelerate_starts_the_processes(here: Path) -> None:
    pytest.importorskip("accelerate")
    write_specs(here, arguments(use_cpu=True))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2"]
    words = [*launcher, "-m", "textune", "training_wizard", "config.toml"]
    found = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    config = tomllib.loads((here / "output" / "config.toml").read_text(encoding="utf-8"))
    assert config["train"]["batch_size"] == 8


# --- its other commands ----------------------------------------------------------------------------------------------


def test_tw_24_a_grid_becomes_files_that_follow_each_other(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, here)
    (here / "grid").mkdir()
    for stage in ("first", "second"):
        write_specs(here / "grid", name=f"{stage}.toml")
    (here / "grid.toml").write_text(
        """
stages = ["first", "second"]
base_path = "grid"
experiment_name = "rates"
base_model = "backbone"
[[experiments]]
epochs = 2
batch_size = [2, 4]
dataset_size = 8
warmup_steps_ratio = 0.5
optimizer = "adamw_torch"
learning_rate = [1e-3, 1e-4]
""",
        encoding="utf-8",
    )
    answer = call("generator", "grid.toml")
    assert answer.code == 0, answer.err
    first, second = (word for word in answer.out.split() if word.endswith(".toml"))
    assert "training-wizard" in answer.out and " && " in answer.out
    texts = [tomllib.loads(Path(path).read_text(encoding="utf-8")) for path in (first, second)]
    chosen = [text["training_args_spec"] for text in texts]
    assert [one["per_device_train_batch_size"] for one in chosen] == [2, 4]
    assert [one["warmup_steps"] for one in chosen] == [4, 2]
    assert texts[0]["wizard_module"]["transformer_spec"]["pretrained_name"] == "backbone"
    trained = texts[1]["wizard_module"]["transformer_spec"]["pretrained_name"]
    assert trained == f"{chosen[0]['output_dir']}/final_checkpoint"
    load_foreign(convert_training_wizard(Path(first)))
    assert call("generator", "grid.toml").code == 0, "the same files are there already"
    Path(first).write_text("", encoding="utf-8")
    assert call("generator", "grid.toml").code == 2


def test_tw_25_parameters_are_counted_without_a_head(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, here)
    hf = AutoModel.from_pretrained(here / "backbone")
    number = sum(weight.numel() for weight in hf.parameters())
    assert call("count-parameters", "backbone").out.strip() == str(number)
    assert call("count-parameters", "backbone", "-H").out.strip().endswith("k")


def test_tw_25_targets_of_lora_are_shown(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, here)
    found = json.loads(call("lora-info", "backbone", "--target_modules", "query", "value", "--json").out)
    hf = AutoModel.from_pretrained(here / "backbone")
    layers = {name: one for name, one in hf.named_modules() if isinstance(one, torch.nn.Linear)}
    assert found["possible"] == sorted({name.rpartition(".")[2] for name in layers})
    chosen = [one for name, one in layers.items() if name.endswith(("query", "value"))]
    assert found["in_targets"] == sum(weight.numel() for one in chosen for weight in one.parameters())
    assert found["shapes"] == [{"shape": list(chosen[0].weight.shape), "count": len(chosen)}]
    assert call("lora-info", "backbone", "--target_modules", "querry").code == 2
    assert '"query"' in call("find-all-linear-names", "backbone").out


@pytest.mark.parametrize(
    ("name", "said"), [("label", "Please rename it"), ("answer", "no column 'labels'"), ("labels", "")]
)
def test_tw_26_a_wrong_column_gets_a_sentence_that_helps(here: Path, name: str, said: str) -> None:
    (here / "named.tsv").write_text(f"text\t{name}\nfine\t1\n", encoding="utf-8")
    change = {"dataset_spec": {"data_files": "named.tsv"}}
    if not said:
        converted(here, change)
        return
    with pytest.raises(DataError, match=said):
        converted(here, change)


def test_tw_26_no_file_is_needed_to_convert_and_what_was_not_seen_is_said(here: Path) -> None:
    foreign = converted(here, REGRESSION, {"dataset_spec": {"data_files": "elsewhere/*.tsv"}})
    assert value(foreign, "data.columns.text_pair") is None
    [note] = [note for note in foreign.notes if "could not be looked at" in note]
    assert 'data.columns.text_pair = "text_pair"' in note and 'data.columns.weight = "sample_weight"' in note
    assert not any("could not be looked at" in note for note in converted(here).notes)


def test_a_word_for_what_textune_does_not_do_gets_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = runner(capsys, monkeypatch, here)("train-tokenizer", "tokenizer.toml")
    assert answer.code == 2 and "trains no tokenizers" in answer.err


# --- its example files -----------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "training_wizard"


@pytest.mark.every_day(2)
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the example files are not here")
@pytest.mark.parametrize(
    ("name", "changes", "metric"),
    [
        ("sequence_classification.tsv", (), "balanced_accuracy"),
        ("sequence_regression.tsv", (REGRESSION,), "mae"),
        ("multi_task_classification.jsonl", (MULTI_TASK, module(group_sizes=[3, 2, 4]), NINE), "f1_macro_std"),
    ],
)
def test_tw_01_its_example_files_train(here: Path, name: str, changes: tuple[Any, ...], metric: str) -> None:
    rows = {"dataset_spec": {"data_files": str(EXAMPLES / name)}}
    done = train(converted(here, *changes, rows, arguments(max_steps=1)), here / "output")
    assert metric in done.reports["validation"].metrics
    assert AutoModelForSequenceClassification.from_pretrained(here / "output" / "final_checkpoint") is not None
