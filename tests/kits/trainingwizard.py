"""Files of training-wizard's specs for tests, tiny models beside them, and what they become."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textune.adapters.foreign import Foreign
from textune.adapters.loaded import load_foreign
from textune.adapters.trainingwizard.convert import convert_training_wizard
from textune.adapters.trainingwizard.generator import as_text
from textune.config.schema import Experiment

MODULES = "training_wizard.specs.modules"
DATASETS = "training_wizard.specs.dataset"
SPECS: dict[str, Any] = {
    "spec_class": "training_wizard.recipes.modular.ModularTrainingSpec",
    "validation": 6,
    "wizard_module": {
        "spec_class": f"{MODULES}.seq_cls.SequenceClassifierModule",
        "transformer_spec": {
            "pretrained_name": "backbone",
            "from_pretrained_kwargs": {"num_labels": 2},
            "tokenizer_call_kwargs": {"max_length": 24, "truncation": True},
        },
    },
    "dataset_spec": {
        "spec_class": f"{DATASETS}.SimpleDataSourceSpec",
        "data_files": "rows.tsv",
        "loader": "csv",
        "load_dataset_kwargs": {"sep": "\t"},
    },
    "training_args_spec": {
        "output_dir": "output",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "learning_rate": 1e-3,
    },
}
"""A small classification, as the published examples have it."""
REGRESSION = {
    "wizard_module": {
        "spec_class": f"{MODULES}.scorer.SequenceRegressionModule",
        "transformer_spec.from_pretrained_kwargs.num_labels": 1,
    }
}
MULTI_TASK = {
    "wizard_module": {
        "spec_class": f"{MODULES}.multi_task_seq_cls.MultiTaskSequenceClassifierModule",
        "group_sizes": [3, 2],
        "transformer_spec.from_pretrained_kwargs.num_labels": 5,
    },
    "dataset_spec": {"loader": None, "load_dataset_kwargs": None, "data_files": "rows.jsonl"},
}
TEXTS = ("a good film", "bad and boring", "charming", "the worst movie", "great and fine", "dull")


def specs(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """`SPECS` with other values, by dotted key; None removes one."""
    tree = copy.deepcopy(SPECS)
    for change in changes:
        for table, values in change.items():
            if not isinstance(values, Mapping) or table not in tree or not isinstance(tree[table], dict):
                _put(tree, table, values)
                continue
            for key, value in values.items():
                _put(tree, f"{table}.{key}", value)
    return tree


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree.pop(last, None)
    if value is not None:
        tree[last] = value


def write_specs(folder: Path, *changes: Mapping[str, Any], name: str = "config.toml") -> Path:
    """The file in a folder."""
    path = folder / name
    path.write_text(as_text(specs(*changes)), encoding="utf-8")
    return path


def converted(folder: Path, *changes: Mapping[str, Any], processes: int = 1) -> Foreign:
    """What a file of specs becomes; the current folder has to be `folder`."""
    return convert_training_wizard(write_specs(folder, *changes), processes=processes)


def experiment(folder: Path, *changes: Mapping[str, Any]) -> Experiment:
    """The checked configuration of it."""
    return load_foreign(converted(folder, *changes)).experiment


def value(foreign: Foreign, key: str) -> Any:
    """The value of a dotted key; None where there is no such line."""
    return next((line.value for line in foreign.lines if line.key == key), None)


def write_rows(folder: Path, num_rows: int = 18) -> None:
    """`rows.tsv` with classes, numbers, weights and second texts in columns, and `rows.jsonl` with lists."""
    table = ["text\tlabels\tnumber\tsample_weight\ttext_pair"]
    lines = []
    for index in range(num_rows):
        text = TEXTS[index % len(TEXTS)]
        table.append(f"{text}\t{index % 2}\t{index / num_rows:.2f}\t{1 + index % 3}\tthe film")
        labels = f"[{index % 3}, {index % 2}]"
        lines.append(f'{{"text": "{text}", "labels": {labels}, "weight": [1.0, {index % 2 + 1}.5]}}')
    (folder / "rows.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
