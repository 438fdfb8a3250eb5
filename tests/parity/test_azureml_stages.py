"""The stages of AzureML around fine-tuning, apart: a model imported, rows checked, split and encoded, a model
converted (lines AZ-02 to AZ-07, AZ-21, AZ-23)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from click.testing import CliRunner
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.runs import reviews, write_jsonl
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.adapters.azureml.folders import read_preprocessed, read_selected
from textune.adapters.azureml.mltable import read_mltable
from textune.cli import commands
from textune.errors import ConfigError, DataError
from textune.pipeline import convert_model, import_model, preprocess
from textune.pipeline.stages.preprocessing import Preprocessed

SORTED = sorted(reviews(100), key=lambda row: row["label"])
"""Rows that stand by class, which slices by position would split into one class each."""
NAMES = ("bad", "good", "neutral")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone, its import, and rows."""
    home = tmp_path_factory.mktemp("stages")
    tiny_backbone("bert", home / "backbone")
    import_model({"huggingface_id": str(home / "backbone"), "output_dir": str(home / "selected")})
    write_jsonl(home / "rows.jsonl", SORTED)
    return home


@pytest.fixture
def stage(home: Path, tmp_path: Path) -> Any:
    """Preprocesses with these inputs; `said` collects what it says."""

    def run(said: list[str] | None = None, **given: object) -> Preprocessed:
        usual = {
            "train_file_path": str(home / "rows.jsonl"),
            "sentence1_key": "text",
            "label_key": "label",
            "model_selector_output": str(home / "selected"),
            "output_dir": str(tmp_path / "out"),
        }
        given = {name: value for name, value in (usual | given).items() if value is not None}
        return preprocess(given, notice=[].append if said is None else said.append)

    return run


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_az_02_stages_run_apart_by_their_words_and_read_each_others_folders(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, tmp_path)
    imported = call(
        "text_classification_model_import", "--huggingface_id", home / "backbone", "--output_dir", "selected"
    )
    assert imported.code == 0, imported.err
    words = ["--sentence1_key", "text", "--label_key", "label", "--model_selector_output", "selected"]
    done = call(
        "text_classification_preprocess", "--train_file_path", home / "rows.jsonl", *words, "--output_dir=encoded"
    )
    assert done.code == 0, done.err
    assert "80 train, 10 valid" in done.out and "2 classes" in done.out
    encoded = read_preprocessed(str(tmp_path / "encoded"))
    assert set(encoded.files) == {"train", "validation", "test"} and encoded.has_tokenizer
    assert encoded.args["model_type"] == "bert" and encoded.args["sentence1_key"] == "text"
    selected = read_selected(str(tmp_path / "selected"))
    assert (Path(selected.model) / "model.safetensors").is_file()
    assert {"raw_data", "azureml_mlflow_inference_params.json"} <= {one.name for one in encoded.path.iterdir()}
    again = call("text_classification_preprocess", "--train_file_path", "x", *words, "--output_dir=encoded")
    assert again.code != 0 and "nothing is ever overwritten" in again.err


def test_az_02_rows_are_the_token_ids_of_the_tokenizer(home: Path, stage: Any) -> None:
    done = stage(max_seq_length=9)
    tokenizer = AutoTokenizer.from_pretrained(home / "backbone")
    rows = lines(done.folder / "train.jsonl")
    for row in rows[:20]:
        expected = tokenizer(row["text"], truncation=True, max_length=9)
        assert {name: row[name] for name in expected} == dict(expected)
    assert done.num_truncated > 0


def test_az_03_pairs_and_labels_of_every_kind_become_names(stage: Any, tmp_path: Path, home: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(home / "backbone")
    for number, values in enumerate((["b", "a"], [7, 3], [True, False])):
        rows = [
            row | {"second": "a movie", "label": values[place % 2]} for place, row in enumerate(reviews(60, seed=1))
        ]
        file = write_jsonl(tmp_path / f"{number}.jsonl", rows)
        done = stage(train_file_path=str(file), sentence2_key="second", output_dir=str(tmp_path / str(number)))
        assert done.class_names == tuple(sorted(map(str, values)))
        assert read_preprocessed(str(done.folder)).class_names == done.class_names
        row = lines(done.folder / "train.jsonl")[0]
        expected = tokenizer(row["text"], row["second"])
        assert row["token_type_ids"] == expected["token_type_ids"] and row["input_ids"] == expected["input_ids"]
        assert {row["labels"] for row in lines(done.folder / "train.jsonl")} == {0, 1}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_az_04_every_format_and_a_manifest_give_the_same_rows(form: str, stage: Any, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": row["label"]} for row in SORTED]
    table, file = pa.Table.from_pylist(rows), tmp_path / f"rows.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(table, file)
    elif form in ("csv", "tsv"):
        options = pyarrow.csv.WriteOptions(delimiter="," if form == "csv" else "\t")
        pyarrow.csv.write_csv(table, file, options)
    else:
        write = "\n".join(map(json.dumps, rows)) if form == "jsonl" else json.dumps(rows)
        file.write_text(write, encoding="utf-8")
    done = stage(train_file_path=str(file), output_dir=str(tmp_path / "file"))
    reading = {"jsonl": "read_json_lines", "csv": "read_delimited", "tsv": "read_delimited", "parquet": "read_parquet"}
    if form in reading:
        delimiter = {"csv": '{delimiter: ","}', "tsv": '{delimiter: "\\t"}'}.get(form, "{}")
        manifest = (
            f"type: mltable\npaths:\n  - file: ./rows.{form}\ntransformations:\n  - {reading[form]}: {delimiter}\n"
        )
        (tmp_path / "MLTable").write_text(manifest, encoding="utf-8")
        said: list[str] = []
        other = stage(said, train_mltable_path=str(tmp_path), output_dir=str(tmp_path / "table"))
        assert (other.folder / "train.jsonl").read_bytes() == (done.folder / "train.jsonl").read_bytes()
        assert any("--train_mltable_path counts, --train_file_path" in one for one in said)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "there is no file MLTable"),
        ("paths: [", "it is no YAML"),
        ("type: mltable", "it has no list of paths"),
        ("paths:\n  - file: azureml://datastores/x/rows.jsonl", "is not on this machine"),
        ("paths:\n  - ./rows.jsonl", "is no path"),
        ("paths:\n  - file: a.csv\ntransformations:\n  - filter: 'col(\"x\") > 1'", "filter cannot be done here"),
        ("paths:\n  - file: a.csv\ntransformations:\n  - read_delimited: {header: no_header}", "no_header"),
        ("paths:\n  - file: a.csv\ntransformations:\n  - take: -1", "take"),
        ("paths:\n  - file: a.csv\ntransformations:\n  - take: 5\n  - take: 10", "comes after another that sets take"),
    ],
    ids=["absent", "no yaml", "no paths", "remote", "bare", "filter", "no header", "take", "take twice"],
)
def test_az_04_a_manifest_that_cannot_be_read_is_refused(manifest: str | None, said: str, tmp_path: Path) -> None:
    if manifest is not None:
        (tmp_path / "MLTable").write_text(manifest, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_mltable(str(tmp_path), key="train_mltable_path")
    assert said in str(caught.value) and caught.value.key == "train_mltable_path" and caught.value.hint


def test_az_04_a_manifest_may_keep_columns_take_rows_and_name_a_pattern(tmp_path: Path) -> None:
    manifest = """
paths:
  - pattern: ./*.jsonl
transformations:
  - read_json_lines: {encoding: utf8, include_path_column: false}
  - keep_columns: [text, label]
  - take: 5
  - convert_column_types: [{columns: label, column_type: string}]
"""
    (tmp_path / "MLTable").write_text(manifest, encoding="utf-8")
    source = read_mltable(str(tmp_path / "MLTable"), key="train_mltable_path")
    assert source.files == (str(tmp_path / "./*.jsonl"),)
    assert (source.format, source.select, source.take, source.encoding) == ("jsonl", ("text", "label"), 5, "utf-8")


@pytest.mark.parametrize(
    "encoding", ["utf8", "utf8bom", "ascii", "latin1", "iso88591", "windows1252", "utf16", "utf32"]
)
def test_az_04_a_manifest_may_name_every_encoding_that_is_known_there(encoding: str, tmp_path: Path) -> None:
    manifest = f"paths:\n  - file: a.jsonl\ntransformations:\n  - read_json_lines: {{encoding: {encoding}}}"
    (tmp_path / "MLTable").write_text(manifest, encoding="utf-8")
    source = read_mltable(str(tmp_path), key="train_mltable_path")
    assert "a".encode(source.encoding)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ((), {"train": 80, "valid": 10, "test": 10}),
        (("validation",), {"train": 80, "valid": 100, "test": 20}),
        (("test",), {"train": 80, "valid": 20, "test": 100}),
        (("validation", "test"), {"train": 100, "valid": 100, "test": 100}),
    ],
    ids=["neither", "no test", "no validation", "both"],
)
def test_az_05_what_is_missing_is_split_off_with_every_class_and_the_same_each_time(
    given: tuple[str, ...], sizes: dict[str, int], stage: Any, home: Path, tmp_path: Path
) -> None:
    files = {f"{name}_file_path": str(home / "rows.jsonl") for name in given}
    done, again = (stage(**files, output_dir=str(tmp_path / name)) for name in ("first", "second"))
    for name, size in sizes.items():
        rows = lines(done.folder / f"{name}.jsonl")
        assert len(rows) == size
        assert Counter(row["labels"] for row in rows) == {0: size // 2, 1: size // 2}
        assert rows == lines(again.folder / f"{name}.jsonl")
    if not given:
        texts = [row["text"] for name in sizes for row in lines(done.folder / f"{name}.jsonl")]
        assert sorted(texts) == sorted(row["text"] for row in SORTED)


def test_az_06_rows_without_text_or_label_are_counted_by_reason(stage: Any, tmp_path: Path) -> None:
    broken = [{"text": None}, {"text": "  "}, {"text": ""}, {"label": None}, {"text": None, "label": None}]
    rows = [{"text": row["text"], "label": row["label"]} for row in reviews(40)]
    file = write_jsonl(tmp_path / "rows.jsonl", [*rows, *(rows[0] | one | {"extra": 1} for one in broken)])
    said: list[str] = []
    done = stage(said, train_file_path=str(file))
    assert done.dropped == {"train": {"a missing text": 2, "an empty text": 2, "a missing label": 1}}
    assert sum(done.num_rows.values()) == 40
    assert any(
        "train: 5 of 45 rows left out: 2 with a missing text, 2 with an empty text, 1 with a missing label" in one
        for one in said
    )
    assert any("1 column left out: extra" in one for one in said)
    assert any("32 training rows: AzureML refuses fewer than 50" in one for one in said)


@pytest.mark.parametrize(
    ("given", "rows", "key", "said"),
    [
        ({"sentence1_key": "txt"}, [], "sentence1_key", "has no such column; it has id, text, label, number"),
        ({"sentence1_key": "number"}, [], "sentence1_key", "double there, not strings"),
        ({"label_key": "number"}, [], "label_key", "double there, not strings, whole numbers or truth values"),
        ({"sentence2_key": "text"}, [], "sentence2_key", "--sentence2_key and --sentence1_key are both 'text'"),
        ({"sentence2_key": "copy"}, [{"text": "a", "copy": "a", "label": 1}], "sentence2_key", "the same texts"),
        ({}, [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}] * 10, "label_key", "all rows have the label"),
        ({"train_file_path": None}, [], "train_file_path", "needs training rows"),
    ],
    ids=["missing", "number", "float label", "same", "copy", "one class", "no rows"],
)
def test_az_06_columns_that_cannot_be_used_are_named(
    given: dict[str, Any], rows: list[dict[str, Any]], key: str, said: str, stage: Any, tmp_path: Path
) -> None:
    file = {"train_file_path": str(write_jsonl(tmp_path / "rows.jsonl", rows))} if rows else {}
    with pytest.raises(DataError) as caught:
        stage(**(file | given))
    assert said in str(caught.value) and caught.value.key == key
    assert not (tmp_path / "out").exists()


def test_az_06_test_rows_of_a_class_that_is_not_learned_are_refused(stage: Any, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "test.jsonl", [{"text": "a film", "label": "new"}] * 3)
    with pytest.raises(DataError, match="'new' is the label of test rows"):
        stage(test_file_path=str(file))


def test_az_07_rows_may_be_padded_and_are_read_back_without_padding(stage: Any, home: Path) -> None:
    done = stage(pad_to_max_length="true", max_seq_length=16)
    rows = lines(done.folder / "valid.jsonl")
    assert {len(row["input_ids"]) for row in rows} == {16}
    assert {len(row[name]) for row in rows for name in ("attention_mask", "token_type_ids")} == {16}
    assert any(0 in row["attention_mask"] for row in rows)
    said = json.loads((done.folder / "azureml_mlflow_inference_params.json").read_text(encoding="utf-8"))
    assert said["tokenizer_config"] == {"padding": "max_length", "truncation": True, "max_length": 16}


def test_az_07_the_longest_row_is_capped_by_the_tokenizer(stage: Any, home: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(home / "backbone")
    config = json.loads((home / "backbone" / "config.json").read_text(encoding="utf-8"))
    limit = min(tokenizer.model_max_length, 512, config["max_position_embeddings"])
    done = stage(max_seq_length=100_000)
    assert read_preprocessed(str(done.folder)).args["max_seq_length"] == limit


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("plain", "pytorch_model_path", "it has no finetune_args.json"),
        ("mlflow", "pytorch_model_path", "Give it to --mlflow_model_path"),
        ("plain", "mlflow_model_path", "it has no MLmodel"),
        ("absent", "mlflow_model_path", "there is no such folder"),
        ("nameless", "pytorch_model_path", "has no model_name_or_path"),
    ],
)
def test_az_23_a_folder_of_another_stage_is_refused_with_the_right_input(
    name: str, key: str, said: str, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / name
    if name != "absent":
        folder.mkdir()
    if name == "mlflow":
        (folder / "MLmodel").write_text("flavors: {}", encoding="utf-8")
    if name == "nameless":
        (folder / "finetune_args.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        import_model({key: str(folder), "output_dir": str(tmp_path / "selected")})
    assert said in str(caught.value) and caught.value.key == key
    assert not (tmp_path / "selected").exists()


def test_az_23_an_earlier_output_is_imported_without_its_pickles_and_checkpoints(home: Path, tmp_path: Path) -> None:
    earlier = tiny_backbone("bert", tmp_path / "earlier")
    (earlier / "finetune_args.json").write_text('{"model_name_or_path": "some/bert-base"}', encoding="utf-8")
    (earlier / "finetune_config.json").write_text('{"lora_algo": "peft"}', encoding="utf-8")
    (earlier / "training_args.bin").write_bytes(b"pickle")
    (earlier / "checkpoint-5").mkdir()
    said: list[str] = []
    given = {"pytorch_model_path": str(earlier), "huggingface_id": "x/y", "output_dir": str(tmp_path / "selected")}
    selected = read_selected(str(import_model(given, notice=said.append)))
    assert selected.model == str(tmp_path / "selected" / "bert-base")
    assert selected.config == {"lora_algo": "peft"} and selected.sources[0] == earlier
    copied = {one.name for one in Path(selected.model).iterdir()}
    assert {"config.json", "model.safetensors"} <= copied and not copied & {"training_args.bin", "checkpoint-5"}
    assert any("--pytorch_model_path counts, --huggingface_id not" in one for one in said)


def test_az_23_an_mlflow_model_is_imported_with_what_is_beside_it(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    tiny_backbone("bert", folder / "data" / "model")
    (folder / "MLmodel").write_text("flavors:\n  hftransformersv2:\n    task_type: x\n", encoding="utf-8")
    (folder / "conda.yaml").write_text("name: x\n", encoding="utf-8")
    given = {"mlflow_model_path": str(folder), "output_dir": str(tmp_path / "selected")}
    selected = read_selected(str(import_model(given)))
    assert (Path(selected.model) / "model.safetensors").is_file()
    assert (selected.path / "conda.yaml").is_file() and (selected.path / "MLmodel").is_file()
    assert selected.config == {"mlflow_hftransformers_misc_conf": {"task_type": "x"}}


def test_az_21_a_model_that_the_component_trained_predicts_from_text(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _finetuned_elsewhere(home, tmp_path / "pytorch")
    given = {"pytorch_model_folder": str(folder), "mlflow_model_folder": str(tmp_path / "mlflow")}
    texts = [row["text"] for row in reviews(6)]
    said: list[Any] = []
    # What is exported, without MLflow and the process that asks it.
    monkeypatch.setattr(
        "textune.pipeline.stages.converting.export",
        lambda model, target, **options: said.extend([textune.load(model).predict(texts), options["to"]]),
    )
    convert_model(given)
    _require_same(said[0], folder, texts)
    assert said[1] == "mlflow"


@pytest.mark.slow  # the gate of exports imports MLflow and PyTorch in a process of its own
def test_az_21_a_model_that_the_component_trained_becomes_one_of_mlflow(home: Path, tmp_path: Path) -> None:
    folder = _finetuned_elsewhere(home, tmp_path / "pytorch")
    given = {"pytorch_model_folder": str(folder), "mlflow_model_folder": str(tmp_path / "mlflow")}
    convert_model(given, notice=[].append)
    texts = [row["text"] for row in reviews(6)]
    _require_same(textune.load(tmp_path / "mlflow").predict(texts), folder, texts)
    described = (tmp_path / "mlflow" / "MLmodel").read_text(encoding="utf-8")
    assert "python_function" in described and "neutral" in described


def _require_same(said: Any, folder: Path, texts: list[str]) -> None:
    """The answers are those of plain transformers."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens).logits.softmax(-1)
    for one, row in zip(said, expected.tolist(), strict=True):
        assert tuple(one.scores) == NAMES
        assert list(one.scores.values()) == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "said"), [("absent", "there is no such folder"), ("backbone", "it has no finetune_args.json")]
)
def test_az_21_another_folder_is_not_converted(name: str, said: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        convert_model({"pytorch_model_folder": str(home / name), "mlflow_model_folder": str(tmp_path / "mlflow")})


def _finetuned_elsewhere(home: Path, folder: Path) -> Path:
    """A folder as AzureML itself leaves it: no file of textune."""
    labels = dict(enumerate(NAMES))
    model = AutoModelForSequenceClassification.from_pretrained(
        home / "backbone", id2label=labels, label2id={name: number for number, name in labels.items()}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(home / "backbone").save_pretrained(folder)
    args = {"model_name_or_path": "bert-base", "sentence1_key": "text", "max_seq_length": 64}
    (folder / "finetune_args.json").write_text(json.dumps(args), encoding="utf-8")
    (folder / "class_names.json").write_text(json.dumps({"class_names": NAMES}), encoding="utf-8")
    (folder / "training_args.bin").write_bytes(b"pickle")
    return folder


SMALL = ("--max_steps", "2", "--per_device_train_batch_size", "8", "--save_as_mlflow_model", "false", "--quiet")


@pytest.fixture(scope="module")
def first(home: Path) -> tuple[str, ...]:
    """The words of a pipeline that has run; its run folder is `first`."""
    rows = ("--train_file_path", "rows.jsonl", "--sentence1_key", "text", "--label_key", "label")
    words = ("text_classification_pipeline", "--huggingface_id", "backbone", *rows, *SMALL)
    words = (*words, "--pytorch_model_folder", "first", "--shm_size_finetune", "5g")
    with contextlib.chdir(home):
        done = CliRunner().invoke(commands, [word for word in words if word != "--quiet"])
    assert done.exit_code == 0, done.output
    assert "shm_size_finetune: every stage runs on this machine" in done.stderr
    return words


def test_az_02_one_command_does_what_the_stages_do_apart_and_goes_on_with_what_is_there(
    home: Path, first: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, home)
    rows = ("--train_file_path", "rows.jsonl", "--sentence1_key", "text", "--label_key", "label")
    folders = ("--preprocess_output=encoded", "--model_selector_output=selected", "--pytorch_model_folder=apart")
    steps = [
        ("text_classification_preprocess", *rows, "--model_selector_output=selected", "--output_dir=encoded"),
        ("text_classification_finetune", *folders, *SMALL),
    ]
    for words in steps:
        assert (done := call(*words)).code == 0, done.err
    one, other = (load_file(home / run / "best" / "model.safetensors") for run in ("first", "apart"))
    assert all((one[name] == other[name]).all() for name in one)
    changed = call(*first, "--max_seq_length", "9")
    assert changed.code != 0 and "was made with --max_seq_length left out, not 9" in changed.err
    two = call(*first, "--num_nodes_finetune", "2")
    assert two.code != 0 and "textune launch" in two.err


def test_az_26_the_rows_that_were_set_aside_for_testing_get_a_written_report(
    home: Path, first: tuple[str, ...]
) -> None:
    report = json.loads((home / "first" / "report-test.json").read_text(encoding="utf-8"))
    again = textune.evaluate(home / "first", part="test")
    assert report["rows"] == again.num_rows == 10
    assert again.metrics == report["metrics"] and {"accuracy", "loss", "mcc"} <= set(again.metrics)


def test_az_23_a_fine_tuned_model_is_imported_and_trained_on(
    home: Path, first: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, home)
    hardly = ("--learning_rate", "1e-12", "--max_steps", "1", "--pytorch_model_folder", "second")
    words = ["--pytorch_model_path" if word == "--huggingface_id" else word for word in first]
    words = ["first" if word == "backbone" else word for word in words]
    assert (done := call(*words, *hardly)).code == 0, done.err
    one, other = (load_file(home / run / "best" / "model.safetensors") for run in ("first", "second"))
    assert all(abs(one[name] - other[name]).max() < 1e-6 for name in one)  # the head, too


def test_the_stages_before_training_do_not_load_the_models_of_transformers() -> None:
    """Each is a process of its own, and would take twice as long to start."""
    code = (
        "import sys, textune.cli.systems.azuremlstages\n"
        "from textune.pipeline import import_model, preprocess\n"
        "print('transformers.modeling_utils' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
