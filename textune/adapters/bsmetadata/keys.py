"""Every key of bsmetadata's Hydra configuration: what it takes, its default there, and which ones change nothing here.

`tests/adapters/test_bsmetadata_keys.py` says of each of the others what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

DATA = "data_config."
METADATA = "data_config.metadata_config."
HTML = "data_config.metadata_config.html_parser_config."
RULES = "data_config.metadata_config.html_parser_config.all_tags_rules."


def _strategy(value: object) -> object:
    """A strategy in capitals; YAML reads NO as false."""
    return "NO" if value is False else value.upper() if isinstance(value, str) else value


Text = Annotated[str, Field(coerce_numbers_to_str=True)]
Texts = list[Text]
Strategy = Annotated[Literal["NO", "STEPS", "EPOCH"], BeforeValidator(_strategy)]
Experiment = Literal[
    "sample", "without_metadata", "with_metadata", "with_metadata_datasetv2", "with_metadata_datasetv2_tf"
]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Key:
    """One key."""

    takes: Any
    """The type of its values, as pydantic reads it."""
    default: Any = None
    unused: str = ""
    """Why it changes nothing here; empty for a key that does."""


_CACHES = "texts are tokenised once and kept in the token cache (tokens.cache)"
_TRACKER = "runs are written to their own folder (metrics.jsonl)"

KEYS: dict[str, Key] = {
    "weight_decay": Key(float, 0.0),
    "learning_rate": Key(Annotated[float, Field(gt=0)], 5e-5),
    "gradient_accumulation_steps": Key(Count, 1),
    "num_train_epochs": Key(int, 1, "bsmetadata overwrites it; max_train_steps says how long to train"),
    "max_train_steps": Key(Count | None, None),
    "lr_scheduler_type": Key(Text, "linear"),
    "num_warmup_steps": Key(Annotated[int, Field(ge=0)], 1000),
    "seed": Key(Annotated[int, Field(ge=0, lt=2**32)], 42),
    "out_dir": Key(Text, "output_dir"),
    "resume_from_checkpoint_dir": Key(Text | None, None),
    "model_name": Key(Text, "gpt2"),
    "project_name": Key(Text | None, "metadata_lm", _TRACKER),
    "jobid": Key(Text | None, None, _TRACKER),
    "start_with_eval": Key(bool, False),
    "extra_steps_to_eval_save_at": Key(list[Count], []),
    "evaluation_strategy": Key(Strategy, "STEPS"),
    "eval_steps": Key(Count, 100),
    "eval_num_per_epoch": Key(int, 3),
    "save_strategy": Key(Strategy, "STEPS"),
    "save_steps": Key(Count, 500),
    "save_num_per_epoch": Key(int, 3),
    "do_train": Key(bool, True),
    "do_eval": Key(bool, True),
    "gradient_checkpointing": Key(bool, False),
    DATA + "experiment": Key(Experiment, "sample"),
    DATA + "per_device_train_batch_size": Key(Count, 2),
    DATA + "per_device_eval_batch_size": Key(
        Count, 2, "evaluation computes evaluate.max_tokens tokens at once; its size changes nothing"
    ),
    DATA + "dataset_name": Key(Text | None, None),
    DATA + "dataset_config_name": Key(Text | None, None),
    DATA + "train_file": Key(Text | None, None),
    DATA + "validation_file": Key(Text | None, None),
    DATA + "overwrite_cache": Key(bool | None, False, _CACHES),
    DATA + "cache_dir": Key(Text | None, None, _CACHES),
    DATA + "extension": Key(Text | None, None),
    DATA + "preprocessing_num_workers": Key(int | None, None, _CACHES),
    DATA + "validation_split_percentage": Key(Annotated[int, Field(ge=1, le=99)] | None, 5),
    DATA + "block_size": Key(int | None, None, "bsmetadata does not use it; max_seq_len is the length of a row"),
    DATA + "map_batch_size": Key(int | None, 1, _CACHES),
    DATA + "validation_size_max": Key(Count | None, None),
    DATA + "streaming": Key(bool, False),
    METADATA + "metadata_list": Key(Texts, []),
    METADATA + "metadata_column_list": Key(Texts, []),
    METADATA + "local_metadata_special_tokens": Key(dict[str, Text] | None, None),
    METADATA + "metadata_sep": Key(Text, " | "),
    METADATA + "metadata_key_value_sep": Key(Text, ": "),
    METADATA + "metadata_prefix_sep": Key(Text, " |||"),
    METADATA + "metadata_prefix_start_seq": Key(Text, ""),
    METADATA + "random_sample_metadata": Key(bool, False),
    METADATA + "random_sample_metadata_calculate_size": Key(int, -1),
    METADATA + "random_sample_metadata_weights": Key(dict[str, Annotated[float, Field(gt=0)]] | None, None),
    METADATA + "metadata_probability": Key(Share, 1.0),
    METADATA + "treat_local_metadata_as_regular_text": Key(bool, False),
    METADATA + "add_local_metadata_special_tokens_in_prefix": Key(bool, False),
    METADATA + "entity_setting": Key(Literal["beg", "end"], "beg"),
    METADATA + "local_metadata_special_token_start": Key(dict[str, Text] | None, None),
    METADATA + "local_metadata_special_token_end": Key(dict[str, Text] | None, None),
    METADATA + "local_metadata_special_token_state": Key(bool, False),
    METADATA + "html_overall_sample_rate": Key(Share, 1.0),
    METADATA + "without_metadata_same_context": Key(bool, False),
    METADATA + "max_seq_len": Key(Annotated[int, Field(ge=2)], 512),
    RULES + "attributes_to_keep": Key(Texts | None, None),
    RULES + "txt_max_chr_len": Key(float, float("-inf")),
    RULES + "txt_min_chr_len": Key(float, float("-inf")),
    RULES + "tags_exceptions_to_txt_max_min_chr_len": Key(Texts | None, []),
    HTML + "tags_to_remove_alone_tag_name": Key(Texts, []),
    HTML + "tags_to_remove_alone_txt_max_chr_len": Key(list[float], []),
    HTML + "tags_to_remove_alone_txt_min_chr_len": Key(list[float], []),
}
"""By dotted key."""

TYPES = {
    "website_description": "website_desc",
    "datasource": "generation_datasource",
    "length": "generation_length_text",
}
"""What entries call a type, where its column, and so textune, calls it otherwise. Lengths of texts and of sentences
share a key; which of the two is meant follows from the columns."""
