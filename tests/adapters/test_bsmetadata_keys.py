"""What becomes of every key of bsmetadata's two files: a line of ours, or nothing, with the reason."""

from pathlib import Path
from typing import Any

import pytest
from kits.bsmetadata import shards, v2, value, zero_file

from textune.adapters.bsmetadata.deepspeed import UNUSED, USED
from textune.adapters.bsmetadata.keys import DATA, HTML, KEYS, METADATA, RULES
from textune.adapters.foreign import Foreign

D, M, H, R = DATA, METADATA, HTML, RULES

MAPPED: dict[str, list[tuple[list[str], str, Any]]] = {
    "weight_decay": [(["weight_decay=0.1"], "train.optimizer.weight_decay", 0.1)],
    "learning_rate": [(["learning_rate=3e-4"], "train.optimizer.lr", 3e-4)],
    "gradient_accumulation_steps": [(["gradient_accumulation_steps=4"], "train.batch_size", 32)],
    "max_train_steps": [(["max_train_steps=500"], "train.duration", "500 steps")],
    "lr_scheduler_type": [
        (["lr_scheduler_type=cosine"], "train.schedule.kind", "cosine"),
        (["lr_scheduler_type=cosine_with_restarts"], "train.schedule.num_cycles", 1),
        (["lr_scheduler_type=polynomial"], "train.schedule.lr_end", 1e-7),
        (["lr_scheduler_type=constant"], "train.schedule.warmup", "0 steps"),
    ],
    "num_warmup_steps": [(["num_warmup_steps=1"], "train.schedule.warmup", "1 step")],
    "seed": [(["seed=7"], "train.seed", 7)],
    "model_name": [(["model_name=gpt2-xl"], "model.pretrained", "gpt2-xl")],
    "start_with_eval": [(["start_with_eval=true"], "train.evaluate_first", True)],
    "extra_steps_to_eval_save_at": [
        (["extra_steps_to_eval_save_at=[2,100]"], "train.evaluate_at", (2, 100)),
        (["extra_steps_to_eval_save_at=[2,100]"], "train.checkpoint.at_steps", (2, 100)),
        (["extra_steps_to_eval_save_at=[]"], "train.checkpoint.at_steps", None),
    ],
    "evaluation_strategy": [
        (["evaluation_strategy=NO"], "train.evaluate_every", "100000 steps"),
        # a stream has a million rows there: 62,500 steps an epoch, so two epochs
        (["evaluation_strategy=EPOCH"], "train.evaluate_every", "16666 steps"),
    ],
    "eval_steps": [(["eval_steps=50"], "train.evaluate_every", "50 steps")],
    "eval_num_per_epoch": [
        (["evaluation_strategy=EPOCH", "eval_num_per_epoch=5"], "train.evaluate_every", "10000 steps")
    ],
    "save_strategy": [
        (["save_strategy=NO"], "train.checkpoint.every", "never"),
        (["save_strategy=epoch"], "train.checkpoint.every", "16666 steps"),
    ],
    "save_steps": [(["save_steps=10"], "train.checkpoint.every", "10 steps")],
    "save_num_per_epoch": [(["save_strategy=EPOCH", "save_num_per_epoch=5"], "train.checkpoint.every", "10000 steps")],
    "do_eval": [
        (["do_eval=false"], "data.validation.kind", "none"),
        (["do_eval=false"], "train.evaluate_every", None),
    ],
    "gradient_checkpointing": [(["gradient_checkpointing=false"], "train.gradient_checkpointing", False)],
    D + "experiment": [
        ([D + "experiment=without_metadata"], "data.chunks", "fixed"),
        ([D + "experiment=without_metadata"], "metadata.types", None),
        ([D + "experiment=with_metadata"], "data.chunks", None),
        ([D + "experiment=sample"], "data.train.name", "Salesforce/wikitext"),
        ([D + "experiment=sample"], "tokens.max_length", 512),
    ],
    D + "per_device_train_batch_size": [([D + "per_device_train_batch_size=2"], "train.batch_size", 32)],
    D + "dataset_name": [
        ([D + "dataset_name=a/b", D + "validation_file=null"], "data.train.files", ("hf://datasets/a/b/*.jsonl.gz",))
    ],
    D + "dataset_config_name": [
        (
            [
                *(D + "experiment=with_metadata", D + "train_file=null", D + "validation_file=null"),
                *(D + "dataset_name=a/b", D + "dataset_config_name=c"),
            ],
            "data.train.config",
            "c",
        )
    ],
    D + "train_file": [([D + "train_file=one.jsonl.gz"], "data.train.files", ("shards/one.jsonl.gz",))],
    D + "validation_file": [
        ([], "data.validation.files", ("shards/held-out.jsonl.gz",)),
        ([D + "validation_file=null"], "data.validation.kind", "none"),
    ],
    D + "extension": [
        ([D + "extension=json", D + "train_file=part-*"], "data.train.format", "jsonl"),
        ([D + "extension=json"], "data.train.format", None),  # the names of the files tell it
    ],
    D + "validation_split_percentage": [
        (
            [
                *(D + "experiment=with_metadata", D + "streaming=false", D + "validation_file=null"),
                D + "validation_split_percentage=10",
            ],
            "data.validation.ratio",
            0.1,
        )
    ],
    D + "validation_size_max": [
        ([D + "validation_size_max=64"], "data.validation.take", 64),
        ([D + "validation_size_max=64"], "data.validation.by_type_rows", 64),
    ],
    D + "streaming": [
        ([D + "experiment=with_metadata_datasetv2", D + "streaming=false"], "data.train.kind", "files"),
        ([D + "streaming=false"], "data.train.kind", "stream"),  # which this experiment does in any case
    ],
    M + "metadata_list": [
        ([M + "metadata_list=[title,html]"], "metadata.types", ("title", "html")),
        ([M + "metadata_list=[length]"], "metadata.types", ("generation_length_text",)),
        ([M + "metadata_list=[]"], "metadata.types", None),
    ],
    M + "metadata_column_list": [
        ([M + "metadata_column_list=[html,title]"], "metadata.types", ("html", "title")),
        ([M + "metadata_column_list=[html,title]"], "data.validation.by_type", ("html", "title")),
        (
            [M + "metadata_list=[length]", M + "metadata_column_list=[generation_length_sentence]"],
            "metadata.types",
            ("generation_length_sentence",),
        ),
    ],
    M + "local_metadata_special_tokens": [
        (
            [M + "local_metadata_special_tokens={html:page}"],
            "metadata.type_tokens",
            {"entity_paragraph": "entity", "html": "page"},
        )
    ],
    M + "metadata_sep": [([M + "metadata_sep='; '"], "metadata.separator", "; ")],
    M + "metadata_key_value_sep": [([M + "metadata_key_value_sep='= '"], "metadata.key_value_separator", "= ")],
    M + "metadata_prefix_sep": [([M + "metadata_prefix_sep=' >>>'"], "metadata.prefix_separator", " >>>")],
    M + "metadata_prefix_start_seq": [([M + "metadata_prefix_start_seq=' '"], "metadata.prefix_start", " ")],
    M + "random_sample_metadata": [([M + "random_sample_metadata=false"], "metadata.sampling.kind", "all")],
    M + "random_sample_metadata_calculate_size": [
        (
            [M + "random_sample_metadata_weights=null", M + "random_sample_metadata_calculate_size=100"],
            "metadata.sampling.count_rows",
            100,
        )
    ],
    M + "random_sample_metadata_weights": [
        ([M + "random_sample_metadata_weights=null"], "metadata.sampling.weights", "counts"),
        (
            [f"~{M}random_sample_metadata_weights", M + "random_sample_metadata_weights={html:2,title:3,other:4}"],
            "metadata.sampling.weights",
            {"title": 3.0},
        ),
    ],
    M + "metadata_probability": [([M + "metadata_probability=0.9"], "metadata.sampling.probability", 0.9)],
    M + "treat_local_metadata_as_regular_text": [
        ([M + "treat_local_metadata_as_regular_text=false"], "metadata.score_inline", False)
    ],
    M + "add_local_metadata_special_tokens_in_prefix": [
        ([M + "add_local_metadata_special_tokens_in_prefix=false"], "metadata.types_in_prefix", False),
        ([M + "add_local_metadata_special_tokens_in_prefix=false"], "metadata.type_tokens", None),
    ],
    M + "entity_setting": [([M + "entity_setting=end"], "metadata.entity_position", "end")],
    M + "local_metadata_special_token_start": [
        (
            [M + "local_metadata_special_token_start.html=<H>"],
            "metadata.wraps",
            {"entity_paragraph": ["<ENTITY_CHAIN>", " </ENTITY_CHAIN> "], "html": ["<H>", "</HTML>"]},
        ),
        (
            [M + "local_metadata_special_token_start.html=<H>"],
            "model.added_tokens",
            ("<ENTITY_CHAIN>", " </ENTITY_CHAIN> ", "<H>", "</HTML>"),
        ),
    ],
    M + "local_metadata_special_token_end": [
        (
            [M + "local_metadata_special_token_end.html=</H>"],
            "model.added_tokens",
            ("<ENTITY_CHAIN>", " </ENTITY_CHAIN> ", "<HTML>", "</H>"),
        )
    ],
    M + "local_metadata_special_token_state": [
        ([M + "local_metadata_special_token_state=false"], "model.added_tokens", None)
    ],
    M + "html_overall_sample_rate": [
        ([], "metadata.sampling.html_rate", 0.25),
        ([M + "html_overall_sample_rate=0"], "metadata.sampling.html_rate", 0.0),
        ([M + "html_overall_sample_rate=1"], "metadata.sampling.html_rate", None),  # drawn as the others, as there
        ([M + "metadata_list=[html]", M + "html_overall_sample_rate=1"], "metadata.sampling.weights", {"html": 1.0}),
        ([M + "metadata_list=[html]"], "metadata.sampling.kind", "all"),  # no other type is left to be drawn
        ([M + "metadata_list=[title]"], "metadata.sampling.html_rate", None),
    ],
    M + "max_seq_len": [([M + "max_seq_len=128"], "tokens.max_length", 128)],
    R + "attributes_to_keep": [
        ([R + "attributes_to_keep=[href]"], "metadata.html.attributes", ("href",)),
        ([R + "attributes_to_keep=null"], "metadata.html.attributes", None),
    ],
    R + "txt_max_chr_len": [
        ([R + "txt_max_chr_len=5"], "metadata.html.drop_all_lengths", (0, 5)),
        ([R + "txt_max_chr_len=-inf"], "metadata.html.drop_all_lengths", None),
    ],
    R + "txt_min_chr_len": [
        ([R + "txt_min_chr_len=2", R + "txt_max_chr_len=5"], "metadata.html.drop_all_lengths", (2, 5))
    ],
    R + "tags_exceptions_to_txt_max_min_chr_len": [
        ([R + "tags_exceptions_to_txt_max_min_chr_len=[td]"], "metadata.html.keep", ("td",)),
        ([R + "tags_exceptions_to_txt_max_min_chr_len=[]"], "metadata.html.keep", ()),
    ],
    H + "tags_to_remove_alone_tag_name": [([H + "tags_to_remove_alone_tag_name=[p]"], "metadata.html.drop", ("p",))],
    H + "tags_to_remove_alone_txt_max_chr_len": [
        ([H + "tags_to_remove_alone_txt_max_chr_len=[9]"], "metadata.html.drop_lengths", {"body": [0, 9]})
    ],
    H + "tags_to_remove_alone_txt_min_chr_len": [
        (
            [H + "tags_to_remove_alone_txt_min_chr_len=[3]", H + "tags_to_remove_alone_txt_max_chr_len=[9]"],
            "metadata.html.drop_lengths",
            {"body": [3, 9]},
        )
    ],
}
"""Of each key: words, and what they make of a key of ours. Some keys have a test of their own below."""
ELSEWHERE = {"out_dir", "resume_from_checkpoint_dir", "do_train", M + "without_metadata_same_context"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with shards, beside which everything runs."""
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "shards", "one.jsonl.gz", "held-out.jsonl.gz")
    return tmp_path


def converted(*words: str, **options: Any) -> Foreign:
    """The Hydra configuration's numbers count, so that each key shows what it does."""
    usual = [D + "dataset_name=shards", D + "validation_file=held-out.jsonl.gz"]
    return v2(*usual, *words, **{"prefer": "config", "processes": 1, **options})


def test_every_key_is_mapped_or_named_as_one_that_changes_nothing() -> None:
    unused = {key for key, known in KEYS.items() if known.unused}
    assert set(MAPPED) | unused | ELSEWHERE == set(KEYS)
    assert not unused & (set(MAPPED) | ELSEWHERE)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        pytest.param(*case, id=f"{name}-{number}")
        for name, cases in MAPPED.items()
        for number, case in enumerate(cases)
    ],
)
def test_a_key_becomes_a_line(words: list[str], key: str, expected: Any) -> None:
    assert value(converted(*words), key) == expected


OTHER = {str: "other", int: 3, bool: "true"}


@pytest.mark.parametrize("key", [key for key, known in KEYS.items() if known.unused])
def test_a_key_that_changes_nothing_is_named_with_the_reason(key: str) -> None:
    other = {
        "project_name": "p",
        "jobid": "7",
        D + "cache_dir": "c",
        D + "overwrite_cache": "true",
    }.get(key, "3")
    changed = converted(f"{key}={other}")
    assert changed.tree == converted().tree
    [reason] = [one.reason for one in changed.left_out if one.key.startswith(key.rpartition(".")[2] + " (")]
    assert reason == KEYS[key].unused


def test_what_the_dataclasses_say_where_the_file_is_silent(folder: Path) -> None:
    (folder / "short.yaml").write_text("max_train_steps: 10\ndata_config: {experiment: sample}\n")
    from textune.adapters.bsmetadata.convert import convert_bsmetadata

    foreign = convert_bsmetadata(folder / "short.yaml")
    expected = {
        "model.pretrained": "gpt2",
        "train.duration": "10 steps",
        "train.batch_size": 2,
        "train.seed": 42,
        "train.gradient_checkpointing": False,
        "train.precision": "fp32",
        "train.max_grad_norm": 0.0,
        "train.optimizer.lr": 5e-5,
        "train.optimizer.weight_decay": 0.0,
        "train.optimizer.beta2": 0.98,
        "train.optimizer.eps": 1e-6,
        "train.schedule.kind": "linear",
        "train.schedule.warmup": "1000 steps",
        "train.evaluate_every": "100 steps",
        "train.checkpoint.every": "500 steps",
        "train.distributed.kind": "ddp",
    }
    assert {key: value(foreign, key) for key in expected} == expected
    assert foreign.run == "output_dir"


ZERO: list[tuple[dict[str, Any], str, Any]] = [
    ({"gradient_clipping": 0.5}, "train.max_grad_norm", 0.5),
    ({"gradient_clipping": "auto"}, "train.max_grad_norm", 1.0),
    ({"gradient_clipping": None}, "train.max_grad_norm", 0.0),
    ({"optimizer.params.betas": [0.8, 0.95]}, "train.optimizer.beta1", 0.8),
    ({"optimizer.params.betas": [0.8, 0.95]}, "train.optimizer.beta2", 0.95),
    ({"optimizer.params.eps": 1e-7}, "train.optimizer.eps", 1e-7),
    ({"optimizer.params.eps": None}, "train.optimizer.eps", 1e-8),
    ({"optimizer.params.weight_decay": 0.3}, "train.optimizer.weight_decay", 0.3),
    ({"optimizer.type": "Adam"}, "train.optimizer.kind", "adamw"),
    ({"optimizer.params.lr": 2e-4, "scheduler.params.warmup_max_lr": None}, "train.optimizer.lr", 2e-4),
    ({"scheduler.params.warmup_max_lr": 3e-4}, "train.optimizer.lr", 3e-4),
    ({"scheduler.params.warmup_num_steps": 10}, "train.schedule.warmup", "10 steps"),
    ({"scheduler.params.total_num_steps": 10}, "train.duration", "10 steps"),
    ({"scheduler.type": "WarmupLR"}, "train.schedule.kind", "constant_with_warmup"),
    ({"scheduler.type": "WarmupCosineLR"}, "train.schedule.kind", "cosine"),
    ({"fp16.enabled": False}, "train.precision", "fp32"),
    ({"fp16.enabled": False, "bf16.enabled": True}, "train.precision", "bf16"),
    ({"zero_optimization.stage": 3}, "train.distributed.stage", 3),
    ({"zero_optimization.stage": 0}, "train.distributed.kind", "ddp"),
    ({"zero_optimization.cpu_offload": False}, "train.distributed.cpu_offload", None),
    (
        {"zero_optimization.cpu_offload": None, "zero_optimization.offload_optimizer.device": "cpu"},
        "train.distributed.cpu_offload",
        True,
    ),
    (
        {"zero_optimization.cpu_offload": None, "zero_optimization.offload_param.device": "cpu"},
        "train.distributed.cpu_offload",
        True,
    ),
    ({"train_batch_size": 512}, "train.batch_size", 512),
    ({"train_micro_batch_size_per_gpu": 4}, "train.batch_size", 256),
    ({"gradient_accumulation_steps": 8}, "train.batch_size", 256),
]


@pytest.mark.every_day(5)
@pytest.mark.parametrize(("changes", "key", "expected"), ZERO)
def test_a_key_of_the_deepspeed_file_becomes_a_line(
    folder: Path, changes: dict[str, Any], key: str, expected: Any
) -> None:
    assert value(v2(deepspeed=zero_file(folder, **changes)), key) == expected


def test_every_key_of_the_deepspeed_file_has_a_test_or_is_named() -> None:
    tested = {key for changes, *_ in ZERO for key in changes}
    only_one_value = {
        "optimizer.params.adam_w_mode",
        "scheduler.params.warmup_min_lr",
        "scheduler.params.warmup_type",
        "scheduler.params.warmup_min_ratio",
        "scheduler.params.cos_min_ratio",
    }
    assert tested | only_one_value == USED
    assert not USED & set(UNUSED)


def test_deepspeed_itself_knows_every_key() -> None:
    from textune.training.sharing.zero.keys import KNOWN

    for key in {*USED, *UNUSED}:
        section, _, name = key.rpartition(".")
        assert section not in KNOWN or name in KNOWN[section], key
