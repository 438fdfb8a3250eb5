"""What the scripts of transformers for text classification do must be done here, line by line (HF-01 to HF-22): their
commands as they stand, but for the program's name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.glue import GLUE as PUBLISHED
from kits.glue import write_hub

from textune.adapters import HuggingFaceCall, as_toml, load_foreign, read_huggingface
from textune.adapters.huggingface.glue import GLUE
from textune.adapters.huggingface.scripts import TASKS, Script
from textune.errors import ConfigError

MODEL = "package:textune/presets/tiny/model"
SEED = Path(__file__).parents[3] / "shared/seeds/003_a1aa445731e82316.txt"
COMMAND = (
    "run_glue_no_trainer.py --model_name_or_path bert-base-cased --task_name $TASK_NAME --max_length 128"
    " --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3 --output_dir /tmp/$TASK_NAME/"
)
"""The documented first run."""
TRAINER: tuple[Script, ...] = ("run_glue", "run_classification", "run_xnli")


def call(script: Script, words: str, **how: Any) -> HuggingFaceCall:
    """What a script is asked to do with these words and the tiny backbone."""
    return read_huggingface(script, ["--model_name_or_path", MODEL, *words.split()], **how)


def lines(script: Script, words: str, **how: Any) -> dict[str, object]:
    """The lines that the words become; they are a configuration that can be loaded."""
    foreign = call(script, words, **how).foreign
    load_foreign(foreign)
    return {line.key: line.value for line in foreign.lines}


def left_out(script: Script, words: str) -> set[str]:
    return {one.key for one in call(script, words).foreign.left_out}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of a user's own, which is the current one."""
    rows = [f"{number},{'a fine film' if number % 2 else 'a dull one'} {number},{number % 2}" for number in range(24)]
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,sentence,label", *rows]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


OWN = "--train_file train.csv --validation_file dev.csv --do_train --do_eval"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nine tasks as a data set folder."""
    pytest.importorskip("datasets")
    return write_hub(tmp_path_factory.mktemp("hub"))


@pytest.mark.parametrize("name", TASKS)
def test_hf_01_each_task_has_its_columns_its_labels_and_its_metric(name: str) -> None:
    found, published = lines("run_glue", f"--task_name {name} --do_train --do_eval"), PUBLISHED[name]
    assert (found["data.train.name"], found["data.train.config"]) == ("nyu-mll/glue", name)
    texts = tuple(found[key] for key in ("data.columns.text", "data.columns.text_pair") if key in found)
    assert texts == published.hub_texts
    assert found["data.validation.split"] == published.hub_dev[0]
    assert found.get("data.labels.names", ()) == published.names
    assert found["evaluate.metric"] == GLUE[name].metric
    assert (found.get("data.evaluations.mismatched.split") == "validation_mismatched") == (name == "mnli")


@pytest.mark.skipif(not SEED.is_file(), reason="the scripts' documentation is not beside the repository")
def test_hf_01_the_documented_command_is_that_of_the_documentation() -> None:
    text = " ".join(SEED.read_text(encoding="utf-8").replace("\\\n", " ").split())
    assert f"python {COMMAND}" in text and f"accelerate launch {COMMAND}" in text


def test_hf_01_the_documented_command_is_turned_into_lines() -> None:
    words = COMMAND.replace("$TASK_NAME", "mrpc").split()[1:]
    foreign = read_huggingface("run_glue_no_trainer", words).foreign
    found = {line.key: line.value for line in foreign.lines}
    assert foreign.run == "/tmp/mrpc/"
    assert found["model.pretrained"] == "bert-base-cased"
    assert (found["train.batch_size"], found["train.optimizer.lr"]) == (32, 2e-5)
    assert (found["train.duration"], found["tokens.max_length"]) == ("3 epochs", 128)
    assert found["evaluate.metric"] == ("f1", "accuracy")


def test_hf_01_hf_12_the_bare_loop_trains_and_leaves_its_results(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    textune = runner(capsys, monkeypatch, tmp_path)
    words = COMMAND.replace("$TASK_NAME", "mnli").replace("/tmp/mnli/", "out").replace("bert-base-cased", MODEL)
    words = words.replace("--num_train_epochs 3", "--num_train_epochs 1").replace("128", "32")
    answer = textune(*words.split(), "--hub-folder", hub, "--quiet")
    assert answer.code == 0, answer.err
    results = json.loads((tmp_path / "out/all_results.json").read_text(encoding="utf-8"))
    assert {"eval_accuracy", "eval_accuracy_mm", "train_loss", "epoch"} <= set(results)
    evaluated = json.loads((tmp_path / "out/eval_results.json").read_text(encoding="utf-8"))
    assert evaluated.items() <= results.items() and "eval_accuracy_mm" in evaluated
    words = f"run_glue --model_name_or_path out --task_name mnli --do_eval --output_dir out --hub-folder {hub}"
    answer = textune(*words.split())
    assert answer.code == 0, answer.err
    again = json.loads((tmp_path / "out/eval_results.json").read_text(encoding="utf-8"))
    assert again == {name: value for name, value in evaluated.items() if name != "epoch"}
    together = json.loads((tmp_path / "out/all_results.json").read_text(encoding="utf-8"))
    assert together["train_loss"] == results["train_loss"]
    assert (tmp_path / "out/foreign").is_dir()


def test_hf_02_stsb_is_a_regression_with_both_correlations() -> None:
    found = lines("run_glue", "--task_name stsb --do_train --do_eval")
    assert (found["task.kind"], found["evaluate.metric"]) == ("regression", ("pearson", "spearman"))


def test_hf_03_columns_are_guessed_or_named(files: Path) -> None:
    guessed = call("run_glue", OWN)
    found = {line.key: line.value for line in guessed.foreign.lines}
    assert (found["data.columns.text"], "data.columns.text_pair" in found) == ("sentence", False)
    assert any("The column id counts rows" in note for note in guessed.foreign.notes)
    named = "--text_column_names id,sentence --text_column_delimiter | --label_column_name label"
    assert lines("run_classification", f"{OWN} {named}")["data.columns.template"] == "{id}|{sentence}"
    (files / "train.json").write_text('{"sentence1": "a", "sentence2": "b", "n": 1, "label": "x"}\n', encoding="utf-8")
    found = lines("run_glue", "--train_file train.json --validation_file train.json --do_train --do_eval")
    assert (found["data.columns.text"], found["data.columns.text_pair"]) == ("sentence1", "sentence2")


def test_hf_04_a_data_set_by_name_configuration_and_splits() -> None:
    words = "--dataset_name me/rows --dataset_config_name plain --train_split_name fit --validation_split_name held"
    found = lines("run_classification", f"{words} --do_train --do_eval --text_column_names body")
    assert (found["data.train.kind"], found["data.train.name"]) == ("hub", "me/rows")
    assert (found["data.train.config"], found["data.train.split"]) == ("plain", "fit")
    assert (found["data.validation.split"], found["data.columns.text"]) == ("held", "body")


def test_hf_05_pairs_are_two_texts() -> None:
    found = lines("run_xnli", "--language de --do_train --do_eval")
    assert (found["data.columns.text"], found["data.columns.text_pair"]) == ("premise", "hypothesis")


def test_hf_06_lists_of_names_are_several_labels(files: Path) -> None:
    (files / "many.json").write_text('{"sentence": "a", "label": ["x", "y"]}\n', encoding="utf-8")
    found = lines("run_classification", "--train_file many.json --validation_file many.json --do_train --do_eval")
    assert (found["task.kind"], found["evaluate.metric"]) == ("multilabel", "f1_micro")


def test_hf_07_a_number_is_found_or_asked_for(files: Path) -> None:
    (files / "numbers.csv").write_text("sentence,label\na,0.5\nb,1.0\n", encoding="utf-8")
    own = "--train_file numbers.csv --validation_file numbers.csv --do_train --do_eval"
    for words in (own, own.replace("numbers", "train").replace("numbers", "train") + " --do_regression True"):
        found = lines("run_classification", words)
        assert (found["task.kind"], found["evaluate.metric"]) == ("regression", "mse")
    assert "task.kind" not in lines("run_classification", f"{own} --do_regression False")


def test_hf_09_any_metric_by_name_and_the_mean_of_several(files: Path) -> None:
    assert lines("run_classification", f"{OWN} --metric_name f1_macro")["evaluate.metric"] == "f1_macro"
    words = "--task_name qqp --do_train --eval_strategy epoch --load_best_model_at_end --metric_for_best_model"
    assert lines("run_glue", f"{words} combined_score")["evaluate.metric"] == ("f1", "accuracy")
    assert lines("run_glue", f"{words} eval_f1")["evaluate.metric"] == "f1"


def test_hf_10_the_first_rows_alone(files: Path) -> None:
    words = "--max_train_samples 8 --max_eval_samples 4 --shuffle_train_dataset --shuffle_seed 7"
    found = lines("run_classification", f"{OWN} {words}")
    assert (found["data.train.take"], found["data.validation.take"]) == (8, 4)
    assert (found["data.train.shuffle"], found["data.train.shuffle_seed"]) == (True, 7)


def test_hf_11_hf_08_train_evaluate_and_predict_apart(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    textune = runner(capsys, monkeypatch, files)
    shared = ("--model_name_or_path", MODEL, "--max_seq_length", "32", "--quiet", "--validation_file", "dev.csv")
    own = ("--train_file", "train.csv", "--do_train", "--max_steps", "2", "--output_dir", "out")
    answer = textune("run_glue.py", *shared, *own, "--do_eval", "--do_predict", "--test_file", "test.csv")
    assert answer.code == 0, answer.err
    out = files / "out"
    trained = json.loads((out / "train_results.json").read_text(encoding="utf-8"))
    evaluated = json.loads((out / "eval_results.json").read_text(encoding="utf-8"))
    assert {"train_loss", "train_runtime", "train_samples", "train_samples_per_second", "epoch"} <= set(trained)
    assert {"eval_accuracy", "eval_loss", "eval_samples", "epoch"} <= set(evaluated)
    assert evaluated["eval_loss"] == evaluated["eval_log_loss"]
    together = json.loads((out / "all_results.json").read_text(encoding="utf-8"))
    assert together == trained | evaluated
    predicted = (out / "predict_results_None.txt").read_text(encoding="utf-8").splitlines()
    assert predicted[0] == "index\tprediction" and len(predicted) == 25
    assert {line.split("\t")[1] for line in predicted[1:]} <= {"0", "1"}
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "0", "1": "1"}
    assert (out / "model.safetensors").read_bytes() == (out / "best/model.safetensors").read_bytes()
    from transformers import AutoModelForSequenceClassification

    assert AutoModelForSequenceClassification.from_pretrained(str(out)).num_labels == 2

    again = ("--do_eval", "--do_predict", "--test_file", "test.csv", "--output_dir", "again", "--max_seq_length", "32")
    answer = textune("run_glue", "--model_name_or_path", "out", "--validation_file", "dev.csv", *again, "--quiet")
    assert answer.code == 0, answer.err
    found = json.loads((files / "again/eval_results.json").read_text(encoding="utf-8"))
    assert found["eval_accuracy"] == evaluated["eval_accuracy"]
    assert (files / "again/predict_results_None.txt").read_text(encoding="utf-8").splitlines() == predicted

    (files / "plain").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(out / name, files / "plain" / name)
    answer = textune("run_glue", "--model_name_or_path", "plain", "--validation_file", "dev.csv", *again, "--quiet")
    assert answer.code == 0, answer.err
    plain = json.loads((files / "again/eval_results.json").read_text(encoding="utf-8"))
    assert plain == pytest.approx(found, rel=1e-6)
    assert (files / "again/predict_results_None.txt").read_text(encoding="utf-8").splitlines() == predicted
    assert len(list((files / "plain").iterdir())) == 4
    config["architectures"] = ["BertModel"]
    (files / "plain/config.json").write_text(json.dumps(config), encoding="utf-8")
    answer = textune("run_glue", "--model_name_or_path", "plain", "--validation_file", "dev.csv", *again, "--quiet")
    assert answer.code == 2 and "names no model of sequence classification" in answer.err


def test_hf_13_checkpoints_and_where_a_run_goes_on(files: Path) -> None:
    loop = "--task_name rte --checkpointing_steps"
    assert lines("run_glue_no_trainer", f"{loop} 5")["train.checkpoint.every"] == "5 steps"
    assert lines("run_glue_no_trainer", f"{loop} epoch")["train.checkpoint.every"] == "1 epoch"
    assert lines("run_glue_no_trainer", "--task_name rte")["train.checkpoint.every"] == "never"
    assert call("run_glue_no_trainer", "--task_name rte --resume_from_checkpoint step_5").resume == "step_5"
    assert call("run_glue", OWN).resume == "auto"
    assert call("run_glue", f"{OWN} --overwrite_output_dir").resume is None
    theirs = files / "checkpoint-500"
    theirs.mkdir()
    (theirs / "optimizer.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="pickled"):
        call("run_glue", f"{OWN} --resume_from_checkpoint checkpoint-500")
    for name in ("config.json", "model.safetensors"):
        (theirs / name).write_bytes(b"")
    found = call("run_glue", f"{OWN} --resume_from_checkpoint checkpoint-500")
    values = {line.key: line.value for line in found.foreign.lines}
    # The same command again goes on where that run stopped.
    assert (found.resume, values["model.pretrained"], values["model.tokenizer"]) == ("auto", "checkpoint-500", MODEL)
    assert any("at step 0" in note for note in found.foreign.notes)


def test_hf_14_trackers_by_name(files: Path) -> None:
    found = lines("run_glue_no_trainer", "--task_name rte --with_tracking --report_to wandb")
    assert found["track"] == ({"kind": "accelerate", "name": "wandb", "project": "huggingface"},)
    assert "track" not in lines("run_glue_no_trainer", "--task_name rte --report_to wandb")
    tracks = lines("run_glue", f"{OWN} --report_to tensorboard clearml comet_ml")["track"]
    assert isinstance(tracks, tuple) and len(tracks) == 3


def test_hf_15_padding_to_the_longest_or_to_a_length(files: Path) -> None:
    assert "tokens.pad" not in lines("run_glue", OWN)
    assert lines("run_glue", f"{OWN} --pad_to_max_length")["tokens.pad"] == "max_length"
    assert "tokens.pad" not in lines("run_glue", f"{OWN} --no_pad_to_max_length")
    assert lines("run_glue", f"{OWN} --max_seq_length 64")["tokens.max_length"] == 64


@pytest.mark.parametrize("limit", [48, 10**30])
def test_rows_are_at_most_as_long_as_the_tokenizer_allows(files: Path, limit: int) -> None:
    (files / "small").mkdir()
    (files / "small/tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    words = ["--model_name_or_path", "small", *OWN.split(), "--max_seq_length", "64"]
    foreign = read_huggingface("run_classification", words).foreign
    [length] = [line.value for line in foreign.lines if line.key == "tokens.max_length"]
    assert length == min(64, limit)
    assert any("rows are cut at 48" in note for note in foreign.notes) == (limit == 48)
    words = ["--model_name_or_path", "small", "--language", "de", "--do_train", "--max_seq_length", "64"]
    xnli = read_huggingface("run_xnli", words).foreign  # takes its flag as it is
    assert [line.value for line in xnli.lines if line.key == "tokens.max_length"] == [64]
    loop = read_huggingface("run_glue_no_trainer", ["--model_name_or_path", "small", "--task_name", "rte"]).foreign
    assert [line.value for line in loop.lines if line.key == "tokens.max_length"] == [128]


def test_hf_16_the_rows_of_all_processes_are_one_step() -> None:
    words = "--task_name rte --per_device_train_batch_size 4 --gradient_accumulation_steps 3"
    assert lines("run_glue_no_trainer", words, processes=2)["train.batch_size"] == 24


def test_hf_17_arithmetic_of_few_bits_by_flag_or_by_the_launcher(files: Path) -> None:
    assert lines("run_glue", f"{OWN} --bf16")["train.precision"] == "bf16"
    assert lines("run_glue", f"{OWN} --fp16 True")["train.precision"] == "fp16"
    assert lines("run_glue_no_trainer", "--task_name rte", precision="bf16")["train.precision"] == "bf16"
    assert lines("run_glue", OWN)["train.precision"] == "fp32"


def test_hf_18_a_model_is_pushed_by_the_name_that_was_given(files: Path) -> None:
    assert call("run_glue", f"{OWN} --push_to_hub --hub_model_id me/model").push == "me/model"
    assert call("run_glue", f"{OWN} --push_to_hub --output_dir runs/mine").push == "mine"
    assert call("run_glue", OWN).push is None


def test_hf_19_hf_20_where_the_backbone_is_from(files: Path) -> None:
    words = "--model_revision v2 --trust_remote_code --ignore_mismatched_sizes --tokenizer_name other --cache_dir c"
    found = lines("run_glue", f"{OWN} {words} --token secret")
    assert (found["model.revision"], found["model.tokenizer"]) == ("v2", "other")
    assert (found["model.trust_remote_code"], found["model.ignore_mismatched_sizes"]) == (True, True)
    assert {"cache_dir", "token"} <= left_out("run_glue", f"{OWN} --cache_dir c --token secret")
    found = lines("run_glue_no_trainer", "--task_name rte --trust_remote_code False")
    assert found["model.trust_remote_code"] is False


def test_a_token_is_written_nowhere(files: Path) -> None:
    words = f"{OWN} --token secret --hub_token=secret --use_auth_token secret"
    given = {"model_name_or_path": MODEL, "token": "secret", "train_file": "train.csv", "do_train": True}
    (files / "args.json").write_text(json.dumps(given), encoding="utf-8")
    for foreign in (call("run_glue", words).foreign, read_huggingface("run_glue", ["args.json"]).foreign):
        assert "secret" not in as_toml(foreign) + json.dumps(foreign.to_dict()) + "".join(foreign.kept.values())


def test_a_call_that_asks_for_nothing_says_so(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = runner(capsys, monkeypatch, files)("run_glue", "--model_name_or_path", MODEL, "--train_file", "train.csv")
    assert answer.code == 2 and "--do_train" in answer.err


def test_words_that_belong_to_no_flag_are_refused() -> None:
    with pytest.raises(ConfigError, match="rte is no flag"):
        read_huggingface("run_glue", ["rte"])


def test_hf_21_trained_in_one_language_and_evaluated_in_another() -> None:
    found = lines("run_xnli", "--language de --train_language en --do_train --do_eval --do_predict")
    assert (found["data.train.config"], found["data.validation.config"]) == ("en", "de")
    assert (found["data.test.config"], found["data.test.split"]) == ("de", "test")
    assert list(call("run_xnli", "--language de --do_train --do_predict").predict) == ["predictions.txt"]


def test_hf_22_texts_are_tokenised_once(files: Path) -> None:
    words = f"{OWN} --preprocessing_num_workers 4 --overwrite_cache"
    assert {"preprocessing_num_workers", "overwrite_cache"} <= left_out("run_classification", words)


@pytest.mark.parametrize("script", TRAINER)
def test_flags_may_be_one_json_file(script: Script, files: Path) -> None:
    given = {"model_name_or_path": MODEL, "learning_rate": 2e-5, "do_train": True, "output_dir": "out"}
    given |= {"language": "de"} if script == "run_xnli" else {"train_file": "train.csv"}
    (files / "args.json").write_text(json.dumps(given, indent=1), encoding="utf-8")
    foreign = read_huggingface(script, ["args.json"]).foreign
    origins = {line.key: line.origin for line in foreign.lines}
    assert origins["train.optimizer.lr"] == "learning_rate = 2e-05 (args.json, line 3)"
    assert foreign.kept["args.json"].startswith("{") and foreign.run == "out"


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("run_glue", "--task_nmae rte", ["Unknown flag --task_nmae", "--task_name"]),
        ("run_glue", "--task_name sst --do_train", ["task_name", "sst2"]),
        ("run_glue", "--learning_rate", ["--learning_rate has no value"]),
        ("run_glue", "--seed 1 2", ["--seed takes one value"]),
        ("run_glue", "--do_train", ["train_file", "task_name, dataset_name or a file"]),
        ("run_glue", "--train_file absent.csv --do_train", ["absent.csv", "cannot be read"]),
        ("run_glue_no_trainer", "--max_seq_length 5 --task_name rte", ["--max_seq_length", "--max_length"]),
        ("run_glue_no_trainer", "--task_name rte --num_warmup_steps x", ["num_warmup_steps"]),
        ("run_xnli", "--do_train", ["language"]),
        ("run_xnli", "--do_train --language ge", ["XNLI has no such language", "de"]),
        ("run_glue", "--task_name rte --do_train --config_name other", ["config_name", "model.config"]),
        ("run_glue", "--task_name rte --do_train --max_train_samples 0", ["max_train_samples"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_used_gets_a_sentence(script: Script, words: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        call(script, words)
    assert [part for part in said if part not in str(caught.value)] == []


def test_a_column_that_is_not_there_is_named_with_the_nearest(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"no column sentense.*Did you mean sentence"):
        call("run_classification", f"{OWN} --text_column_names sentense")


def test_what_convert_writes_trains_the_same_bit_for_bit(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    textune = runner(capsys, monkeypatch, files)
    words = ["--model_name_or_path", MODEL, *OWN.split(), "--max_seq_length", "32", "--max_steps", "2"]
    words += ["--learning_rate", "1e-3", "--warmup_ratio", "0.3", "--report_to", "tensorboard"]
    answer = textune("convert", "huggingface", "run_glue.py", *words, "--output_dir", "a", "--out", "a.toml")
    assert answer.code == 0, answer.err
    assert textune("train", "a.toml", "--run", "a", "--quiet").code == 0
    assert textune("run_glue.py", *words, "--output_dir", "b", "--quiet").code == 0
    assert (files / "a/best/model.safetensors").read_bytes() == (files / "b/best/model.safetensors").read_bytes()
    assert (files / "a/eval_results.json").read_text("utf-8") == (files / "b/eval_results.json").read_text("utf-8")
