"""How long a row each family of transformers can take: what is said, tried on the family itself."""

from typing import Any

import pytest
import torch
import transformers

from textune.model.positions import max_positions

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "embedding_size": 32,
    "n_layers": 1,
    "n_heads": 4,
    "dim": 32,
    "hidden_dim": 32,
    "emb_dim": 32,
    "ffn_dim": 32,
    "word_embed_proj_dim": 32,
    "d_inner": 32,
    "n_head": 4,
    "n_layer": 1,
    "pad_token_id": 1,
}
SIZES = ("max_position_embeddings", "n_positions", "max_seq_len")


def small(family: str, **keys: Any) -> Any:
    config = transformers.AutoConfig.for_model(family)
    known = {*config.to_dict(), *config.attribute_map}
    chosen = {name: value for name, value in SMALL.items() if name in known}
    chosen |= {name: 40 for name in SIZES if name in config.to_dict()}
    made = transformers.AutoConfig.for_model(family, **{**chosen, **keys})
    return transformers.AutoModelForSequenceClassification.from_config(made).eval()


def takes(hf: Any, length: int) -> bool:
    ids = torch.full((1, length), 5)
    ids[0, -1] = 2  # BART looks for an end
    try:
        with torch.no_grad():
            hf(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


TABLES = [
    *(
        "albert",
        "bart",
        "bert",
        "big_bird",
        "biogpt",
        "camembert",
        "canine",
        "convbert",
        "ctrl",
        "data2vec-text",
        "deberta",
    ),
    *(
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "esm",
        "flaubert",
        "fnet",
        "gpt2",
        "gpt_bigcode",
        "ibert",
        "mbart",
    ),
    *(
        "longformer",
        "luke",
        "megatron-bert",
        "mpnet",
        "mpt",
        "mra",
        "nystromformer",
        "openai-gpt",
        "opt",
        "plbart",
        "rembert",
    ),
    *("roberta", "roformer", "squeezebert", "xlm-roberta"),
]


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", TABLES)
def test_a_table_of_positions_takes_the_longest_row_and_no_longer_one(family: str) -> None:
    hf = small(family)
    limit = max_positions(hf)
    assert limit in (38, 40) and takes(hf, limit) and not takes(hf, limit + 1)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma2", "modernbert", "gpt_neox", "olmo2"])
def test_rotary_positions_end_where_the_backbone_has_seen_none(family: str) -> None:
    assert max_positions(small(family)) == 40


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("bloom", {}),
        ("funnel", {}),
        ("xlnet", {}),
        ("deberta", {"position_biased_input": False, "relative_attention": True}),
        ("deberta-v2", {"position_biased_input": False, "relative_attention": True, "position_buckets": 16}),
        ("falcon", {"alibi": True}),
    ],
)
def test_relative_positions_have_no_limit(family: str, keys: dict[str, Any]) -> None:
    hf = small(family, **keys)
    assert max_positions(hf) is None and takes(hf, 100)
