"""The mean of a text's tokens as one more layer of an encoder, so that its own head reads the mean and the saved
folder stays one of plain transformers; used by `loading.py`.

The last layer is repeated with weights of its own kind. Queries and keys are zero, so every token attends to all
tokens of its row alike; values and the product behind them are the identity, `_LOUD` times; the feed-forward part is
zero. So each token becomes LN(h + _LOUD mean(h)), which is LN(mean(h)) but for a thousandth, and the head reads the
first one. The dense layer of the head becomes a tenth of the identity, where tanh is nearly a straight line.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import nn

from textune.jsontext import parse_json
from textune.model.hugging import HuggingModel

_LOUD = 1024.0
_QUIET = 0.1
POOLER, DENSE = "pooler", "dense"
_FAMILIES = {"bert": POOLER, "ernie": POOLER, "roberta": DENSE, "xlm-roberta": DENSE, "camembert": DENSE}
"""Families of such layers, and where the head's dense layer with tanh is: in the backbone's pooler, or in the head."""
_POOLING = Path("1_Pooling") / "config.json"
"""How the folder of a sentence encoder says which vector it was trained to give."""


def read_mean(hf: HuggingModel, folder: Path | None) -> str:
    """Let the head of `hf` read the mean of the tokens, where its family can; returns the note for the user.

    `folder` is where the backbone is, whose sentence vectors may be those of the first token instead. Of other
    families the head reads what it always does, and the note is empty.
    """
    family = hf.config.model_type
    if family not in _FAMILIES:
        return ""
    first = _is_of_first_token(folder)
    with torch.no_grad():
        if not first and not _reads_mean(hf):
            _append_mean(hf)
        _set(_dense(hf), _QUIET)
    return "the head reads the first token" if first else "the head reads the mean of the tokens, by one more layer"


def settled_names(hf: HuggingModel) -> set[str]:
    """The weights that `read_mean` has set and that no training should change: those of the head's dense layer, and
    of the layer that computes the mean."""
    if hf.config.model_type not in _FAMILIES:
        return set()
    settled = [_dense(hf), *([hf.base_model.encoder.layer[-1]] if _reads_mean(hf) else [])]
    weights = {id(weight) for module in settled for weight in module.parameters()}
    return {name for name, weight in hf.named_parameters() if id(weight) in weights}


def _dense(hf: HuggingModel) -> nn.Linear:
    """The layer of the head before its last one."""
    dense = (
        hf.get_submodule("classifier.dense")
        if _FAMILIES[hf.config.model_type] == DENSE
        else hf.base_model.pooler.dense
    )
    assert isinstance(dense, nn.Linear), "the head has a dense layer"
    return dense


def _reads_mean(hf: HuggingModel) -> bool:
    """Whether the last layer attends to all tokens alike, as the one that `read_mean` appends."""
    attention = hf.base_model.encoder.layer[-1].attention.self
    return not bool(attention.query.weight.any() or attention.query.bias.any())


def _is_of_first_token(folder: Path | None) -> bool:
    if folder is None or not (folder / _POOLING).is_file():
        return False
    try:
        said = parse_json((folder / _POOLING).read_text(encoding="utf-8"))
    except (OSError, ValueError, json.JSONDecodeError):
        return False
    return isinstance(said, dict) and said.get("pooling_mode_cls_token") is True


def _append_mean(hf: HuggingModel) -> None:
    layers = hf.base_model.encoder.layer
    layer = copy.deepcopy(layers[-1])
    for name, module in layer.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Linear):
            scale = {"attention.self.value": 1.0, "attention.output.dense": _LOUD}.get(name, 0.0)
            _set(module, scale)
    layers.append(layer)
    hf.config.num_hidden_layers += 1


def _set(layer: nn.Linear, scale: float) -> None:
    """The identity times `scale`."""
    layer.weight.zero_()
    if scale:
        layer.weight.fill_diagonal_(scale)
    layer.bias.zero_()
