"""What is trained: tiny random backbones, small generated data, and what each run is trained with."""

from __future__ import annotations

import csv
import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

_SENTENCES = (
    "a and bad boring brilliant but charming dull film fine for great had how in is it life long love made more movie"
    " never"
    " not of one plot poor quite sad scene she slow so story that the their there this to was well what when who with"
    " you"
)
WORDS = _SENTENCES.split()
TOPICS = ("plot", "actors", "music", "pictures")
PRINTABLE = [chr(code) for code in range(33, 127)]

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
_DISENTANGLED = {
    "relative_attention": True,
    "position_buckets": 16,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "type_vocab_size": 0,
    "pooler_hidden_size": 32,
}
_LOCAL = {
    "num_hidden_layers": 4,
    "local_attention": 8,
    "global_attn_every_n_layers": 3,
    "initializer_cutoff_factor": 2.0,
}
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _SIZES),
    "roberta": ("RobertaConfig", {**_SIZES, "type_vocab_size": 1}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.2},
    ),
    "deberta": ("DebertaV2Config", {**_SIZES, **_DISENTANGLED}),
    "modernbert": ("ModernBertConfig", {**_SIZES, **_LOCAL}),
    "xlnet": ("XLNetConfig", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "initializer_range": 0.2}),
    "llama": ("LlamaConfig", {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}),
}
"""Name to configuration class of transformers and the keys that make it small."""


@dataclass(frozen=True)
class Run:
    """One training, by what differs from `settings_of`."""

    backbone: str
    settings: dict[str, Any]
    """Values by dotted key."""
    processes: int = 1
    """More than one are started by torchrun."""
    is_int8: bool = False
    """Whether it predicts in int8 too."""
    stops_at: int | None = None
    """Step after which a second training of it gets SIGTERM."""


_SOURCES = [
    {"files": "INPUTS/rows.csv", "where": {"label": "pos"}},
    {"files": "INPUTS/broken.csv", "take": 50, "shuffle": True},
]
_STREAM = {
    "task.kind": "binary",
    "data.train": {"kind": "stream", "files": "INPUTS/shard-*", "block_rows": 25, "num_rows": 120},
    "data.validation": {"kind": "files", "files": "INPUTS/second.csv"},
    "data.labels.names": ["neg", "pos"],
    "data.columns.weight": "weight",
}
RUNS: dict[str, Run] = {
    "binary": Run("bert", {"data.test": {"kind": "split", "count": 15}}, is_int8=True, stops_at=7),
    "one-logit": Run(
        "roberta",
        {
            "task": {"kind": "binary", "num_logits": 1, "label_smoothing": 0.1, "class_weights": "balanced"},
            "train.order": "bucket",
            "train.max_tokens": 120,
            "train.prefetch": 0,
        },
    ),
    "multiclass": Run(
        "bert",
        {
            "task": {"kind": "multiclass", "label_smoothing": 0.1, "class_weights": {"plot": 2.0, "music": 0.5}},
            "data.columns.label": "topic",
            "data.columns.weight": "weight",
            "data.on_bad_row": "skip",
            "data.train.files": "INPUTS/broken.csv",
            "evaluate.metric": "f1_macro",
            "train.gradient_checkpointing": True,
            "train.max_tokens": 200,
        },
    ),
    "multilabel": Run(
        "distilbert",
        {
            "task": {"kind": "multilabel", "class_weights": "balanced"},
            "data.columns.label": "tags",
            "data.labels.delimiter": ",",
            "train.order": "sequential",
            "train.evaluate_first": True,
        },
        is_int8=True,
    ),
    "regression": Run("deberta", {"data.columns.label": "number", "train.schedule.kind": "cosine"}),
    "sigmoid": Run(
        "modernbert",
        {
            "task": {"kind": "regression", "loss": "smooth_l1", "activation": "sigmoid"},
            "data.columns.label": "number",
            "train.order": "bucket",
        },
        is_int8=True,
    ),
    "pairs": Run(
        "bert",
        {
            "data.columns.text_pair": "pair",
            "data.columns.weight": "weight",
            "train.order": "weighted",
            "tokens.truncate": "head_tail",
            "tokens.drop_longer": 60,
            "train.compact_vocabulary": "off",
        },
    ),
    "padded": Run(
        "xlnet",
        {
            "data.columns.template": "{title}: {text}",
            "data.columns.label": "topic",
            "train.order": "bucket",
            "train.max_tokens": 300,
            "model.freeze": ["embeddings"],
            "train.max_grad_norm": 0.0,
        },
    ),
    "decoder": Run(
        "llama",
        {
            "data.train": {"kind": "concat", "sources": _SOURCES},
            "data.columns.label": "topic",
            "train.schedule.kind": "constant",
            "tokens.truncate": "tail",
        },
    ),
    "stream": Run("bert", _STREAM),
    "early": Run(
        "bert",
        {
            "data.columns.labels": ["long", "good"],
            "data.validation.group_by": "user",
            "train.compact_vocabulary": "on",
            "train.early_stopping": {"patience": 1, "threshold": 0.5},
            "train.evaluate_every": "2 steps",
            "train.checkpoint.every": "1 step",
            "model.compile": "off",
            "model.config": {"hidden_dropout_prob": 0.2},
        },
    ),
    "processes": Run("bert", {"train.order": "bucket", "train.max_tokens": 150}, processes=2),
    "sharded": Run("bert", {"train.distributed": {"kind": "fsdp"}, "data.columns.label": "topic"}, processes=2),
}


def settings_of(run: Run, inputs: Path, cache: Path) -> dict[str, Any]:
    """The values of a run by dotted key, with the paths of these inputs."""
    common = {
        "data.train.files": "INPUTS/rows.csv",
        "data.validation": {"kind": "split", "ratio": 0.2},
        "tokens.max_length": 32,
        "tokens.cache": str(cache),
        "model.pretrained": f"INPUTS/{run.backbone}",
        "train.duration": "11 steps",
        "train.batch_size": 16,
        "train.max_tokens": 2048,
        "train.precision": "fp32",
        "train.device": "cpu",
        "train.optimizer.lr": 3e-3,
        "train.log_every": "1 step",
        "train.evaluate_every": "3 steps",
        "train.checkpoint.every": "5 steps",
        "train.checkpoint.keep": "all",
        "train.checkpoint.background": False,  # where the disk is slow, one that is due may come later
        "evaluate.bootstrap": 20,
        "evaluate.mistakes": 5,
    }
    if "data.train" in run.settings:
        del common["data.train.files"]
    return {key: _placed(value, inputs) for key, value in (common | run.settings).items()}


def _placed(value: Any, inputs: Path) -> Any:
    if isinstance(value, dict):
        return {key: _placed(item, inputs) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, inputs) for item in value]
    return value.replace("INPUTS", str(inputs)) if isinstance(value, str) else value


def make_inputs(folder: Path) -> None:
    """Backbones and data, the same every time."""
    folder.mkdir(parents=True)
    rows = make_rows(120, seed=0)
    write_csv(folder / "rows.csv", rows)
    write_csv(folder / "broken.csv", [*rows[:50], {**rows[50], "topic": ""}, *rows[51:]])
    write_csv(folder / "second.csv", make_rows(40, seed=1))
    write_csv(folder / "unlabelled.csv", [{**row, "text": row["text"] + " ünïcode"} for row in make_rows(40, seed=2)])
    for number in range(3):
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows[number * 40 : number * 40 + 40])
        data = lines.encode()
        path = folder / f"shard-{number}.jsonl{'.gz' if number == 1 else ''}"
        path.write_bytes(gzip.compress(data, mtime=0) if number == 1 else data)
    for name in BACKBONES:
        make_backbone(name, folder / name)


def make_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with every kind of label, some of it to be learnt from the words."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        words = generator.choices(WORDS, k=generator.randint(1, 30))
        is_good, topic = number % 2 == 0, generator.choice(TOPICS)
        words.insert(generator.randrange(len(words)), "great" if is_good else "dull")
        words.insert(generator.randrange(len(words)), topic)
        tags = [name for name, has in (("long", len(words) > 15), ("good", is_good), ("odd", number % 7 == 0)) if has]
        rows.append(
            {
                "id": number,
                "user": f"user-{number % 17}",
                "title": f'the "{topic}", again',
                "text": " ".join(words),
                "pair": " ".join(generator.choices(WORDS, k=generator.randint(1, 12))),
                "label": "pos" if is_good else "neg",
                "topic": topic,
                "tags": ",".join(tags or ["none"]),
                "long": int(len(words) > 15),
                "good": int(is_good),
                "number": round((len(words) + generator.random()) / 40, 3),
                "weight": 0.25 + number % 5 / 2,
            }
        )
    return rows


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """A table with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_tokenizer(backbone: str) -> Any:
    """WordPiece of whole words and letters; for the decoder byte-fallback BPE of letters, without a padding token."""
    if backbone == "llama":
        specials = ["<unk>", "<s>", "</s>", *(f"<0x{code:02X}>" for code in range(256)), "▁"]
        vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*specials, *PRINTABLE]))}
        return transformers.LlamaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *PRINTABLE,
        *(f"##{letter}" for letter in PRINTABLE),
        *WORDS,
        *TOPICS,
    ]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, *WORDS, *TOPICS]))}
    with_types = {} if backbone == "bert" else {"model_input_names": ["input_ids", "attention_mask"]}
    return transformers.BertTokenizer(vocab=vocabulary, **with_types)


def make_backbone(name: str, folder: Path) -> None:
    """A random model without a head and its tokenizer, as a Hugging Face folder."""
    kind, keys = BACKBONES[name]
    tokenizer, configuration = make_tokenizer(name), getattr(transformers, kind)
    ids = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    special = {key: getattr(tokenizer, key) for key in ids if hasattr(configuration(), key)}
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(configuration(**{"vocab_size": len(tokenizer), **special, **keys}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
