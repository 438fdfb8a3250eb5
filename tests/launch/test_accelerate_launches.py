"""What other systems' pages start with `accelerate launch`, started with textune's name in the place of theirs."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.runs import reviews, write_csv

import textune
from textune.launch.accelerate import accelerated

ROOT = Path(textune.__file__).parents[1]
SEEDS = ROOT.parent / "shared" / "seeds"
WIZARD = "accelerate launch -m training_wizard examples/sequence_classification/config.toml"
GLUE = """accelerate launch run_glue_no_trainer.py \\
  --model_name_or_path bert-base-cased \\
  --task_name $TASK_NAME \\
  --max_length 128 \\
  --per_device_train_batch_size 32 \\
  --learning_rate 2e-5 \\
  --num_train_epochs 3 \\
  --output_dir /tmp/$TASK_NAME/"""
"""As the pages have them."""
SPECS = """
spec_class = "training_wizard.recipes.modular.ModularTrainingSpec"
validation = 6
[dataset_spec]
spec_class = "training_wizard.specs.dataset.SimpleDataSourceSpec"
data_files = "rows.tsv"
loader = "csv"
load_dataset_kwargs = { sep = "\\t" }
[wizard_module]
spec_class = "training_wizard.specs.modules.seq_cls.SequenceClassifierModule"
[wizard_module.transformer_spec]
pretrained_name = "backbone"
from_pretrained_kwargs = { num_labels = 2 }
tokenizer_call_kwargs = { max_length = 24, truncation = true }
[training_args_spec]
output_dir = "output"
max_steps = 2
per_device_train_batch_size = 3
gradient_accumulation_steps = 2
logging_steps = 1
learning_rate = 1e-3
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Rows, a tiny backbone, and the file of the page."""
    tiny_backbone("bert", tmp_path / "backbone")
    rows = [{"text": row["text"], "labels": row["id"] % 2} for row in reviews(40)]
    (tmp_path / "rows.tsv").write_text(
        "\n".join(["text\tlabels", *(f"{row['text']}\t{row['labels']}" for row in rows), ""]), encoding="utf-8"
    )
    for name in ("train", "validation"):
        write_csv(tmp_path / f"{name}.csv", [{"sentence": row["text"], "label": row["labels"]} for row in rows])
    folder = tmp_path / "examples" / "sequence_classification"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(SPECS, encoding="utf-8")
    return tmp_path


def words_of(command: str) -> list[str]:
    """The words after `accelerate launch`, with textune in the place of the program; GLUE's rows from files, and the
    tiny backbone."""
    words = command.replace("\\\n", " ").split()[2:]
    words = words[2:] if words[0] == "-m" else words
    words = [
        "examples/sequence_classification/config.toml" if word.startswith("examples/") else word for word in words
    ]
    if "--task_name" in words:
        place = words.index("--task_name")
        words[place : place + 2] = ["--train_file", "train.csv", "--validation_file", "validation.csv"]
    known = {"bert-base-cased": "backbone", "/tmp/$TASK_NAME/": "output"}
    return [known.get(word, word) for word in words]


def launch(home: Path, words: list[str], *options: str) -> dict[str, Any]:
    """`accelerate launch OPTIONS -m textune WORDS`: the configuration of its run."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "textune", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(home / "c")}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tomllib.loads((home / "output" / "config.toml").read_text(encoding="utf-8"))


def test_the_commands_are_those_of_the_pages() -> None:
    if not SEEDS.is_dir():
        pytest.skip(f"{SEEDS} is not here")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SEEDS.glob("*.txt")))
    assert WIZARD in text and GLUE in text


@pytest.mark.slow
@pytest.mark.parametrize("command", [WIZARD, GLUE], ids=["training-wizard", "run_glue_no_trainer"])
def test_two_processes_that_accelerate_started_train_and_one_goes_on_with_their_rows(
    command: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    config = launch(home, words_of(command), "--multi_gpu", "--num_processes=2", "--main_process_port=0")
    rows = 12 if command == WIZARD else 64
    assert config["train"]["batch_size"] == rows
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "c"))
    done = runner(capsys, monkeypatch, home)(*words_of(command), "--resume")
    assert done.code == 0, done.err
    assert f"train.batch_size stays {rows}, with which this run began" in done.err


@pytest.mark.parametrize("command", [WIZARD, GLUE], ids=["training-wizard", "run_glue_no_trainer"])
def test_one_process_of_accelerate_counts_its_rows_and_takes_its_precision(
    command: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick twin, in this process, with the variables that accelerate's simple launcher sets."""
    for name, value in {"MIXED_PRECISION": "fp16", "USE_CPU": "True", "DYNAMO_BACKEND": "NO"}.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    assert accelerated().precision == "fp16"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "c"))
    done = runner(capsys, monkeypatch, home)(*words_of(command), "--dry-run")
    assert done.code == 0, done.err
    assert "fp16" in done.err
    assert f"of {6 if command == WIZARD else 32} rows" in done.err


def test_accelerates_other_precision_than_a_file_says_is_refused_with_both(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "examples" / "sequence_classification" / "config.toml"
    path.write_text(path.read_text(encoding="utf-8") + "fp16 = true\n", encoding="utf-8")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    done = runner(capsys, monkeypatch, home)(*words_of(WIZARD), "--dry-run")
    assert done.code == 2
    assert 'it asks for mixed precision bf16, but train.precision = "fp16" computes in fp16' in done.err
