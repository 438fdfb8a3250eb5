"""Train an example's task with `transformers.Trainer`: same backbone, rows, hyper-parameters and seeds, none of textune's code.

Rows and labels are read here a second time, by other means, so that an error in textune's own reading would show as a
difference of scores. `python bench/trainer_reference.py examples/mrpc.toml --seeds 0 1 2 --data-folder PATH` writes one
JSON file per task and seed.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import math
import os
import platform
import re
import tempfile
import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pandas as pd
import torch
import transformers
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

EVALUATION_BATCH_SIZE = 128
LABEL_THRESHOLD = 0.5

Tree = dict[str, Any]
Features = list[dict[str, Any]]


# --- the example ------------------------------------------------------------------------------------------------------


def merge(below: Tree, above: Tree) -> Tree:
    """Tables merge, everything else replaces."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_example(path: Path) -> Tree:
    """The TOML file on top of the files it extends."""
    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    parent = tree.pop("extends", None)
    return merge(read_example(path.parent / parent), tree) if parent else tree


def parse_duration(text: str) -> tuple[float, str]:
    """`"50 steps"` as (50.0, "step")."""
    match = re.fullmatch(r"\s*([\d.]+)\s+(step|epoch)s?\s*", text)
    if match is None:
        raise SystemExit(f"not a duration: {text!r}")
    return float(match[1]), match[2]


def find_backbone(name: str) -> str:
    """The folder behind `package:NAME/PATH`; any other name as it stands."""
    if not name.startswith("package:"):
        return name
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the Python package {package} is not installed")
    return str(Path(spec.submodule_search_locations[0]) / inside)


# --- rows and labels --------------------------------------------------------------------------------------------------


def read_rows(source: Tree, folder: Path) -> pd.DataFrame:
    """The rows of one `files` source as columns of strings."""
    files = source["files"] if isinstance(source["files"], list) else [source["files"]]
    return pd.concat([read_file(source, folder / name) for name in files], ignore_index=True)


def read_file(source: Tree, path: Path) -> pd.DataFrame:
    encoding = source.get("encoding", "utf-8")
    if source.get("format", "auto") == "text":
        lines = path.read_text(encoding=encoding).removesuffix("\n").split("\n")
        matches = [re.fullmatch(source["pattern"], line) for line in lines]
        return pd.DataFrame([match.groupdict() for match in matches if match is not None])
    tabs = path.suffix == ".tsv"
    names = source.get("column_names")
    quoting = source.get("quoting", "none" if tabs else "standard")
    return pd.read_csv(
        path,
        sep="\t" if tabs else ",",
        quoting=csv.QUOTE_MINIMAL if quoting == "standard" else csv.QUOTE_NONE,
        header=None if names else 0,
        names=names,
        encoding=encoding,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
    )


@dataclass(frozen=True)
class LabelScheme:
    """The problem and its label names in the order of their ids; encodes cells into what the model's loss expects."""

    problem: str  # transformers' problem_type
    names: tuple[str, ...]
    delimiter: str | None = None

    def encode(self, cells: list[str]) -> list[Any]:
        """An id, a number or a list of 0.0 and 1.0 for each cell."""
        if self.problem == "regression":
            return [float(cell) for cell in cells]
        ids = {name: number for number, name in enumerate(self.names)}
        if self.problem == "single_label_classification":
            return [ids[cell] for cell in cells]
        encoded = []
        for cell in cells:
            row = [0.0] * len(self.names)
            for part in cell.split(self.delimiter):
                row[ids[part] if part in ids else int(part)] = 1.0
            encoded.append(row)
        return encoded


def find_labels(example: Tree, train: pd.DataFrame, folder: Path) -> LabelScheme:
    """Integers in numeric order, other names sorted, unless the example lists them."""
    section = example["data"].get("labels", {})
    kind = example.get("task", {}).get("kind", "auto")
    if kind == "regression":
        return LabelScheme("regression", ("score",))
    if "names_file" in section:
        names = (folder / section["names_file"]).read_text(encoding="utf-8").split()
    elif "names" in section:
        names = section["names"]
    else:
        found = set(train[label_column(example)])
        integers = all(re.fullmatch(r"-?\d+", name) for name in found)
        names = sorted(found, key=int) if integers else sorted(found)
    problem = "multi_label_classification" if kind == "multilabel" else "single_label_classification"
    return LabelScheme(problem, tuple(names), section.get("delimiter"))


def label_column(example: Tree) -> str:
    return str(example["data"].get("columns", {}).get("label", "label"))


def tokenize(rows: pd.DataFrame, scheme: LabelScheme, example: Tree, tokenizer: PreTrainedTokenizerBase) -> Features:
    """Token ids, unpadded, with the encoded label."""
    columns = example["data"].get("columns", {})
    texts = [rows[columns.get("text", "text")].tolist()]
    if "text_pair" in columns:
        texts.append(rows[columns["text_pair"]].tolist())
    encoded = tokenizer(*texts, truncation=True, max_length=example["tokens"]["max_length"])
    labels = scheme.encode(rows[label_column(example)].tolist())
    return [{**{key: encoded[key][i] for key in encoded}, "label": label} for i, label in enumerate(labels)]


# --- scores -----------------------------------------------------------------------------------------------------------


def score(problem: str, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Metrics of scikit-learn and scipy; every value is better when higher."""
    if problem == "regression":
        values = logits.reshape(-1)
        return {"pearson": float(pearsonr(values, targets)[0]), "spearman": float(spearmanr(values, targets)[0])}
    if problem == "multi_label_classification":
        chosen = 1 / (1 + np.exp(-logits.astype(np.float64))) >= LABEL_THRESHOLD
        known = targets >= LABEL_THRESHOLD
        result = {f"f1_{average}": f1_score(known, chosen, average=average, zero_division=0) for average in ("micro", "macro")}
        return {name: float(value) for name, value in result.items()} | {
            "subset_accuracy": float((known == chosen).all(1).mean())
        }
    chosen = logits.argmax(-1)
    result = {
        "accuracy": accuracy_score(targets, chosen),
        "f1_macro": f1_score(targets, chosen, average="macro", zero_division=0),
        "mcc": matthews_corrcoef(targets, chosen),
    }
    if logits.shape[1] == 2:
        result["f1"] = f1_score(targets, chosen, zero_division=0)
    return {name: float(value) for name, value in result.items()}


# --- training ---------------------------------------------------------------------------------------------------------


class TimedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that knows how many seconds it spent in evaluation."""

    evaluation_seconds = 0.0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        start = time.perf_counter()
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.evaluation_seconds += time.perf_counter() - start


def resolve_precision(wanted: str) -> str:
    """`auto` is bf16 where the device computes in it, else fp32."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif platform.machine().lower() in {"x86_64", "amd64"}:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if has_bf16 else "fp32"


def training_arguments(example: Tree, seed: int, num_rows: int, folder: str) -> TrainingArguments:
    """The example's `[train]` table in the Trainer's words."""
    train = example["train"]
    optimizer, schedule = train["optimizer"], train["schedule"]
    precision = resolve_precision(train["precision"])
    amount, unit = parse_duration(schedule["warmup"])
    warmup = amount if unit == "step" else amount * math.ceil(num_rows / train["batch_size"])
    length, unit = parse_duration(train["duration"])
    if unit != "epoch" or optimizer["kind"] != "adamw":
        raise SystemExit("this script knows AdamW and durations in epochs")
    return TrainingArguments(
        output_dir=folder,
        seed=seed,
        num_train_epochs=length,
        per_device_train_batch_size=train["batch_size"],
        per_device_eval_batch_size=EVALUATION_BATCH_SIZE,
        train_sampling_strategy="group_by_length",
        optim="adamw_torch_fused",
        learning_rate=optimizer["lr"],
        weight_decay=optimizer["weight_decay"],
        adam_beta1=optimizer.get("beta1", 0.9),
        adam_beta2=optimizer.get("beta2", 0.999),
        adam_epsilon=optimizer.get("eps", 1e-8),
        max_grad_norm=train["max_grad_norm"],
        lr_scheduler_type=schedule["kind"],
        warmup_steps=round(warmup),
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=50,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
    )


def build_model(backbone: str, scheme: LabelScheme) -> PreTrainedModel:
    names = dict(enumerate(scheme.names))
    return AutoModelForSequenceClassification.from_pretrained(
        backbone,
        num_labels=len(scheme.names),
        problem_type=scheme.problem,
        id2label=names,
        label2id={name: number for number, name in names.items()},
        dtype=torch.float32,
    )


def read_features(
    example: Tree, folder: Path, tokenizer: PreTrainedTokenizerBase, max_rows: int | None
) -> tuple[LabelScheme, dict[str, Features]]:
    """Tokenised rows of train, validation and, where the example has one, test; the last two sorted by length."""
    sources = {name: example["data"][name] for name in ("train", "validation", "test") if name in example["data"]}
    rows = {name: read_rows(source, folder) for name, source in sources.items()}
    scheme = find_labels(example, rows["train"], folder)
    features = {name: tokenize(part[:max_rows], scheme, example, tokenizer) for name, part in rows.items()}
    for name in set(features) - {"train"}:
        features[name].sort(key=lambda row: len(row["input_ids"]))
    return scheme, features


def run(example: Tree, task: str, seed: int, folder: Path, max_rows: int | None) -> Tree:
    """One training run; its scores after each epoch and its times."""
    backbone = find_backbone(example["model"]["pretrained"])
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    start = time.perf_counter()
    scheme, features = read_features(example, folder, tokenizer, max_rows)
    reading_seconds = time.perf_counter() - start
    metric = example["evaluate"]["metric"]

    set_seed(seed)
    model = build_model(backbone, scheme)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = TimedTrainer(
            model=model,
            args=training_arguments(example, seed, len(features["train"]), scratch),
            train_dataset=features["train"],
            eval_dataset=features["validation"],
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
            compute_metrics=lambda output: score(scheme.problem, output.predictions, output.label_ids),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        prefix = "eval_"
        skip = {"runtime", "samples_per_second", "steps_per_second"}
        epochs = [
            {key.removeprefix(prefix): value for key, value in entry.items() if key.removeprefix(prefix) not in skip}
            for entry in trainer.state.log_history
            if "eval_loss" in entry
        ]
        evaluation_seconds = trainer.evaluation_seconds
        test = trainer.predict(features["test"]).metrics if "test" in features else None
    return {
        "task": task,
        "seed": seed,
        "metric": metric,
        "rows": {name: len(part) for name, part in features.items()},
        "labels": list(scheme.names),
        "steps": trainer.state.global_step,
        "epochs": epochs,
        "best": max(epochs, key=lambda epoch: epoch[metric]),
        "last": epochs[-1],
        "test_of_last": test and {key.removeprefix("test_"): value for key, value in test.items()},
        "train_seconds": round(seconds - evaluation_seconds, 2),
        "evaluation_seconds": round(evaluation_seconds, 2),
        "reading_seconds": round(reading_seconds, 2),
        "threads": torch.get_num_threads(),
        "device": str(trainer.args.device),
        "precision": resolve_precision(example["train"]["precision"]),
        "attention": model.config._attn_implementation,
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "tokenizers", "scikit-learn")},
        "machine": describe_machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "example": example,
    }


def describe_machine() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"model name\s*:\s*(.+)", text)
    return f"{match[1] if match else platform.processor()}, {os.cpu_count()} cores"


# --- command ----------------------------------------------------------------------------------------------------------


def print_table(results: list[Tree]) -> None:
    print(f"\n{'task':<12}{'seed':>5}  {'metric':<10}{'last':>8}{'best':>8}{'at epoch':>10}{'seconds':>10}{'threads':>9}")
    for result in results:
        metric, best = result["metric"], result["best"]
        print(
            f"{result['task']:<12}{result['seed']:>5}  {metric:<10}{result['last'][metric]:>8.4f}{best[metric]:>8.4f}"
            f"{best['epoch']:>10.3g}{result['train_seconds']:>10.1f}{result['threads']:>9}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", type=Path, nargs="+", help="example configs, such as examples/mrpc.toml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data-folder", type=Path, help="instead of the example's data.folder")
    parser.add_argument("--out", type=Path, default=Path("bench/results/trainer"), help="folder of the JSON files")
    parser.add_argument("--max-rows", type=int, help="so many rows of each part only, to try the script")
    parser.add_argument("--again", action="store_true", help="repeat runs whose result is there")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_warning()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = []
    for path in arguments.examples:
        example = read_example(path)
        folder = arguments.data_folder or path.parent / example["data"]["folder"]
        for seed in arguments.seeds:
            place = arguments.out / f"{path.stem}-{seed}.json"
            if arguments.again or not place.exists():
                result = run(example, path.stem, seed, folder, arguments.max_rows)
                # Written aside first: a file that is there is complete.
                aside = place.with_suffix(".part")
                aside.write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
                aside.replace(place)
            results.append(json.loads(place.read_text(encoding="utf-8")))
    print_table(results)


if __name__ == "__main__":
    main()
