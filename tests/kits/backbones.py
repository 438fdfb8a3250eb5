"""Tiny random backbones with real fast tokenizers, one for each family: plain Hugging Face folders, written in
milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers.utils import logging

from textune.model.native.libraries import KernelError, load_library

_SPELT_OUT = (
    "a an and any are as at bad be boring brilliant but by charming comedy could dull every film fine for from funny"
    " good "
    "great had has have he her his how i in is it its life like long love made more most movie much never no not of"
    " on one "
    "only or out plot poor quite really sad scene she slow so some story than that the their there they this time to"
    " too "
    "very was well what when who will with without work worst you "
)
WORDS: tuple[str, ...] = tuple(_SPELT_OUT.split())
"""Words of one token each (in their most common form); everything else is spelt with characters or bytes."""

PRINTABLE = tuple(chr(code) for code in range(33, 127))


@dataclass(frozen=True)
class Family:
    """How a family's tokenizer and configuration are made."""

    config: str
    """Name of the configuration class in transformers."""
    tokenizer: Callable[[Sequence[str]], Any]
    """Words to tokenizer."""
    keys: dict[str, Any] = field(default_factory=dict)
    """Configuration keys."""


# --- tokenizers, each in its family's own style ----------------------------------------------------------------------


def _wordpiece(words: Sequence[str], specials: Sequence[str]) -> dict[str, int]:
    pieces = [*specials, *PRINTABLE, *(f"##{letter}" for letter in PRINTABLE), *words]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def _unigram(words: Sequence[str], specials: Sequence[str]) -> list[tuple[str, float]]:
    whole = {f"▁{word}": -3.0 for word in words}
    letters = {"▁": -6.0} | {letter: -8.0 for letter in PRINTABLE}
    return [*((special, 0.0) for special in specials), *(whole | letters).items()]


def _bpe(words: Sequence[str], start: Sequence[str], space: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges that spell each word, with `space` before it, from left to right."""
    vocab = {token: index for index, token in enumerate(dict.fromkeys(start))}
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        letters = [space, *word]
        left = letters[0]
        for right in letters[1:]:
            merges[(left, right)] = None
            left += right
            vocab.setdefault(left, len(vocab))
    return vocab, list(merges)


def _byte_level(words: Sequence[str], specials: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    return _bpe(words, [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())], "Ġ")


def _byte_fallback(words: Sequence[str], specials: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    return _bpe(words, [*specials, *(f"<0x{code:02X}>" for code in range(256)), "▁", *PRINTABLE], "▁")


def _bert(words: Sequence[str]) -> Any:
    return transformers.BertTokenizer(vocab=_wordpiece(words, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))


def _distilbert(words: Sequence[str]) -> Any:
    vocab = _wordpiece(words, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return transformers.BertTokenizer(vocab=vocab, model_input_names=["input_ids", "attention_mask"])


def _mpnet(words: Sequence[str]) -> Any:
    return transformers.MPNetTokenizer(vocab=_wordpiece(words, ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]))


def _roberta(words: Sequence[str]) -> Any:
    vocab, merges = _byte_level(words, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return transformers.RobertaTokenizer(vocab=vocab, merges=merges)


def _xlm_roberta(words: Sequence[str]) -> Any:
    return transformers.XLMRobertaTokenizer(vocab=_unigram(words, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))


def _camembert(words: Sequence[str]) -> Any:
    specials = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "<mask>"]
    return transformers.CamembertTokenizer(vocab=_unigram(words, specials))


def _albert(words: Sequence[str]) -> Any:
    return transformers.AlbertTokenizer(vocab=_unigram(words, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]))


def _deberta(words: Sequence[str]) -> Any:
    return transformers.DebertaV2Tokenizer(vocab=_unigram(words, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]))


def _t5(words: Sequence[str]) -> Any:
    return transformers.T5Tokenizer(vocab=_unigram(words, ["<pad>", "</s>", "<unk>"]), extra_ids=0)


def _xlnet(words: Sequence[str]) -> Any:
    specials = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    return transformers.XLNetTokenizer(vocab=_unigram(words, specials))


def _modernbert(words: Sequence[str]) -> Any:
    """Byte-level BPE, trained here, between [CLS] and [SEP], without token types."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(words)] * 2, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], **names
    )


def _gpt2(words: Sequence[str]) -> Any:
    vocab, merges = _byte_level(words, ["<|endoftext|>"])
    return transformers.GPT2Tokenizer(vocab=vocab, merges=merges)


def _llama(words: Sequence[str]) -> Any:
    vocab, merges = _byte_fallback(words, ["<unk>", "<s>", "</s>"])
    return transformers.LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)


def _qwen(words: Sequence[str]) -> Any:
    vocab, merges = _byte_level(words, ["<|endoftext|>"])
    return transformers.Qwen2Tokenizer(vocab=vocab, merges=merges)


def _gemma(words: Sequence[str]) -> Any:
    vocab, merges = _byte_fallback(words, ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    return transformers.GemmaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)


# --- families --------------------------------------------------------------------------------------------------------

_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
_ROBERTA = {**_ENCODER, "max_position_embeddings": 514, "type_vocab_size": 1}
_DECODER = {**_ENCODER, "num_key_value_heads": 2, "head_dim": 8}
_QWEN = {**_DECODER, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}

FAMILIES: dict[str, Family] = {
    "bert": Family("BertConfig", _bert, _ENCODER),
    "roberta": Family("RobertaConfig", _roberta, _ROBERTA),
    "xlm-roberta": Family("XLMRobertaConfig", _xlm_roberta, _ROBERTA),
    "camembert": Family("CamembertConfig", _camembert, _ROBERTA),
    "ernie": Family("ErnieConfig", _bert, _ENCODER),
    "electra": Family("ElectraConfig", _bert, {**_ENCODER, "embedding_size": 16}),
    "albert": Family("AlbertConfig", _albert, {**_ENCODER, "embedding_size": 16}),
    "distilbert": Family(
        "DistilBertConfig",
        _distilbert,
        {
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
        },
    ),
    "modernbert": Family(
        "ModernBertConfig",
        _modernbert,
        {
            **_ENCODER,
            "num_hidden_layers": 4,
            "local_attention": 8,
            "global_attn_every_n_layers": 3,
            "initializer_cutoff_factor": 2.0,
        },
    ),
    "gpt2": Family(
        "GPT2Config",
        _gpt2,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.2},
    ),
    "llama": Family("LlamaConfig", _llama, _DECODER),
    "mistral": Family("MistralConfig", _llama, {**_DECODER, "sliding_window": 6}),
    "gemma": Family("GemmaConfig", _gemma, _DECODER),
    "gemma2": Family("Gemma2Config", _gemma, {**_DECODER, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "qwen2": Family("Qwen2Config", _qwen, {key: value for key, value in _QWEN.items() if key != "head_dim"}),
    "qwen3": Family("Qwen3Config", _qwen, _QWEN),
    "gemma3": Family(
        "Gemma3TextConfig",
        _gemma,
        {
            **_DECODER,
            "num_hidden_layers": 3,
            "sliding_window": 6,
            "sliding_window_pattern": 3,
            "query_pre_attn_scalar": 8,
        },
    ),
    "data2vec-text": Family("Data2VecTextConfig", _roberta, _ROBERTA),
    "roberta-prelayernorm": Family("RobertaPreLayerNormConfig", _roberta, _ROBERTA),
    "xlm-roberta-xl": Family("XLMRobertaXLConfig", _xlm_roberta, _ROBERTA),
    "gte": Family("GteConfig", _bert, _ENCODER),
    "nomic_bert": Family("NomicBertConfig", _bert, _ENCODER),
    "jina_embeddings_v3": Family("JinaEmbeddingsV3Config", _xlm_roberta, {**_ENCODER, "type_vocab_size": 1}),
    "eurobert": Family("EuroBertConfig", _llama, _DECODER),
    "modernbert-decoder": Family(
        "ModernBertDecoderConfig",
        _modernbert,
        {
            **_ENCODER,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "num_hidden_layers": 3,
            "local_attention": 8,
            "global_attn_every_n_layers": 3,
            "initializer_cutoff_factor": 2.0,
        },
    ),
    "bart": Family(
        "BartConfig",
        _roberta,
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 512,
            "init_std": 0.2,
        },
    ),
    "mpnet": Family("MPNetConfig", _mpnet, {**_ENCODER, "max_position_embeddings": 514}),
    "deberta-v2": Family(
        "DebertaV2Config",
        _deberta,
        {
            **_ENCODER,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "type_vocab_size": 0,
            "pooler_hidden_size": 32,
        },
    ),
    "t5": Family(
        "T5Config",
        _t5,
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
    ),
    "xlnet": Family(
        "XLNetConfig",
        _xlnet,
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "initializer_range": 0.2},
    ),
}
"""Family name to recipe; 32 wide, four heads."""

_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")


def tiny_tokenizer(family: str, words: Sequence[str] = WORDS) -> Any:
    """A fast tokenizer in the style of `family`; gpt2 and llama have no pad token, like the real ones."""
    return FAMILIES[family].tokenizer(words)


def tiny_backbone(
    family: str | Family, folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS, **keys: Any
) -> Path:
    """Write a random backbone without a head (config, safetensors, tokenizer) into `folder` and return it.

    `keys` are configuration keys, such as `hidden_dropout_prob=0.0`; the weights depend on `seed` alone.
    """
    recipe = FAMILIES[family] if isinstance(family, str) else family
    tokenizer = recipe.tokenizer(words)
    kind = getattr(transformers, recipe.config)
    special = {key: getattr(tokenizer, key) for key in _SPECIAL_IDS if hasattr(kind(), key)}
    config = kind(**{"vocab_size": len(tokenizer), **special, **recipe.keys, **keys})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        if had_bars:
            logging.enable_progress_bar()
    return folder


def why_no_kernels() -> str:
    """Why there are no compiled kernels here; empty where there are."""
    try:
        load_library()
    except KernelError as error:
        return str(error)
    return ""
