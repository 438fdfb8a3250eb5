"""bsmetadata's two files as one configuration of ours: contradictions, held-out files, weights, what is written."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.bsmetadata import TEST_FILE, V2, V2_ZERO, shards, v2, value, zero_file
from kits.cli import runner
from kits.errors import refused
from kits.languages import tiny_language_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from textune.adapters.bsmetadata.command import named_config
from textune.adapters.bsmetadata.convert import convert_bsmetadata
from textune.adapters.bsmetadata.keys import DATA, HTML, KEYS, METADATA
from textune.adapters.loaded import load_foreign
from textune.cli.systems.table import command_called
from textune.config.load import load_config, require_runnable
from textune.config.schema import ModelSection
from textune.config.sources import FilesSource, StreamSource
from textune.errors import ConfigError
from textune.launch.accelerate import Accelerated, accelerated
from textune.model.language import load_language_model
from textune.model.tokenizer import load_tokenizer


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the published files ---------------------------------------------------------------------------------------------


def test_the_published_files_convert_and_load_to_the_same_values_however_they_are_read(folder: Path) -> None:
    foreign = v2()
    direct = load_foreign(foreign).experiment
    (folder / "v2.toml").write_text(_toml(foreign), encoding="utf-8")
    assert load_config("v2.toml").experiment == direct
    assert direct.train.batch_size == 256
    assert direct.train.duration.amount == 100_000
    assert isinstance(direct.data.train, StreamSource)
    assert direct.metadata is not None
    assert direct.metadata.types == (
        *("html", "timestamp", "website_desc", "title"),
        *("generation_datasource", "generation_length_text", "entity_paragraph"),
    )
    assert direct.metadata.html.drop == ("body",)
    assert direct.metadata.as_original
    require_runnable(direct)


def _toml(foreign: Any) -> str:
    from textune.adapters.written import as_toml

    return as_toml(foreign)


def test_each_value_knows_what_it_was_made_of() -> None:
    origins = load_foreign(v2("seed=7")).origins
    assert (
        "per_device_train_batch_size 8 x gradient_accumulation_steps 16 x 2 processes" in origins["train.batch_size"]
    )
    assert origins["train.optimizer.lr"] == "warmup_max_lr = 0.0001 of v2.json"
    assert origins["metadata.wraps.html"] == origins["metadata.wraps.entity_paragraph"]
    assert origins["train.prefetch"] == "default"


def test_a_config_written_elsewhere_names_the_same_files(folder: Path) -> None:
    shards(folder / "data", "a.jsonl.gz", "b.jsonl.gz")
    words = (DATA + "dataset_name=data", DATA + "validation_file=b.jsonl.gz")
    here = load_foreign(v2(*words)).experiment
    (folder / "configs").mkdir()
    from textune.pipeline.convert import convert

    convert(v2(*words), "configs/v2.toml")
    there = load_config("configs/v2.toml").experiment
    assert there == here
    assert isinstance(there.data.validation, FilesSource)
    assert there.data.validation.files == (str(folder / "data" / "b.jsonl.gz"),)


def test_the_mended_rules_are_an_option() -> None:
    assert value(v2(), "metadata.compat") == "bsmetadata"
    assert value(v2(compat="none"), "metadata.compat") == "none"


# --- two files that disagree -----------------------------------------------------------------------------------------


CONTRADICTIONS: dict[str, tuple[list[str], dict[str, Any], str, Any]] = {
    "accumulation": ([], {"gradient_accumulation_steps": 4}, "gradient_accumulation_steps", "4"),
    "micro-batch": ([], {"train_micro_batch_size_per_gpu": 4}, DATA + "per_device_train_batch_size", "4"),
    "learning rate": ([], {"scheduler.params.warmup_max_lr": 2e-4}, "learning_rate", "0.0002"),
    "warm-up": ([], {"scheduler.params.warmup_num_steps": 100}, "num_warmup_steps", "100"),
    "steps": ([], {"scheduler.params.total_num_steps": 500}, "max_train_steps", "500"),
    "decay": ([], {"optimizer.params.weight_decay": 0.5}, "weight_decay", "0.5"),
    "shape": ([], {"scheduler.type": "WarmupLR"}, "lr_scheduler_type", "WarmupLR"),
    "batch": ([], {"train_batch_size": 200}, DATA + "per_device_train_batch_size", "200"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_refused_with_both_values(folder: Path, name: str) -> None:
    words, changes, key, theirs = CONTRADICTIONS[name]
    with pytest.raises(ConfigError) as caught:
        v2("learning_rate=1e-4", *words, deepspeed=zero_file(folder, **changes), prefer="none")
    assert caught.value.key == key
    assert theirs in caught.value.message and str(caught.value.value).removesuffix(".0") in caught.value.message
    assert "v2.yaml" in caught.value.place or "command line" in caught.value.place or name == "batch"


@pytest.mark.parametrize("name", CONTRADICTIONS)
@pytest.mark.parametrize("prefer", ["config", "deepspeed"])
def test_a_contradiction_can_be_settled_for_either_file(folder: Path, name: str, prefer: str) -> None:
    words, changes, _, theirs = CONTRADICTIONS[name]
    foreign = v2("learning_rate=1e-4", *words, deepspeed=zero_file(folder, **changes), prefer=prefer)
    assert load_foreign(foreign).experiment.train.batch_size > 0
    if name != "batch":
        assert any(theirs in note and f"--prefer {prefer}" in note for note in foreign.notes)


def test_files_that_agree_need_no_choice() -> None:
    foreign = v2("learning_rate=1e-4", prefer="none")
    assert value(foreign, "train.optimizer.lr") == 1e-4
    assert not any("--prefer" in note for note in foreign.notes)


def test_the_published_files_disagree_on_the_learning_rate_and_the_original_trains_with_deepspeeds() -> None:
    with refused(ConfigError, key="learning_rate", value=5e-5, place="v2.yaml, line"):
        v2(prefer="none")
    assert value(v2(prefer="deepspeed"), "train.optimizer.lr") == 1e-4
    assert value(v2(prefer="config"), "train.optimizer.lr") == 5e-5


def test_all_contradictions_are_listed_at_once(folder: Path) -> None:
    changed = zero_file(folder, **{"gradient_accumulation_steps": 4, "scheduler.params.total_num_steps": 500})
    with pytest.raises(ConfigError) as caught:
        v2(deepspeed=changed, prefer="none")
    assert caught.value.message.count("\n  - ") == 3


def test_a_value_that_nobody_set_gives_way_but_an_accumulation_never_does(folder: Path) -> None:
    short = folder / "short.yaml"
    short.write_text("max_train_steps: 100000\nweight_decay: 0.01\ndata_config: {experiment: sample}\n")
    with refused(ConfigError, key="gradient_accumulation_steps", value=1):
        convert_bsmetadata(short, deepspeed=V2_ZERO)
    foreign = convert_bsmetadata(short, ["gradient_accumulation_steps=16"], deepspeed=V2_ZERO)
    assert value(foreign, "train.optimizer.lr") == 1e-4  # the dataclass says 5e-5
    assert value(foreign, "train.schedule.warmup") == "6000 steps"


def test_a_decay_that_nobody_set_does_not_give_way_since_the_original_trains_with_it(folder: Path) -> None:
    (folder / "short.yaml").write_text("gradient_accumulation_steps: 16\nmax_train_steps: 100000\n")
    with refused(ConfigError, key="weight_decay", value=0.0, place="default"):
        convert_bsmetadata(folder / "short.yaml", deepspeed=V2_ZERO)


def test_the_rows_of_a_step_follow_from_the_number_of_processes(folder: Path) -> None:
    alone = {"deepspeed": None, "prefer": "none"}
    assert value(v2(**alone), "train.batch_size") == 128
    assert value(v2(**alone, processes=8), "train.batch_size") == 1024
    with refused(ConfigError, key=DATA + "per_device_train_batch_size", value=8):
        v2("learning_rate=1e-4", prefer="none", processes=4)
    assert value(v2(prefer="deepspeed", processes=4), "train.batch_size") == 256
    assert value(v2(prefer="config", processes=4), "train.batch_size") == 512


# --- rows that are held out ------------------------------------------------------------------------------------------


def test_the_validation_file_and_the_test_file_are_left_out_of_the_training_files(folder: Path) -> None:
    shards(folder / "data", "a.jsonl.gz", "b.jsonl.gz", TEST_FILE)
    local = DATA + "dataset_name=data"
    assert value(v2(local, DATA + "validation_file=b.jsonl.gz"), "data.train.exclude") == ("b.jsonl.gz", TEST_FILE)
    assert value(v2(local, DATA + f"validation_file={TEST_FILE}"), "data.train.exclude") == (TEST_FILE,)
    assert value(v2(local), "data.train.exclude") == (TEST_FILE,)
    assert value(v2(), "data.train.exclude") == (TEST_FILE,)  # the data set on the hub has it


def test_what_is_not_among_the_training_files_is_not_excluded(folder: Path) -> None:
    shards(folder / "data", "a.jsonl.gz", "b.jsonl.gz")
    foreign = v2(DATA + "dataset_name=data", DATA + "validation_file=b.jsonl.gz")
    assert value(foreign, "data.train.exclude") == ("b.jsonl.gz",)
    assert not any(TEST_FILE in note for note in foreign.notes)
    assert any(TEST_FILE in note for note in v2(DATA + "dataset_name=./not-here").notes)
    other = v2(DATA + "dataset_name=data", DATA + "train_file=a*", DATA + "validation_file=b.jsonl.gz")
    assert value(other, "data.train.exclude") is None
    shards(folder / "apart", "held-out.jsonl.gz")
    apart = v2(DATA + "dataset_name=data", DATA + "validation_file=./apart/held-out.jsonl.gz")
    assert value(apart, "data.train.exclude") is None
    several = v2(DATA + "dataset_name=data", DATA + "validation_file=b*")
    assert value(several, "data.train.exclude") == ("b*",)


def test_one_file_for_training_and_validation_is_refused() -> None:
    with refused(ConfigError, key=DATA + "validation_file", value="a.jsonl.gz"):
        v2(DATA + "dataset_name=data", DATA + "train_file=a.jsonl.gz", DATA + "validation_file=a.jsonl.gz")


def test_a_validation_file_on_the_hub_is_refused_and_a_downloaded_one_is_not() -> None:
    with refused(ConfigError, key=DATA + "validation_file", value="a.jsonl.gz", place="command line"):
        v2(DATA + "validation_file=a.jsonl.gz")
    assert value(v2(DATA + "validation_file=./a.jsonl.gz"), "data.validation.files") == ("./a.jsonl.gz",)


def test_no_training_file_is_refused() -> None:
    with refused(ConfigError, key=DATA + "train_file"):
        v2(DATA + "train_file=null")


# --- weights ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_its_weights(folder: Path) -> None:
    checkpoint = folder / "checkpoint-150step"
    checkpoint.mkdir()
    save_file({"w": torch.zeros(1)}, checkpoint / "model.safetensors")
    (checkpoint / "train_state.json").write_text(json.dumps({"completed_steps": 150}))
    plain = v2("resume_from_checkpoint_dir=checkpoint-150step", METADATA + "local_metadata_special_token_state=false")
    assert value(plain, "model.tokenizer") == "gpt2"
    with refused(ConfigError, key="resume_from_checkpoint_dir", reason="no tokenizer"):
        v2("resume_from_checkpoint_dir=checkpoint-150step")  # whose added tokens would begin anew
    (checkpoint / "tokenizer_config.json").write_text("{}")
    foreign = v2("resume_from_checkpoint_dir=checkpoint-150step")
    assert value(foreign, "model.pretrained") == "checkpoint-150step"
    assert value(foreign, "model.tokenizer") is None and value(foreign, "model.added_tokens") is None
    assert any("150 steps" in note for note in foreign.notes)
    assert load_foreign(foreign).experiment.model.name == str(checkpoint)


@pytest.mark.slow
def test_a_tokenizer_saved_as_the_hint_says_keeps_the_rows_of_a_resized_checkpoint(folder: Path) -> None:
    tiny_language_model("gpt2", folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    resized = AutoModelForCausalLM.from_pretrained(folder / "model")
    resized.resize_token_embeddings(len(tokenizer) + 4)
    resized.save_pretrained(folder / "checkpoint")
    words = ("model_name=model", "resume_from_checkpoint_dir=checkpoint")
    with pytest.raises(ConfigError) as caught:
        v2(*words)
    command = shlex.split(caught.value.hint.partition("python ")[2])
    subprocess.run([sys.executable, *command], check=True)
    section = load_foreign(v2(*words)).experiment.model
    assert isinstance(section, ModelSection)
    opened = load_language_model(section, load_tokenizer(section), seed=1)
    assert torch.equal(opened.hf.get_input_embeddings().weight, resized.get_input_embeddings().weight)
    assert load_tokenizer(section).convert_tokens_to_ids("</HTML>") == len(tokenizer) + 3


def test_pickled_weights_and_missing_folders_are_refused(folder: Path) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "pytorch_model.bin").write_bytes(b"")
    with refused(ConfigError, key="resume_from_checkpoint_dir", value="old", reason="pickled"):
        v2("resume_from_checkpoint_dir=old")
    with refused(ConfigError, key="resume_from_checkpoint_dir", value="gone", place="gone"):
        v2("resume_from_checkpoint_dir=gone")


# --- keys and values that cannot be used -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "key", "near"),
    [
        ("learning_rat=1e-4", "learning_rat", "learning_rate"),
        ("data_config.max_seq_len=8", "data_config.max_seq_len", METADATA + "max_seq_len"),
        (METADATA + "metadata_lists=[url]", METADATA + "metadata_lists", METADATA + "metadata_list"),
        ("+app=2", "app", "leave it out"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(word: str, key: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        v2(word)
    assert caught.value.key == key
    assert near in caught.value.hint
    assert caught.value.place == "command line"


@pytest.mark.parametrize(
    ("word", "key", "value_"),
    [
        ("seed=x", "seed", "x"),
        ("gradient_checkpointing=maybe", "gradient_checkpointing", "maybe"),
        ("max_train_steps=null", "max_train_steps", None),
        ("max_train_steps=0", "max_train_steps", 0),
        ("lr_scheduler_type=step", "lr_scheduler_type", "step"),
        ("evaluation_strategy=OFTEN", "evaluation_strategy", "OFTEN"),
        ("do_train=false", "do_train", False),
        (DATA + "metadata_config=3", DATA + "metadata_config", 3),
        (DATA + "experiment=with_everything", DATA + "experiment", "with_everything"),
        (METADATA + "metadata_probability=1.5", METADATA + "metadata_probability", 1.5),
        (METADATA + "entity_setting=middle", METADATA + "entity_setting", "middle"),
        (METADATA + "without_metadata_same_context=true", METADATA + "without_metadata_same_context", True),
        (HTML + "tags_to_remove_alone_tag_name=[a,b]", HTML + "tags_to_remove_alone_tag_name", ["a", "b"]),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(word: str, key: str, value_: Any) -> None:
    with refused(ConfigError, key=key, value=value_):
        v2(word, prefer="config", deepspeed=None)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"optimizer.type": "Lamb"}, "optimizer.type"),
        ({"scheduler.type": "OneCycle"}, "scheduler.type"),
        ({"scheduler.params.warmup_min_lr": 1e-6}, "scheduler.params.warmup_min_lr"),
        ({"scheduler.params.warmup_type": "log"}, "scheduler.params.warmup_type"),
        ({"optimizer.params.adam_w_mode": False}, "optimizer.params.adam_w_mode"),
        ({"zero_optimization.stage": 4}, "zero_optimization.stage"),
        ({"zero_optimization.offload_optimizer.device": "nvme"}, "zero_optimization.offload_optimizer.device"),
        ({"train_batch_size": "many"}, "train_batch_size"),
        ({"gradient_accumulation_steps": True}, "gradient_accumulation_steps"),
        ({"optimizer.params.betas": [0.9]}, "optimizer.params.betas"),
        ({"gradient_accumulation_step": 4}, "gradient_accumulation_step"),
        ({"pipeline.stages": 2}, "pipeline.stages"),
    ],
)
def test_a_deepspeed_file_that_asks_for_something_else_is_refused(
    folder: Path, changes: dict[str, Any], key: str
) -> None:
    with refused(ConfigError, key=key, place="changed.json"):
        v2(deepspeed=zero_file(folder, **changes))


@pytest.mark.parametrize("name", ["v2.json", "v2.toml"])
def test_a_hydra_configuration_of_another_kind_is_refused(name: str) -> None:
    with refused(ConfigError, key="--config", value=name):
        convert_bsmetadata(Path(name))


def test_a_section_that_is_switched_off_is_passed_over(folder: Path) -> None:
    changed = zero_file(folder, **{"amp.enabled": False, "amp.opt_level": "O1"})
    assert v2(deepspeed=changed).tree == v2().tree


def test_a_deepspeed_file_that_is_none_is_refused(folder: Path) -> None:
    (folder / "broken.json").write_text("{")
    with refused(ConfigError, place="broken.json, line 1"):
        v2(deepspeed=folder / "broken.json")
    with refused(ConfigError, key="--deepspeed"):
        v2(deepspeed=folder / "gone.json")


def test_a_warm_up_of_deepspeeds_own_shape_is_named(folder: Path) -> None:
    changed = zero_file(folder, **{"scheduler.params.warmup_type": None})
    assert any("warmup_type" in note for note in v2(deepspeed=changed).notes)
    assert not any("warmup_type" in note for note in v2().notes)


@pytest.mark.parametrize("peak", ["auto", None])
def test_a_peak_that_the_original_takes_from_elsewhere_is_named(folder: Path, peak: str | None) -> None:
    changed = zero_file(folder, **{"scheduler.params.warmup_max_lr": peak})
    assert any("warmup_max_lr" in note and "0.001" in note for note in v2(deepspeed=changed, prefer="none").notes)
    assert not any("0.001" in note for note in v2().notes)


def test_a_period_that_is_no_whole_step_is_refused() -> None:
    with refused(ConfigError, key="eval_num_per_epoch", value=9):
        v2(
            *("evaluation_strategy=EPOCH", "max_train_steps=5", "eval_num_per_epoch=9"),
            *(DATA + "dataset_name=data", DATA + "validation_file=b.jsonl.gz"),
            prefer="config",
        )


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_config_and_never_overwrites(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, folder)
    words = ("convert", "bsmetadata", "--config", V2, "--deepspeed", V2_ZERO, "--prefer", "deepspeed", "seed=7")
    printed = call(*words)
    assert printed.code == 0
    assert tomllib.loads(printed.out)["train"]["seed"] == 7
    written = call(*words, "--out", "v2.toml")
    assert written.code == 0 and "textune train v2.toml --run metadata_outputs/" in written.out
    assert (folder / "v2.toml").read_text(encoding="utf-8") == printed.out
    again = call(*words, "--out", "v2.toml", "--json")
    assert again.code == 2 and json.loads(again.out)["error"]["key"] == "--out"
    as_json = call(*words, "--json")
    assert json.loads(as_json.out)["config"]["train"]["batch_size"] == 256
    assert "block_size" in json.dumps(json.loads(as_json.out)["left_out"])


def test_the_command_says_what_does_not_agree(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, folder)
    answer = call("convert", "bsmetadata", "--config", V2, "--deepspeed", V2_ZERO)
    assert answer.code == 2 and "5e-05" in answer.err and "0.0001" in answer.err


# --- the script of that name -----------------------------------------------------------------------------------------


def test_a_named_config_is_looked_for_beside_the_script_and_the_error_names_the_folders(folder: Path) -> None:
    configs = folder / "bsmetadata" / "hydra_configs"
    configs.mkdir(parents=True)
    (configs / "v2.yaml").write_bytes(V2.read_bytes())
    found = Path("bsmetadata/hydra_configs/v2.yaml")
    assert named_config("bsmetadata/train.py", "v2") == found
    assert named_config("train.py", "v2") == found
    assert named_config("bsmetadata/train.py", "v2", path="hydra_configs") == found
    assert named_config("bsmetadata/train.py", "v2", path="bsmetadata/hydra_configs") == found
    assert named_config("bsmetadata/train.py", None) is None
    with refused(ConfigError, key="--config-name", value="v1", place="bsmetadata/hydra_configs"):
        named_config("bsmetadata/train.py", "v1")


@pytest.mark.parametrize("word", ["bsmetadata/train.py", "bsmetadata/train", "/somewhere/bsmetadata/train.py"])
def test_the_script_is_a_word_of_textune_and_other_words_are_not(word: str) -> None:
    assert command_called(word) is not None
    assert command_called(f"{word}x") is None and command_called("train.py") is None


def test_accelerate_says_which_deepspeed_file_and_precision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerated() == Accelerated()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "v2.json")
    assert accelerated() == Accelerated(None, "bf16")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert accelerated() == Accelerated(Path("v2.json"), "bf16")


def test_the_precision_of_accelerate_counts_where_the_deepspeed_file_says_nothing(folder: Path) -> None:
    assert value(v2(precision="bf16", deepspeed=None), "train.precision") == "bf16"
    assert value(v2(precision="no", deepspeed=None), "train.precision") == "fp32"
    assert value(v2(precision="bf16"), "train.precision") == "fp16"
    silent = zero_file(folder, **{"fp16": None})
    assert value(v2(precision="fp16", deepspeed=silent), "train.precision") == "fp16"


# --- the page about it -----------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"


def section() -> str:
    """The page's section about bsmetadata, without the other systems'."""
    return PAGE.read_text(encoding="utf-8").partition("\n## From bsmetadata\n")[2].partition("\n## ")[0]


def test_the_page_names_keys_that_exist_and_each_that_changes_nothing() -> None:
    text = section()
    names = {key.rpartition(".")[2] for key in KEYS}
    rows = re.findall(r"^(?:\| |- \*\*)(`.+?`.*?)(?: \||\*\*)", text, re.MULTILINE)
    theirs = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    of_deepspeed = {"stage", "fp16", "bf16"}
    assert theirs - of_deepspeed - {"_end"} <= names | {"html_parser_config"}
    missing = [key for key, known in KEYS.items() if known.unused and f"`{key.rpartition('.')[2]}`" not in text]
    assert missing == []


def test_the_page_shows_the_sentence_of_the_published_pair() -> None:
    with pytest.raises(ConfigError) as caught:
        v2(prefer="none")
    assert caught.value.message in " ".join(section().split())
