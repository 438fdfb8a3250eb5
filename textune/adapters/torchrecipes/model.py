"""`model`, `tokens` and the labels of a run of torchrecipes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator

from textune.adapters.foreign import Line
from textune.adapters.torchrecipes.given import Settings, require_keys, shown
from textune.config import refuse

MODEL = "module.model"
_TORCHTEXT = (
    "torchtext.models.RobertaBundle.build_model",
    "torchtext.models.roberta.bundler.RobertaBundle.build_model",
)
_ENCODER = {
    "vocab_size": 250002,
    "embedding_dim": 768,
    "ffn_dimension": 3072,
    "padding_idx": 1,
    "max_seq_len": 514,
    "num_attention_heads": 12,
    "num_encoder_layers": 12,
    "dropout": 0.1,
    "scaling": None,
    "normalize_before": False,
}
_HEAD = {"num_classes": 2, "input_dim": 768, "inner_dim": None, "dropout": 0.1}
_BACKBONES = {
    "xlmr.base.encoder.pt": ("FacebookAI/xlm-roberta-base", (250002, 768, 3072, 12, 12)),
    "xlmr.large.encoder.pt": ("FacebookAI/xlm-roberta-large", (250002, 1024, 4096, 16, 24)),
    "roberta.base.encoder.pt": ("FacebookAI/roberta-base", (50265, 768, 3072, 12, 12)),
    "roberta.large.encoder.pt": ("FacebookAI/roberta-large", (50265, 1024, 4096, 16, 24)),
    "roberta.distilled.encoder.pt": ("distilbert/distilroberta-base", (50265, 768, 3072, 12, 6)),
}
"""By the name of torchtext's file of weights: the same weights on the hub, and the sizes of the encoder."""
_SIZES = ("vocab_size", "embedding_dim", "ffn_dimension", "num_attention_heads", "num_encoder_layers")
_TRANSFORM = "transform.transform"
_TEXT_TRANSFORM = (
    "torchrecipes.text.doc_classification.transform.doc_classification_text_transform.DocClassificationTextTransform"
)
TINY = "package:textune/presets/tiny/xlmr"
_TOKENIZERS = {
    "xlmr.sentencepiece.bpe.model": "FacebookAI/xlm-roberta-base",
    "xlmr.sentencepiece_example.bpe.model": TINY,
    "spm_example.model": TINY,
}
"""By the name of torchtext's file of pieces: the same tokenizer, or for its example one of the same size."""
LONGEST = 256
"""Tokens that torchtext's transform keeps, with those that begin and end a row."""
_POSITIONS_BEFORE_THE_FIRST = 2
"""Rows of XLM-R's table of positions that no token uses."""


def model_lines(settings: Settings, notes: list[str]) -> Iterator[Line]:
    """`model` and `tokens`; ConfigError where a model cannot be had."""
    target = settings.target(MODEL)
    tokenizer, said = _tokenizer(settings)
    if target is not None and target not in _TORCHTEXT:
        yield from _own_model(settings, target, tokenizer, said)
        yield Line("tokens.max_length", LONGEST, "254 tokens, and those that begin and end a row")
        return
    require_keys(settings, MODEL, ["encoder_conf", "head", "freeze_encoder", "checkpoint", "load_state_dict"])
    require_keys(settings, f"{MODEL}.encoder_conf", _ENCODER)
    require_keys(settings, f"{MODEL}.head", _HEAD)
    _refuse_what_differs(settings)
    checkpoint = settings[f"{MODEL}.checkpoint"]
    if checkpoint is None:
        yield from _new_model(settings, notes)
        yield Line("model.tokenizer", tokenizer, said)
    else:
        yield from _pretrained(settings, str(checkpoint), tokenizer, said, notes)
    if settings[f"{MODEL}.freeze_encoder"]:
        parts = "roberta.*" if checkpoint is None else "backbone"
        yield Line("model.freeze", parts, settings.origin(f"{MODEL}.freeze_encoder"))
    positions = _encoder(settings, "max_seq_len")
    assert isinstance(positions, int | float)  # a number: checked above
    length = min(LONGEST, int(positions) - _POSITIONS_BEFORE_THE_FIRST)
    of_model = f", of which {MODEL}.encoder_conf.max_seq_len leaves {length}" if length < LONGEST else ""
    yield Line("tokens.max_length", length, f"254 tokens, and those that begin and end a row{of_model}")


def _encoder(settings: Settings, name: str) -> object:
    found = settings[f"{MODEL}.encoder_conf.{name}"]
    return _ENCODER[name] if found is None else found


def _refuse_what_differs(settings: Settings) -> None:
    """What no model of transformers has."""
    problems = []
    width, heads = _encoder(settings, "embedding_dim"), _encoder(settings, "num_attention_heads")
    scaling = _encoder(settings, "scaling")
    for name in _ENCODER:
        value = _encoder(settings, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in ("scaling", "normalize_before") and not is_number:
            problems.append(settings.problem(f"{MODEL}.encoder_conf.{name}", "expected a number"))
    refuse(problems)
    assert isinstance(width, int) and isinstance(heads, int)
    if isinstance(scaling, int | float) and not math.isclose(scaling, 1 / math.sqrt(width / heads), rel_tol=1e-6):
        key = f"{MODEL}.encoder_conf.scaling"
        reason = "attention is scaled by 1 / sqrt(dimensions of a head)"
        problems.append(settings.problem(key, reason, "Leave it out."))
    if _encoder(settings, "normalize_before"):
        key = f"{MODEL}.encoder_conf.normalize_before"
        reason = "XLM-R normalises after each sum"
        hint = "Leave it out, or name a model of your own: module.model._target_."
        problems.append(settings.problem(key, reason, hint))
    refuse(problems)


def _dropouts(settings: Settings) -> dict[str, object]:
    """What transformers calls the rates of dropout."""
    rate = _encoder(settings, "dropout")
    head = settings[f"{MODEL}.head.dropout"]
    return {
        "hidden_dropout_prob": rate,
        "attention_probs_dropout_prob": rate,
        "classifier_dropout": _HEAD["dropout"] if head is None else head,
    }


def _new_model(settings: Settings, notes: list[str]) -> Iterator[Line]:
    """A model whose weights are drawn: XLM-R's class with the sizes of the encoder."""
    names = {
        "vocab_size": "vocab_size",
        "embedding_dim": "hidden_size",
        "ffn_dimension": "intermediate_size",
        "padding_idx": "pad_token_id",
        "max_seq_len": "max_position_embeddings",
        "num_attention_heads": "num_attention_heads",
        "num_encoder_layers": "num_hidden_layers",
    }
    yield Line("model.kind", "python", f"{settings.origin(f'{MODEL}.checkpoint')}: all weights are new")
    yield Line("model.object", "transformers:XLMRobertaForSequenceClassification", f"{MODEL}._target_")
    options = {ours: _encoder(settings, theirs) for theirs, ours in names.items()}
    options |= {"type_vocab_size": 1, **_dropouts(settings)}
    for name, value in options.items():
        yield Line(
            f"model.options.{name}", value, f"{MODEL}.encoder_conf" if "classifier" not in name else f"{MODEL}.head"
        )
    notes.append(_head_note())


def _head_note() -> str:
    return (
        "The head is that of transformers' XLM-R, a layer as wide as the encoder and tanh, so that plain transformers"
        " opens the model; torchtext's is inner_dim wide and has ReLU."
    )


def _pretrained(settings: Settings, checkpoint: str, tokenizer: str, said: str, notes: list[str]) -> Iterator[Line]:
    key = f"{MODEL}.checkpoint"
    file = checkpoint.rpartition("/")[2]
    known = _BACKBONES.get(file)
    if known is None:
        _refuse_pickles(settings, key, checkpoint)
        yield Line("model.pretrained", checkpoint, settings.origin(key))
        name = checkpoint
    else:
        name, sizes = known
        _require_sizes(settings, file, sizes)
        yield Line("model.pretrained", name, f"{settings.origin(key)}: the same weights on the hub")
        notes.append(_head_note())
    if tokenizer != name and (known is not None or tokenizer not in _TOKENIZERS.values()):
        yield Line("model.tokenizer", tokenizer, said)
    for option, rate in _dropouts(settings).items():
        table = "head" if option.startswith("classifier") else "encoder_conf"
        yield Line(f"model.config.{option}", rate, f"{MODEL}.{table}.dropout = {shown(rate)}")


def _refuse_pickles(settings: Settings, key: str, checkpoint: str) -> None:
    if checkpoint.endswith((".pt", ".pth", ".ckpt", ".bin")):
        close = ", ".join(_BACKBONES)
        hint = f"Known are {close}; otherwise name a folder of transformers with model.safetensors, or a hub name."
        refuse([settings.problem(key, "such files are pickled, which textune never reads", hint)])


def _require_sizes(settings: Settings, file: str, sizes: tuple[int, ...]) -> None:
    """ConfigError where an encoder is not the one that the weights are of."""
    problems = []
    for name, size in zip(_SIZES, sizes, strict=True):
        if _encoder(settings, name) != size:
            key = f"{MODEL}.encoder_conf.{name}"
            hint = f"Set it to {size}, or {MODEL}.checkpoint to null for new weights."
            problems.append(settings.problem(key, f"{file} has {size}", hint))
    refuse(problems)


def _tokenizer(settings: Settings) -> tuple[str, str]:
    """The tokenizer, and what it was made of; ConfigError for a transform of another kind."""
    target = settings.target(_TRANSFORM)
    if target not in (None, _TEXT_TRANSFORM):
        hint = (
            "Save what it does as a tokenizer of transformers, and name that folder in"
            f" {_TRANSFORM}.spm_model_path, with {_TRANSFORM}._target_={_TEXT_TRANSFORM}."
        )
        reason = "texts are tokenised once and kept, which takes a tokenizer that can be saved"
        refuse([settings.problem(f"{_TRANSFORM}._target_", reason, hint)])
    known = ["vocab_path", "spm_model_path", "text_column", "token_ids_column", "pad_idx"]
    require_keys(settings, _TRANSFORM, known)
    key = f"{_TRANSFORM}.spm_model_path"
    path = settings[key]
    if path is None:
        return _TOKENIZERS["xlmr.sentencepiece.bpe.model"], "the tokenizer of XLM-R"
    name = str(path).rpartition("/")[2]
    if name in _TOKENIZERS:
        size = "" if _TOKENIZERS[name] != TINY else ", the example: a tokenizer of its size"
        return _TOKENIZERS[name], f"{settings.origin(key)}{size}"
    if str(path).endswith((".model", ".spm")):
        code = f"from transformers import XLMRobertaTokenizer as T; T({str(path)!r}).save_pretrained('my-tokenizer')"
        hint = f"Save it as a tokenizer: python -c {shlex.quote(code)}, and set {key}=my-tokenizer."
        refuse([settings.problem(key, "a file of SentencePiece alone does not say which tokens are special", hint)])
    return str(path), settings.origin(key)


def _own_model(settings: Settings, target: str, tokenizer: str, said: str) -> Iterator[Line]:
    """A class of the user's own, by the protocol of docs/extending.md."""
    options = settings.table(MODEL)
    yield Line("model.kind", "python", f"{MODEL}._target_ names a class of your own")
    yield Line("model.object", dotted(settings, f"{MODEL}._target_", target), settings.origin(f"{MODEL}._target_"))
    for name, value in options.items():
        if isinstance(value, dict) and "_target_" in value:
            hint = "Let the class make it itself, from plain values."
            refuse([settings.problem(f"{MODEL}.{name}", "an object cannot be an option of a class of your own", hint)])
        yield Line(f"model.options.{name}", value, f"{MODEL}.{name}")
    yield Line("model.tokenizer", tokenizer, said)


def dotted(settings: Settings, key: str, target: str) -> str:
    """A name as Hydra has it, `package.module.Name`, as `package.module:Name`."""
    module, dot, name = target.rpartition(".")
    if not dot or not all(part.isidentifier() for part in target.split(".")):
        refuse([settings.problem(key, "it is not package.module.Name", "Write where the class or function is.")])
    if target.startswith(("torchtext.", "torchrecipes.", "pytorch_lightning.", "lightning.")):
        hint = "A class of your own, in a module on PYTHONPATH, is named the same way."
        refuse([settings.problem(key, "nothing here stands for it", hint)])
    return f"{module}:{name}"
