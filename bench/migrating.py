"""`python -m bench.migrating --data FOLDER --out FILE`: the first run that other systems' pages show, end to end.

Each is run by textune under its own words, and by `transformers.Trainer` configured as that system's own code is
(`sides/firstrun.py`): from the command to the saved model, imports and tokenising included, with the same backbone
(MiniLM), rows and seed. The two take turns, and a pair has a seed of its own, so the scores of three pairs are those
of three seeds. Every textune run begins with an empty token cache.

    run_glue             run_glue.py: 32 rows a step, 3 epochs, every row padded to 128 tokens, its default
    run_glue_no_trainer  the same rows and epochs; batches padded to their longest row
    training-wizard      config.toml of its example: 2 rows a step, 1 epoch, 256 tokens, evaluates and saves each epoch
    azureml              import, preprocess, finetune with their defaults, three processes on both sides: 1 row a step,
                         1 epoch; no MLflow model, which Trainer has nothing for

FOLDER has `train.tsv` and `dev.tsv` with a text and a label of 0 or 1 in each line (GLUE's SST-2). torchrecipes is
not among them: its recipe's backbone is XLM-R as torchtext builds it, which Trainer does not have.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import processor
from bench.rows import write_json
from bench.speed.backbones import minilm
from bench.worker import ROOT

Json = dict[str, Any]


@dataclass(frozen=True)
class FirstRun:
    """A documented first run of another system."""

    commands: Callable[[Path, str, int], list[list[str]]]
    """Words of textune, from the folder with the rows, the backbone and a seed."""
    arguments: Json
    """What its own code gives to TrainingArguments."""
    max_length: int
    tokenises: str = "before"
    """`before` training, or `in the collator`."""
    padding: str = "longest"
    """Rows of a batch are as long as its `longest` one, or all of `max_length`."""
    stages: tuple[str, ...] = ("",)
    """The processes that its own code runs one after the other."""


def _glue(place: Path, model: str, seed: int) -> list[list[str]]:
    rows = ["--train_file", "train.csv", "--validation_file", "validation.csv", "--do_train", "--do_eval"]
    sizes = ["--max_seq_length", "128", "--per_device_train_batch_size", "32", "--num_train_epochs", "3"]
    more = ["--learning_rate", "2e-5", "--seed", str(seed), "--output_dir", "out"]
    return [["run_glue.py", "--model_name_or_path", model, *rows, *sizes, *more]]


def _no_trainer(place: Path, model: str, seed: int) -> list[list[str]]:
    rows = ["--train_file", "train.csv", "--validation_file", "validation.csv"]
    sizes = ["--max_length", "128", "--per_device_train_batch_size", "32", "--num_train_epochs", "3"]
    more = ["--learning_rate", "2e-5", "--seed", str(seed), "--output_dir", "out"]
    return [["run_glue_no_trainer.py", "--model_name_or_path", model, *rows, *sizes, *more]]


_CONFIG = """
spec_class = "training_wizard.recipes.modular.ModularTrainingSpec"

[validation]
spec_class = "training_wizard.specs.dataset.SimpleDataSourceSpec"
data_files = "validation.tsv"
loader = "csv"
load_dataset_kwargs = {{ sep = "\\t", quoting = 3 }}
preprocessing = {{ rename_columns = {{ label = "labels" }}, shuffle = false }}

[dataset_spec]
spec_class = "training_wizard.specs.dataset.SimpleDataSourceSpec"
data_files = "train.tsv"
loader = "csv"
load_dataset_kwargs = {{ sep = "\\t", quoting = 3 }}
preprocessing = {{ rename_columns = {{ label = "labels" }} }}

[wizard_module]
spec_class = "training_wizard.specs.modules.seq_cls.SequenceClassifierModule"

[wizard_module.transformer_spec]
pretrained_name = "{model}"
from_pretrained_kwargs = {{ num_labels = 2 }}
tokenizer_call_kwargs = {{ max_length = 256, truncation = true }}

[training_args_spec]
output_dir = "out"
num_train_epochs = 1
per_device_train_batch_size = 2
per_device_eval_batch_size = 2
warmup_steps = 200
logging_steps = 50
learning_rate = 1e-5
weight_decay = 0.0
optim = "adamw_torch"
seed = {seed}
use_cpu = true
"""


def _wizard(place: Path, model: str, seed: int) -> list[list[str]]:
    (place / "config.toml").write_text(_CONFIG.format(model=model, seed=seed), encoding="utf-8")
    return [["training_wizard", "config.toml"]]


def _azureml(place: Path, model: str, seed: int) -> list[list[str]]:
    rows = ["--train_file_path", "train.jsonl", "--validation_file_path", "validation.jsonl"]
    keys = ["--sentence1_key", "text", "--label_key", "label", "--model_selector_output", "selected"]
    folders = ["--preprocess_output", "encoded", "--model_selector_output", "selected"]
    seeded, plain = ["--seed", str(seed)], ["--save_as_mlflow_model", "false"]
    return [
        ["text_classification_model_import", "--huggingface_id", model, "--output_dir", "selected"],
        ["text_classification_preprocess", *rows, *keys, "--output_dir", "encoded"],
        ["text_classification_finetune", *folders, *seeded, "--pytorch_model_folder", "out", *plain],
    ]


FIRST_RUNS = {
    "run_glue": FirstRun(
        _glue,
        {
            "per_device_train_batch_size": 32,
            "num_train_epochs": 3,
            "learning_rate": 2e-5,
            "eval_strategy": "no",
            "save_steps": 500,
            "logging_steps": 500,
        },
        128,
        padding="max_length",
    ),
    "run_glue_no_trainer": FirstRun(
        _no_trainer,
        {
            "per_device_train_batch_size": 32,
            "num_train_epochs": 3,
            "learning_rate": 2e-5,
            "max_grad_norm": 0,  # the loop clips nothing
            "eval_strategy": "epoch",
            "save_strategy": "no",
            "logging_strategy": "no",
        },
        128,
    ),
    "training-wizard": FirstRun(
        _wizard,
        {
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 2,
            "num_train_epochs": 1,
            "warmup_steps": 200,
            "logging_steps": 50,
            "learning_rate": 1e-5,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
        },
        256,
        "in the collator",
    ),
    "azureml": FirstRun(
        _azureml,
        {
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 1,
            "num_train_epochs": 1,
            "learning_rate": 2e-5,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "logging_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": "loss",
        },
        128,
        stages=("import", "preprocess", "finetune"),
    ),
}
"""By system."""


def write_rows(place: Path, data: Path, rows: int) -> None:
    """The first rows of both files in the forms that the systems read."""
    for name, source, most in (("train", "train.tsv", rows), ("validation", "dev.tsv", max(50, rows // 4))):
        lines = (data / source).read_text(encoding="utf-8").splitlines()[1 : most + 1]
        pairs = [line.rsplit("\t", 1) for line in lines]
        (place / f"{name}.tsv").write_text(
            "\n".join(["text\tlabel", *(f"{text}\t{label}" for text, label in pairs), ""]), encoding="utf-8"
        )
        quoted = [text.replace('"', '""') for text, _ in pairs]
        (place / f"{name}.csv").write_text(
            "\n".join(
                ["sentence,label", *(f'"{q}",{label}' for q, (_, label) in zip(quoted, pairs, strict=True)), ""]
            ),
            encoding="utf-8",
        )
        (place / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": text, "label": label}, allow_nan=False) + "\n" for text, label in pairs),
            encoding="utf-8",
        )


def _timed(commands: list[list[str]], place: Path, environment: dict[str, str]) -> tuple[str, Json]:
    """Runs commands one after the other: the last one's output, and seconds of the clock and of the processor."""
    before, clock, out = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), ""
    for words in commands:
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stderr[-3000:]}")
        out = done.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return out, {"seconds": round(time.perf_counter() - clock, 2), "cpu_seconds": round(used, 2)}


def by_textune(run: FirstRun, place: Path, model: str, seed: int, environment: dict[str, str]) -> Json:
    """What a run of textune cost, and its accuracy."""
    commands = [[sys.executable, "-m", "textune", *words] for words in run.commands(place, model, seed)]
    _, cost = _timed(commands, place, {**environment, "XDG_CACHE_HOME": str(place / "cache")})
    report = json.loads((place / "out" / "report.json").read_text(encoding="utf-8"))
    return {**cost, "accuracy": report["metrics"]["accuracy"]}


def by_trainer(run: FirstRun, place: Path, model: str, seed: int, environment: dict[str, str]) -> Json:
    """The same of Trainer, configured as the system is."""
    spec = {
        "model": model,
        "train": str(place / "train.tsv"),
        "validation": str(place / "validation.tsv"),
        "max_length": run.max_length,
        "tokenises": run.tokenises,
        "padding": run.padding,
        "out": str(place / "trainer"),
        "arguments": {**run.arguments, "seed": seed},
    }
    (place / "spec.json").write_text(json.dumps(spec, allow_nan=False), encoding="utf-8")
    commands = [[sys.executable, "-m", "bench.sides.firstrun", "spec.json", stage] for stage in run.stages]
    out, cost = _timed(commands, place, environment)
    return {**cost, **json.loads(out.splitlines()[-1])}


def pair(name: str, number: int, data: Path, rows: int, model: str) -> Json:
    """Both sides once, with one seed; which begins changes with each pair."""
    run = FIRST_RUNS[name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    sides = {"textune": by_textune, "trainer": by_trainer}
    found: Json = {"seed": number}
    for side in list(sides) if number % 2 == 0 else reversed(list(sides)):
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder), data, rows)
            found[side] = sides[side](run, Path(folder), model, number, environment)
    return found


def summary(pairs: list[Json]) -> Json:
    """Median ratios (Trainer to textune), and the accuracies of both."""
    ratio = {
        key: round(statistics.median(one["trainer"][key] / one["textune"][key] for one in pairs), 2)
        for key in ("seconds", "cpu_seconds")
    }
    scores = {side: [one[side]["accuracy"] for one in pairs] for side in ("textune", "trainer")}
    return {"times_as_fast": ratio, "accuracy": scores}


def main() -> None:
    """Measure, print a line for each system, write every pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", choices=FIRST_RUNS, default=list(FIRST_RUNS))
    parser.add_argument("--rows", type=int, default=2000, help="training rows; a quarter as many validate")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    model, data = str(minilm()), options.data.resolve()
    results = {}
    for name in options.systems:
        pairs = [pair(name, number, data, options.rows, model) for number in range(options.pairs)]
        results[name] = {**summary(pairs), "pairs": pairs}
        times = results[name]["times_as_fast"]
        print(f"{name}: {times['seconds']:.2f} times as fast ({times['cpu_seconds']:.2f} by the processor's time)")
        write_json(
            options.out,
            {
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": processor(),
                "command": f"python -m bench.migrating --systems {' '.join(options.systems)} --rows {options.rows}"
                f" --pairs {options.pairs}",
                "results": results,
            },
        )


if __name__ == "__main__":
    main()
