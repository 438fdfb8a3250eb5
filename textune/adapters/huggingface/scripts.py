"""The flags of each script beyond those of TrainingArguments, with their types and defaults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from textune.adapters.trainer import FIELDS, OLDER

Script = Literal["run_glue", "run_glue_no_trainer", "run_classification", "run_xnli"]
Text = str | None
_CACHED = "texts are tokenised once and kept in the token cache, whose key is their content"


@dataclass(frozen=True)
class Known:
    """A flag of a script."""

    takes: Any
    default: object = None
    unused: str = ""
    """Why it changes nothing here."""


TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
_MODEL: Mapping[str, Known] = {
    "model_name_or_path": Known(Text),
    "config_name": Known(Text),
    "tokenizer_name": Known(Text),
    "cache_dir": Known(Text),
    "use_fast_tokenizer": Known(bool, True, "every tokenizer is the fast one"),
    "model_revision": Known(str, "main"),
    "token": Known(Text),
    "use_auth_token": Known(bool | str | None),
    "trust_remote_code": Known(bool, False),
    "ignore_mismatched_sizes": Known(bool, False),
}
_ROWS: Mapping[str, Known] = {
    "max_seq_length": Known(int, 128),
    "overwrite_cache": Known(bool, False, _CACHED),
    "pad_to_max_length": Known(bool, True),
    "max_train_samples": Known(int | None),
    "max_eval_samples": Known(int | None),
    "max_predict_samples": Known(int | None),
}
_FILES: Mapping[str, Known] = {
    "dataset_name": Known(Text),
    "dataset_config_name": Known(Text),
    "train_file": Known(Text),
    "validation_file": Known(Text),
    "test_file": Known(Text),
}
_NO_TRAINER: Mapping[str, Known] = {
    "task_name": Known(Text),
    "train_file": Known(Text),
    "validation_file": Known(Text),
    "max_length": Known(int, 128),
    "pad_to_max_length": Known(bool, False),
    "model_name_or_path": Known(Text),
    "use_slow_tokenizer": Known(bool, False, "every tokenizer is the fast one"),
    "per_device_train_batch_size": Known(int, 8),
    "per_device_eval_batch_size": Known(
        int, 8, "evaluation cuts rows into parts by evaluate.max_tokens, with the same scores"
    ),
    "learning_rate": Known(float, 5e-5),
    "weight_decay": Known(float, 0.0),
    "num_train_epochs": Known(int, 3),
    "max_train_steps": Known(int | None),
    "gradient_accumulation_steps": Known(int, 1),
    "lr_scheduler_type": Known(str, "linear"),
    "num_warmup_steps": Known(int, 0),
    "output_dir": Known(Text),
    "seed": Known(int | None),
    "push_to_hub": Known(bool, False),
    "hub_model_id": Known(Text),
    "hub_token": Known(Text),
    "trust_remote_code": Known(bool, False),
    "checkpointing_steps": Known(Text),
    "resume_from_checkpoint": Known(Text),
    "with_tracking": Known(bool, False),
    "report_to": Known(str, "all"),
    "ignore_mismatched_sizes": Known(bool, False),
}
_BY_TRAINER: Mapping[Script, Mapping[str, Known]] = {
    "run_glue": {"task_name": Known(Text), **_FILES, **_ROWS, **_MODEL},
    "run_classification": {
        **_FILES,
        "do_regression": Known(bool | None),
        "text_column_names": Known(Text),
        "text_column_delimiter": Known(str, " "),
        "train_split_name": Known(Text),
        "validation_split_name": Known(Text),
        "test_split_name": Known(Text),
        "remove_splits": Known(Text),
        "remove_columns": Known(Text),
        "label_column_name": Known(Text),
        "shuffle_train_dataset": Known(bool, False),
        "shuffle_seed": Known(int, 42),
        "metric_name": Known(Text),
        "preprocessing_num_workers": Known(int | None, None, "as many threads tokenise as there are cores"),
        **_ROWS,
        **_MODEL,
    },
    "run_xnli": {
        "language": Known(Text),
        "train_language": Known(Text),
        "do_lower_case": Known(bool | None, False),
        "server_ip": Known(Text, None, "it is about a debugger"),
        "server_port": Known(Text, None, "it is about a debugger"),
        **_ROWS,
        **_MODEL,
    },
}


def own_flags(script: Script) -> Mapping[str, Known]:
    """The flags that a script defines itself."""
    return _NO_TRAINER if script == "run_glue_no_trainer" else _BY_TRAINER[script]


def types_of(script: Script) -> dict[str, Any]:
    """The type of every flag of a script, those of TrainingArguments included where it uses Trainer."""
    own = {name: known.takes for name, known in own_flags(script).items()}
    if script == "run_glue_no_trainer":
        return own
    older = {name: known.takes for name, known in OLDER.items()}
    return older | {name: known.takes for name, known in FIELDS.items()} | own


def scripts_of(keys: Collection[str]) -> list[Script]:
    """Of the scripts that take one JSON file of flags in place of words: those that know all of these flags; where
    none does, the one that knows most."""
    missing = {script: len(set(keys) - types_of(script).keys()) for script in _BY_TRAINER}
    fewest = min(missing.values())
    found = [script for script in missing if missing[script] == fewest]
    return found[:1] if fewest else found
