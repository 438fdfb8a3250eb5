"""Tiny runs of bsmetadata's published configuration: converted, and by the name of its script."""

import contextlib
import json
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from kits.bsmetadata import TEST_FILE, V2, shards, zero_file
from kits.cli import runner
from kits.languages import tiny_language_model
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from textune.adapters.bsmetadata.keys import DATA, METADATA
from textune.cli import commands
from textune.config.load import load_config

TINY = (
    *("model_name=model", "seed=3", "max_train_steps=2", "num_warmup_steps=1", "learning_rate=1e-3", "eval_steps=2"),
    *("save_steps=2", "extra_steps_to_eval_save_at=[1]", "gradient_accumulation_steps=2"),
    *(DATA + "dataset_name=local-data", DATA + "validation_file=held-out.jsonl.gz"),
    *(DATA + "per_device_train_batch_size=2", METADATA + "max_seq_len=48"),
    *(METADATA + "metadata_list=[html,title]", METADATA + "metadata_column_list=[html,title]"),
)
"""The published configuration, made small."""
DIRECT = ("--config-name", "v2", "--deepspeed", "bsmetadata/v2.json", *TINY, "out_dir=direct")
SMALL_ZERO: dict[str, Any] = {
    "fp16.enabled": False,
    "zero_optimization.stage": 0,
    "zero_optimization.cpu_offload": None,
    "gradient_accumulation_steps": 2,
    "train_batch_size": 4,
    "scheduler.params.total_num_steps": 2,
    "scheduler.params.warmup_num_steps": 1,
    "scheduler.params.warmup_max_lr": 1e-3,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as people have it: both files in their folders, shards, and a tiny model."""
    home = tmp_path_factory.mktemp("home")
    configs = home / "bsmetadata" / "hydra_configs"
    configs.mkdir(parents=True)
    (configs / "v2.yaml").write_bytes(V2.read_bytes())
    zero_file(home / "bsmetadata", **SMALL_ZERO).rename(home / "bsmetadata" / "v2.json")
    shards(home / "local-data", "a.jsonl.gz", "b.jsonl.gz", "held-out.jsonl.gz", TEST_FILE)
    tiny_language_model("gpt2", home / "model")
    return home


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    return runner(capsys, monkeypatch, home)


@pytest.fixture(scope="module")
def direct(home: Path) -> Result:
    """The run of the script; its folder is `direct`."""
    with contextlib.chdir(home):
        done = CliRunner().invoke(commands, ["bsmetadata/train.py", *DIRECT])
    assert done.exit_code == 0, done.output
    return done


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def test_converted_or_direct_a_run_trains_the_same_bits_and_says_what_it_was_made_of(
    home: Path, direct: Result, call: Any
) -> None:
    files = ("--config", "bsmetadata/hydra_configs/v2.yaml", "--deepspeed", "bsmetadata/v2.json")
    assert call("convert", "bsmetadata", *files, "--out", "tiny.toml", *TINY).code == 0
    converted = call("train", "tiny.toml", "--run", "converted", "--quiet")
    assert converted.code == 0, converted.err
    assert "html_overall_sample_rate" in direct.stderr  # what differs is said

    assert len(losses(home / "direct")) == 2
    assert losses(home / "direct") == losses(home / "converted")
    one, other = (load_file(home / run / "best" / "model.safetensors") for run in ("direct", "converted"))
    assert all((one[name] == other[name]).all() for name in one)

    kept = (home / "direct" / "config.toml").read_text(encoding="utf-8")
    assert "Made from bsmetadata: bsmetadata/hydra_configs/v2.yaml, bsmetadata/v2.json, model_name=model" in " ".join(
        line.lstrip("# ") for line in kept.splitlines()
    )
    assert "# per_device_train_batch_size 2 x gradient_accumulation_steps 2 x 1 process" in kept
    assert "block_size" in kept
    again, before = (load_config(str(home / name)).experiment for name in ("direct/config.toml", "tiny.toml"))
    assert again == before
    assert tomllib.loads(kept)["data"]["train"]["exclude"] == ["held-out.jsonl.gz", TEST_FILE]


def test_checkpoints_and_evaluations_come_when_the_original_asks_for_them(home: Path, direct: Result) -> None:
    run = home / "direct"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-1", "step-2"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["step"] for line in lines if line["kind"] == "evaluation"} == {1, 2}


def test_the_saved_folder_has_the_added_tokens_and_opens_in_plain_transformers(home: Path, direct: Result) -> None:
    best = home / "direct" / "best"
    tokenizer = AutoTokenizer.from_pretrained(best)
    added = ["<ENTITY_CHAIN>", " </ENTITY_CHAIN> ", "<HTML>", "</HTML>"]
    ids = tokenizer.convert_tokens_to_ids(added)
    first = len(AutoTokenizer.from_pretrained(home / "model"))
    assert ids == list(range(first, first + 4))
    model = AutoModelForCausalLM.from_pretrained(best)
    assert model.get_input_embeddings().num_embeddings >= first + 4


def test_a_run_of_the_script_goes_on_where_it_stopped(direct: Result, call: Any) -> None:
    again = call("bsmetadata/train.py", *DIRECT, "--resume")
    assert again.code == 0 and "is complete: 2 steps" in again.out


def test_the_run_folder_keeps_the_files_and_the_words(home: Path, direct: Result) -> None:
    kept = home / "direct" / "foreign"
    assert sorted(path.name for path in kept.iterdir()) == ["v2.json", "v2.yaml", "words.txt"]
    assert (kept / "v2.yaml").read_text(encoding="utf-8") == V2.read_text(encoding="utf-8")
    words = shlex.split((kept / "words.txt").read_text(encoding="utf-8"))
    assert words[:3] == ["bsmetadata", "bsmetadata/hydra_configs/v2.yaml", "bsmetadata/v2.json"]
    assert words[3:] == [*TINY, "out_dir=direct"]


def test_a_file_alone_is_a_word_for_train_which_keeps_it(home: Path, call: Any) -> None:
    """The published file with the words written into it."""
    keys: dict[str, Any] = yaml.safe_load(V2.read_text(encoding="utf-8"))
    for word in (*TINY, DATA + "experiment=with_metadata_datasetv2", DATA + "streaming=false", "out_dir=alone"):
        key, _, written = word.partition("=")
        *tables, last = key.split(".")
        table = keys
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = yaml.safe_load(written)
    (home / "alone.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    done = call("alone.yaml", "train.seed=5", "--quiet")
    assert done.code == 0, done.err
    kept = home / "alone" / "foreign"
    assert yaml.safe_load((kept / "alone.yaml").read_text(encoding="utf-8")) == keys
    assert load_config(home / "alone" / "config.toml").experiment.train.seed == 5
    branch = call("train", "alone.yaml", "train.seed=5", "--run", "branch", "--resume", "alone/checkpoints/step-1")
    assert branch.code == 0, branch.err
    assert (home / "branch" / "foreign" / "alone.yaml").is_file()
    assert losses(home / "branch") == losses(home / "alone")[1:]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("folder", ["direct", "direct/checkpoints/step-1"])
def test_a_folder_of_textunes_own_is_resumed_with_resume(direct: Result, call: Any, folder: str) -> None:
    done = call("bsmetadata/train.py", *DIRECT, f"resume_from_checkpoint_dir={folder}", "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"]["key"] == "resume_from_checkpoint_dir" and f"--resume {folder}" in done.out
    branch = (f"out_dir=from-{Path(folder).name}", "--resume", folder)
    assert call("bsmetadata/train.py", *DIRECT, *branch).code == 0


@pytest.mark.every_day(1)
@pytest.mark.parametrize("experiment", ["without_metadata", "with_metadata", "with_metadata_datasetv2"])
def test_every_experiment_on_files_trains(call: Any, experiment: str) -> None:
    words = (
        *TINY,
        DATA + f"experiment={experiment}",
        DATA + "streaming=false",
        f"out_dir={experiment}",
        "do_eval=false",
    )
    files = ("--config-name", "v2", "--deepspeed", "bsmetadata/v2.json")
    done = call("bsmetadata/train.py", *files, *words, f"out_dir={experiment}")
    assert done.code == 0, done.err
    assert "Trained 2 steps" in done.out


def test_its_evaluation_compares_types_of_metadata(home: Path, direct: Result, call: Any) -> None:
    words = ("--repo_id", "direct", "--metadata_to_test", "html,title", "--max_n_examples", "3", "--no_cuda")
    done = call("bsmetadata/evaluation.py", *words, "--save_data", "--output_file", "result.json")
    assert done.code == 0, done.err
    assert "textune evaluate direct --by-metadata" in done.err and "--save_data" in done.err
    assert "title" in (home / "result.json").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parity("HF-16")
def test_accelerate_launches_it_and_the_rows_of_a_step_follow_from_the_processes(home: Path) -> None:
    pytest.importorskip("accelerate")
    words = ["--config-name", "v2", "--deepspeed", "bsmetadata/v2.json", "--prefer", "config", *TINY, "out_dir=two"]
    launcher = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes=2",
        "-m",
        "textune",
    ]
    command = [*launcher, "bsmetadata/train.py", *words]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = tomllib.loads((home / "two" / "config.toml").read_text(encoding="utf-8"))
    assert config["train"]["batch_size"] == 8  # 2 rows x accumulation of 2 x 2 processes
