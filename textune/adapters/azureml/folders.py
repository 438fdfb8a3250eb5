"""The folders that AzureML's stages hand to each other: their files by name, and how they are read.

preprocess_output/
  train.jsonl, valid.jsonl, test.jsonl   encoded rows: input_ids, attention_mask, token_type_ids, labels
  preprocess_args.json                   every key of the stage, the names of these files, model_type
  class_names.json                       {"class_names": [...]}, in the order of the label ids
  (the tokenizer)
model_selector_output/
  model_selector_args.json               every key of the stage, and model_name
  finetune_config.json                   what the model needs beyond the usual, if anything
  MODEL_NAME/                            the model, unless model_name is one on the hub
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from textune.config import absolute
from textune.errors import ConfigError
from textune.jsontext import parse_json

PREPROCESS_ARGS = "preprocess_args.json"
MODEL_ARGS = "model_selector_args.json"
FINETUNE_ARGS = "finetune_args.json"
FINETUNE_CONFIG = "finetune_config.json"
CLASS_NAMES = "class_names.json"
MLMODEL = "MLmodel"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENS, LABELS = "input_ids", "labels"
"""Columns of encoded rows."""
FILE_KEYS = {
    "train": "encoded_train_data_fname",
    "validation": "encoded_validation_data_fname",
    "test": "encoded_test_data_fname",
}
"""Where `preprocess_args.json` has the names of the files."""
FILES = {"train": "train.jsonl", "validation": "valid.jsonl", "test": "test.jsonl"}
"""Their usual names."""
_STAGES = {
    PREPROCESS_ARGS: "an output of text_classification_preprocess",
    MODEL_ARGS: "an output of text_classification_model_import",
    FINETUNE_ARGS: "a pytorch_model_folder of text_classification_finetune",
    MLMODEL: "an MLflow model",
}
"""What a folder is, by the file that tells it."""


@dataclass(frozen=True)
class Preprocessed:
    """An output of the preprocess stage."""

    path: Path
    files: Mapping[str, Path]
    """The encoded rows by set: `train`, and those that there are of `validation` and `test`."""
    columns: tuple[str, ...]
    """Columns of the training rows."""
    class_names: tuple[str, ...]
    args: Mapping[str, Any]
    """Its keys."""

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was saved there."""
        return (self.path / TOKENIZER_CONFIG).is_file()


@dataclass(frozen=True)
class Selected:
    """An output of the model import stage."""

    path: Path
    model: str
    """The folder of the model, or its name on the hub."""
    args: Mapping[str, Any]
    """Its keys."""
    config: Mapping[str, Any]
    """`finetune_config.json`; empty without one."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """Folders that the model came from, the imported one first."""
        given = [self.args.get(key) for key in ("pytorch_model_path", "mlflow_model_path")]
        return tuple(Path(str(one)) for one in (*given, self.model) if one)


def read_preprocessed(folder: str, *, key: str = "preprocess_output") -> Preprocessed:
    """An output of the preprocess stage; ConfigError for another folder, and for rows that are not encoded."""
    path = _opened(folder, PREPROCESS_ARGS, key)
    args = read_object(path / PREPROCESS_ARGS, key)
    files = {
        name: path / str(args.get(FILE_KEYS[name]) or usual)
        for name, usual in FILES.items()
        if args.get(FILE_KEYS[name]) or (path / usual).is_file()
    }
    for name in ("train", *files):
        if name not in files or not files[name].is_file():
            place = path / FILES["train"] if name not in files else files[name]
            raise _refused(key, folder, f"{place} is missing", "Run text_classification_preprocess again.")
    columns = _columns(files["train"], key, folder)
    return Preprocessed(path, files, columns, _class_names(path, key), args)


def read_selected(folder: str, *, key: str = "model_selector_output") -> Selected:
    """An output of the model import stage; ConfigError for another folder."""
    path = _opened(folder, MODEL_ARGS, key)
    args = read_object(path / MODEL_ARGS, key)
    name = args.get("model_name") or args.get("huggingface_id")
    if not isinstance(name, str) or not name:
        hint = "Run text_classification_model_import again."
        raise _refused(key, folder, f"{MODEL_ARGS} has no model_name", hint)
    inside = path / name
    config = path / FINETUNE_CONFIG
    return Selected(
        path,
        str(inside) if inside.is_dir() else name,
        args,
        read_object(config, key) if config.is_file() else {},
    )


def read_object(file: Path, key: str) -> dict[str, Any]:
    """A JSON object from a file of such a folder; ConfigError where it is none."""
    try:
        found = parse_json(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _refused(key, str(file), f"it cannot be read: {error.strerror}", "Run that stage again.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError, RecursionError) as error:
        raise _refused(key, str(file), f"it is no JSON: {error}", "Run that stage again.") from error
    if not isinstance(found, dict):
        raise _refused(key, str(file), "it holds no JSON object", "Run that stage again.")
    return found


def stage_of_folder(path: Path) -> str:
    """What a folder is, in words; empty if nothing tells it."""
    return next((words for name, words in _STAGES.items() if (path / name).is_file()), "")


def _opened(folder: str, marker: str, key: str) -> Path:
    path = Path(absolute(folder, Path.cwd()))
    if not path.is_dir():
        raise _refused(key, folder, "there is no such folder", "It is written by the stage before.")
    if not (path / marker).is_file():
        found = stage_of_folder(path)
        reason = f"it is {found}" if found else f"it has no {marker}"
        raise _refused(key, folder, reason, f"Name {_STAGES[marker]}.")
    return path


def _columns(file: Path, key: str, folder: str) -> tuple[str, ...]:
    """The columns of the first row; ConfigError unless token ids and labels are among them."""
    with file.open(encoding="utf-8-sig") as lines:
        line = next(islice(lines, 1), "")
    try:
        row = parse_json(line)
    except (json.JSONDecodeError, ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise _refused(key, folder, f"line 1 of {file.name} is no JSON object", "Run the preprocess stage again.")
    for name, near in ((TOKENS, "tokens"), (LABELS, "label")):
        if name not in row:
            instead = f", but {near}: rename it to {name}" if near in row else ""
            hint = "Run text_classification_preprocess again." if near not in row else "They are named so there."
            raise _refused(key, folder, f"line 1 of {file.name} has no column {name}{instead}", hint)
    return tuple(row)


def _class_names(path: Path, key: str) -> tuple[str, ...]:
    names = read_object(path / CLASS_NAMES, key).get("class_names")
    if not isinstance(names, list) or len(names) < 2:
        hint = 'It is such as {"class_names": ["negative", "positive"]}.'
        raise _refused(key, str(path / CLASS_NAMES), "it has no list class_names of two names or more", hint)
    return tuple(map(str, names))


def _refused(key: str, value: str, reason: str, hint: str) -> ConfigError:
    return ConfigError(f"--{key} = {value}: {reason}.", hint=hint, key=key, value=value, place=value, reason=reason)
