"""The files of the AzureML component: the run folder is its `pytorch_model_folder`, with the best model at its top."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from textune.atomic import write_text, written_aside
from textune.config import Experiment
from textune.model import CARD_NAME
from textune.prediction import read_card
from textune.run import RunFolder

if TYPE_CHECKING:
    from textune.pipeline.train import TrainResult

FINETUNE_ARGS, FINETUNE_CONFIG = "finetune_args.json", "finetune_config.json"
_OWN = {CARD_NAME, "probe.jsonl", "usual.json", "README.md"}
"""Files of the best model that stay in `best/` alone."""


def write(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """The best model, `finetune_args.json` and what else the stages after this one read."""
    for file in sorted(run.best.iterdir()):
        if file.is_file() and file.name not in _OWN:
            _copy(file, run.path / file.name)
    card = read_card(run.best)
    names = list(card.names)
    _write_json(run.path / "class_names.json", {"class_names": names})
    _write_json(run.path / "id2label.json", {str(number): name for number, name in enumerate(names)})
    _write_json(run.path / "label2id.json", {name: number for number, name in enumerate(names)})
    asked = {"padding": True, "truncation": True, "max_length": card.max_length}
    _write_json(run.path / "azureml_mlflow_inference_params.json", {"tokenizer_config": asked})
    kept = run.path / "foreign" / FINETUNE_ARGS
    if kept.is_file():
        _copy(kept, run.path / FINETUNE_ARGS)
    else:
        _write_json(run.path / FINETUNE_ARGS, {"model_name_or_path": experiment.model.name})
    if (config := run.path / "foreign" / FINETUNE_CONFIG).is_file():
        _copy(config, run.path / FINETUNE_CONFIG)


def _copy(source: Path, target: Path) -> None:
    """A file, complete or absent."""
    with written_aside(target) as aside:
        shutil.copyfile(source, aside)


def _write_json(path: Path, tree: dict[str, object]) -> None:
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
